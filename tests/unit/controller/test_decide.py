"""The decision about one agent: the action for every kind of snapshot, and the report for every outcome."""

import copy
from dataclasses import replace
from typing import Any

import pytest

from agentspec import AvatarAgentSpec, ConditionStatus, ConditionType, Reason
from controller.desired.deployment import digest_of
from controller.observation import ObservedWorker
from controller.policy.decide import NOT_READY_SECONDS, READY_SECONDS, conclude, decide
from controller.policy.names import Claim, server_of
from controller.policy.plan import Action, Decision, Outcome, Report
from controller.policy.podannotations import DELETION_COST, IDLE_SECONDS, PROTECTION
from controller.policy.rollout import MAX_WAIT_SECONDS, QUIET_SECONDS, PendingTemplate
from controller.policy.scale import Sample
from controller.policy.snapshot import Instant, NameClaims, Occupants, Snapshot
from controller.policy.verdict import Verdict, false, unknown
from tests.unit.controller.builders import (
    CREATED,
    OTHER,
    agent,
    child,
    deployment,
    inputs,
    snapshot,
    spec,
    status,
    worker,
)

IMAGE = "worker:1"
NOW = 100.0
"""The monotonic time of every snapshot."""
NO_SECRET = false(Reason.SECRET_NOT_FOUND, "Create the Secret.")
INVALID = false(Reason.INVALID_SPEC, "Correct the spec.")
REJECTED = false(Reason.APPLY_REJECTED, "Exceeded quota.")
FIXED: dict[str, Any] = {"scaling": {"mode": "Fixed", "workers": 1}}
OLDER_CLAIM = Claim(OTHER, server_of(spec().livekit.url, "shop"), "ava", "2026-01-01T00:00:00Z", "uid-eve")
TAKEN = NameClaims(holder=OLDER_CLAIM)
FOREIGN = child(owners=(), applied=False)
FOREIGN_CHILD = Occupants(children=(("Deployment", child()), ("PodDisruptionBudget", FOREIGN)))
FOREIGN_SHARED = Occupants(shared=(("NetworkPolicy", FOREIGN),))


def current_template(declared: AvatarAgentSpec | None = None) -> str:
    """The digest of the pod template that a spec asks for."""
    resumed = (declared or spec()).model_copy(update={"suspend": False})
    children = decide(snapshot(resumed), IMAGE).plan.children
    assert children is not None
    return digest_of(children.template)


def serving(declared: AvatarAgentSpec | None = None, *, template: str = "", **changes: Any) -> Snapshot:
    """An agent whose one worker is registered; default: with the template that the spec asks for."""
    template = template or current_template(declared)
    known = {"deployment": deployment(1, template), "workers": (worker(report=status(), template=template),)}
    return snapshot(declared, **{**known, **changes})


def stopped_at_zero(template: str = "") -> dict[str, Any]:
    """The fields of a snapshot whose Deployment has no workers."""
    return {"deployment": deployment(0, template or current_template()), "workers": ()}


def reported(decision: Decision) -> Report:
    """The report for the case that the plan is carried out."""
    assert decision.report is not None
    return decision.report


def reason(report: Report | None, kind: ConditionType = ConditionType.READY) -> Reason:
    """The reason of one condition in a report."""
    assert report is not None
    return report.verdicts[kind].reason


