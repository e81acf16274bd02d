"""Calls: are callers served?"""

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
)
from dashboards.queries import GATEWAY, WORKER, grown, per_minute, quantile, selected

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
_TURN = selected(f"{WORKER}turn_duration_seconds_bucket")


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


def _quantiles(series: str, *ranks: float) -> list[Series]:
    return [Series(quantile(rank, series), f"p{rank * 100:g}") for rank in ranks]


def render() -> str:
    """Return the dashboard's JSON."""
    answers: Panels = [
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
            quantile(0.95, _TURN, window="$__range"),
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
    opening: Panels = [
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
            _quantiles(selected(f"{_ANSWER}_bucket"), 0.5, 0.95, 0.99),
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
            _quantiles(_JOIN, 0.5, 0.95, 0.99),
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
            _quantiles(selected(f"{GATEWAY}rescue_duration_seconds_bucket"), 0.5, 0.95),
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
    conversation: Panels = [
        graph(
            "Reply time",
            _quantiles(_TURN, 0.5, 0.95, 0.99),
            Text(
                "From the end of the caller's words to the agent's first sound. Normally p50 is about 1 s and p95 "
                "below 2 s.",
                "SlowReplies",
            ),
            unit=SECONDS,
            steps=[(3, RED)],
        ),
        graph(
            "Reply time by stage, p95",
            [Series(quantile(0.95, selected(f"{WORKER}turn_stage_duration_seconds_bucket"), "stage"), "{{stage}}")],
            Text(
                "The stages follow one another. `stt`: to the transcript; `end_of_turn`: to the decision that the "
                "caller is done; `llm`: to the first token; `tts`: to the first sound. The longest stage shows what to "
                "check.",
                "SlowReplies",
            ),
            unit=SECONDS,
        ),
        graph(
            "Provider errors by stage",
            [
                Series(
                    per_minute(selected(f"{WORKER}provider_errors_total"), "stage, retried"),
                    "{{stage}}, retried: {{retried}}",
                )
            ],
            Text("Normally 0. A retried error delays a reply; another one ends the call.", "ProviderErrors"),
            unit=PER_MINUTE,
            bars=True,
        ),
        graph(
            "Call duration",
            _quantiles(selected(f"{WORKER}call_duration_seconds_bucket"), 0.5, 0.95),
            Text(
                "As long as callers talk. A sudden drop means calls that break.",
                "CallsBreak",
            ),
            unit=SECONDS,
        ),
        graph(
            "Calls of workers, by outcome",
            [
                Series(per_minute(selected(f"{WORKER}calls_ended_total"), "outcome"), "{{outcome}}"),
                Series(per_minute(selected(f"{WORKER}calls_started_total")), "started"),
            ],
            Text("What the workers count, calls of other back ends included.", "CallsBreak"),
            unit=PER_MINUTE,
        ),
        graph(
            "Calls lost",
            [Series(per_minute(selected(f"{WORKER}calls_lost_total"), "pod"), "{{pod}}")],
            Text("Calls whose process ended unexpectedly. Normally 0.", "CallsBreak"),
            unit=PER_MINUTE,
            bars=True,
        ),
    ]
    avatars: Panels = [
        graph(
            "Avatars by outcome",
            [
                Series(per_minute(selected(f"{WORKER}avatars_started_total")), "started"),
                Series(per_minute(selected(f"{WORKER}avatars_ended_total"), "outcome"), "{{outcome}}"),
            ],
            Text("Each avatar is counted once when it starts and once when it ends.", "CallsBreak"),
            unit=PER_MINUTE,
        ),
        graph(
            "Avatar join, p95",
            [Series(quantile(0.95, selected(f"{WORKER}avatar_join_duration_seconds_bucket")), "p95")],
            Text(
                "From the request to the provider until the avatar is in the room. Normally below 10 s. The call "
                "continues meanwhile.",
                no_runbook="the provider decides this time. A failed avatar shows beside.",
            ),
            unit=SECONDS,
        ),
        graph(
            "Calls without a seat",
            [
                Series(
                    per_minute(selected(f"{GATEWAY}calls_without_seat_total"), "agent_namespace, agent"),
                    "{{agent_namespace}}/{{agent}}",
                )
            ],
            Text(
                "Calls that got no avatar because all seats of `avatar.maxSessions` were taken. Normally 0.",
                no_runbook="the provider's plan limits the seats. Raise `avatar.maxSessions` with the plan.",
            ),
            unit=PER_MINUTE,
            bars=True,
        ),
    ]
    usage = f"{WORKER}provider_usage_total"
    reason = "usage costs money, but it is no fault."
    used: Panels = [
        graph(
            "Language model tokens",
            [Series(per_minute(selected(usage, 'kind=~"llm_.*"'), "kind"), "{{kind}}")],
            Text("Grows with the calls. Input tokens grow with the length of each call.", no_runbook=reason),
            unit=PER_MINUTE,
        ),
        graph(
            "Characters spoken",
            [Series(per_minute(selected(usage, 'kind="tts_characters"')), "characters")],
            Text("Grows with the calls.", no_runbook=reason),
            unit=PER_MINUTE,
        ),
        graph(
            "Audio transcribed",
            [Series(per_minute(selected(usage, 'kind="stt_audio_seconds"')), "seconds of audio")],
            Text("Seconds of audio in a minute. Grows with the calls.", no_runbook=reason),
            unit=PER_MINUTE,
        ),
        graph(
            "Reports of calls",
            [
                Series(per_minute(selected(f"{WORKER}reports_sent_total")), "sent"),
                Series(per_minute(selected(f"{WORKER}reports_dropped_total"), "reason"), "lost: {{reason}}"),
                Series(f"sum({selected(f'{WORKER}reports_waiting')})", "waiting now"),
            ],
            Text(
                "Reports of `spec.report`. Normally none is lost, and none waits for long.",
                no_runbook="the receiver is yours: its answer is in the worker's log, `report of a call not accepted`.",
            ),
            unit=PER_MINUTE,
        ),
    ]
    return build(
        UID,
        "Calls",
        "Are callers served? Calls, answer times and replies of all chosen agents.",
        [
            ("", answers),
            ("Opening a call", opening),
            ("Conversation", conversation),
            ("Avatar", avatars),
            ("Usage of providers", used),
        ],
        [
            ("answer_seconds", "Answered within, in seconds", f"{ANSWER_SECONDS}"),
            ("objective", "Objective, in percent", f"{OBJECTIVE_PERCENT}"),
        ],
    )
