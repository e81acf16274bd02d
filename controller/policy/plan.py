"""The output of a decision: what the applier does to the cluster, and what the reporter writes."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from agentspec import CallCounts, ConditionType, SlotCounts, WorkerCounts
from controller.policy.podannotations import Annotations
from controller.policy.rivals import Rival
from controller.policy.rollout import PendingTemplate
from controller.policy.scale import Decision as Scale
from controller.policy.snapshot import Snapshot
from controller.policy.verdict import Verdict


class Action(StrEnum):
    """What to do with the children of an agent."""

    ROLL_OUT = "RollOut"
    """Apply the children that the spec asks for."""
    KEEP = "Keep"
    """Restore the children to their last applied version; change nothing but the number of workers."""
    SCALE_ONLY = "ScaleOnly"
    """Change the number of running workers and touch nothing else: another owner holds a child's name."""
    BLOCKED = "Blocked"
    """Write nothing: no worker runs, and none may start."""
    DRAIN = "Drain"
    """The agent is being deleted: its workers finish their calls and take no more."""
    FORGET = "Forget"
    """The agent and its workers are gone: drop what the controller remembers."""


@dataclass(frozen=True, slots=True)
class Children:
    """The objects that workers start from."""

    config_map: dict[str, Any]
    template: dict[str, Any]
    """Pod template."""


@dataclass(frozen=True, slots=True)
class Plan:
    """One action and its parameters."""

    action: Action
    workers: int = 0
    """Replicas of the Deployment."""
    children: Children | None = None
    """For ROLL_OUT: what to apply."""
    annotations: Annotations = field(default_factory=dict)
    """Annotations of worker pods that must change before the Deployment shrinks."""
    annotations_due: float | None = None
    """Seconds until further annotations must change; None: none by time alone."""
    removals: tuple[str, ...] = ()
    """Worker pods to delete because their process hangs."""
    pending_rollout: PendingTemplate | None = None
    """A pod template that waits until changes settle."""
    settles_in: float | None = None
    """Seconds until it may be rolled out; None when none waits."""
    refresh_inputs: bool = False
    """Read Secrets and ConfigMaps again soon: changes often come together."""


@dataclass(frozen=True, slots=True)
class Counts:
    """The numbers in the status."""

    workers: WorkerCounts
    slots: SlotCounts
    calls: CallCounts


@dataclass(frozen=True, slots=True)
class Report:
    """What the status should say."""

    verdicts: Mapping[ConditionType, Verdict]
    agent_name: str
    counts: Counts | None
    """None keeps the numbers that the status has."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a plan."""

    applied: bool = True
    cause: Verdict | None = None
    """Why the plan could not be carried out, for people; None while a retry may still help."""
    error: Exception | None = None
    """The API server's failure; the reconcile fails with it and is retried."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What follows from a snapshot."""

    snapshot: Snapshot
    plan: Plan
    report: Report | None = None
    """The report once the plan is carried out; None leaves the status as it is."""
    conflict: Verdict | None = None
    """The name conflict that keeps the plan from being a rollout."""
    scale: Scale | None = None
    """How many workers to run, and why; None when nothing is known of the agent's spec."""
    rival: Rival | None = None
    """Another client that sets the number of workers."""
    requeue_after: float | None = None
    """Seconds after which to reconcile again, whatever happens; None for never."""


@dataclass(frozen=True, slots=True)
class Conclusion:
    """What the reporter writes, once the outcome is known."""

    snapshot: Snapshot
    report: Report | None
    """None leaves the status as it is."""
    limited: bool
    """`scaling.maxWorkers` keeps the agent from having the workers it needs."""
    requeue_after: float | None