ACTIONS = [
    pytest.param(snapshot(), Action.ROLL_OUT, 1, id="new agent starts"),
    pytest.param(serving(), Action.ROLL_OUT, 1, id="serving agent is applied again"),
    pytest.param(serving(pending_calls=8), Action.ROLL_OUT, 3, id="waiting calls start workers"),
    pytest.param(serving(template="old"), Action.KEEP, 1, id="changed template waits"),
    pytest.param(serving(template="old", pending_calls=8), Action.KEEP, 3, id="workers scale while a change waits"),
    pytest.param(snapshot(**stopped_at_zero("old")), Action.ROLL_OUT, 1, id="nothing to wait for without workers"),
    pytest.param(serving(inputs=inputs(credentials=NO_SECRET)), Action.KEEP, 1, id="unusable credentials"),
    pytest.param(serving(inputs=inputs(knowledge=NO_SECRET)), Action.KEEP, 1, id="unusable knowledge"),
    pytest.param(serving(inputs=inputs(fault=INVALID)), Action.KEEP, 1, id="unusable spec"),
    pytest.param(
        serving(inputs=inputs(credentials=NO_SECRET), pending_calls=8),
        Action.KEEP,
        3,
        id="workers follow the calls under unusable inputs",
    ),
    pytest.param(
        snapshot(inputs=inputs(credentials=NO_SECRET), pending_calls=8, **stopped_at_zero()),
        Action.KEEP,
        0,
        id="no first worker starts under unusable inputs",
    ),
    pytest.param(snapshot(inputs=inputs(credentials=NO_SECRET)), Action.BLOCKED, 0, id="new agent without inputs"),
    pytest.param(serving(spec(suspend=True)), Action.KEEP, 0, id="suspended agent drains"),
    pytest.param(snapshot(spec(suspend=True)), Action.BLOCKED, 0, id="new agent is suspended"),
    pytest.param(serving(claims=TAKEN), Action.KEEP, 0, id="agent that lost its name drains"),
    pytest.param(snapshot(claims=TAKEN), Action.BLOCKED, 0, id="name is taken"),
    pytest.param(snapshot(claims=NameClaims(user=OTHER)), Action.BLOCKED, 0, id="name is still in use"),
    pytest.param(serving(occupants=FOREIGN_CHILD, pending_calls=8), Action.SCALE_ONLY, 3, id="name conflict"),
    pytest.param(serving(occupants=FOREIGN_SHARED), Action.SCALE_ONLY, 1, id="name conflict of a shared object"),
    pytest.param(
        serving(occupants=FOREIGN_CHILD, inputs=inputs(credentials=NO_SECRET)),
        Action.SCALE_ONLY,
        1,
        id="name conflict under unusable inputs",
    ),
    pytest.param(snapshot(occupants=FOREIGN_CHILD), Action.BLOCKED, 0, id="name conflict of a new agent"),
    pytest.param(
        serving(agent=agent(INVALID), inputs=None, pending_calls=8), Action.KEEP, 3, id="invalid spec follows the calls"
    ),
    pytest.param(snapshot(agent=agent(INVALID), spec=None, inputs=None), Action.BLOCKED, 0, id="spec was never valid"),
    pytest.param(serving(agent=agent(deleted=True)), Action.DRAIN, 0, id="agent is being deleted"),
    pytest.param(serving(agent=None), Action.DRAIN, 0, id="deleted agent has workers"),
    pytest.param(
        serving(agent=None, workers=(worker(terminating=True),)), Action.FORGET, 0, id="last worker is terminating"
    ),
    pytest.param(snapshot(agent=None), Action.FORGET, 0, id="deleted agent has no workers"),
]


@pytest.mark.parametrize(("seen", "action", "workers"), ACTIONS)
def test_snapshot_leads_to_one_action(seen: Snapshot, action: Action, workers: int) -> None:
    plan = decide(seen, IMAGE).plan
    assert (plan.action, plan.workers) == (action, workers)
    assert (plan.children is not None) is (action is Action.ROLL_OUT), "only a rollout applies new children"


@pytest.mark.parametrize(("seen", "action", "workers"), ACTIONS)
def test_same_snapshot_gives_the_same_decision(seen: Snapshot, action: Action, workers: int) -> None:
    twin = copy.deepcopy(seen)
    first = decide(seen, IMAGE)
    assert seen == twin, "the snapshot is not changed"
    assert first == decide(twin, IMAGE)
    for outcome in (Outcome(), Outcome(False, REJECTED), Outcome(False, error=OSError())):
        assert conclude(first, outcome) == conclude(decide(twin, IMAGE), outcome)


def test_default_image_is_used_unless_the_spec_names_one() -> None:
    for declared, image in ((spec(), IMAGE), (spec(worker={"image": "mine:2"}), "mine:2")):
        children = decide(snapshot(declared), IMAGE).plan.children
        assert children is not None
        (container,) = children.template["spec"]["containers"]
        assert container["image"] == image


# Rollouts


