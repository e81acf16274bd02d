"""The controller's log: without kopf's fields, its cut watches and its missing CRD, and with retries as warnings."""

import logging

from kopf._cogs.clients.errors import APINotFoundError  # kopf exports no errors

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


def is_not_about_missing_crd(record: logging.LogRecord) -> bool:
    """Drop kopf's errors about a resource that is not served: each part of kopf reports it, with a traceback.

    kopf requests only AvatarAgents here, and the controller logs once that their CRD is gone.
    """
    return record.exc_info is None or not isinstance(record.exc_info[1], APINotFoundError)


def configure() -> None:
    """Set up logging for this process."""
    logs.configure(
        filters=[retries_are_warnings, is_not_about_cut_watch, is_not_about_missing_crd],
        omits=_KOPF_FIELDS.__contains__,
        levels={"kopf.objects": logging.WARNING},  # it reports every event handled
    )
