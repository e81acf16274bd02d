"""When each alert of the chart fires, stays silent and clears, as series in promtool's notation.

`1+2x3` is 1, 3, 5, 7; `1x3` is 1, 1, 1, 1; `_` is no sample; `stale` ends a series. Samples are `step` minutes apart.
"""

from dataclasses import dataclass, field

AVA = {"agent_namespace": "shop", "agent": "ava"}
CONTROLLER = {"namespace": "system", "pod": "controller-1"}

Series = dict[str, str]


@dataclass(frozen=True)
class Case:
    """One alert on some series."""

    name: str
    alert: str
    series: Series
    fires: int | None
    """Minute in which it first fires; None: it never fires."""
    clears: int = 0
    """Minute in which it no longer fires, though it did 3 steps before; 0: it fires to the end."""
    labels: dict[str, str] = field(default_factory=dict)
    """Labels of the alert beside those that the rule sets."""
    value: str = ""
    """The value as the annotations show it."""
    step: int = 1
    """Minutes between samples and between evaluations."""
    until: int = 60
    """Last minute in which an alert that never fires is checked."""


def controller(name: str, **labels: str) -> str:
    """Return a series of the controller `controller-1`."""
    return _series(f"avatar_agent_controller_{name}", CONTROLLER | labels)


def gateway(name: str, **labels: str) -> str:
    """Return a series of the gateway."""
    return _series(f"avatar_agent_gateway_{name}", {"namespace": "system", "pod": "gateway-1"} | labels)


def worker(name: str, pod: str = "ava-worker-1", **labels: str) -> str:
    """Return a series of a worker of shop/ava."""
    return _series(f"avatar_agent_worker_{name}", {"namespace": "shop", "pod": pod, **AVA, **labels})


def _series(name: str, labels: dict[str, str]) -> str:
    return name + "{" + ",".join(f'{label}="{value}"' for label, value in labels.items()) + "}"


def answers(count: str, in_time: str) -> Series:
    """Return the series of a worker's answers: all of them, and those within 3 s."""
    return {
        worker("answer_duration_seconds_count"): count,
        worker("answer_duration_seconds_bucket", le="3.0"): in_time,
        worker("answer_duration_seconds_bucket", le="+Inf"): count,
    }


def turns(count: str, within_3: str) -> Series:
    """Return the series of a worker's replies: all of them within 5 s, and those within 3 s."""
    return {
        worker("turn_duration_seconds_count"): count,
        worker("turn_duration_seconds_bucket", le="3.0"): within_3,
        worker("turn_duration_seconds_bucket", le="5.0"): count,
        worker("turn_duration_seconds_bucket", le="+Inf"): count,
    }


LEADING = controller("leading")
SUCCESS = controller("last_success_timestamp_seconds")
QUEUE = controller("queue_length")
GATEWAY_UP = _series("avatar_agent_build_info", {"namespace": "system", "component": "gateway", "version": "1"})
REACHABLE = gateway("controller_reachable")
STARTING = controller("agent_condition", **AVA, condition="Ready", status="False", reason="WorkersStarting")
UNREGISTERED = controller("agent_condition", **AVA, condition="Ready", status="False", reason="NotRegistered")
SUSPENDED = controller("agent_condition", **AVA, condition="Ready", status="False", reason="Suspended")
UNREACHABLE_WORKERS = controller("workers_lost_total", reason="unreachable")
ENDED_WORKERS = controller("workers_lost_total", reason="process_ended")
PENDING = controller("calls_pending", **AVA)
FREE = controller("slots_free", **AVA)
LIMITED = controller("scaling_limited", **AVA)
DESIRED = controller("workers_desired", **AVA)
REGISTERED = controller("workers_registered", **AVA)
BROKEN = gateway("calls_ended_total", **AVA, outcome="failed", reason="ProviderFailed", joined="true")
UNJOINED = gateway("calls_ended_total", **AVA, outcome="failed", reason="NoFreeSlot", joined="false")
HUNG_UP = gateway("calls_ended_total", **AVA, outcome="ended", reason="HungUp", joined="true")
RESCUES = gateway("dispatches_total", **AVA, cause="AgentLost")
DISPATCHES = gateway("dispatches_total", **AVA, cause="First")
LOST = worker("calls_lost_total")
MODEL_ERRORS = worker("provider_errors_total", stage="llm", retried="false")
MODEL_RETRIES = worker("provider_errors_total", stage="llm", retried="true")