def test_changed_template_waits_until_changes_settle() -> None:
    digest = current_template()
    plan = decide(serving(template="old"), IMAGE).plan
    assert plan.settles_in == QUIET_SECONDS
    assert plan.pending_rollout == PendingTemplate(digest, NOW, NOW)
    assert plan.refresh_inputs, "Secrets and ConfigMaps often change together with the spec"


@pytest.mark.parametrize(
    ("pending", "settles_in"),
    [
        pytest.param(PendingTemplate("other", NOW - 1, NOW - 1), QUIET_SECONDS, id="another change"),
        pytest.param(
            PendingTemplate("other", NOW - MAX_WAIT_SECONDS + 0.5, NOW - 1), 0.5, id="limited by the maximum wait"
        ),
        pytest.param(PendingTemplate(current_template(), NOW - 1.5, NOW - 1.5), 0.5, id="same change"),
    ],
)
def test_wait_for_further_changes_is_bounded(pending: PendingTemplate, settles_in: float) -> None:
    decision = decide(serving(template="old", pending_rollout=pending), IMAGE)
    assert decision.plan.action is Action.KEEP
    assert decision.plan.settles_in == pytest.approx(settles_in)
    assert decision.requeue_after == pytest.approx(settles_in)
    assert reason(decision.report, ConditionType.PROGRESSING) is Reason.ROLLOUT_PENDING


def test_settled_change_is_rolled_out() -> None:
    pending = PendingTemplate(current_template(), NOW - QUIET_SECONDS, NOW - QUIET_SECONDS)
    decision = decide(serving(template="old", pending_rollout=pending), IMAGE)
    assert decision.plan.action is Action.ROLL_OUT
    assert decision.plan.settles_in is None
    progress = reported(decision).verdicts[ConditionType.PROGRESSING]
    assert (progress.status, progress.reason) == (ConditionStatus.TRUE, Reason.ROLLING_OUT)
    counts = reported(decision).counts
    assert counts is not None
    assert counts.workers.updated == 0, "the running worker has the old template now"


def test_reverted_change_is_no_longer_pending() -> None:
    pending = PendingTemplate("reverted", NOW - 1, NOW - 1)
    plan = decide(serving(pending_rollout=pending), IMAGE).plan
    assert (plan.action, plan.pending_rollout) == (Action.ROLL_OUT, None)


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"inputs": inputs(credentials=NO_SECRET)}, id="unusable inputs"),
        pytest.param({"claims": TAKEN}, id="name taken"),
        pytest.param({"occupants": FOREIGN_CHILD}, id="name conflict"),
    ],
)
def test_blocked_change_is_no_longer_pending(changes: dict[str, Any]) -> None:
    pending = PendingTemplate(current_template(), NOW - 1, NOW - 1)
    plan = decide(serving(template="old", pending_rollout=pending, **changes), IMAGE).plan
    assert (plan.pending_rollout, plan.settles_in) == (None, None)


# Reports


def test_serving_agent_is_ready() -> None:
    report = reported(decide(serving(), IMAGE))
    assert report.verdicts.keys() == set(ConditionType)
    assert report.verdicts[ConditionType.READY].status is ConditionStatus.TRUE
    assert report.agent_name == "ava"
    assert report.counts is not None
    assert report.counts.workers.model_dump() == {
        "desired": 1,
        "ready": 1,
        "registered": 1,
        "updated": 1,
        "draining": 0,
    }


def test_ready_agent_warns_of_an_address_that_https_pages_refuse() -> None:
    livekit = {"url": "ws://10.0.0.5:7880", "credentialsSecretRef": {"name": "livekit"}}
    ready = reported(decide(serving(spec(livekit=livekit)), IMAGE)).verdicts[ConditionType.READY]
    assert ready.status is ConditionStatus.TRUE
    assert "https pages refuse spec.livekit.url" in ready.message


def test_unusable_inputs_are_reported_and_read_again_soon() -> None:
    decision = decide(serving(inputs=inputs(credentials=NO_SECRET)), IMAGE)
    assert decision.plan.refresh_inputs
    assert reason(decision.report, ConditionType.CREDENTIALS_VALID) is Reason.SECRET_NOT_FOUND
    assert reason(decision.report, ConditionType.PROGRESSING) is Reason.ROLLOUT_BLOCKED


