"""Calls: are callers served?"""

from dashboards import in_calls
from dashboards.panels import (
    BLUE,
    GREEN,
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
    heat,
    quantiles,
)
from dashboards.queries import GATEWAY, TURN, WORKER, grown, per_minute, quantile, selected

UID = "avatar-agent-calls"
ANSWER_SECONDS = 3
"""The objective: the caller hears the agent within this time. It is a bucket of the histogram."""
OBJECTIVE_PERCENT = 99
"""Share of calls that the objective asks for."""

_ENDED = f"{GATEWAY}calls_ended_total"
_FAILED = selected(_ENDED, 'outcome="failed"')
_ANSWER = f"{WORKER}answer_duration_seconds"
_JOIN = selected(f"{GATEWAY}join_duration_seconds_bucket")
_WAIT = f"{GATEWAY}wait_duration_seconds_bucket"


def _increase(series: str, window: str) -> str:
    return f"sum(increase({series}[{window}]))"


def _in_state(state: str) -> str:
    return selected(f"{GATEWAY}calls", f'state="{state}"')


def within(window: str) -> str:
    """Return the share of requested calls that the agent answered in time. A call that failed before counts as late."""
    in_time = _increase(selected(f"{_ANSWER}_bucket", r'le=~"$answer_seconds(\\.0)?"'), window)
    answered = _increase(selected(f"{_ANSWER}_count"), window)
    failed = _increase(selected(_ENDED, 'outcome="failed",joined="false"'), window)
    return f"({in_time} or vector(0)) / ((({answered} or vector(0)) + ({failed} or vector(0))) > 0)"


def _answers() -> Panels:
    """Return the figures at the top: are callers served?"""
    return [
        figure(
            "Answered within $answer_seconds s",
            within("$__range"),
            Text(
                "Share of requested calls in the shown time in which the caller heard the agent in time. Normally "
                "99 % or more. Calls that failed before the agent joined count as not answered.",
                "AnswerBudgetBurnFast",
            ),
            unit=SHARE,
            first=RED,
            steps=[(0.95, YELLOW), (OBJECTIVE_PERCENT / 100, GREEN)],
            decimals=1,
            empty="no calls",
        ),
        figure(
            "Error budget left",
            f"1 - (1 - {within('$__range')}) / (1 - $objective / 100)",
            Text(
                "The budget is the share of calls that may be answered late, over the shown time. Show 30 days to see "
                "the budget of the objective. Below 0 the objective is missed.",
                "AnswerBudgetBurnSlow",
            ),
            unit=SHARE,
            first=RED,
            steps=[(0, YELLOW), (0.25, GREEN)],
            decimals=0,
            empty="no calls",
        ),
        figure(
            "Calls failed",
            f"round({_increase(_FAILED, '$__range')})",
            Text(
                "Calls in the shown time that no agent joined, or that broke. Normally 0. The graph below shows the "
                "reasons.",
                "CallsBreak",
            ),
            steps=[(1, YELLOW), (10, RED)],
            decimals=0,
            empty="no calls",
        ),
        figure(
            "Calls now",
            f"sum({_in_state('joined')})",
            Text(
                "Calls that an agent has joined. Any number is normal.",
                no_runbook="the number of calls is no fault by itself.",
            ),
            first=BLUE,
            empty="no agents",
        ),
        figure(
            "Callers waiting",
            f"sum({_in_state('waiting')})",
            Text("Normally 0. A few callers wait for some seconds when many call at once.", "NoFreeSlot"),
            steps=[(1, YELLOW), (5, RED)],
            empty="no agents",
        ),
        figure(
            "Reply time, p95",
            quantile(0.95, TURN, window="$__range"),
            Text(
                "From the end of the caller's words to the agent's first sound, 95 % of turns in the shown time. "
                "Normally below 2 s.",
                "SlowReplies",
            ),
            unit=SECONDS,
            steps=[(2, YELLOW), (3, RED)],
            decimals=1,
            empty="no turns",
        ),
    ]


