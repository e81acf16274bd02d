"""The controller's log: what kopf adds to records stays out, and its retries are warnings."""

import logging

from process import logs

_KOPF_FIELDS = frozenset({"k8s_ref", "k8s_skip", "settings"})


def retries_are_warnings(record: logging.LogRecord) -> bool:
    """Lower kopf's errors about requests that it repeats, such as those while the API server restarts."""
    if record.name.startswith("kopf._cogs.clients.") and record.levelno == logging.ERROR:
        record.levelno, record.levelname = logging.WARNING, logging.getLevelName(logging.WARNING)
    return True


def configure() -> None:
    """Set up logging for this process."""
    logs.configure(
        filters=[retries_are_warnings],
        omits=_KOPF_FIELDS.__contains__,
        levels={"kopf.objects": logging.WARNING},  # it reports every event handled
    )