@pytest.mark.parametrize(
    ("occupants", "kind"),
    [
        pytest.param(FOREIGN_CHILD, "PodDisruptionBudget", id="child"),
        pytest.param(FOREIGN_SHARED, "NetworkPolicy", id="shared object"),
    ],
)
@pytest.mark.parametrize("runs", [True, False], ids=["serving", "new"])
def test_name_conflict_is_reported_with_the_object(occupants: Occupants, kind: str, runs: bool) -> None:
    seen = serving(occupants=occupants) if runs else snapshot(occupants=occupants)
    report = reported(decide(seen, IMAGE))
    ready, progress = report.verdicts[ConditionType.READY], report.verdicts[ConditionType.PROGRESSING]
    assert (ready.status, ready.reason) == (ConditionStatus.FALSE, Reason.NAME_CONFLICT)
    assert (progress.status, progress.reason) == (ConditionStatus.FALSE, Reason.ROLLOUT_BLOCKED)
    assert kind in ready.message
    assert progress.message == ready.message


def test_unusable_inputs_are_reported_before_a_name_conflict() -> None:
    decision = decide(snapshot(occupants=FOREIGN_CHILD, inputs=inputs(credentials=NO_SECRET)), IMAGE)
    assert reason(decision.report) is Reason.SECRET_NOT_FOUND


@pytest.mark.parametrize(
    ("claims", "other"),
    [
        pytest.param(TAKEN, "eve is older", id="held by an older agent"),
        pytest.param(NameClaims(user=OTHER), "eve", id="still in use"),
    ],
)
def test_taken_name_is_reported(claims: NameClaims, other: str) -> None:
    report = reported(decide(snapshot(claims=claims), IMAGE))
    name = report.verdicts[ConditionType.NAME_UNIQUE]
    assert (name.status, name.reason) == (ConditionStatus.FALSE, Reason.NAME_TAKEN)
    assert other in name.message


@pytest.mark.parametrize(
    ("generation", "is_reported"), [pytest.param(1, True, id="current"), pytest.param(0, False, id="outdated")]
)
def test_pending_credentials_leave_a_current_status_unchanged(generation: int, is_reported: bool) -> None:
    pending = inputs(credentials=unknown(Reason.CREDENTIALS_PENDING, "Checking."))
    decision = decide(serving(inputs=pending, agent=agent(status={"observedGeneration": generation})), IMAGE)
    assert (decision.report is None) is is_reported
    assert (conclude(decision, Outcome(False, REJECTED)).report is None) is is_reported
    assert decision.plan.action is Action.KEEP
    assert decision.requeue_after == NOT_READY_SECONDS
    if not is_reported:
        assert reason(decision.report, ConditionType.CREDENTIALS_VALID) is Reason.CREDENTIALS_PENDING


def test_invalid_spec_reports_only_ready_and_the_numbers() -> None:
    report = reported(decide(serving(agent=agent(INVALID), inputs=None), IMAGE))
    assert report.verdicts == {ConditionType.READY: INVALID}
    assert report.agent_name == "ava"
    assert report.counts is not None
    assert report.counts.workers.registered == 1


def test_spec_that_was_never_valid_keeps_the_reported_numbers() -> None:
    seen = snapshot(agent=agent(INVALID, status={"agentName": "desk"}), spec=None, inputs=None)
    assert reported(decide(seen, IMAGE)) == Report({ConditionType.READY: INVALID}, "desk", counts=None)


# Outcomes


def test_applied_plan_is_reported_as_decided() -> None:
    decision = decide(serving(spec(scaling={"maxWorkers": 1}), pending_calls=8), IMAGE)
    conclusion = conclude(decision, Outcome())
    assert conclusion.report is decision.report
    assert conclusion.requeue_after == decision.requeue_after
    assert conclusion.limited


@pytest.mark.parametrize(
    "cause", [REJECTED, false(Reason.APPLY_FAILED, "Failed for 30 s.")], ids=["rejected", "failed"]
)
def test_unapplied_plan_is_reported_with_its_cause(cause: Verdict) -> None:
    decision = decide(serving(), IMAGE)
    conclusion = conclude(decision, Outcome(False, cause))
    assert conclusion.report is not None
    verdicts = conclusion.report.verdicts
    assert verdicts[ConditionType.READY] == cause
    assert verdicts[ConditionType.PROGRESSING] == false(Reason.ROLLOUT_BLOCKED, cause.message)
    unchanged = set(ConditionType) - {ConditionType.READY, ConditionType.PROGRESSING}
    assert all(verdicts[kind] == reported(decision).verdicts[kind] for kind in unchanged)
    assert conclusion.requeue_after == NOT_READY_SECONDS