def _opening() -> Panels:
    """Return the panels from the request to the first word."""
    return [
        graph(
            "Calls per minute",
            [
                Series(per_minute(selected(f"{GATEWAY}calls_opened_total")), "opened"),
                Series(per_minute(selected(f"{GATEWAY}join_duration_seconds_count")), "joined"),
                Series(per_minute(selected(_ENDED)), "ended or failed"),
            ],
            Text(
                "The three lines lie close together. Calls opened and not joined mean waiting callers.",
                "NoFreeSlot",
            ),
            unit=PER_MINUTE,
        ),
        graph(
            "Calls failed, by reason",
            [Series(per_minute(_FAILED, "reason"), "{{reason}}")],
            Text(
                "Normally 0. `NoFreeSlot` means missing capacity; `AgentLost`, `ProviderFailed` and `AvatarFailed` "
                "mean calls that broke.",
                "CallsBreak",
            ),
            unit=PER_MINUTE,
            bars=True,
        ),
        graph(
            "Calls ended, by reason",
            [Series(per_minute(selected(_ENDED, 'outcome="ended"'), "reason"), "{{reason}}")],
            Text(
                "Mostly `HungUp`, `Finished` and `CallerLeft`. Many `CallerNeverCame` mean that callers give up, or "
                "that their page does not connect.",
                no_runbook="these calls ended as they should.",
            ),
            unit=PER_MINUTE,
            bars=True,
        ),
        graph(
            "Request to first sound",
            quantiles(selected(f"{_ANSWER}_bucket"), 0.5, 0.95, 0.99),
            Text(
                "From the request for a call to the agent's first sound. The line at 3 s is the objective; p99 stays "
                "below it.",
                "AnswerBudgetBurnFast",
            ),
            unit=SECONDS,
            steps=[(ANSWER_SECONDS, RED)],
        ),
        graph(
            "Request to agent joined",
            quantiles(_JOIN, 0.5, 0.95, 0.99),
            Text("Waiting included. Normally p95 is below 1.5 s.", "NoFreeSlot"),
            unit=SECONDS,
            steps=[(ANSWER_SECONDS, RED)],
        ),
        heat(
            "Request to agent joined, all calls",
            grown(_JOIN, "le"),
            Text(
                "Each cell counts the calls that took so long; the darker, the more. One dark band below 1.5 s is "
                "normal. A second band above means that some callers wait for a slot.",
                "NoFreeSlot",
            ),
        ),
        graph(
            "Waiting callers, by agent",
            [Series(f"sum by (agent_namespace, agent) ({_in_state('waiting')}) > 0", "{{agent_namespace}}/{{agent}}")],
            Text(
                "The line of each agent. Normally empty. A line that grows means that new workers do not keep up.",
                "NoFreeSlot",
            ),
            bars=True,
        ),
        graph(
            "Wait for a slot, p95",
            [
                Series(quantile(0.95, selected(_WAIT, 'joined="true"')), "callers who got an agent"),
                Series(quantile(0.95, selected(_WAIT, 'joined="false"')), "callers who got none"),
            ],
            Text(
                "From the request to the dispatch by which the agent joined. Normally below 0.25 s, the smallest step. "
                "Callers who got none left the line, or waited for too long.",
                "NoFreeSlot",
            ),
            unit=SECONDS,
            steps=[(ANSWER_SECONDS, RED)],
        ),
        graph(
            "Rescue time",
            quantiles(selected(f"{GATEWAY}rescue_duration_seconds_bucket"), 0.5, 0.95),
            Text(
                "From the loss of an agent during a call until another one joined. Normally empty, else below 3 s. "
                "5 s more mean that the controller did not report the lost worker.",
                "CallsBreak",
            ),
            unit=SECONDS,
            steps=[(3, RED)],
        ),
        graph(
            "Greeting, p95",
            [
                Series(
                    quantile(0.95, selected(f"{WORKER}greeting_duration_seconds_bucket")), "caller in room to sound"
                ),
                Series(quantile(0.95, selected(f"{WORKER}agent_join_duration_seconds_bucket")), "job to agent in room"),
            ],
            Text("Both normally below 1 s. A slow greeting means a slow speech provider.", "ProviderErrors"),
            unit=SECONDS,
        ),
        graph(
            "Dispatches after the first, by cause",
            [Series(per_minute(selected(f"{GATEWAY}dispatches_total", 'cause!="First"'), "cause"), "{{cause}}")],
            Text("Normally 0. `AgentLost` means that a worker ended during a call.", "CallsBreak"),
            unit=PER_MINUTE,
            bars=True,
        ),
        graph(
            "Requests rejected, by reason",
            [Series(per_minute(f"{GATEWAY}requests_rejected_total", "reason"), "{{reason}}")],
            Text(
                "Of all agents: a rejected request may name none. A few with wrong keys or above the rate limit are "
                "normal. `Internal` is an error of the gateway.",
                no_runbook="the answer to each request says what to do.",
            ),
            unit=PER_MINUTE,
            bars=True,
        ),
    ]


def render() -> str:
    """Return the dashboard's JSON."""
    return build(
        UID,
        "Calls",
        "Are callers served? Calls, answer times and replies of all chosen agents.",
        [
            ("", _answers()),
            ("Opening a call", _opening()),
            ("Conversation", in_calls.conversation()),
            ("Avatar", in_calls.avatars()),
            ("Usage of providers", in_calls.usage()),
        ],
        [
            ("answer_seconds", "Answered within, in seconds", f"{ANSWER_SECONDS}"),
            ("objective", "Objective, in percent", f"{OBJECTIVE_PERCENT}"),
        ],
    )
