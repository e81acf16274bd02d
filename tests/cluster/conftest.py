"""A real API server with its controllers, a real LiveKit server, and the controller with the chart's rights."""

import functools
import secrets
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from devkit.cluster import Cluster
from tests.cluster import openai as openai_server
from tests.cluster.background import Background
from tests.cluster.instance import controller_kubeconfig as write_kubeconfig
from tests.cluster.instance import instance
from tests.cluster.openai import OpenAI
from tests.cluster.process import RunningController, running
from tests.cluster.world import World, open_world

NAME = "apiserver"


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """The API server that most tests share."""
    with instance(NAME) as made:
        yield made


@pytest.fixture(scope="session")
def openai() -> Iterator[OpenAI]:
    """The OpenAI server that checks the agents' credentials."""
    with openai_server.serving() as served:
        yield served


@pytest.fixture(scope="session", autouse=True)
def background(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Background]:
    """Start the scenarios of all selected tests at once, in parallel with the other tests."""
    markers = [item.get_closest_marker("background") for item in request.session.items]
    scenarios = [marker.args[0] for marker in markers if marker is not None]
    known: OpenAI = request.getfixturevalue("openai")
    runner = Background(known, tmp_path_factory.mktemp("background"))
    with runner.running():
        for scenario in scenarios:
            runner.start(scenario)
        yield runner


@pytest.fixture
def outcome(request: pytest.FixtureRequest, background: Background) -> Callable[[float], None]:
    """Return a function that waits for the test's scenario, up to a number of seconds, and raises its exception."""
    marker = request.node.get_closest_marker("background")
    return functools.partial(background.finish, marker.args[0])


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "background(scenario): the scenario runs beside all other tests")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the tests of scenarios last."""
    items.sort(key=lambda item: item.get_closest_marker("background") is not None)


@pytest.fixture(scope="session")
def controller_kubeconfig(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Credentials with exactly the rights that the chart gives the controller."""
    return write_kubeconfig(cluster, tmp_path_factory.mktemp("controller"))


@pytest.fixture(scope="module")
def controller(controller_kubeconfig: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningController]:
    """A controller process for all namespaces; the last test fails when it logged an error."""
    with running(sys.executable, controller_kubeconfig, tmp_path_factory.mktemp("log") / "controller.log") as process:
        yield process
        assert process.unexpected() == []


@pytest.fixture
async def world(cluster: Cluster, openai: OpenAI) -> AsyncIterator[World]:
    """A new namespace with a stand-in for the node and valid Secrets."""
    async with open_world(cluster, openai, f"test-{secrets.token_hex(3)}") as opened:
        yield opened
