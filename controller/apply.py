"""Makes an agent's children so: its workers, their configuration and their budget. What is others' is left alone."""

import logging
import time
from dataclasses import dataclass

from agentspec import AvatarAgentSpec, Reason
from controller.cluster.children import Children
from controller.cluster.shared_objects import SharedObjects
from controller.desired.configmap import config_map, worker_config
from controller.desired.deployment import deployment, digest_of, pod_template
from controller.desired.identity import Owner
from controller.desired.poddisruptionbudget import pod_disruption_budget
from controller.fleet.fleet import Fleet, deletion_costs
from controller.inputs.reader import Inputs
from controller.metrics import Metrics
from controller.observation import Key, ObservedDeployment
from controller.policy.ownership import is_owned, name_conflict
from controller.policy.rollout import debounce
from controller.policy.scale import Decision
from controller.policy.verdict import Verdict, false
from controller.policy.wording import LONG_QUOTE_LENGTH, quoted
from kube.client import ApiError, Document

logger = logging.getLogger(__name__)

PATIENCE_SECONDS = 30.0
"""How long Kubernetes may fail, at each try, before people are told."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of an attempt."""

    refused: Verdict | None = None
    """Why it cannot be, if it takes a person to change that."""
    again_in: float | None = None
    """Seconds after which a changed configuration has stood still for long enough to be rolled out."""
    error: ApiError | None = None
    """What kept Kubernetes from doing it; trying again may help."""


