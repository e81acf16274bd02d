"""Fleet: is there capacity?"""

from dashboards.panels import (
    BLUE,
    BYTES,
    PER_MINUTE,
    RED,
    SECONDS,
    SHARE,
    YELLOW,
    Panels,
    Series,
    Text,
    build,
    figure,
    graph,
    rows,
)
from dashboards.queries import AGENT, CONTROLLER, WORKER, grown, of_agents, per_minute, quantile, selected, total

UID = "avatar-agent-fleet"

_CONDITION = f"{CONTROLLER}agent_condition"
_NOT_READY = selected(_CONDITION, 'condition="Ready",status!="True",reason!="Suspended"')
_UNMET = (
    selected(_CONDITION, 'condition!~"Progressing|ScalingLimited",status!="True",reason!="Suspended"')
    + " or "
    + selected(_CONDITION, 'condition="ScalingLimited",status="True"')
)
_MISSING = f"clamp_min({of_agents('workers_desired')} - {of_agents('workers_registered')}, 0)"
_START = selected(f"{CONTROLLER}worker_start_duration_seconds_bucket")


def _answers() -> Panels:
    """Return the figures at the top: is there capacity?"""
    return [
        figure(
            "Agents not ready",
            f"count(max by (agent_namespace, agent) ({_NOT_READY})) or 0 * {total('ready')}",
            Text("Normally 0. A suspended agent does not count.", "NotReady"),
            steps=[(1, RED)],
            empty="no agents",
        ),
        figure(
            "Calls now",
            total("calls"),
            Text(
                "Calls that workers hold. Any number is normal.",
                no_runbook="the number of calls is no fault by itself.",
            ),
            first=BLUE,
            empty="no agents",
        ),
        figure(
            "Callers waiting",
            total("calls_pending"),
            Text(
                "Normally 0. A few callers wait for some seconds when many call at once, or when the agent starts "
                "its first worker on demand.",
                "NoFreeSlot",
            ),
            steps=[(1, YELLOW), (5, RED)],
            empty="no agents",
        ),
        figure(
            "Slots in use",
            f"1 - {total('slots_free')} / ({total('slots')} > 0)",
            Text(
                "Normally below 80 %. At 100 % the next caller waits until the controller has added a worker.",
                "NoFreeSlot",
            ),
            unit=SHARE,
            steps=[(0.8, YELLOW), (0.95, RED)],
            decimals=0,
            empty="no workers",
        ),
        figure(
            "Workers missing",
            f"sum({_MISSING})",
            Text(
                "Workers that should run and are not registered with LiveKit. Normally 0; above 0 for about a "
                "minute while workers start.",
                "WorkersNotRegistered",
            ),
            steps=[(1, YELLOW), (5, RED)],
            empty="no agents",
        ),
        figure(
            "Agents at maxWorkers",
            total("scaling_limited"),
            Text("Agents whose calls need more workers than `scaling.maxWorkers` allows. Normally 0.", "AtMaxWorkers"),
            steps=[(1, RED)],
            empty="no agents",
        ),
    ]


def _capacity() -> Panels:
    """Return the panels of workers, slots and waiting calls."""
    return [
        graph(
            "Calls and slots",
            [
                Series(total("slots"), "slots"),
                Series(total("calls"), "calls"),
                Series(total("calls_pending"), "callers waiting"),
            ],
            Text(
                "The calls stay below the slots. The distance is the number of free slots, which `scaling.freeSlots` "
                "sets. The line of waiting callers stays at 0.",
                "NoFreeSlot",
            ),
            width=12,
        ),
        rows(
            "Conditions that need action",
            f"max by (agent_namespace, agent, condition, status, reason) ({_UNMET})",
            ["agent_namespace", "agent", "condition", "status", "reason"],
            Text(
                "Normally empty; suspended agents are left out. The reason says what is missing; `kubectl describe "
                "avataragent` shows the message.",
                "NotReady",
            ),
            width=12,
        ),
        graph(
            "Workers",
            [
                Series(total("workers_desired"), "desired"),
                Series(total("workers_ready"), "ready"),
                Series(total("workers_registered"), "registered"),
                Series(total("workers_draining"), "draining"),
                Series(f"{total('workers_desired')} - {total('workers_updated')}", "not updated"),
            ],
            Text(
                "Registered workers equal desired workers, except for about a minute after a change. During a "
                "rollout, some workers drain and others are not updated yet.",
                "WorkersNotRegistered",
            ),
        ),
        graph(
            "Share of maxWorkers",
            [
                Series(
                    f"{of_agents('workers_desired')} / {of_agents('workers_max')} > 0", "{{agent_namespace}}/{{agent}}"
                )
            ],
            Text(
                "Workers that each agent should have, of those that `scaling.maxWorkers` allows. An agent at 100 % "
                "cannot grow: more callers have to wait.",
                "AtMaxWorkers",
            ),
            unit=SHARE,
            steps=[(1, RED)],
            top=1,
        ),
        graph(
            "Workers missing by agent",
            [Series(f"{_MISSING} > 0", "{{agent_namespace}}/{{agent}}")],
            Text(
                "Normally empty. A line longer than some minutes means that workers cannot start.",
                "WorkersNotRegistered",
            ),
            bars=True,
        ),
    ]


