"""The controller's log: without kopf's fields and its cut watches, and with its retries as warnings."""

import logging

from process import logs

_KOPF_FIELDS = frozenset({"k8s_ref", "k8s_skip", "settings"})


def retries_are_warnings(record: logging.LogRecord) -> bool:
    """Lower kopf's errors about requests that it repeats, such as those while the API server restarts."""
    if record.name.startswith("kopf._cogs.clients.") and record.levelno == logging.ERROR:
        record.levelno, record.levelname = logging.WARNING, logging.getLevelName(logging.WARNING)
    return True


def is_not_about_cut_watch(record: logging.LogRecord) -> bool:
    """Drop asyncio's error about kopf's watch.

    A controller that lost the Lease ends without waiting for the watch, and asyncio then closes a generator that may
    still run (kopf 1.45.2, _cogs/clients/watching.py: infinite_watch).
    """
    return not (record.name == "asyncio" and "async_generator object infinite_watch" in record.getMessage())


def configure() -> None:
    """Set up logging for this process."""
    logs.configure(
        filters=[retries_are_warnings, is_not_about_cut_watch],
        omits=_KOPF_FIELDS.__contains__,
        levels={"kopf.objects": logging.WARNING},  # it reports every event handled
    )