def test_invalid_field_is_reported_before_a_rejection() -> None:
    conclusion = conclude(decide(serving(inputs=inputs(fault=INVALID)), IMAGE), Outcome(False, REJECTED))
    assert reason(conclusion.report) is Reason.INVALID_SPEC
    assert reason(conclusion.report, ConditionType.PROGRESSING) is Reason.ROLLOUT_BLOCKED


def test_rejection_under_an_invalid_spec_changes_no_condition() -> None:
    decision = decide(serving(agent=agent(INVALID), inputs=None), IMAGE)
    assert conclude(decision, Outcome(False, REJECTED)).report == decision.report


def test_transient_error_reports_the_progress_of_the_old_template() -> None:
    due = PendingTemplate(current_template(), NOW - QUIET_SECONDS, NOW - QUIET_SECONDS)
    decision = decide(serving(template="old", pending_rollout=due), IMAGE)
    conclusion = conclude(decision, Outcome(False, error=OSError()))
    assert conclusion.report is not None
    assert conclusion.report.verdicts[ConditionType.READY].status is ConditionStatus.TRUE
    assert reason(conclusion.report, ConditionType.PROGRESSING) is Reason.ROLLOUT_PENDING
    assert conclusion.report.counts is not None
    assert conclusion.report.counts.workers.updated == 1, "the worker has the template that the Deployment still has"


def test_transient_error_of_a_new_agent_reports_no_finished_rollout() -> None:
    conclusion = conclude(decide(snapshot(), IMAGE), Outcome(False, error=OSError()))
    assert reason(conclusion.report, ConditionType.PROGRESSING) is Reason.ROLLING_OUT


# Requeue times


@pytest.mark.parametrize(
    ("seen", "seconds"),
    [
        pytest.param(serving(), READY_SECONDS, id="ready"),
        pytest.param(snapshot(), NOT_READY_SECONDS, id="starting"),
        pytest.param(snapshot(spec(suspend=True)), READY_SECONDS, id="suspended"),
        pytest.param(snapshot(spec(suspend=True), claims=TAKEN), NOT_READY_SECONDS, id="suspended, name taken"),
        pytest.param(snapshot(claims=TAKEN), NOT_READY_SECONDS, id="name taken"),
        pytest.param(
            serving(inputs=inputs(credentials=unknown(Reason.PROVIDER_UNREACHABLE, "OpenAI does not respond."))),
            NOT_READY_SECONDS,
            id="ready, provider unreachable",
        ),
        pytest.param(serving(template="old"), QUIET_SECONDS, id="change settles"),
        pytest.param(
            serving(
                spec(scaling={"scaleDownDelaySeconds": 30}),
                deployment=deployment(2, "old"),
                history=(Sample(NOW - 25, 2),),
            ),
            QUIET_SECONDS,
            id="change settles before the scale-down",
        ),
        pytest.param(serving(agent=agent(INVALID), inputs=None), None, id="invalid spec"),
        pytest.param(snapshot(agent=agent(INVALID), spec=None, inputs=None), None, id="never valid"),
        pytest.param(serving(agent=None), NOT_READY_SECONDS, id="deleted agent drains"),
        pytest.param(snapshot(agent=None), None, id="forgotten"),
    ],
)
def test_requeue_time_is_the_earliest_that_applies(seen: Snapshot, seconds: float | None) -> None:
    decision = decide(seen, IMAGE)
    assert decision.requeue_after == seconds
    assert conclude(decision, Outcome()).requeue_after == seconds
    expected = NOT_READY_SECONDS if seconds is None else min(seconds, NOT_READY_SECONDS)
    assert conclude(decision, Outcome(False, error=OSError())).requeue_after == expected