def _scaling() -> Panels:
    """Return the panels of scale decisions, starts and avatar seats."""
    return [
        graph(
            "Scale decisions by reason",
            [Series(per_minute(selected(f"{CONTROLLER}scale_decisions_total"), "reason"), "{{reason}}")],
            Text(
                "A few at a time, as calls come and go. Many in a row mean that the number of workers swings.",
                no_runbook="scaling is normal work; the figures above show when it does not suffice.",
            ),
            unit=PER_MINUTE,
            bars=True,
        ),
        graph(
            "Worker start",
            [Series(quantile(0.5, _START), "p50"), Series(quantile(0.95, _START), "p95")],
            Text(
                "From the pod's creation to its registration with LiveKit. Normally below 15 s, longer where a node "
                "pulls the image first.",
                "WorkersNotRegistered",
            ),
            unit=SECONDS,
            steps=[(30, YELLOW), (60, RED)],
        ),
        graph(
            "Avatar seats",
            [
                Series(total("avatar_seats"), "seats"),
                Series(f"{total('avatar_seats')} - {total('avatar_seats_free')}", "in use"),
                Series(total("calls_with_avatar"), "calls with avatar"),
            ],
            Text(
                "The seats of `avatar.maxSessions`; only agents that set it have seats. Seats in use stay below seats. "
                "When all are taken, calls continue without an avatar or end, as `avatar.onFailure` says.",
                no_runbook="the provider's plan limits the seats. Raise `avatar.maxSessions` with the plan.",
            ),
        ),
    ]


def _workers() -> Panels:
    """Return the panels with a line for each worker."""
    return [
        graph(
            "Workers lost, by reason",
            [Series(grown(f"{CONTROLLER}workers_lost_total", "reason"), "{{reason}}")],
            Text(
                "Workers of all agents that were lost with their calls. Normally 0. Their callers get another agent.",
                "WorkersLost",
            ),
            bars=True,
        ),
        graph(
            "Load per worker",
            [Series(f"{selected(f'{WORKER}calls')} / ({selected(f'{WORKER}slots')} > 0)", "{{pod}}")],
            Text("Calls of each worker to its slots. LiveKit fills the workers evenly.", "NoFreeSlot"),
            unit=SHARE,
            top=1,
        ),
        graph(
            "Jobs declined by reason",
            [Series(per_minute(selected(f"{WORKER}jobs_declined_total"), "reason"), "{{reason}}")],
            Text(
                "Normally 0. A full or draining worker declines some jobs under load. Then LiveKit offers the job "
                "to another one.",
                "NoFreeSlot",
            ),
            unit=PER_MINUTE,
            bars=True,
        ),
        graph(
            "Registrations with LiveKit",
            [Series(per_minute(selected(f"{WORKER}registrations_total"), "pod"), "{{pod}}")],
            Text(
                "One when a worker starts. More mean that the connection to LiveKit broke and came back.",
                "WorkersNotRegistered",
            ),
            unit=PER_MINUTE,
            bars=True,
        ),
        graph(
            "Call processes",
            [Series(f"sum by (state) ({selected(f'{WORKER}call_processes')})", "{{state}}")],
            Text(
                "Processes of all workers. Idle ones are warm for the next call; without one, the agent joins "
                "some seconds later.",
                no_runbook="join times on the dashboard Calls show whether warm processes are missing.",
            ),
        ),
        graph(
            "Worker states",
            [
                Series(f"sum({selected(f'{WORKER}registered')})", "registered"),
                Series(f"sum({selected(f'{WORKER}draining')})", "draining"),
            ],
            Text(
                "What the workers report of themselves. All are registered; some drain during a rollout.",
                "WorkersNotRegistered",
            ),
        ),
        graph(
            "Memory by worker",
            [Series(f'process_resident_memory_bytes{{job="avatar-agent-worker",{AGENT}}}', "{{pod}}")],
            Text(
                "Resident memory of each worker's main process, without its call processes. It stays level; a line "
                "that only rises is a leak.",
                no_runbook="no alert watches memory. Compare with `spec.worker.resources` of the agent.",
            ),
            unit=BYTES,
        ),
    ]


def render() -> str:
    """Return the dashboard's JSON."""
    return build(
        UID,
        "Fleet",
        "Is there capacity? Workers, slots and waiting callers of all chosen agents.",
        [("", _answers()), ("Capacity", _capacity()), ("Scaling", _scaling()), ("Each worker", _workers())],
    )
