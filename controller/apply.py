"""Carries out a plan: the only part of a reconcile that changes an agent's children."""

import logging
from dataclasses import dataclass

from agentspec import Reason
from controller.cluster.children import Children
from controller.cluster.shared_objects import SharedObjects
from controller.desired.deployment import deployment
from controller.desired.identity import Owner
from controller.desired.poddisruptionbudget import pod_disruption_budget
from controller.fleet.fleet import Fleet
from controller.inputs.reader import InputReader
from controller.metrics import Metrics
from controller.observation import Key
from controller.policy.plan import Action, Decision, Outcome
from controller.policy.plan import Children as DesiredChildren
from controller.policy.verdict import Verdict, false
from controller.policy.wording import LONG_QUOTE_LENGTH, quoted
from kube.client import ApiError

logger = logging.getLogger(__name__)

PATIENCE_SECONDS = 30.0
"""How long the API server may fail at every attempt before the status says so."""


@dataclass(slots=True)
class _Memory:
    """What one agent's earlier reconciles leave behind."""

    applied: DesiredChildren | None = None
    """What was rolled out last by this process."""
    failing_since: float | None = None
    """Monotonic seconds of the first of the attempts that all failed."""


class Applier:
    """Applies plans; remembers what it applied last."""

    def __init__(
        self,
        children: Children,
        shared: SharedObjects,
        inputs: InputReader,
        fleet: Fleet,
        metrics: Metrics,
    ) -> None:
        self._children = children
        self._shared = shared
        self._inputs = inputs
        self._fleet = fleet
        self._metrics = metrics
        self._memories: dict[Key, _Memory] = {}

    async def apply(self, decision: Decision) -> Outcome:
        """Carry the plan out."""
        key, plan = decision.snapshot.key, decision.plan
        if plan.action in (Action.DRAIN, Action.FORGET):
            return await self._leave(decision)
        if decision.scale is not None:
            self._fleet.remember(key, decision.scale.history, plan.pending_rollout, decision.rival)
        outcome = await self._attempt(decision)
        if outcome.error is None and self._is_scaled(decision, outcome):
            self._report_scaling(decision)
        if plan.refresh_inputs:
            self._inputs.refresh_soon(key)
        return outcome

    async def _attempt(self, decision: Decision) -> Outcome:
        """Turn failures into outcomes: a rejection needs a change by a person; any other failure may pass."""
        memory = self._memories.setdefault(decision.snapshot.key, _Memory())
        now = decision.snapshot.now.monotonic
        try:
            outcome = await self._carry_out(decision, memory)
        except ApiError as error:
            memory.failing_since = now if memory.failing_since is None else memory.failing_since
            lasts = now - memory.failing_since >= PATIENCE_SECONDS
            return Outcome(False, _failed(error) if lasts else None, error)
        memory.failing_since = None
        return outcome

    async def _carry_out(self, decision: Decision, memory: _Memory) -> Outcome:
        snapshot, plan = decision.snapshot, decision.plan
        if plan.action is Action.BLOCKED or snapshot.agent is None:
            return Outcome()
        owner = snapshot.agent.owner
        await self._children.annotate_pods(snapshot.key, plan.annotations)
        await self._children.delete_pods(snapshot.key, plan.removals)
        try:
            if snapshot.occupants.error is not None:
                raise snapshot.occupants.error
            await self._change_children(decision, owner, memory)
        except ApiError as error:
            if not error.is_rejection:
                raise
            await self._scale(decision, owner)  # a rejected rollout must not keep running workers from scaling
            return Outcome(False, _rejected(error))
        return Outcome()

    async def _change_children(self, decision: Decision, owner: Owner, memory: _Memory) -> None:
        key, plan = decision.snapshot.key, decision.plan
        if plan.action is Action.ROLL_OUT and plan.children is not None:
            await self._apply_children(key, owner, plan.children, plan.workers)
            # Before the clean-up, which may fail: a later KEEP must not restore the children of an earlier rollout.
            memory.applied = plan.children
            self._fleet.clear_pending_rollout(key)
            await self._remove_unused(key, plan.children.config_map["metadata"]["name"])
        elif plan.action is Action.KEEP and memory.applied is not None:
            await self._apply_children(key, owner, memory.applied, plan.workers)
        elif plan.action is Action.KEEP:  # the children were applied by an earlier controller
            await self._shared.ensure(key.namespace)
            await self._children.budgets.apply(key, pod_disruption_budget(owner))
            await self._scale(decision, owner)
        else:
            await self._scale(decision, owner)

    async def _apply_children(self, key: Key, owner: Owner, wanted: DesiredChildren, workers: int) -> None:
        await self._shared.ensure(key.namespace)
        await self._children.config_maps.apply(key, wanted.config_map)
        await self._children.budgets.apply(key, pod_disruption_budget(owner))
        await self._children.deployments.apply(key, deployment(owner, wanted.template, replicas=workers))

    async def _scale(self, decision: Decision, owner: Owner) -> None:
        """Change only the number of workers, and never from none: a worker that started now would start from a
        configuration that may not be wanted any more."""
        running, wanted = decision.snapshot.replicas, decision.scale.workers if decision.scale else 0
        if running and running != wanted:
            await self._children.scale(owner.namespace, owner.worker_name, wanted)

    async def _remove_unused(self, key: Key, current: str) -> None:
        """Delete configurations that no worker runs with and no worker can start with any more."""
        present = set(self._children.config_maps.informer.group(key))
        unused = present - {current} - {pod.config_map for pod in self._children.pods(key)}
        if unused:
            unused -= await self._children.config_maps_of_replica_sets(key)
        for name in sorted(unused):
            await self._children.config_maps.delete(key, name)

    async def _leave(self, decision: Decision) -> Outcome:
        """The agent is deleted: its workers take no more calls, and what is remembered of it goes."""
        snapshot, key = decision.snapshot, decision.snapshot.key
        self._memories.pop(key, None)
        self._children.forget(key)
        if decision.plan.action is Action.FORGET:
            self._fleet.forget(key)
        elif snapshot.agent is not None and snapshot.replicas:
            try:
                await self._children.scale(key.namespace, snapshot.agent.owner.worker_name, 0)
            except ApiError as error:
                return Outcome(False, error=error)
        return Outcome()

    def _is_scaled(self, decision: Decision, outcome: Outcome) -> bool:
        """Whether the number of workers was changed to the decided one."""
        snapshot, plan, scale = decision.snapshot, decision.plan, decision.scale
        changes = (outcome.applied and plan.action is Action.ROLL_OUT) or bool(snapshot.replicas)
        return scale is not None and changes and snapshot.replicas != scale.workers

    def _report_scaling(self, decision: Decision) -> None:
        scale = decision.scale
        assert scale is not None
        self._metrics.record_scaling(decision.snapshot.key, scale)
        facts = {
            "agent": str(decision.snapshot.key),
            "workers_before": decision.snapshot.replicas,
            "workers": scale.workers,
            "reason": scale.reason.value,
        }
        logger.info("workers scaled", extra=facts)


def _rejected(error: ApiError) -> Verdict:
    return false(
        Reason.APPLY_REJECTED,
        f"The API server rejects what the manifest asks for: {quoted(error.message, LONG_QUOTE_LENGTH)}. Correct the "
        "manifest, or the quota or admission policy that forbids it. The controller retries every few seconds.",
    )


def _failed(error: ApiError) -> Verdict:
    return false(
        Reason.APPLY_FAILED,
        f"The API server has failed for {PATIENCE_SECONDS:.0f} s to apply what the manifest asks for: "
        f"{quoted(str(error), LONG_QUOTE_LENGTH)}. The controller keeps retrying. Check the API server and the "
        "admission webhooks.",
    )
