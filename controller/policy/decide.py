"""Turns a snapshot of one AvatarAgent into conditions and one plan. Pure: no client, no clock, no environment."""

from collections.abc import Mapping
from dataclasses import replace

from agentspec import AvatarAgentSpec, ConditionStatus, ConditionType, Reason
from controller.desired.configmap import config_map, worker_config
from controller.desired.deployment import digest_of, pod_template
from controller.policy import conditions
from controller.policy.availability import hanging
from controller.policy.avatar import avatar_available
from controller.policy.capacity import counts_of, load_of, rollout_of
from controller.policy.names import name_still_in_use, name_unique
from controller.policy.ownership import name_conflict, shared_name_conflict
from controller.policy.plan import Action, Children, Conclusion, Decision, Outcome, Plan, Report
from controller.policy.podannotations import deletion_costs, merged, protections
from controller.policy.providers_health import providers_healthy, providers_warning, tool_failure
from controller.policy.rivals import Rival, contested, replicas_contested, rival_of
from controller.policy.rollout import PendingTemplate, Rollout, debounce, progressing
from controller.policy.scale import Decision as Scale
from controller.policy.scale import decide as decide_scale
from controller.policy.scale import scaling_limited
from controller.policy.snapshot import Inputs, ObservedAgent, Snapshot
from controller.policy.specification import caller_url_warning, room_pattern_warning
from controller.policy.startup import next_problem_in
from controller.policy.verdict import Verdict, false
from controller.policy.workers import workers_registered

NOT_READY_SECONDS = 10.0
"""When to reconcile an agent again that is not ready: LiveKit may accept its keys by then."""
READY_SECONDS = 600.0
"""When to reconcile a ready agent again: watches, worker streams and refreshed inputs report every change sooner."""


def decide(snapshot: Snapshot, default_image: str) -> Decision:
    """What the controller does about one AvatarAgent, and what its status says.

    `default_image`: the image of workers whose spec names none.
    """
    agent = snapshot.agent
    if agent is None or agent.deleted:
        return _deleted(snapshot)
    if isinstance(agent.spec, Verdict):
        return _invalid(snapshot, agent, agent.spec)
    assert snapshot.inputs is not None
    return _declared(snapshot, agent, agent.spec, snapshot.inputs, default_image)


def conclude(decision: Decision, outcome: Outcome) -> Conclusion:
    """What to report, and when to reconcile again, once the plan was carried out or could not be."""
    limited = decision.scale is not None and decision.scale.limited
    if outcome.applied:
        return Conclusion(decision.snapshot, decision.report, limited, decision.requeue_after)
    report, inputs = decision.report, decision.snapshot.inputs
    if report is not None and inputs is not None:
        pending = decision.plan.pending_rollout is not None
        report = _declared_report(decision, decision.snapshot.template, pending=pending)
    if report is not None and outcome.cause is not None and ConditionType.PROGRESSING in report.verdicts:
        changed = {
            ConditionType.READY: (inputs.fault if inputs is not None else None) or outcome.cause,
            ConditionType.PROGRESSING: false(Reason.ROLLOUT_BLOCKED, outcome.cause.message),
        }
        report = replace(report, verdicts={**report.verdicts, **changed})
    waits = [NOT_READY_SECONDS] if decision.requeue_after is None else [NOT_READY_SECONDS, decision.requeue_after]
    return Conclusion(decision.snapshot, report, limited, min(waits))


def _deleted(snapshot: Snapshot) -> Decision:
    """Workers of a deleted agent finish their calls; while they are registered, its name stays in use."""
    if all(worker.pod.terminating for worker in snapshot.workers):
        return Decision(snapshot, Plan(Action.FORGET))
    return Decision(snapshot, Plan(Action.DRAIN), requeue_after=NOT_READY_SECONDS)


def _invalid(snapshot: Snapshot, agent: ObservedAgent, fault: Verdict) -> Decision:
    """Children stay as the last usable spec made them, and the number of workers follows the calls."""
    verdicts = {ConditionType.READY: fault}
    spec = snapshot.spec
    if spec is None:
        report = Report(verdicts, agent.status.get("agentName", ""), counts=None)
        return Decision(snapshot, Plan(Action.BLOCKED), report)
    scale, rival = _scale(snapshot, spec, stopped=spec.suspend)
    plan = _with_pod_changes(_keep(snapshot, scale.workers), snapshot, spec, scale.workers)
    report = _report(snapshot, spec, verdicts, scale, snapshot.template)
    waits = [seconds for seconds in (scale.requeue_after, plan.annotations_due) if seconds is not None]
    return Decision(snapshot, plan, report, scale=scale, rival=rival, requeue_after=min(waits, default=None))


