"""Brings one AvatarAgent and the world together: observe, decide, build, apply, report. Idempotent and level-based."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from agentspec import AvatarAgentSpec, ConditionStatus, ConditionType, Reason
from agentspec.names import LIVEKIT_KEY, LIVEKIT_SECRET
from controller.cluster import observe
from controller.cluster.client import ApiError, Document, KubeClient
from controller.cluster.kinds import AVATAR_AGENT, CONFIG_MAP, DEPLOYMENT, SERVICE_ACCOUNT
from controller.desired.configmap import config_map, worker_config
from controller.desired.deployment import deployment
from controller.desired.identity import Owner
from controller.desired.serviceaccount import service_account
from controller.fleet import Fleet, deletion_costs
from controller.livekit import LiveKitCheck
from controller.metrics import Metrics
from controller.observation import Key, KnowledgeSeen, PodSeen, SecretSeen
from controller.policy import conditions
from controller.policy.credentials import credentials, fingerprint, secrets_complete, wanted_secrets
from controller.policy.knowledge import documents, knowledge
from controller.policy.ownership import foreign, owned
from controller.policy.scale import Decision
from controller.policy.specification import read_spec
from controller.policy.verdict import Verdict, false
from controller.policy.workers import workers
from controller.report import Reporter
from controller.settings import Settings

logger = logging.getLogger(__name__)

NOT_READY_SECONDS = 10.0
"""When to look again at an agent that is not ready: what its manifest names (Secrets, knowledge) is not watched."""
READY_SECONDS = 60.0
"""When to look again at one that is: by then a changed Secret or knowledge is noticed, and new workers rolled in."""


@dataclass(frozen=True, slots=True)
class Inputs:
    """What the manifest refers to, judged."""

    credentials: Verdict
    credentials_fingerprint: str
    knowledge: Verdict
    sources: list[KnowledgeSeen]

    @property
    def usable(self) -> bool:
        """Whether workers started now would work."""
        return all(verdict.status is ConditionStatus.TRUE for verdict in (self.credentials, self.knowledge))


@dataclass(frozen=True, slots=True)
class Children:
    """What exists for the agent."""

    deployment: Document | None
    """Only its own."""
    config_maps: set[str]
    pods: list[PodSeen]
    foreign: Verdict | None
    """What stands in the place of a child and is somebody else's."""


