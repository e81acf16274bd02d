"""How many tokens a language model may generate for one reply, and how much it may think. Pure.

Reasoning models think within the limit on completion tokens. A limit for three spoken sentences is then spent before
the first word, and the reply is empty with the finish reason `length`. The same model has many names: dated snapshots,
router prefixes, names of Azure deployments. So every model that is not known to never think has room for thinking.
"""

import re
from dataclasses import dataclass
from typing import Final

from worker import stages

SPOKEN_TOKENS: Final = 400
"""Room for a spoken reply: two minutes of speech."""
THINKING_TOKENS: Final = 4000
"""Room for thinking on top. More would take longer than a caller waits."""

_NEVER_THINK: Final = ("gpt-3.5", "gpt-4", "chatgpt-4o")
_SNAPSHOT_DATE: Final = re.compile(r"-\d{4}-\d{2}-\d{2}$")
_O_SERIES: Final = re.compile(r"o\d+(-mini|-pro)?$")
_O_SERIES_WITHOUT_EFFORT: Final = "o1-mini"


@dataclass(frozen=True)
class ReplyLimits:
    """The limits of one reply."""

    max_tokens: int
    """Completion tokens, with those of thinking."""
    effort: str
    """The API's `reasoning_effort`; empty for models that are not known to take it."""


def limits(model: str) -> ReplyLimits:
    """Return the limits for a model by its name at the provider."""
    name = _SNAPSHOT_DATE.sub("", model.lower().rsplit("/", maxsplit=1)[-1])
    if name.startswith(_NEVER_THINK):
        return ReplyLimits(SPOKEN_TOKENS, "")
    effort = stages.lowest_reasoning_effort(name)
    if not effort and _O_SERIES.match(name) and name != _O_SERIES_WITHOUT_EFFORT:
        effort = "low"
    return ReplyLimits(SPOKEN_TOKENS + THINKING_TOKENS, effort)