def _declared(
    snapshot: Snapshot, agent: ObservedAgent, spec: AvatarAgentSpec, inputs: Inputs, default_image: str
) -> Decision:
    name = _name(snapshot, agent)
    stopped = spec.suspend or name.status is ConditionStatus.FALSE
    scale, rival = _scale(snapshot, spec, stopped=stopped)
    plan, conflict = _plan(snapshot, agent, spec, inputs, scale, default_image)
    plan = _with_pod_changes(plan, snapshot, spec, scale.workers)
    if plan.settles_in is not None or not inputs.usable:
        plan = replace(plan, refresh_inputs=True)
    decision = Decision(snapshot, plan, scale=scale, rival=rival, conflict=conflict)
    if inputs.credentials.reason is Reason.CREDENTIALS_PENDING and agent.is_reported:
        # What an earlier controller reported of this generation holds until the probes answer, within seconds.
        return replace(decision, requeue_after=_requeue_after(decision, settled=False))
    template = digest_of(plan.children.template) if plan.children else snapshot.template
    report = _declared_report(decision, template, pending=plan.settles_in is not None)
    served = report.verdicts[ConditionType.READY].status is ConditionStatus.TRUE or spec.suspend
    settled = served and ConditionStatus.TRUE is inputs.credentials.status is name.status
    return replace(decision, report=report, requeue_after=_requeue_after(decision, settled=settled))


def _name(snapshot: Snapshot, agent: ObservedAgent) -> Verdict:
    claim, claims = agent.claim, snapshot.claims
    assert claim is not None  # the spec is usable
    if claims.holder is None and claims.user is not None:
        return name_still_in_use(claim, claims.user)
    return name_unique(claim, claims.holder, automatic=not claim.name)


def _scale(snapshot: Snapshot, spec: AvatarAgentSpec, *, stopped: bool) -> tuple[Scale, Rival | None]:
    """The number of workers, and the other client that sets it, too."""
    scale = decide_scale(
        spec.scaling,
        spec.worker.calls_per_worker,
        load_of(snapshot.workers, snapshot.pending_calls, snapshot.registered_name, snapshot.now.unix),
        stopped=stopped,
        current=snapshot.replicas,
        history=snapshot.history,
        now=snapshot.now.monotonic,
    )
    now, deployment, waiting = snapshot.now.monotonic, snapshot.deployment, snapshot.pending_calls > 0
    rival = rival_of(snapshot.rival, deployment.replicas_writer if deployment else None, scale.workers, now)
    return contested(scale, rival, spec.scaling, snapshot.replicas, waiting=waiting, now=now), rival


def _plan(
    snapshot: Snapshot, agent: ObservedAgent, spec: AvatarAgentSpec, inputs: Inputs, scale: Scale, default_image: str
) -> tuple[Plan, Verdict | None]:
    """The plan, and the name conflict that keeps it from being a rollout, if there is one."""
    if not inputs.usable or scale.stopped:
        return _keep(snapshot, scale.workers), None
    conflict = _conflict(snapshot)
    if conflict is not None:
        return _scale_only(snapshot, scale.workers), conflict
    children = _children(agent, spec, inputs, default_image)
    digest = digest_of(children.template)
    pending, wait = _settle(snapshot, digest)
    if wait > 0:
        return replace(_keep(snapshot, scale.workers), pending_rollout=pending, settles_in=wait), None
    return Plan(Action.ROLL_OUT, scale.workers, children, pending_rollout=pending), None


def _children(agent: ObservedAgent, spec: AvatarAgentSpec, inputs: Inputs, default_image: str) -> Children:
    document = worker_config(
        agent.owner, spec, inputs.instructions, inputs.greeting, inputs.documents, inputs.secret_variables
    )
    configuration = config_map(agent.owner, document)
    template = pod_template(
        agent.owner,
        spec,
        default_image=default_image,
        config_map_name=configuration["metadata"]["name"],
        credentials=inputs.credentials_fingerprint,
    )
    return Children(configuration, template)


def _settle(snapshot: Snapshot, digest: str) -> tuple[PendingTemplate | None, float]:
    """Seconds until the pod template may be rolled out. Where no worker runs there is nothing to wait for."""
    if not snapshot.replicas or snapshot.template == digest:
        return None, 0.0
    return debounce(snapshot.pending_rollout, digest, snapshot.now.monotonic)


def _keep(snapshot: Snapshot, wanted: int) -> Plan:
    """Keep the children as they were applied last. Where no worker runs, none starts."""
    if snapshot.deployment is None:
        return Plan(Action.BLOCKED)
    if _conflict(snapshot) is not None:
        return _scale_only(snapshot, wanted)
    workers = wanted if snapshot.replicas else 0
    return Plan(Action.KEEP, workers)


def _conflict(snapshot: Snapshot) -> Verdict | None:
    """Which object of another owner has the name of one of the agent's children, if there is one."""
    assert snapshot.agent is not None
    occupants = snapshot.occupants
    conflict = name_conflict(snapshot.agent.owner, occupants.children)
    return conflict or shared_name_conflict(snapshot.key.namespace, occupants.shared)


def _scale_only(snapshot: Snapshot, wanted: int) -> Plan:
    if not snapshot.replicas:
        return Plan(Action.BLOCKED)
    return Plan(Action.SCALE_ONLY, wanted)