class Reconciler:
    """Reconciles AvatarAgents; the caller sees to it that one key is never reconciled twice at once."""

    def __init__(
        self,
        settings: Settings,
        client: KubeClient,
        fleet: Fleet,
        livekit: LiveKitCheck,
        metrics: Metrics,
        ask_new_workers: Callable[[Key], Awaitable[None]],
    ) -> None:
        self._settings = settings
        self._client = client
        self._fleet = fleet
        self._livekit = livekit
        self._metrics = metrics
        self._ask_new_workers = ask_new_workers
        self._reporter = Reporter(client)

    async def reconcile(self, key: Key) -> float | None:
        """Returns in how many seconds to look again, None for never; raises ApiError."""
        document = await self._client.get(AVATAR_AGENT, key.namespace, key.name)
        if document is None or "deletionTimestamp" in document["metadata"]:
            self._forget(key)
            return None
        spec = read_spec(key.name, document["spec"])
        if isinstance(spec, Verdict):
            await self._reporter.report(key, document, {ConditionType.READY: spec}, agent_name="", counts=None)
            return NOT_READY_SECONDS
        owner = Owner(key.namespace, key.name, document["metadata"]["uid"])
        inputs, children = await asyncio.gather(self._inputs(key, owner.uid, spec), self._children(key, owner))
        self._remember(key, spec, children)
        await self._ask_new_workers(key)
        decision = self._fleet.decide(key, time.monotonic())
        refused = await self._act(key, owner, spec, inputs, children, decision)
        verdicts = self._verdicts(key, spec, inputs, children, decision)
        if refused is not None:
            verdicts[ConditionType.READY] = refused
        again_in = await self._report(key, document, verdicts, decision)
        if again_in is not None:
            return again_in
        return READY_SECONDS if verdicts[ConditionType.READY].status is ConditionStatus.TRUE else NOT_READY_SECONDS

    def _forget(self, key: Key) -> None:
        self._fleet.forget(key)
        self._reporter.forget(key)
        self._metrics.forget(key)

    async def _inputs(self, key: Key, uid: str, spec: AvatarAgentSpec) -> Inputs:
        names = [source.config_map_ref.name for source in spec.knowledge]
        (verdict, digest), sources = await asyncio.gather(
            self._credentials(key, uid, spec),
            asyncio.gather(*(observe.read_knowledge(self._client, key.namespace, name) for name in names)),
        )
        return Inputs(verdict, digest, knowledge(key.namespace, sources), sources)

    async def _credentials(self, key: Key, uid: str, spec: AvatarAgentSpec) -> tuple[Verdict, str]:
        """The verdict, and the fingerprint of the values that workers get; empty while some are missing."""
        wanted = wanted_secrets(spec)
        names = sorted({secret.name for secret in wanted})
        found = await asyncio.gather(*(observe.read_secret(self._client, key.namespace, name) for name in names))
        read = dict(zip(names, found, strict=True))
        seen = {name: SecretSeen(name, None if held is None else frozenset(held)) for name, held in read.items()}
        incomplete = secrets_complete(key.namespace, wanted, seen)
        if incomplete is not None:
            return incomplete, ""
        values = {name: held or {} for name, held in read.items()}
        pair = values[spec.livekit.credentials_secret_ref.name]
        answer = await self._livekit.check(spec.livekit.url, pair[LIVEKIT_KEY], pair[LIVEKIT_SECRET])
        return credentials(spec, answer), fingerprint(uid, wanted, values)

    async def _children(self, key: Key, owner: Owner) -> Children:
        deployment, account, config_maps, pods = await asyncio.gather(
            self._client.get(DEPLOYMENT, key.namespace, owner.worker_name),
            self._client.get(SERVICE_ACCOUNT, key.namespace, owner.worker_name),
            observe.list_config_maps(self._client, key),
            observe.list_pods(self._client, key),
        )
        stranger = foreign(owner, ((DEPLOYMENT.kind, deployment), (SERVICE_ACCOUNT.kind, account)))
        own = deployment if deployment is not None and owned(owner, deployment) else None
        return Children(own, config_maps, pods, stranger)

    def _remember(self, key: Key, spec: AvatarAgentSpec, children: Children) -> None:
        agent = self._fleet.declare(key, spec)
        agent.replicas = None if children.deployment is None else children.deployment["spec"]["replicas"]
        self._fleet.see_pods(key, children.pods)

    async def _act(
        self, key: Key, owner: Owner, spec: AvatarAgentSpec, inputs: Inputs, children: Children, decision: Decision
    ) -> Verdict | None:
        """Make it so; returns why that cannot be, if it takes a person to change it."""
        agent = self._fleet.agents[key]
        before, agent.wanted = agent.replicas, decision.workers
        if children.foreign is not None:
            return children.foreign
        if before is not None and decision.workers < before:
            await self._let_idle_workers_leave_first(key)
        try:
            if inputs.usable:
                await self._apply(key, owner, spec, inputs, children, decision.workers)
            elif before is not None and decision.workers != before:
                # What runs keeps its configuration until the inputs are mended, but still follows its calls.
                replicas = {"spec": {"replicas": decision.workers}}
                await self._client.merge(DEPLOYMENT, key.namespace, owner.worker_name, replicas)
            else:
                return None
        except ApiError as error:
            if error.refused:
                return false(
                    Reason.APPLY_REFUSED,
                    f"Kubernetes refuses what the manifest asks for: {error.message}. Correct the manifest, or what "
                    "forbids it; it is tried again every few seconds.",
                )
            raise
        agent.replicas = decision.workers
        if before != decision.workers:
            self._told_scaled(key, before, decision)
        return None

    def _told_scaled(self, key: Key, before: int | None, decision: Decision) -> None:
        self._metrics.scaled(key, decision)
        facts = {"workers_before": before, "workers": decision.workers, "reason": decision.reason.value}
        logger.info("workers scaled", extra={"agent": str(key), **facts})

    async def _let_idle_workers_leave_first(self, key: Key) -> None:
        seen = self._fleet.agents[key].workers(time.monotonic())
        for pod, cost in deletion_costs(seen).items():
            await observe.price(self._client, key.namespace, pod, cost)

    async def _apply(
        self,
        key: Key,
        owner: Owner,
        spec: AvatarAgentSpec,
        inputs: Inputs,
        children: Children,
        replicas: int,
    ) -> None:
        configuration = config_map(owner, worker_config(owner, spec, documents(inputs.sources)))
        name = configuration["metadata"]["name"]
        await self._client.apply(SERVICE_ACCOUNT, service_account(owner))
        if name not in children.config_maps:
            await self._client.apply(CONFIG_MAP, configuration)
        wanted = deployment(
            owner,
            spec,
            default_image=self._settings.worker_image,
            config_map_name=name,
            credentials=inputs.credentials_fingerprint,
            replicas=replicas,
        )
        await self._client.apply(DEPLOYMENT, wanted)
        await self._remove_unused(key, children, name)

    async def _remove_unused(self, key: Key, children: Children, current: str) -> None:
        unused = children.config_maps - {current} - {pod.config_map for pod in children.pods}
        if unused:
            unused -= await observe.config_maps_of_replica_sets(self._client, key)
        for name in sorted(unused):
            await self._client.delete(CONFIG_MAP, key.namespace, name)

    def _verdicts(
        self, key: Key, spec: AvatarAgentSpec, inputs: Inputs, children: Children, decision: Decision
    ) -> dict[ConditionType, Verdict]:
        agent = self._fleet.agents[key]
        verdicts = {
            ConditionType.CREDENTIALS_VALID: inputs.credentials,
            ConditionType.KNOWLEDGE_LOADED: inputs.knowledge,
            ConditionType.WORKERS_REGISTERED: workers(
                namespace=key.namespace,
                registered_name=agent.registered_name,
                livekit_url=spec.livekit.url,
                wanted=decision.workers,
                seen=agent.workers(time.monotonic()),
                deployment_trouble=observe.deployment_trouble(children.deployment),
                held_back=not inputs.usable,
            ),
        }
        return {ConditionType.READY: conditions.ready(verdicts), **verdicts}

    async def _report(
        self, key: Key, document: Document, verdicts: Mapping[ConditionType, Verdict], decision: Decision
    ) -> float | None:
        agent = self._fleet.agents[key]
        counts = self._fleet.counts(key, decision.workers, time.monotonic())
        agent.reported = counts
        ready = verdicts[ConditionType.READY].status is ConditionStatus.TRUE
        self._metrics.agent(key, counts, ready=ready, limited=decision.limited)
        name = agent.spec.registered_name(key.name)
        return await self._reporter.report(key, document, verdicts, agent_name=name, counts=counts)
