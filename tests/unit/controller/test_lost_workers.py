"""Which workers are lost, rule by rule."""

import pytest

from controller.observation import ObservedPod
from controller.policy.lost_workers import (
    MISSING_SECONDS,
    Contact,
    LossReason,
    has_restarted,
    loss_by_contact,
    loss_by_pod,
)
from tests.unit.controller.builders import pod, status


@pytest.mark.parametrize(
    ("contact", "seconds", "is_connected", "reason"),
    [
        (Contact.REFUSED, 0.0, True, LossReason.PROCESS_ENDED),
        (Contact.REFUSED, 0.0, False, LossReason.PROCESS_ENDED),
        (Contact.NONE, MISSING_SECONDS - 0.01, True, None),
        (Contact.NONE, MISSING_SECONDS, True, LossReason.UNREACHABLE),
        (Contact.NONE, 100.0, False, None),
        (Contact.ACCEPTED, 0.0, True, None),
        (Contact.ACCEPTED, 100.0, True, None),
    ],
    ids=[
        *("refused at once", "refused without the API server", "unreachable for a moment", "unreachable for a second"),
        *("the controller is cut off", "back", "hangs"),
    ],
)
def test_loss_by_contact_after_a_broken_stream(
    contact: Contact, seconds: float, is_connected: bool, reason: LossReason | None
) -> None:
    assert loss_by_contact(contact, seconds, is_connected=is_connected) is reason


@pytest.mark.parametrize(
    ("now", "reason"),
    [
        (None, LossReason.POD_GONE),
        (pod(running=False, ended=True), LossReason.POD_GONE),
        (pod(ip=""), LossReason.PROCESS_ENDED),
        (pod(ip="10.0.0.2"), LossReason.PROCESS_ENDED),
        (pod(), None),
        (pod(terminating=True), None),
        (pod(ready=False), None),
    ],
    ids=["deleted", "containers ended", "no address", "another address", "runs", "drains", "unready"],
)
def test_loss_by_pod(now: ObservedPod | None, reason: LossReason | None) -> None:
    assert loss_by_pod("10.0.0.1", now) is reason


@pytest.mark.parametrize(
    ("before", "now", "restarted"),
    [("AW_1", "", True), ("", "", False), ("", "AW_1", False), ("AW_1", "AW_2", False)],
    ids=["new process", "not registered yet", "registered", "registered again"],
)
def test_process_without_an_id_after_one_with_it_is_new(before: str, now: str, restarted: bool) -> None:
    assert has_restarted(status(worker_id=before), status(worker_id=now)) is restarted
