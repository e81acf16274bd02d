"""Telephone callers: what LiveKit's SIP service says about them in the attributes of their participant. Pure.

The participant of an outgoing call is in the room from the first ring on. Source: LiveKit's reference of the SIP
participant, and livekit/protocol, ``livekit/attrs.go``.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from livekit import rtc

_STATUS: Final = "sip.callStatus"
_HUNG_UP: Final = "hangup"
_ANSWERED: Final = ("active", "")
"""``dialing``, ``ringing`` and ``automation`` come before. Services of 2023 set no status, and count as answered."""
_FACTS: Final = {"phoneNumber": "sip.phoneNumber", "trunkPhoneNumber": "sip.trunkPhoneNumber", "trunkID": "sip.trunkID"}
"""Facts for the conversation and their attributes. LiveKit omits the numbers when the trunk hides them."""
MAX_FACT_LENGTH: Final = 64
"""Characters of one fact; the rest is cut. The number comes from the telephone network."""


class CallerStatus(StrEnum):
    """How far a participant's call is."""

    RINGING = "ringing"
    """The telephone has not answered."""
    PRESENT = "present"
    HUNG_UP = "hung up"


def is_telephone(participant: rtc.RemoteParticipant) -> bool:
    """Return whether the participant is a telephone. It has no video, and it does not rejoin after it has left."""
    return participant.kind == rtc.ParticipantKind.PARTICIPANT_KIND_SIP


def status(participant: rtc.RemoteParticipant) -> CallerStatus:
    """Return how far the participant's call is. Everyone but a telephone is present from joining on."""
    declared = participant.attributes.get(_STATUS, "") if is_telephone(participant) else ""
    if declared == _HUNG_UP:
        return CallerStatus.HUNG_UP
    return CallerStatus.PRESENT if declared in _ANSWERED else CallerStatus.RINGING


def facts(participant: rtc.RemoteParticipant) -> Mapping[str, str]:
    """Return the number and the trunk of a telephone call; empty for any other participant."""
    if not is_telephone(participant):
        return {}
    given = {name: participant.attributes.get(attribute, "") for name, attribute in _FACTS.items()}
    return {name: value[:MAX_FACT_LENGTH] for name, value in given.items() if value}
