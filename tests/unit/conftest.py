"""The event loops of the unit tests: virtual time for tests that use the fixture `virtual_time`, else asyncio's own."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping

import pytest

from tests.unit.fakes.virtualtime import VirtualLoop


def pytest_asyncio_loop_factories(item: pytest.Item) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Return the event loop that pytest-asyncio runs a test in."""
    if "virtual_time" in getattr(item, "fixturenames", ()):
        return {"virtual": VirtualLoop}
    return {"real": asyncio.new_event_loop}


@pytest.fixture
async def virtual_time() -> AsyncIterator[VirtualLoop]:
    """The virtual event loop that the test runs in; the test fails when its tasks are still running at its end.

    ``pytestmark = pytest.mark.usefixtures("virtual_time")`` gives it to every test of a module.
    """
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    yield loop
    left = asyncio.all_tasks(loop) - {asyncio.current_task(loop)}
    assert not left, f"tasks still running: {left}"