def reconciles(outcome: str) -> str:
    """Return the counter of reconciles with this outcome."""
    return controller("reconciles_total", outcome=outcome)


NO_LEADER = "AvatarAgentNoLeader"
STUCK = "AvatarAgentControllerStuck"
RECONCILES_FAIL = "AvatarAgentReconcilesFail"
GATEWAY_DOWN = "AvatarAgentGatewayDown"
UNREACHABLE = "AvatarAgentControllerUnreachable"
WORKERS_LOST = "AvatarAgentWorkersLost"
NOT_READY = "AvatarAgentNotReady"
NO_FREE_SLOT = "AvatarAgentNoFreeSlot"
AT_MAX = "AvatarAgentAtMaxWorkers"
NOT_REGISTERED = "AvatarAgentWorkersNotRegistered"
CALLS_BREAK = "AvatarAgentCallsBreak"
PROVIDER_ERRORS = "AvatarAgentProviderErrors"
SLOW = "AvatarAgentSlowReplies"
BURN_FAST = "AvatarAgentAnswerBudgetBurnFast"
BURN_SLOW = "AvatarAgentAnswerBudgetBurnSlow"

SYSTEM = {"namespace": "system"}

CASES = [
    Case("standby alone", NO_LEADER, {LEADING: "1x10 0x10 1x10"}, fires=13, clears=23),
    Case("no controller", NO_LEADER, {LEADING: "1x10 stale _x9 1x10"}, fires=13, clears=22),
    Case("no controller ever", NO_LEADER, {REACHABLE: "1x10 _x20"}, fires=2),
    Case("leader within 2 minutes", NO_LEADER, {LEADING: "1x10 0x1 1x50"}, fires=None),
    Case(
        "no success for more than 180 s",
        STUCK,
        {LEADING: "1x60", QUEUE: "2x60", SUCCESS: "0x19 1200+60x40"},
        fires=9,
        clears=21,
        labels=CONTROLLER,
    ),
    Case("no success ever", STUCK, {LEADING: "1x30", QUEUE: "2x19 0x10"}, fires=5, clears=21, labels=CONTROLLER),
    Case("last success 180 s ago", STUCK, {LEADING: "1x60", QUEUE: "2x60", SUCCESS: "-180+60x60"}, fires=None),
    Case("queue empty within 5 minutes", STUCK, {LEADING: "1x60", QUEUE: "0x10 2x4 0x45"}, fires=None),
    Case("no success with empty queue", STUCK, {LEADING: "1x60", QUEUE: "0x60", SUCCESS: "0x60"}, fires=None),
    Case("standby without success", STUCK, {LEADING: "0x60", QUEUE: "2x60"}, fires=None),
    Case(
        "a fifth of the reconciles",
        RECONCILES_FAIL,
        {reconciles("success"): "0+8x60", reconciles("failed"): "0+1x30 30x30", reconciles("timeout"): "0+1x30 30x30"},
        fires=16,
        clears=37,
        labels=SYSTEM,
        value="20%",
    ),
    Case(
        "crashed reconciles only",
        RECONCILES_FAIL,
        {reconciles("success"): "0x60", reconciles("crashed"): "0+1x30 30x30"},
        fires=16,
        clears=41,
        labels=SYSTEM,
        value="100%",
    ),
    Case(
        "a tenth of the reconciles",
        RECONCILES_FAIL,
        {reconciles("success"): "0+9x60", reconciles("failed"): "0+1x60"},
        fires=None,
    ),
    Case(
        "failures for less than 15 minutes",
        RECONCILES_FAIL,
        {reconciles("success"): "0+1x60", reconciles("failed"): "0x10 5x4 10x45"},
        fires=None,
    ),
    Case(
        "rejected reconciles",
        RECONCILES_FAIL,
        {reconciles("success"): "0+1x60", reconciles("rejected"): "0+9x60"},
        fires=None,
    ),
    Case(
        "no metrics of the gateway",
        GATEWAY_DOWN,
        {GATEWAY_UP: "1x10 stale _x9 1x10", GATEWAY_UP.replace("gateway", "controller"): "1x40"},
        fires=13,
        clears=22,
        labels=SYSTEM | {"component": "gateway"},
    ),
    Case("gateway replaced within 2 minutes", GATEWAY_DOWN, {GATEWAY_UP: "1x10 stale _ 1x50"}, fires=None),
    Case("no answer", UNREACHABLE, {REACHABLE: "1x10 0x10 1x10"}, fires=13, clears=23, labels=SYSTEM),
    Case("answer within 2 minutes", UNREACHABLE, {REACHABLE: "1x10 0x1 1x50"}, fires=None),
    Case("no gateway", UNREACHABLE, {LEADING: "1x60"}, fires=None),
    Case(
        "three workers of two reasons",
        WORKERS_LOST,
        {UNREACHABLE_WORKERS: "0x5 2x60", ENDED_WORKERS: "0x5 1x60"},
        fires=6,
        clears=22,
        labels=SYSTEM,
        value="3",
    ),
    Case("two workers", WORKERS_LOST, {UNREACHABLE_WORKERS: "0x5 2x60", ENDED_WORKERS: "0x65"}, fires=None),
    Case("three workers in turn", WORKERS_LOST, {ENDED_WORKERS: "0x5 1x19 2x19 3x20"}, fires=None),
    Case(
        "two reasons in turn",
        NOT_READY,
        {STARTING: "1x7 stale", UNREGISTERED: "_x8 1x12 stale"},
        fires=15,
        clears=22,
        labels=AVA,
    ),
    Case("not ready for 14 minutes", NOT_READY, {STARTING: "1x14 stale"}, fires=None),
    Case("suspended", NOT_READY, {SUSPENDED: "1x60"}, fires=None),
    Case(
        "calls wait and every slot is taken",
        NO_FREE_SLOT,
        {PENDING: "0x5 2x10 0x10", FREE: "0x30"},
        fires=8,
        clears=18,
        labels=AVA,
        value="2",
    ),
    Case("calls wait and a slot is free", NO_FREE_SLOT, {PENDING: "2x60", FREE: "1x60"}, fires=None),
    Case("no call waits", NO_FREE_SLOT, {PENDING: "0x60", FREE: "0x60"}, fires=None),
    Case("calls wait for a minute", NO_FREE_SLOT, {PENDING: "0x5 2x1 0x50", FREE: "0x60"}, fires=None),
    Case("at the limit", AT_MAX, {LIMITED: "0x5 1x20 0x10"}, fires=21, clears=28, labels=AVA),
    Case("at the limit for 14 minutes", AT_MAX, {LIMITED: "0x5 1x14 0x40"}, fires=None),
    Case(
        "two of three workers are missing",
        NOT_REGISTERED,
        {DESIRED: "3x40", REGISTERED: "3x5 1x15 3x20"},
        fires=16,
        clears=23,
        labels=AVA,
        value="2",
    ),
    Case("missing for 9 minutes", NOT_REGISTERED, {DESIRED: "3x60", REGISTERED: "3x5 1x9 3x45"}, fires=None),
    Case("more workers than desired", NOT_REGISTERED, {DESIRED: "3x60", REGISTERED: "4x60"}, fires=None),
    Case(
        "a failed call and two rescues",
        CALLS_BREAK,
        {BROKEN: "0x5 1x60", RESCUES: "0x5 2x60"},
        fires=6,
        clears=37,
        labels=AVA,
        value="3",
    ),
    Case("three lost calls", CALLS_BREAK, {LOST: "0x5 3x60"}, fires=6, clears=37, labels=AVA, value="3"),
    Case(
        "a failed call and a rescue",
        CALLS_BREAK,
        {BROKEN: "0x5 1x60", RESCUES: "0x5 1x60", DISPATCHES: "0+10x65"},
        fires=None,
    ),
    Case("two lost calls", CALLS_BREAK, {LOST: "0x5 2x60", HUNG_UP: "0+10x60", UNJOINED: "0+10x60"}, fires=None),
    Case(
        "five errors",
        PROVIDER_ERRORS,
        {MODEL_ERRORS: "0x5 5x60"},
        fires=11,
        clears=22,
        labels={**AVA, "stage": "llm"},
        value="5",
    ),
    Case("five errors within 15 minutes", PROVIDER_ERRORS, {MODEL_ERRORS: "0x5 1x9 5x45"}, fires=None),
    Case("four errors", PROVIDER_ERRORS, {MODEL_ERRORS: "0x5 4x60"}, fires=None),
    Case("retried errors", PROVIDER_ERRORS, {MODEL_ERRORS: "0x60", MODEL_RETRIES: "0+9x60"}, fires=None),
    Case(
        "6 % slower than 3 s",
        SLOW,
        turns("0+100x80", "0+94x30 2920+100x50"),
        fires=16,
        clears=36,
        labels=AVA,
        value="3.3",
    ),
    Case("5 % slower than 3 s", SLOW, turns("0+100x60", "0+95x60"), fires=None),
    Case("20 slow replies within 30 minutes", SLOW, turns("0x5 10x14 20x60", "0x80"), fires=None),
    Case("19 slow replies", SLOW, turns("0x5 19x60", "0x65"), fires=None),
    Case("20 slow replies", SLOW, turns("0x5 20x70", "0x75"), fires=21, clears=37, labels=AVA, value="4.9"),
    Case(
        "half of the calls for less than an hour",
        BURN_FAST,
        answers("0+10x420", "0+10x330 3305+5x30 3460+10x60"),
        fires=350,
        clears=367,
        labels=AVA,
        value="16.67%",
    ),
    Case(
        "7 % of the calls for hours",
        BURN_FAST,
        answers("0+100x480", "0+93x400 37300+100x80"),
        fires=8,
        clears=406,
        labels=AVA,
        value="7%",
    ),
    Case(
        "only calls that no agent joined",
        BURN_FAST,
        {UNJOINED: "0+1x20 20x40"},
        fires=5,
        clears=51,
        labels=AVA,
        value="100%",
    ),
    Case(
        "14.4 % of the calls for an hour",
        BURN_FAST,
        answers("0+125x420", "0+125x360 45107+107x60"),
        fires=None,
        until=420,
    ),
    Case("6 % of the calls for hours", BURN_FAST, answers("0+100x480", "0+94x480"), fires=None, until=480),
    Case(
        "10 % of the calls for 60 % of 6 hours",
        BURN_FAST,
        answers("0+100x575", "0+100x360 36090+90x214"),
        fires=None,
        until=575,
    ),
    Case("two failed calls", BURN_FAST, {UNJOINED: "0x5 1x5 2x400"}, fires=None, until=400),
    Case("slow calls that ended an hour ago", BURN_FAST, {UNJOINED: "50x60"}, fires=None),
    Case(
        "2 % of the calls",
        BURN_SLOW,
        answers("0+100x960", "0+98x480 47140+100x480"),
        fires=30,
        clears=1638,
        labels=AVA,
        value="2%",
        step=3,
    ),
    Case(
        "5 % of the calls after days with much traffic",
        BURN_SLOW,
        answers("0+1000x960 960100+100x960", "0+1000x960 960095+95x480 1005700+100x480"),
        fires=4263,
        clears=4446,
        labels=AVA,
        value="3.254%",
        step=3,
    ),
    Case("1 % of the calls", BURN_SLOW, answers("0+100x960", "0+99x960"), fires=None, step=3, until=2880),
    Case(
        "2 % of the calls for less than half of 3 days",
        BURN_SLOW,
        answers("0+100x1360", "0+100x960 96098+98x399"),
        fires=None,
        step=3,
        until=4080,
    ),
    Case("two failed calls", BURN_SLOW, {UNJOINED: "0x5 1x300 2x600"}, fires=None, step=3, until=2700),
]
