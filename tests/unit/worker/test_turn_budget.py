"""The promises of a turn in virtual time: something is heard within 3 s, the reply or the apology within 8 s."""

import math
from collections.abc import Iterator

import pytest

from worker.call import budget
from worker.call.turn_budget import Action, TurnBudget

STEP = 0.1


class Clock:
    """Runs a turn budget in virtual time, and records what was due and when, in seconds after the last word."""

    def __init__(self) -> None:
        self.turns = TurnBudget()
        self.now = 100.0
        self.last_word = self.now
        self.done: list[tuple[Action, float]] = []

    def speak(self, *, transcribing: bool = True) -> None:
        """Let the caller say something, and its transcription begin."""
        self.turns.caller_speaks()
        self.wait(2.0)
        self.last_word = self.now
        self.wait(budget.SPEECH_END_SECONDS)
        self.turns.caller_stopped(self.now)
        if transcribing:
            self.turns.transcription_started(self.now)

    def understand(self) -> None:
        """Let the transcription end with text."""
        self.turns.transcription_ended(has_text=True)

    def reply(self, seconds: float) -> None:
        """Let a whole reply be passed on at once."""
        self.turns.audio(self.now + seconds)
        self.turns.audio_ended(interrupted=False)

    def wait(self, seconds: float) -> None:
        """Let time pass, and do what is due."""
        end = self.now + seconds
        while self.now < end - STEP / 2:
            self.now += STEP
            while (action := self.turns.due(self.now)) is not None:
                self.done.append((action, self.now - self.last_word))
                if action is Action.GIVE_UP:
                    self.turns.failed()

    @property
    def actions(self) -> list[Action]:
        """What was due, in order."""
        return [action for action, _ in self.done]


@pytest.fixture
def clock() -> Iterator[Clock]:
    clock = Clock()
    yield clock
    due = clock.turns.next_due()
    assert due is None or due > clock.now - STEP, "nothing that is due is left undone"


@pytest.mark.parametrize("understood", [True, False], ids=["no reply", "no transcript"])
def test_caller_hears_something_in_3_s_and_the_apology_in_8_s(clock: Clock, understood: bool) -> None:
    clock.speak()
    if understood:
        clock.wait(0.5)
        clock.understand()
    clock.wait(60)
    assert clock.actions == [Action.ONE_MOMENT, Action.GIVE_UP]
    heard = [after + budget.PLAY_SECONDS for _, after in clock.done]
    assert heard[0] <= budget.FIRST_SOUND_SECONDS + STEP and heard[1] <= budget.ANSWER_SECONDS + STEP


def test_reply_in_time_needs_nothing(clock: Clock) -> None:
    clock.speak()
    clock.understand()
    clock.wait(1.5)
    clock.reply(4.0)
    clock.wait(60)
    assert clock.actions == []


def test_late_reply_follows_one_moment(clock: Clock) -> None:
    clock.speak()
    clock.understand()
    clock.wait(5.0)
    clock.reply(4.0)
    clock.wait(60)
    assert clock.actions == [Action.ONE_MOMENT]


def test_one_moment_is_said_once_in_each_turn(clock: Clock) -> None:
    for _ in range(3):
        clock.speak()
        clock.understand()
        clock.wait(5.0)
        clock.reply(1.0)
        clock.wait(10.0)
    assert clock.actions == [Action.ONE_MOMENT] * 3


def test_noise_needs_no_reply(clock: Clock) -> None:
    clock.speak()
    clock.wait(0.5)
    clock.turns.transcription_ended(has_text=False)
    clock.wait(60)
    assert clock.actions == []


def test_transcript_that_is_empty_after_one_moment_ends_with_the_apology(clock: Clock) -> None:
    clock.speak()
    clock.wait(4.0)
    clock.turns.transcription_ended(has_text=False)
    clock.wait(60)
    assert clock.actions == [Action.ONE_MOMENT, Action.GIVE_UP]
    assert clock.done[-1][1] <= 4.0 + budget.SPEECH_END_SECONDS + 2 * STEP