def _with_pod_changes(plan: Plan, snapshot: Snapshot, spec: AvatarAgentSpec, wanted: int) -> Plan:
    """The plan with the annotations of worker pods, and with the pods to delete.

    Deletion costs matter only when the Deployment shrinks.
    """
    shrinks = snapshot.replicas is not None and wanted < snapshot.replicas
    costs = deletion_costs(snapshot.workers) if shrinks else {}
    changes, due = protections(snapshot.workers, spec.worker.pod.annotations)
    removals = hanging(snapshot.workers)
    return replace(plan, annotations=merged(costs, changes), annotations_due=due, removals=removals)


def _declared_report(decision: Decision, template: str, *, pending: bool) -> Report:
    """The report on an agent with a usable spec, whose workers should be made from the template with this digest.

    `pending`: another template waits to be applied.
    """
    snapshot, scale = decision.snapshot, decision.scale
    assert snapshot.agent is not None
    assert isinstance(snapshot.agent.spec, AvatarAgentSpec)
    assert snapshot.inputs is not None
    assert scale is not None
    spec, rollout = snapshot.agent.spec, rollout_of(snapshot.workers, template, pending=pending)
    tools = tool_failure(snapshot.workers, template)
    providers = providers_healthy(spec, snapshot.stages.get(template), tools)
    verdicts = _verdicts(decision, scale, snapshot.agent, spec, snapshot.inputs, rollout, providers)
    return _report(snapshot, spec, verdicts, scale, template)


def _verdicts(
    decision: Decision,
    scale: Scale,
    agent: ObservedAgent,
    spec: AvatarAgentSpec,
    inputs: Inputs,
    rollout: Rollout,
    providers: Verdict,
) -> dict[ConditionType, Verdict]:
    snapshot, conflict = decision.snapshot, decision.conflict
    contest = replicas_contested(decision.rival, spec.scaling, snapshot.key, snapshot.now.monotonic)
    needed = {
        ConditionType.CREDENTIALS_VALID: inputs.credentials,
        ConditionType.NAME_UNIQUE: _name(snapshot, agent),
        ConditionType.KNOWLEDGE_LOADED: inputs.knowledge,
    }
    blocked_until = conditions.blocked_until(needed, inputs.fault)
    verdicts = {
        **needed,
        ConditionType.AVATAR_AVAILABLE: avatar_available(spec, snapshot.workers, snapshot.avatar_failure),
        ConditionType.PROVIDERS_HEALTHY: providers,
        ConditionType.WORKERS_REGISTERED: workers_registered(snapshot, spec, scale.workers, blocked_until),
        ConditionType.PROGRESSING: progressing(
            rollout, scale.workers, blocked_until=blocked_until, suspended=spec.suspend
        ),
        ConditionType.SCALING_LIMITED: scaling_limited(spec.scaling, scale, contest),
    }
    cause = conditions.causes(needed, inputs.fault)
    verdicts = {kind: _with_cause(verdict, cause) for kind, verdict in verdicts.items()}
    if conflict is not None:
        verdicts[ConditionType.PROGRESSING] = false(Reason.ROLLOUT_BLOCKED, conflict.message)
    warnings = (
        room_pattern_warning(spec),
        caller_url_warning(spec),
        providers_warning(verdicts[ConditionType.PROVIDERS_HEALTHY]),
    )
    ready = conditions.ready(
        verdicts,
        suspended=spec.suspend,
        blocker=inputs.fault or conflict,
        warning=" ".join(warning for warning in warnings if warning),
    )
    return {ConditionType.READY: ready, **verdicts}


def _with_cause(verdict: Verdict, cause: str) -> Verdict:
    """A blocked condition repeats what blocks it, so that nobody has to look for another condition."""
    blocked = verdict.reason is Reason.ROLLOUT_BLOCKED and cause
    return replace(verdict, message=f"{verdict.message} {cause}") if blocked else verdict


def _report(
    snapshot: Snapshot,
    spec: AvatarAgentSpec,
    verdicts: Mapping[ConditionType, Verdict],
    scale: Scale,
    template: str,
) -> Report:
    rollout = rollout_of(snapshot.workers, template, pending=False)
    counts = counts_of(
        snapshot.workers,
        snapshot.registered_name,
        desired=scale.workers,
        updated=rollout.updated,
        pending_calls=snapshot.pending_calls,
    )
    return Report(verdicts, spec.registered_name(snapshot.key.name), counts)


def _requeue_after(decision: Decision, *, settled: bool) -> float:
    snapshot, plan, scale = decision.snapshot, decision.plan, decision.scale
    waits = (
        plan.settles_in,
        plan.annotations_due,
        None if scale is None else scale.requeue_after,
        next_problem_in(snapshot.workers, snapshot.now.unix),
        READY_SECONDS if settled else NOT_READY_SECONDS,
    )
    return min(seconds for seconds in waits if seconds is not None)
