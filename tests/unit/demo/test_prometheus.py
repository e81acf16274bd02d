"""The demo's Prometheus: an error names its log."""

from pathlib import Path

import pytest

from devkit.dashboards.prometheus import Prometheus
from devkit.demo.prometheus import Server
from devkit.errors import DevkitError
from devkit.instance import Layout
from tests.ports import free_port


@pytest.fixture
def absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Server:
    """A Prometheus that does not answer."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    return Server("demo", Prometheus(f"http://127.0.0.1:{free_port()}"))


def test_figures_of_an_absent_prometheus_name_its_log(absent: Server) -> None:
    with pytest.raises(DevkitError, match=r"no Prometheus answers at .*logs --name demo prometheus`"):
        absent.figures(0.0)


def test_prometheus_that_exits_is_an_error_with_its_log(absent: Server) -> None:
    table = Layout("demo").processes
    table.start("prometheus", ["sh", "-c", "echo wrong flag; exec sleep 0.1"])
    with pytest.raises(DevkitError, match="prometheus exited before there was answer from Prometheus:\nwrong flag"):
        absent.wait_ready()