def test_noise_after_a_question_keeps_the_question(clock: Clock) -> None:
    clock.speak()
    clock.understand()
    clock.speak()
    clock.turns.transcription_ended(has_text=False)
    clock.wait(60)
    assert clock.actions == [Action.ONE_MOMENT, Action.GIVE_UP]


def test_speech_that_is_not_transcribed_needs_no_reply(clock: Clock) -> None:
    clock.speak(transcribing=False)
    clock.wait(60)
    assert clock.actions == []


def test_nothing_is_due_while_the_caller_speaks(clock: Clock) -> None:
    clock.speak()
    clock.understand()
    clock.turns.caller_speaks()
    clock.wait(60)
    assert clock.actions == []
    clock.turns.caller_stopped(clock.now)
    clock.last_word = clock.now
    clock.wait(60)
    assert clock.actions == [Action.ONE_MOMENT, Action.GIVE_UP], "the reply is owed from the last word on"


def test_reply_that_stalls_half_way_ends_after_one_moment(clock: Clock) -> None:
    clock.speak()
    clock.understand()
    clock.wait(1.0)
    clock.turns.audio(clock.now + 2.0)
    dry = clock.now + 2.0
    clock.wait(2.0 + budget.ONE_MOMENT_SECONDS + STEP)
    assert clock.actions == [Action.ONE_MOMENT]
    clock.turns.audio(clock.now + 1.0)  # one moment, within the reply
    clock.wait(1.0 + budget.ONE_MOMENT_SECONDS + STEP)
    assert clock.actions == [Action.ONE_MOMENT, Action.GIVE_UP]
    assert clock.now - dry <= 2 * budget.FIRST_SOUND_SECONDS + 1.0
    clock.turns.audio_ended(interrupted=True)


def test_reply_that_goes_on_in_pieces_is_complete(clock: Clock) -> None:
    clock.speak()
    clock.understand()
    for _ in range(5):
        clock.turns.audio(clock.now + 1.0)
        clock.wait(1.0 + budget.ONE_MOMENT_SECONDS - 2 * STEP)
    clock.turns.audio_ended(interrupted=False)
    clock.wait(60)
    assert clock.actions == []


def test_paused_reply_is_not_late(clock: Clock) -> None:
    clock.turns.audio(clock.now + 2.0)
    clock.turns.audio(math.inf)
    clock.wait(60)
    assert clock.actions == []
    clock.turns.audio_ended(interrupted=True)


def test_question_within_a_long_speech_waits_for_its_end(clock: Clock) -> None:
    clock.reply(20.0)
    clock.speak()
    clock.understand()
    clock.wait(10.0)
    assert clock.actions == []
    clock.wait(60)
    assert clock.actions == [Action.ONE_MOMENT, Action.GIVE_UP]


def test_question_that_interrupts_a_speech_is_owed_a_reply(clock: Clock) -> None:
    clock.turns.audio(clock.now + 20.0)
    clock.speak()
    clock.turns.audio(clock.now + 21.0)  # a last frame of the old speech is no reply
    clock.understand()
    clock.turns.audio_ended(interrupted=True)
    clock.wait(60)
    assert clock.actions == [Action.ONE_MOMENT, Action.GIVE_UP]


def test_failures_in_a_row_are_counted_until_a_reply(clock: Clock) -> None:
    for failures in range(1, 4):
        clock.speak()
        clock.understand()
        assert clock.turns.failed()
        clock.reply(2.0)  # the apology
        assert clock.turns.failed_turns == failures
    clock.speak()
    clock.understand()
    clock.reply(2.0)
    assert clock.turns.failed_turns == 0


def test_reply_that_fails_half_way_counts_as_failed(clock: Clock) -> None:
    clock.speak()
    clock.understand()
    clock.turns.audio(clock.now + 1.0)
    assert clock.turns.failed()
    clock.turns.audio_ended(interrupted=False)
    assert clock.turns.failed_turns == 1


def test_failure_while_the_caller_speaks_is_not_told(clock: Clock) -> None:
    clock.turns.caller_speaks()
    assert not clock.turns.failed()
    assert clock.turns.failed_turns == 0


