"""Keeps the promises of `worker.call.budget` for one call: when to say "one moment", and when to give up. Pure.

A turn begins with the caller's last word, and ends with the reply or the apology. While a tool runs, "one moment" is
repeated, and the turn is not given up; the reply is owed from the tool's end. Events tell what happens; `due` answers
what to do. All times are seconds of one clock that never goes back.
"""

import math
from enum import Enum, auto

from worker.call import budget


class Action(Enum):
    """What is due."""

    ONE_MOMENT = auto()
    """Play the prepared "one moment"."""
    GIVE_UP = auto()
    """End the reply, and apologise."""


class TurnBudget:
    """The turns of one call, one after the other."""

    def __init__(self) -> None:
        self.failed_turns = 0
        """Turns that failed in a row."""
        self._last_word: float | None = None
        """When the caller stopped speaking, or the silence after "one moment" began; None: no reply is owed."""
        self._owed_since = 0.0
        """From when the time counts after which a turn is given up: from the last word, or the end of its tools."""
        self._caller_speaks = False
        self._transcriptions = 0
        """Transcriptions under way."""
        self._has_text = False
        """Some speech of this turn was understood."""
        self._said_one_moment = False
        self._audio_until: float | None = None
        """When the audio of the current speech ends unless more of it comes; None without a speech."""
        self._plays_until = 0.0
        """When the audio that the agent has spoken ends."""
        self._answers = False
        """The current speech is the reply to a turn, and has not failed."""
        self._tools_since: float | None = None
        """When the first of the tools that the reply waits for was started; None without one."""

    def caller_speaks(self) -> None:
        """The caller started to speak: nobody waits."""
        self._caller_speaks = True
        self._tools_since = None  # what they return is part of a later reply

    @property
    def owes_reply(self) -> bool:
        """Whether the caller waits for a reply, or hears one that is not complete yet."""
        return not self._caller_speaks and (self._last_word is not None or self._answers)

    def turn_began(self, now: float) -> None:
        """The caller said something that a realtime model answers without a transcript: a reply is owed."""
        self.transcription_started(now)
        self.transcription_ended(has_text=True)

    def caller_stopped(self, now: float) -> None:
        """The caller stopped to speak. A reply that was owed before is owed from now."""
        self._caller_speaks = False
        if self._last_word is not None:
            self._last_word = self._owed_since = now - budget.SPEECH_END_SECONDS

    def transcription_started(self, now: float) -> None:
        """What the caller said is being transcribed: a reply is owed."""
        self._caller_speaks = False
        self._transcriptions += 1
        self._said_one_moment = False
        self._last_word = self._owed_since = now - budget.SPEECH_END_SECONDS

    def transcription_ended(self, *, has_text: bool) -> None:
        """A transcription ended. Without text it was noise, which needs no reply, unless "one moment" promised one."""
        self._transcriptions -= 1
        self._has_text = self._has_text or has_text
        if self._has_text or self._transcriptions or self._last_word is None:
            return
        if self._said_one_moment:
            self._owed_since = -math.inf
        else:
            self._last_word = None

    def audio(self, until: float) -> None:
        """The agent speaks, and its audio lasts until then if no more comes."""
        begins = self._audio_until is None
        self._audio_until = self._plays_until = until
        if begins and self._last_word is not None:
            self._answers = True
            self._settle()

    def audio_ended(self, *, interrupted: bool) -> None:
        """All audio of a speech was passed on; an interrupted one is silent at once."""
        self._audio_until = None
        if interrupted:
            self._plays_until = 0.0
        elif self._tools_since is not None:
            self._last_word = self._plays_until  # the speech was no reply: that follows the tool
        if self._answers:
            self.failed_turns = 0
        self._answers = False

    def tool_started(self, now: float) -> None:
        """A tool was started, and the reply waits for it."""
        if self._tools_since is not None or self._caller_speaks:
            return
        self._tools_since = now
        self._said_one_moment = False
        if self._last_word is None:
            self._last_word = max(now, self._plays_until)

    def tools_ended(self, now: float, *, owes_reply: bool) -> None:
        """All tools of a step have ended. With `owes_reply` the model answers from their results."""
        if self._tools_since is None:
            return
        self._tools_since = None
        if not owes_reply:
            self._settle()
            return
        self._owed_since = now
        if self._last_word is None:
            self._last_word = now

    def agent_listens(self) -> None:
        """The agent waits for the caller, also while a tool runs that asks the caller something."""
        if self._tools_since is not None:
            self._settle()

    def failed(self) -> bool:
        """A stage failed after all retries. Returns whether to apologise: not while the caller speaks.

        The reply was then prepared for the beginning of what the caller says, and another one follows.
        """
        if self._caller_speaks:
            return False
        self.failed_turns += 1
        self._answers = False
        self._settle()
        return True

    def due(self, now: float) -> Action | None:
        """Return what is due, if anything. "One moment" is due once a turn, and again while a tool runs. Giving up ends
        the turn.
        """
        if (at := self.next_due()) is None or now < at:
            return None
        is_tool = self._tools_since is not None and now < self._tools_since + budget.TOOL_SECONDS
        if not is_tool and (self._said_one_moment or self._tools_since is not None):
            self._audio_until = self._tools_since = None
            self._settle()
            return Action.GIVE_UP
        self._said_one_moment = not is_tool
        if self._audio_until is not None:
            self._audio_until = now  # the silence within a speech begins anew after the phrase
        elif self._last_word is not None:
            self._last_word = now + budget.ONE_MOMENT_AGAIN_SECONDS - budget.ONE_MOMENT_SECONDS
        return Action.ONE_MOMENT

    def next_due(self) -> float | None:
        """Return when something will be due; None when nothing will without another event."""
        if self._caller_speaks:
            return None
        if self._audio_until is not None:
            return self._audio_until + budget.ONE_MOMENT_SECONDS
        if self._last_word is None:
            return None
        if self._said_one_moment:
            return max(self._owed_since + budget.GIVE_UP_SECONDS, self._plays_until)
        return max(self._last_word + budget.ONE_MOMENT_SECONDS, self._plays_until)

    def _settle(self) -> None:
        """Nothing is owed any more."""
        self._last_word = None
        self._has_text = False
