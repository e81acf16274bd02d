"""Rows of the dashboard Calls about what happens in a call: turns, avatars and usage."""

from dashboards.panels import PER_MINUTE, RED, SECONDS, Panels, Series, Text, graph, quantiles
from dashboards.queries import GATEWAY, TURN, WORKER, per_minute, quantile, selected


def conversation() -> Panels:
    """Return the panels of turns and replies."""
    return [
        graph(
            "Reply time",
            quantiles(TURN, 0.5, 0.95, 0.99),
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
            quantiles(selected(f"{WORKER}call_duration_seconds_bucket"), 0.5, 0.95),
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


def avatars() -> Panels:
    """Return the panels of avatars and their seats."""
    return [
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


def usage() -> Panels:
    """Return the panels of what providers counted, and of reports."""
    usage = f"{WORKER}provider_usage_total"
    reason = "usage costs money, but it is no fault."
    return [
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