def delayed(declared: AvatarAgentSpec, **changes: Any) -> Snapshot:
    """An agent with two workers that needed both until 25 s ago and needs one now."""
    template = current_template(declared)
    workers = tuple(worker(f"pod-{number}", status(), template=template) for number in (1, 2))
    known = {
        "deployment": deployment(2, template),
        "workers": workers,
        "history": (Sample(NOW - 25, 2), Sample(NOW, 1)),
    }
    return snapshot(declared, **{**known, **changes})


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({}, id="ready"),
        pytest.param({"agent": agent(INVALID), "inputs": None}, id="invalid spec"),
    ],
)
def test_requeue_time_is_the_end_of_the_scale_down_delay(changes: dict[str, Any]) -> None:
    declared = spec(scaling={"scaleDownDelaySeconds": 30})
    decision = decide(delayed(declared, **changes), IMAGE)
    assert decision.plan.workers == 2
    assert decision.requeue_after == 5


# Pods that hang


@pytest.mark.parametrize("scaling", [{"maxWorkers": 1}, {"mode": "Fixed", "workers": 1}], ids=["maximum", "fixed"])
def test_worker_that_hangs_without_a_call_is_deleted_and_not_added_to(scaling: dict[str, Any]) -> None:
    declared = spec(scaling=scaling)
    template = current_template(declared)
    hangs = worker("hangs", template=template, unregistered_seconds=6.0, hangs_idle=True)
    ending = worker("ending", template=template, terminating=True, hangs_idle=True)
    plan = decide(
        snapshot(declared, deployment=deployment(1, template), workers=(hangs, ending), pending_calls=1), IMAGE
    ).plan
    assert (plan.removals, plan.workers) == (("hangs",), 1), "the Deployment replaces it"


# Annotations of pods


def two_workers(replicas: int, **changes: Any) -> Snapshot:
    """An agent fixed to one worker, with a busy and an idle worker and this number of replicas."""
    declared = spec(**FIXED)
    template = current_template(declared)
    workers: tuple[ObservedWorker, ...] = (
        worker("busy", status(calls=2), template=template),
        worker("idle", status(), template=template),
    )
    return snapshot(declared, **{"deployment": deployment(replicas, template), "workers": workers, **changes})


@pytest.mark.parametrize(
    ("changes", "action"),
    [
        pytest.param({}, Action.ROLL_OUT, id="rollout"),
        pytest.param({"inputs": inputs(credentials=NO_SECRET)}, Action.KEEP, id="keep"),
        pytest.param({"occupants": FOREIGN_CHILD}, Action.SCALE_ONLY, id="scale only"),
        pytest.param({"agent": agent(INVALID), "inputs": None}, Action.KEEP, id="invalid spec"),
    ],
)
def test_deletion_costs_are_set_only_to_shrink(changes: dict[str, Any], action: Action) -> None:
    shrinking, steady = (decide(two_workers(replicas, **changes), IMAGE).plan for replicas in (2, 1))
    assert (shrinking.action, shrinking.workers) == (steady.action, steady.workers) == (action, 1)
    assert shrinking.annotations == {"busy": {**PROTECTION, DELETION_COST: "2"}}
    assert steady.annotations == {"busy": PROTECTION}


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({}, id="ready"),
        pytest.param({"agent": agent(INVALID), "inputs": None}, id="invalid spec"),
    ],
)
def test_idle_worker_loses_its_protection_after_a_while(changes: dict[str, Any]) -> None:
    for idle, annotations, requeue in ((4.0, {}, IDLE_SECONDS - 4), (IDLE_SECONDS, dict.fromkeys(PROTECTION), None)):
        seen = worker(report=status(), idle_seconds=idle, template=current_template(), annotations=PROTECTION)
        decision = decide(serving(workers=(seen,), **changes), IMAGE)
        assert decision.plan.annotations == ({"pod-1": annotations} if annotations else {})
        assert requeue is None or decision.requeue_after == requeue


def test_time_alone_decides_when_a_change_is_rolled_out() -> None:
    waiting = serving(template="old", pending_rollout=PendingTemplate(current_template(), NOW, NOW))
    due = replace(waiting, now=Instant(NOW + QUIET_SECONDS, "2026-01-05T00:01:42Z", CREATED + 42))
    assert [decide(seen, IMAGE).plan.action for seen in (waiting, due)] == [Action.KEEP, Action.ROLL_OUT]