def test_attempts_of_each_stage_leave_room_for_the_answer() -> None:
    """A slow request and a quick retry, or two stalled requests for speech, end before the turn is given up."""
    start = budget.SPEECH_END_SECONDS
    attempts = budget.MAX_RETRIES + 1
    assert budget.STT_ATTEMPT_SECONDS + 1.0 < budget.STT_SECONDS < budget.GIVE_UP_SECONDS - start
    assert start + budget.LLM_ATTEMPT_SECONDS < budget.GIVE_UP_SECONDS - 1.0
    assert start + budget.MAX_RETRY_AFTER_SECONDS < budget.GIVE_UP_SECONDS - 1.0
    assert start + attempts * budget.TTS_ATTEMPT_SECONDS < budget.GIVE_UP_SECONDS
    assert budget.TTS_ATTEMPT_SECONDS <= budget.FIRST_SOUND_SECONDS


class Tools:
    """A tool that the reply waits for, in virtual time."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        clock.speak()
        clock.understand()

    def run(self, seconds: float, *, owes_reply: bool = True) -> None:
        self._clock.turns.tool_started(self._clock.now)
        self._clock.wait(seconds)
        self._clock.turns.tools_ended(self._clock.now, owes_reply=owes_reply)


def longest_silence(clock: Clock, until: float) -> float:
    """Return the longest silence before the reply at `until`; "one moment" lasts 1.2 s."""
    sounds = [(0.0, 0.0), *((at + budget.PLAY_SECONDS, at + budget.PLAY_SECONDS + 1.2) for _, at in clock.done)]
    begins = [start for start, _ in sounds[1:]] + [until]
    return max(begin - end for (_, end), begin in zip(sounds, begins, strict=True))


@pytest.mark.parametrize("tool_seconds", [0.5, 2.0, 3.0, 5.0, 10.0, 29.0])
@pytest.mark.parametrize("model_seconds", [0.5, 2.0, 3.5])
def test_no_tool_leaves_the_caller_in_silence(clock: Clock, tool_seconds: float, model_seconds: float) -> None:
    tools = Tools(clock)
    clock.wait(1.0)
    tools.run(tool_seconds)
    clock.wait(model_seconds)
    assert Action.GIVE_UP not in clock.actions
    assert longest_silence(clock, clock.now - clock.last_word) <= budget.FIRST_SOUND_SECONDS + STEP


def test_model_that_never_answers_from_a_tool_is_given_up(clock: Clock) -> None:
    Tools(clock).run(5.0)
    ended = clock.now - clock.last_word
    clock.wait(20.0)
    assert clock.actions[-1] is Action.GIVE_UP
    assert clock.done[-1][1] - ended == pytest.approx(budget.GIVE_UP_SECONDS, abs=2 * STEP)


def test_tool_that_hangs_is_given_up(clock: Clock) -> None:
    Tools(clock)
    clock.turns.tool_started(clock.now)
    clock.wait(budget.TOOL_SECONDS + 5)
    assert clock.actions.count(Action.GIVE_UP) == 1
    assert clock.actions[-1] is Action.GIVE_UP


def test_sentence_before_a_tool_is_no_reply(clock: Clock) -> None:
    tools = Tools(clock)
    clock.turns.tool_started(clock.now)
    clock.reply(1.0)
    clock.wait(4.0)
    assert clock.actions == [Action.ONE_MOMENT]
    tools.run(0.1)
    clock.reply(2.0)
    clock.wait(20.0)
    assert clock.actions == [Action.ONE_MOMENT]


def test_tool_without_a_reply_owes_nothing(clock: Clock) -> None:
    Tools(clock).run(1.0, owes_reply=False)
    clock.wait(20.0)
    assert not clock.actions


def test_tool_that_asks_the_caller_waits_for_the_caller(clock: Clock) -> None:
    Tools(clock)
    clock.turns.tool_started(clock.now)
    clock.reply(1.0)
    clock.turns.agent_listens()
    clock.wait(30.0)
    assert not clock.actions


def test_caller_who_speaks_during_a_tool_gets_a_turn_of_its_own(clock: Clock) -> None:
    Tools(clock)
    clock.turns.tool_started(clock.now)
    clock.speak()
    clock.understand()
    clock.turns.tools_ended(clock.now, owes_reply=True)
    clock.reply(1.0)
    clock.wait(20.0)
    assert not clock.actions
