"""Fixtures for all unit tests. Tests that use `virtual_time` run in its event loop, all others in asyncio's own."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterator, Mapping

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


@pytest.fixture
def restored_logging() -> Iterator[None]:
    """Let a test configure logging as a process does, and undo it afterwards."""
    root = logging.getLogger()
    handlers, levels = root.handlers[:], {logger: logger.level for logger in (root, *_loggers())}
    yield
    logging.captureWarnings(False)
    root.handlers[:] = handlers
    for logger in (root, *_loggers()):
        logger.setLevel(levels.get(logger, logging.NOTSET))


def _loggers() -> list[logging.Logger]:
    known = logging.getLogger().manager.loggerDict.values()
    return [logger for logger in known if isinstance(logger, logging.Logger)]
