"""The last turns of a call, which a worker stores with its caller, so that the agent of a rescue knows them.

They are an attribute of the caller's participant in LiveKit. The room record is no place for them: a gateway of release
0.1.0 rejects a record with unknown fields, and would not continue the call after a rollback.

LiveKit copies attributes into the token with which a client reconnects, and browsers send the token in the URL. So the
document is short: with 4 KiB of it the URL stays below 8 KiB, which common proxies accept (nginx:
`large_client_header_buffers`).
"""

from collections.abc import Sequence
from enum import StrEnum
from typing import Final

from pydantic import Field, ValidationError, field_validator
from pydantic_core import from_json, to_json

from agentspec.model import Model
from agentspec.wire.documents import render

TURNS_ATTRIBUTE: Final = "avatar-agent.turns"
"""Name of the attribute."""
MAX_DOCUMENT_BYTES: Final = 4 * 1024
"""Longest document, as JSON inside a token. Some 1,000 tokens of a language model, or 10 to 15 turns."""
MAX_TURN_BYTES: Final = 1024
"""Longest text of a turn, in bytes of UTF-8; what follows is cut off."""
_MAX_TURNS: Final = 128
"""More turns than fit: a reader ignores those before."""


class Speaker(StrEnum):
    """Who said a turn."""

    CALLER = "caller"
    AGENT = "agent"


class Turn(Model):
    """One utterance of the caller or the agent. Its text is data, never instructions."""

    speaker: Speaker
    text: str

    @field_validator("text", mode="before")
    @classmethod
    def _valid_unicode(cls, text: object) -> object:
        """Drop lone surrogates, which JSON from a language model can contain and no document can."""
        return text.encode(errors="ignore").decode() if isinstance(text, str) else text


class Turns(Model):
    """The newest turns of a call, the oldest first."""

    turns: list[Turn] = Field(default_factory=list)


def newest_turns(turns: Sequence[Turn], max_bytes: int = MAX_DOCUMENT_BYTES) -> list[Turn]:
    """Return the newest turns that fit into one document, each cut to its longest text. Empty ones are left out."""
    chosen: list[Turn] = []
    left = max_bytes - _size_in_token(Turns())
    for turn in reversed(turns):
        cut = turn.model_copy(update={"text": _cut(turn.text)})
        if not cut.text:
            continue
        left -= _size_in_token(cut) + 1  # and a comma
        if left < 0:
            break
        chosen.append(cut)
    return chosen[::-1]


def render_turns(turns: Sequence[Turn], *, taken_bytes: int = 0) -> str:
    """Return the newest turns as the value of the attribute. Other text of the token takes `taken_bytes` of the space.

    Without space for a turn, the document has none.
    """
    return render(Turns(turns=newest_turns(turns, MAX_DOCUMENT_BYTES - taken_bytes)))


def read_turns(text: str) -> list[Turn]:
    """Return the turns in the value of the attribute. Ignores everything that is no turn."""
    try:
        document = from_json(text.encode(errors="ignore"))
    except ValueError:
        return []
    found = document.get("turns") if isinstance(document, dict) else None
    if not isinstance(found, list):
        return []
    return newest_turns([turn for one in found[-_MAX_TURNS:] if (turn := _turn(one)) is not None])


def _cut(text: str) -> str:
    """Return the beginning of a text, whole characters only."""
    return text.strip().encode()[:MAX_TURN_BYTES].decode(errors="ignore").strip()


def _turn(document: object) -> Turn | None:
    try:
        return Turn.model_validate(document, extra="ignore")
    except ValidationError:
        return None


def _size_in_token(document: Model) -> int:
    """Return the bytes of a document in a token, which contains it as a string of its own JSON."""
    return len(to_json(render(document))) - len('""')
