"""Builders of test values; a test sets only what it is about."""

import base64
from datetime import UTC, datetime
from typing import Any

from agentspec import AvatarAgentSpec, Reason, WorkerStatus
from controller.fleet.fleet import Fleet
from controller.observation import Key, ObservedDeployment, ObservedObject, ObservedPod, ObservedWorker
from controller.policy.snapshot import Inputs, Instant, ObservedAgent, Occupants, Snapshot
from controller.policy.verdict import Verdict, true
from kube.client import Document

KEY = Key("shop", "ava")
CREATED = datetime(2026, 1, 5, 0, 1, tzinfo=UTC).timestamp()
"""When pods were created: less than a minute before the snapshots of tests."""
OTHER = Key("shop", "eve")

SPEC: dict[str, Any] = {
    "livekit": {"url": "wss://livekit.example", "credentialsSecretRef": {"name": "livekit"}},
    "voice": {"openai": {"credentialsSecretRef": {"name": "openai"}}},
}
TAVUS: dict[str, Any] = {
    "provider": "Tavus",
    "tavus": {"faceID": "face", "palID": "pal", "credentialsSecretRef": {"name": "tavus"}},
}


def spec(**changes: Any) -> AvatarAgentSpec:
    """The smallest valid spec, with top-level fields replaced."""
    return AvatarAgentSpec.model_validate({**SPEC, **changes})


def status(**changes: Any) -> WorkerStatus:
    """The status of a registered worker with four slots and no calls."""
    known = {"agent_name": "ava", "worker_id": "AW_1", "registered": True, "draining": False, "slots": 4, "calls": 0}
    return WorkerStatus.model_validate({**known, **changes})


def pod(name: str = "pod-1", **changes: Any) -> ObservedPod:
    """A running, ready pod."""
    known: dict[str, Any] = {
        "ip": "10.0.0.1",
        "running": True,
        "ready": True,
        "terminating": False,
        "ended": False,
        "annotations": {},
        "start_failure": "",
        "config_map": "ava-worker-1",
        "template": "template-1",
        "created": CREATED,
        "node": "node-1",
    }
    return ObservedPod(name, **{**known, **changes})


def worker(name: str = "pod-1", report: WorkerStatus | None = None, **changes: Any) -> ObservedWorker:
    """A worker pod and its status report; default: none."""
    times = {
        time: changes.pop(time) for time in ("idle_seconds", "unregistered_seconds", "hangs_idle") if time in changes
    }
    return ObservedWorker(pod(name, **changes), report, **times)


def child(name: str = "ava-worker", **changes: Any) -> ObservedObject:
    """A child of agent shop/ava that the controller applied."""
    known: dict[str, Any] = {
        "namespace": "shop",
        "uid": f"uid-{name}",
        "generation": 1,
        "labels": {},
        "owners": (("AvatarAgent", "ava", "uid-ava"),),
        "applied": True,
    }
    return ObservedObject(name=name, **{**known, **changes})


def deployment(replicas: int = 1, template: str = "template-1") -> ObservedDeployment:
    """The Deployment of the agent's workers."""
    return ObservedDeployment(child(), replicas, template, create_failure="")


def agent(declared: AvatarAgentSpec | Verdict | None = None, **changes: Any) -> ObservedAgent:
    """Agent shop/ava without a status; default: with the smallest valid spec."""
    known: dict[str, Any] = {
        "key": KEY,
        "uid": "uid-ava",
        "version": 1,
        "generation": 1,
        "created": "2026-01-02T00:00:00Z",
        "deleted": False,
        "spec": declared or spec(),
        "status": {},
    }
    return ObservedAgent(**{**known, **changes})


def inputs(**changes: Any) -> Inputs:
    """Inputs that workers may start from."""
    known: dict[str, Any] = {
        "fault": None,
        "credentials": true(Reason.CREDENTIALS_ACCEPTED, "accepted"),
        "credentials_fingerprint": "fingerprint-1",
        "knowledge": true(Reason.KNOWLEDGE_LOADED, "loaded"),
        "instructions": "",
        "greeting": "",
        "documents": [],
    }
    return Inputs(**{**known, **changes})


def snapshot(declared: AvatarAgentSpec | None = None, **changes: Any) -> Snapshot:
    """A new agent with usable inputs and a free name, 100 s after the start of the clock; it has no children yet."""
    known: dict[str, Any] = {
        "key": KEY,
        "now": Instant(100.0, "2026-01-05T00:01:40Z", CREATED + 40),
        "agent": agent(declared),
        "spec": declared or spec(),
        "inputs": inputs(),
        "occupants": Occupants(),
    }
    return Snapshot(**{**known, **changes})


def fleet(*pods: ObservedPod, **changes: Any) -> Fleet:
    """The fleet of one agent with these pods; `changes`: top-level fields of its spec."""
    made = Fleet()
    made.declare(KEY, "uid-ava", spec(**changes))
    made.set_pods(KEY, pods)
    return made


def secret(name: str, **values: str | bytes | None) -> Document:
    """A Secret in namespace shop; None stands for a key whose value is null."""
    data = {key: None if value is None else _base64(value) for key, value in values.items()}
    return {"metadata": {"namespace": "shop", "name": name}, "data": data}


def config_map(name: str, **data: str) -> Document:
    """A ConfigMap in namespace shop."""
    return {"metadata": {"namespace": "shop", "name": name}, "data": data}


def _base64(value: str | bytes) -> str:
    return base64.b64encode(value.encode() if isinstance(value, str) else value).decode()
