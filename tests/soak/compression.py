"""Compressed time: the chart's monitoring with every duration divided by one factor. Pure functions.

Hours pass within minutes, while the expressions and the relations between all durations stay the same: a window holds
as many scrapes and evaluations as before. So an alert fires after as many scrapes as in the chart.

Not divided: what measures calls, such as the 3 s of the objective, because calls take as long as ever. Counts of calls
and errors stay too; the chart's values set them.
"""

import re
from collections.abc import Iterable
from typing import Any, Final

from devkit.demo.manifests import Document

_MILLISECONDS: Final = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_DURATION: Final = re.compile(r"(\d+)(ms|s|m|h|d)")
_RANGE: Final = re.compile(r"\[[^\]]+\]")
_TIME_LIMIT: Final = re.compile(r"(time\(\) - \w+(?:{[^}]*})? (?:<=|>) )(\d+)")
"""A time since something happened, compared with seconds."""


def compress(documents: Iterable[Document], factor: int) -> list[Document]:
    """Return the chart's objects with rules and scrapes in compressed time; objects of other kinds are left out.

    Raises ValueError for a duration that is no whole number of milliseconds afterwards.
    """
    compressors = {"PrometheusRule": _rules, "PodMonitor": _monitor}
    return [compressors[one["kind"]](one, factor) for one in documents if one["kind"] in compressors]


def duration(text: str, factor: int) -> str:
    """Return a duration such as `90s` or `1h` divided by the factor."""
    found = _DURATION.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is not a duration of one unit")
    milliseconds, rest = divmod(int(found[1]) * _MILLISECONDS[found[2]], factor)
    if rest or not milliseconds:
        raise ValueError(f"{text} divided by {factor} is no whole number of milliseconds")
    return f"{milliseconds // 1000}s" if milliseconds % 1000 == 0 else f"{milliseconds}ms"


def expression(text: str, factor: int) -> str:
    """Return a PromQL expression with its ranges, the steps of its subqueries and its time limits divided."""

    def divided_range(found: re.Match[str]) -> str:
        return _DURATION.sub(lambda one: duration(one[0], factor), found[0])

    def divided_limit(found: re.Match[str]) -> str:
        return f"{found[1]}{int(found[2]) / factor:g}"

    return _TIME_LIMIT.sub(divided_limit, _RANGE.sub(divided_range, text))


def _rules(document: Document, factor: int) -> Document:
    groups = [
        _divided(group, "interval", factor) | {"rules": [_rule(rule, factor) for rule in group["rules"]]}
        for group in document["spec"]["groups"]
    ]
    return document | {"spec": document["spec"] | {"groups": groups}}


def _rule(rule: dict[str, Any], factor: int) -> dict[str, Any]:
    return _divided(rule, "for", factor) | {"expr": expression(rule["expr"], factor)}


def _monitor(document: Document, factor: int) -> Document:
    endpoints = [_divided(endpoint, "interval", factor) for endpoint in document["spec"]["podMetricsEndpoints"]]
    return document | {"spec": document["spec"] | {"podMetricsEndpoints": endpoints}}


def _divided(fields: dict[str, Any], name: str, factor: int) -> dict[str, Any]:
    """Return fields with one of them, if it is set, divided."""
    return fields | ({name: duration(fields[name], factor)} if name in fields else {})
