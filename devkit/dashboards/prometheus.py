"""Queries to Prometheus. Source: Prometheus, "HTTP API", "Expression queries"."""

import json
import math
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from devkit.dashboards.panels import Window
from devkit.errors import DevkitError

_TIMEOUT: Final = 60.0
"""In seconds; a slow query over a day takes some."""


@dataclass(frozen=True)
class Sample:
    """One series at one moment."""

    labels: Mapping[str, str]
    value: float


@dataclass(frozen=True)
class Line:
    """One series over time. None: no value at that time."""

    labels: Mapping[str, str]
    values: Sequence[float | None]


class Prometheus:
    """Runs queries on one Prometheus."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")

    def now(self, expression: str, window: Window) -> list[Sample]:
        """Return the series of an expression at the window's end, without those that are not numbers."""
        found = self._query("query", {"query": expression, "time": f"{window.end:.3f}"})
        samples = [Sample(_labels(one), float(one["value"][1])) for one in found]
        return [sample for sample in samples if not math.isnan(sample.value)]

    def over_time(self, expression: str, window: Window) -> list[Line]:
        """Return the series of an expression at each of the window's times."""
        times = times_of(window)
        asked = {"start": f"{times[0]:.3f}", "end": f"{times[-1]:.3f}", "step": f"{window.step:.3f}"}
        found = self._query("query_range", {"query": expression} | asked)
        return [Line(_labels(one), _aligned(one["values"], times, window.step)) for one in found]

    def _query(self, path: str, form: Mapping[str, str]) -> list[dict[str, Any]]:
        url, body = f"{self.url}/api/v1/{path}", urllib.parse.urlencode(form).encode()
        try:
            with urllib.request.urlopen(url, body, timeout=_TIMEOUT) as answer:
                document = json.load(answer)
        except urllib.error.HTTPError as error:
            detail = error.read().decode(errors="replace")
            raise DevkitError(f"Prometheus rejected the query {form['query']}: {detail}") from error
        except (OSError, ValueError) as error:
            raise DevkitError(f"no Prometheus answers at {self.url}: {error}") from error
        found: list[dict[str, Any]] = document["data"]["result"]
        return found


def times_of(window: Window) -> list[float]:
    """Return the times of the points of every graph."""
    count = math.floor((window.end - window.start) / window.step) + 1
    return [window.start + index * window.step for index in range(count)]


def _labels(series: Mapping[str, Any]) -> dict[str, str]:
    return dict(series["metric"])


def _aligned(pairs: Sequence[Sequence[Any]], times: Sequence[float], step: float) -> list[float | None]:
    values: list[float | None] = [None] * len(times)
    for at, text in pairs:
        value = float(text)
        values[round((float(at) - times[0]) / step)] = value if math.isfinite(value) else None
    return values