@dataclass(frozen=True, slots=True)
class Made:
    """What workers are made from."""

    configuration: Document
    template: Document


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
        self._made: dict[Key, Made] = {}
        """What was applied last."""
        self._failing: dict[Key, float] = {}
        """Since when each try has failed."""

    def forget(self, key: Key) -> None:
        """The agent is gone."""
        self._made.pop(key, None)
        self._failing.pop(key, None)

    async def own_deployment(self, key: Key, owner: Owner) -> ObservedDeployment | None:
        """The workers' Deployment, if it was made for this very agent. Raises ApiError."""
        found = self._children.deployments.get(key, owner.worker_name)
        if found is None and self._children.pods(key):
            # Somebody took its label away: it runs, and must not be taken for one that is to be made.
            found = await self._children.deployments.fetch(key, owner.worker_name)
        return found if found is not None and is_owned(owner, found.object) else None

    async def apply(self, owner: Owner, spec: AvatarAgentSpec, inputs: Inputs | None, decision: Decision) -> Outcome:
        """Make it so.

        While what workers need is missing, and for agents of which none may run, what runs keeps its configuration and
        only follows the decision: nothing is started from one that is not wanted any more. `inputs`: None when nobody
        knows what workers need.
        """
        key = Key(owner.namespace, owner.name)
        before = self._fleet.agents[key].replicas
        try:
            outcome = await self._try(key, owner, spec, inputs, decision)
        except ApiError as error:
            since = self._failing.setdefault(key, time.monotonic())
            lasting = time.monotonic() - since >= PATIENCE_SECONDS
            return Outcome(_failure(error) if lasting else None, error=error)
        self._failing.pop(key, None)
        if before != decision.workers and self._fleet.agents[key].replicas == decision.workers:
            self._told_scaled(key, before, decision)
        return outcome

    async def stop(self, owner: Owner) -> None:
        """No worker of an agent that is being deleted takes another call. Raises ApiError."""
        key = Key(owner.namespace, owner.name)
        running = await self.own_deployment(key, owner)
        if running is not None and running.replicas:
            await self._children.scale(key.namespace, owner.worker_name, 0)

    async def _try(
        self, key: Key, owner: Owner, spec: AvatarAgentSpec, inputs: Inputs | None, decision: Decision
    ) -> Outcome:
        agent = self._fleet.agents[key]
        if agent.replicas is not None and decision.workers < agent.replicas:
            await self._children.set_deletion_costs(key.namespace, deletion_costs(agent.workers(time.monotonic())))
        try:
            return await self._apply(key, owner, spec, inputs, decision)
        except ApiError as error:
            if not error.is_rejection:
                raise
            await self._follow(key, owner, decision.workers)
            return Outcome(_refusal(error))

    async def _apply(
        self, key: Key, owner: Owner, spec: AvatarAgentSpec, inputs: Inputs | None, decision: Decision
    ) -> Outcome:
        agent = self._fleet.agents[key]
        if inputs is None or not inputs.usable or decision.stopped:
            agent.pending = None  # what is held back waits anew
            await self._keep(key, owner, decision.workers)
            return Outcome()
        stranger = await self._stranger(key, owner)
        if stranger is not None:
            agent.pending = None
            await self._follow(key, owner, decision.workers)
            return Outcome(stranger)
        wanted = self._wanted(owner, spec, inputs)
        waits = self._waits(key, digest_of(wanted.template))
        if waits > 0:
            await self._keep(key, owner, decision.workers)
            return Outcome(again_in=waits)
        await self._make(key, owner, wanted, decision.workers)
        agent.pending = None
        await self._remove_unused(key, wanted.configuration["metadata"]["name"])
        return Outcome()

    async def _stranger(self, key: Key, owner: Owner) -> Verdict | None:
        """What somebody else made under a child's name; None: nothing."""
        kinds = (self._children.deployments, self._children.budgets)
        found = [(kind.informer.kind.kind, await kind.existing(key, owner.worker_name)) for kind in kinds]
        return name_conflict(owner, found) or await self._shared.name_conflict(key.namespace)

    def _wanted(self, owner: Owner, spec: AvatarAgentSpec, inputs: Inputs) -> Made:
        configuration = config_map(
            owner, worker_config(owner, spec, inputs.instructions, inputs.greeting, inputs.documents)
        )
        template = pod_template(
            owner,
            spec,
            default_image=self._default_image,
            config_map_name=configuration["metadata"]["name"],
            credentials=inputs.credentials_fingerprint,
        )
        return Made(configuration, template)

    def _waits(self, key: Key, digest: str) -> float:
        """Seconds until another pod template may be rolled out: several changes in a burst make one rollout. Where
        nothing runs nothing is rolled out: what starts starts from what is wanted now."""
        agent = self._fleet.agents[key]
        if not agent.replicas or agent.template == digest:
            return 0.0
        agent.pending, waits = debounce(agent.pending, digest, time.monotonic())
        return waits

    async def _make(self, key: Key, owner: Owner, made: Made, replicas: int) -> None:
        agent = self._fleet.agents[key]
        await self._shared.ensure(key.namespace)
        await self._children.config_maps.apply(key, made.configuration)
        await self._children.budgets.apply(key, pod_disruption_budget(owner))
        await self._children.deployments.apply(key, deployment(owner, made.template, replicas=replicas))
        agent.replicas, agent.template = replicas, digest_of(made.template)
        self._made[key] = made

    async def _keep(self, key: Key, owner: Owner, replicas: int) -> None:
        """What is there stays as it was made, whoever edited it, and follows the number; nothing new is started."""
        agent, made = self._fleet.agents[key], self._made.get(key)
        if agent.replicas is None or await self._stranger(key, owner) is not None:
            await self._follow(key, owner, replicas)
        elif made is not None:
            await self._make(key, owner, made, replicas if agent.replicas else 0)
        else:  # made by an earlier controller
            await self._shared.ensure(key.namespace)
            await self._children.budgets.apply(key, pod_disruption_budget(owner))
            await self._follow(key, owner, replicas)

    async def _follow(self, key: Key, owner: Owner, replicas: int) -> None:
        """Change only how many workers there are, where there are some: those that would be started where none are
        would have a configuration that is perhaps not wanted any more."""
        agent = self._fleet.agents[key]
        if agent.replicas and agent.replicas != replicas:
            await self._children.scale(key.namespace, owner.worker_name, replicas)
            agent.replicas = replicas

    async def _remove_unused(self, key: Key, current: str) -> None:
        """Configurations go when no worker runs with them and none can be started with them any more."""
        there = set(self._children.config_maps.informer.group(key))
        unused = there - {current} - {pod.config_map for pod in self._children.pods(key)}
        if unused:
            unused -= await self._children.config_maps_of_replica_sets(key)
        for name in sorted(unused):
            await self._children.config_maps.delete(key, name)

    def _told_scaled(self, key: Key, before: int | None, decision: Decision) -> None:
        self._metrics.record_scaling(key, decision)
        facts = {"workers_before": before, "workers": decision.workers, "reason": decision.reason.value}
        logger.info("workers scaled", extra={"agent": str(key), **facts})


def _refusal(error: ApiError) -> Verdict:
    return false(
        Reason.APPLY_REFUSED,
        f"Kubernetes refuses what the manifest asks for: {quoted(error.message, LONG_QUOTE_LENGTH)}. Correct the "
        "manifest, or what forbids it; it is tried again every few seconds.",
    )


def _failure(error: ApiError) -> Verdict:
    return false(
        Reason.APPLY_REFUSED,
        f"Kubernetes fails, try after try, to do what the manifest asks for: {quoted(str(error), LONG_QUOTE_LENGTH)}. "
        "It goes on being tried; see whether an admission webhook or the API server is in trouble.",
    )
