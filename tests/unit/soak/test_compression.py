"""Compressed time divides every duration by one factor, and nothing else."""

import copy
import re
from typing import Any

import pytest

from tests.soak.compression import compress, duration, expression

RULE: dict[str, Any] = {
    "kind": "PrometheusRule",
    "metadata": {"name": "rules"},
    "spec": {
        "groups": [
            {"name": "a", "rules": [{"record": "agent:errors:increase5m", "expr": "increase(errors[5m])"}]},
            {"name": "b", "interval": "3m", "rules": [{"alert": "A", "expr": "up == 0", "for": "15m", "labels": {}}]},
        ]
    },
}
MONITOR: dict[str, Any] = {
    "kind": "PodMonitor",
    "spec": {"selector": {}, "podMetricsEndpoints": [{"port": "http", "interval": "60s"}, {"port": "other"}]},
}


@pytest.mark.parametrize(
    ("text", "divided"), [("60s", "1s"), ("15m", "15s"), ("30m", "30s"), ("3d", "4320s"), ("30s", "500ms")]
)
def test_duration_is_divided(text: str, divided: str) -> None:
    assert duration(text, 60) == divided


@pytest.mark.parametrize(
    ("text", "words"),
    [("1h30m", "one unit"), ("soon", "one unit"), ("0s", "whole"), ("1ms", "whole"), ("100ms", "whole")],
)
def test_duration_without_exact_quotient_is_rejected(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        duration(text, 60)


@pytest.mark.parametrize(
    ("text", "divided"),
    [
        ('rate(a{b=~"5m"}[5m]) > 5', 'rate(a{b=~"5m"}[5s]) > 5'),
        ("sum_over_time(agent:e:increase30m[6h:3m]) / 10", "sum_over_time(agent:e:increase30m[360s:3s]) / 10"),
        ('a unless time() - b{c="d"} <= 180', 'a unless time() - b{c="d"} <= 3'),
        ("time() - b > 90", "time() - b > 1.5"),
        ("histogram_quantile(0.95, rate(a[30m])) > 3", "histogram_quantile(0.95, rate(a[30s])) > 3"),
    ],
    ids=["window", "subquery", "time limit", "time limit below a second", "duration of a call"],
)
def test_expression_keeps_names_labels_and_counts(text: str, divided: str) -> None:
    assert expression(text, 60) == divided


def test_documents_are_compressed_without_a_change_of_the_originals() -> None:
    before = copy.deepcopy([RULE, MONITOR])
    rules, monitor = compress([RULE, {"kind": "ConfigMap"}, MONITOR], 60)
    assert before == [RULE, MONITOR]
    first, second = rules["spec"]["groups"]
    assert first == {"name": "a", "rules": [{"record": "agent:errors:increase5m", "expr": "increase(errors[5s])"}]}
    assert (second["interval"], second["rules"][0]["for"]) == ("3s", "15s")
    assert second["rules"][0]["labels"] == {}
    assert monitor["spec"]["podMetricsEndpoints"] == [{"port": "http", "interval": "1s"}, {"port": "other"}]
    assert rules["metadata"] == RULE["metadata"]


def test_factor_of_one_changes_no_meaning() -> None:
    (rules,) = compress([RULE], 1)
    assert re.findall(r"\d+s", str(rules)) == ["300s", "180s", "900s"]
