"""Makes an agent's children so: its workers, their configuration and their budget. What is others' is left alone."""

import logging
import time
from dataclasses import dataclass

from agentspec import AvatarAgentSpec, Reason
from controller.cluster.children import Children
from controller.cluster.client import ApiError
from controller.desired.configmap import config_map, worker_config
from controller.desired.deployment import deployment, digest_of, pod_template
from controller.desired.identity import Owner
from controller.desired.poddisruptionbudget import pod_disruption_budget
from controller.fleet import Fleet, deletion_costs
from controller.inputs import Inputs
from controller.metrics import Metrics
from controller.observation import DeploymentSeen, Key
from controller.policy.ownership import foreign, owned
from controller.policy.rollout import settle
from controller.policy.scale import Decision
from controller.policy.verdict import Verdict, false
from controller.shared import SharedObjects

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of an attempt."""

    refused: Verdict | None = None
    """Why it cannot be, if it takes a person to change that."""
    again_in: float | None = None
    """Seconds after which a changed configuration has stood still for long enough to be rolled out."""


class Applier:
    """Applies what was decided."""

    def __init__(
        self, children: Children, shared: SharedObjects, fleet: Fleet, metrics: Metrics, default_image: str
    ) -> None:
        self._children = children
        self._shared = shared
        self._fleet = fleet
        self._metrics = metrics
        self._default_image = default_image

    def own_deployment(self, key: Key, owner: Owner) -> DeploymentSeen | None:
        """The workers' Deployment, if it was made for this very agent."""
        found = self._children.deployments.get(key, owner.worker_name)
        return found if found is not None and owned(owner, found.object) else None

    async def apply(self, owner: Owner, spec: AvatarAgentSpec, inputs: Inputs, decision: Decision) -> Outcome:
        """Make it so. Raises ApiError when trying again may help.

        While what workers need is missing, and for agents of which none may run, what there is keeps its configuration
        and only follows the decision.
        """
        key = Key(owner.namespace, owner.name)
        try:
            return await self._apply(key, owner, spec, inputs, decision)
        except ApiError as error:
            if error.refused:
                return Outcome(_refusal(error))
            raise

    async def _apply(
        self, key: Key, owner: Owner, spec: AvatarAgentSpec, inputs: Inputs, decision: Decision
    ) -> Outcome:
        before = self._fleet.agents[key].replicas
        if before is not None and decision.workers < before:
            costs = deletion_costs(self._fleet.agents[key].workers(time.monotonic()))
            await self._children.price(key.namespace, costs)
        startable = inputs.usable and not decision.stopped
        stranger, again_in = await self._stranger(key, owner) if startable else None, None
        if startable and stranger is None:
            again_in = await self._apply_all(key, owner, spec, inputs, decision.workers)
        else:
            self._fleet.agents[key].pending = None  # what is held back waits anew
            await self._follow(key, owner, decision.workers)
        if before != decision.workers and self._fleet.agents[key].replicas == decision.workers:
            self._told_scaled(key, before, decision)
        return Outcome(stranger, again_in)

    async def _stranger(self, key: Key, owner: Owner) -> Verdict | None:
        """What somebody else made under a child's name; None: nothing."""
        kinds = (self._children.deployments, self._children.budgets)
        found = [(kind.informer.kind.kind, await kind.identity_of(key, owner.worker_name)) for kind in kinds]
        return foreign(owner, found) or await self._shared.stranger(key.namespace)

    async def _follow(self, key: Key, owner: Owner, replicas: int) -> None:
        """Change only how many workers there are."""
        agent = self._fleet.agents[key]
        if agent.replicas is not None and agent.replicas != replicas:
            await self._children.scale(key.namespace, owner.worker_name, replicas)
            agent.replicas = replicas

    async def _apply_all(
        self, key: Key, owner: Owner, spec: AvatarAgentSpec, inputs: Inputs, replicas: int
    ) -> float | None:
        configuration = config_map(
            owner, worker_config(owner, spec, inputs.instructions, inputs.greeting, inputs.documents)
        )
        name = configuration["metadata"]["name"]
        template = pod_template(
            owner,
            spec,
            default_image=self._default_image,
            config_map_name=name,
            credentials=inputs.credentials_fingerprint,
        )
        waits = self._waits(key, owner, digest_of(template))
        if waits > 0:
            await self._follow(key, owner, replicas)
            return waits
        agent = self._fleet.agents[key]
        await self._shared.ensure(key.namespace)
        await self._children.config_maps.apply(key, configuration)
        await self._children.budgets.apply(key, pod_disruption_budget(owner))
        await self._children.deployments.apply(key, deployment(owner, template, replicas=replicas))
        agent.replicas, agent.template, agent.pending = replicas, digest_of(template), None
        await self._remove_unused(key, name)
        return None

    def _waits(self, key: Key, owner: Owner, digest: str) -> float:
        """Seconds until another pod template may be rolled out: several changes in a burst make one roll-out."""
        agent, running = self._fleet.agents[key], self.own_deployment(key, owner)
        if running is None or running.template == digest:
            return 0.0
        agent.pending, waits = settle(agent.pending, digest, time.monotonic())
        return waits

    async def _remove_unused(self, key: Key, current: str) -> None:
        """Configurations go when no worker runs with them and none can be started with them any more."""
        there = set(self._children.config_maps.informer.of(key))
        unused = there - {current} - {pod.config_map for pod in self._children.pods(key)}
        if unused:
            unused -= await self._children.config_maps_of_replica_sets(key)
        for name in sorted(unused):
            await self._children.config_maps.delete(key, name)

    def _told_scaled(self, key: Key, before: int | None, decision: Decision) -> None:
        self._metrics.scaled(key, decision)
        facts = {"workers_before": before, "workers": decision.workers, "reason": decision.reason.value}
        logger.info("workers scaled", extra={"agent": str(key), **facts})


def _refusal(error: ApiError) -> Verdict:
    return false(
        Reason.APPLY_REFUSED,
        f"Kubernetes refuses what the manifest asks for: {error.message}. Correct the manifest, or what forbids it; it "
        "is tried again every few seconds.",
    )
