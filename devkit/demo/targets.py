"""Chooses LiveKit and the providers: real ones if the environment has their keys, else simulated ones."""

import secrets
import sys
from collections.abc import Mapping, Sequence

from devkit import probe
from devkit.cluster import Cluster
from devkit.demo.manifests import Document, Targets
from devkit.errors import DevkitError
from devkit.instance import Layout
from devkit.paths import REPOSITORY

OPENAI_PORT = 9100
TAVUS_PORT = 9200
_START_SECONDS = 120.0
_LIVEKIT = ("LIVEKIT_URL", "LIVEKIT_API_KEY", "LIVEKIT_API_SECRET")
_KEYS = ("OPENAI_API_KEY", "TAVUS_API_KEY")
# Prefix of the values in the examples that users replace.
_PLACEHOLDER = "replace-with-"


def check(environment: Mapping[str, str], documents: Sequence[Document], *, own_cluster: bool) -> None:
    """Check environment and manifests before anything starts. Raises DevkitError that says what is missing.

    The user's own cluster cannot reach the simulated providers on this machine, so it needs real ones.
    """
    given = [name for name in (*_LIVEKIT, *_KEYS) if environment.get(name)]
    needed = (*_LIVEKIT, *_KEYS) if own_cluster else _LIVEKIT if "LIVEKIT_URL" in given else ()
    if missing := [name for name in needed if name not in given]:
        reason = "with your own kubeconfig" if own_cluster else "with LIVEKIT_URL"
        raise DevkitError(f"{reason}, set {', '.join(missing)} in the environment as well")
    # With a base URL, it is not Tavus itself: a simulator may accept any ID and reach this machine.
    if "TAVUS_API_KEY" not in given or environment.get("TAVUS_BASE_URL"):
        return
    if "LIVEKIT_URL" not in given:
        raise DevkitError(
            f"Tavus cannot reach the LiveKit server on this machine: set {', '.join(_LIVEKIT)} "
            "for a server on the internet, or unset TAVUS_API_KEY to use the simulated Tavus"
        )
    if placeholders := _placeholders(documents):
        raise DevkitError(
            f"Tavus does not know the {' and '.join(placeholders)} of the examples: set yours in examples/ornina.yaml, "
            "or unset TAVUS_API_KEY to use the simulated Tavus"
        )


def _placeholders(documents: Sequence[Document]) -> list[str]:
    """Return the names of the Tavus settings that still have the examples' values."""
    found = [document["spec"].get("avatar", {}).get("tavus", {}) for document in documents if "spec" in document]
    return sorted({name for tavus in found for name, value in tavus.items() if str(value).startswith(_PLACEHOLDER)})


def external_targets(environment: Mapping[str, str]) -> Targets:
    """Return the real providers of a checked environment, for the user's own cluster."""
    return Targets(
        livekit_url=environment["LIVEKIT_URL"],
        livekit_key=environment["LIVEKIT_API_KEY"],
        livekit_secret=environment["LIVEKIT_API_SECRET"],
        openai_url=environment.get("OPENAI_BASE_URL", ""),
        openai_key=environment["OPENAI_API_KEY"],
        tavus_url=environment.get("TAVUS_BASE_URL", ""),
        tavus_key=environment["TAVUS_API_KEY"],
    )


def needs_internet(environment: Mapping[str, str]) -> bool:
    """Whether the local cluster needs internet access, for real providers or LiveKit."""
    return any(environment.get(name) for name in ("LIVEKIT_URL", *_KEYS))


def local_targets(cluster: Cluster, environment: Mapping[str, str]) -> Targets:
    """Return the instance's LiveKit and simulated providers, or the real ones of a checked environment instead."""
    openai, tavus = environment.get("OPENAI_API_KEY", ""), environment.get("TAVUS_API_KEY", "")
    cloud = environment.get("LIVEKIT_URL", "")
    return Targets(
        livekit_url=cloud or cluster.livekit_url,
        livekit_key=environment["LIVEKIT_API_KEY"] if cloud else cluster.livekit_api_key,
        livekit_secret=environment["LIVEKIT_API_SECRET"] if cloud else cluster.livekit_api_secret,
        openai_url=environment.get("OPENAI_BASE_URL", "") if openai else f"http://{cluster.node_ip}:{OPENAI_PORT}/v1",
        openai_key=openai or start_simulator(cluster, "openai", OPENAI_PORT),
        tavus_url=environment.get("TAVUS_BASE_URL", "") if tavus else f"http://{cluster.node_ip}:{TAVUS_PORT}/v2",
        tavus_key=tavus or start_simulator(cluster, "tavus", TAVUS_PORT),
    )


def start_simulator(cluster: Cluster, provider: str, port: int, *, instance: str = "") -> str:
    """Start a simulated provider in the cluster's network, unless it runs already. Returns the key that it accepts.

    `instance` names a second one of the same provider.
    """
    layout, label = Layout(cluster.name), instance or provider
    name, key_file = f"simulated-{label}", layout.root / f"{label}.key"
    health = f"http://{cluster.node_ip}:{port}/healthz"
    if key_file.exists() and probe.answers(health):
        return key_file.read_text()
    if not key_file.exists():  # a simulator that ended is started again with the key that Secrets have
        key_file.touch(mode=0o600)
        key_file.write_text(f"simulated-{secrets.token_hex(16)}")
    arguments = ["--host", cluster.node_ip, "--port", str(port), "--api-key-file", str(key_file)]
    argv = [sys.executable, "-m", f"devkit.providers.{provider}", *arguments]
    cluster.spawn(name, argv, env={"PYTHONPATH": str(REPOSITORY)})
    started = layout.processes.get(name)
    assert started is not None
    layout.processes.wait(f"simulated {label}", lambda: probe.answers(health), _START_SECONDS, started)
    return key_file.read_text()
