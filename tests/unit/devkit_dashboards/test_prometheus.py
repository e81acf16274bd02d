"""Queries to a Prometheus, and a whole picture from its answers: a fake one on the loopback interface."""

import json
import re
import threading
import urllib.parse
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from devkit.dashboards.panels import GENERATED, Window, load
from devkit.dashboards.picture import NOTE, compose
from devkit.dashboards.prometheus import Prometheus
from devkit.errors import DevkitError

WINDOW = Window(start=1000.0, end=1060.0, step=15.0, scrape_seconds=15.0)


class FakePrometheus(ThreadingHTTPServer):
    """Answers every query with the same series, and rejects queries that contain `wrong`."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.series: list[dict[str, Any]] = []
        self.asked: list[tuple[str, dict[str, str]]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: FakePrometheus

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        form = {name: values[0] for name, values in urllib.parse.parse_qs(body).items()}
        self.server.asked.append((self.path, form))
        rejected = "wrong" in form["query"]
        answer = {"error": "parse error"} if rejected else {"data": {"result": self.server.series}}
        self.send_response(400 if rejected else 200)
        self.end_headers()
        self.wfile.write(json.dumps(answer).encode())

    def log_message(self, format: str, *args: object) -> None:
        """Keep the tests' output clean."""


@pytest.fixture
def fake() -> Iterator[FakePrometheus]:
    with FakePrometheus() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_instant_query_asks_at_the_end_and_drops_nan(fake: FakePrometheus) -> None:
    fake.series = [{"metric": {"a": "1"}, "value": [1060, "2.5"]}, {"metric": {"a": "2"}, "value": [1060, "NaN"]}]
    (sample,) = Prometheus(fake.url + "/").now("up", WINDOW)
    assert (sample.labels, sample.value) == ({"a": "1"}, 2.5)
    assert fake.asked == [("/api/v1/query", {"query": "up", "time": "1060.000"})]


def test_range_query_puts_values_at_their_times(fake: FakePrometheus) -> None:
    fake.series = [{"metric": {}, "values": [[1015, "1"], [1030, "NaN"], [1060, "+Inf"]]}]
    (line,) = Prometheus(fake.url).over_time("rate(x[1m])", WINDOW)
    assert line.values == [None, 1, None, None, None]
    ((path, form),) = fake.asked
    assert path == "/api/v1/query_range"
    assert (form["start"], form["end"], form["step"]) == ("1000.000", "1060.000", "15.000")


def test_rejected_query_is_named_with_the_answer(fake: FakePrometheus) -> None:
    with pytest.raises(DevkitError, match=re.escape('rejected the query wrong(: {"error": "parse error"}')):
        Prometheus(fake.url).now("wrong(", WINDOW)


def test_absent_prometheus_is_an_error(fake: FakePrometheus) -> None:
    url = fake.url
    fake.server_close()
    with pytest.raises(DevkitError, match="no Prometheus answers at"):
        Prometheus(url).now("up", WINDOW)


@pytest.mark.parametrize("name", ["avatar-agent-fleet", "avatar-agent-calls", "avatar-agent-operator"])
def test_picture_has_all_panels_and_asks_all_queries(fake: FakePrometheus, name: str) -> None:
    fake.series = [{"metric": {"le": "1.0"}, "value": [1060, "1"], "values": [[1000, "1"], [1015, "2"]]}]
    dashboard = load(GENERATED / f"{name}.json", WINDOW)
    shown = compose(dashboard, Prometheus(fake.url), WINDOW)
    assert shown["note"] == NOTE
    assert "This is not Grafana" in NOTE
    assert [panel["title"] for panel in shown["panels"]] == [panel.title for panel in dashboard.panels]
    assert all({"x", "y", "w", "h", "kind"} <= panel.keys() for panel in shown["panels"])
    expected = sorted(query.expression for panel in dashboard.panels for query in panel.queries)
    assert sorted(form["query"] for _, form in fake.asked) == expected
    graphs = [panel for panel in shown["panels"] if panel["kind"] == "graph"]
    assert all(panel["series"] for panel in graphs)
    json.dumps(shown, allow_nan=False)
