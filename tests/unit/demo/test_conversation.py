"""The demo's checks of a conversation: they fail for every call that was not answered."""

import numpy as np
import pytest

from devkit.demo import conversation
from devkit.demo.caller import CallError, Moments
from devkit.demo.conversation import Conversation, Entry, Said
from devkit.demo.utterances import QUIET_SECONDS, Utterance, UtteranceSplitter
from devkit.providers.speech import Transcript

RATE = 24_000
FACTS = [Entry("سعر الاستشارة", "سعر الاستشارة خمسون دولارا"), Entry("العنوان", "يقع مكتبنا في مدينة دمشق")]


def test_knowledge_entries_are_headings_with_their_lines() -> None:
    text = "## One?\nfirst\nline\n\n## Two?\nsecond\n"
    assert conversation.entries(text) == [Entry("One?", "first line"), Entry("Two?", "second")]


GREETING = "أَهْلًا وَسَهْلًا بِكَ فِي أُورْنِينَا"


def said(heard: str, caption: str) -> Said:
    return Said(Utterance("agent", 0.0, 1.0, np.zeros(1, dtype=np.int16), RATE), Transcript(heard, "ar"), caption)


@pytest.mark.parametrize(
    ("heard", "caption"),
    [
        ("welcome to the office", GREETING),
        ("", GREETING),
        ("يقع مكتبها في دمشق", GREETING),
        ("اهلا و سهلن بكا في اورنينا", "لا أعرف الإجابة"),
    ],
    ids=["heard in Latin script", "nothing heard", "a fact heard", "something else said"],
)
def test_greeting_other_than_the_declared_one_fails(heard: str, caption: str) -> None:
    with pytest.raises(CallError):
        conversation.check_greeting(said(heard, caption), GREETING, FACTS)


def test_badly_recognised_greeting_passes() -> None:
    conversation.check_greeting(said("اهلا و سهلن بكا في اورنينا", GREETING), GREETING, FACTS)


@pytest.mark.parametrize(
    ("heard", "caption"),
    [
        ("سعر الستشارة خمسن دولار", "يقع مكتبنا في مدينة دمشق"),
        ("يقع مكتبنا في دمشق", "سعر الاستشارة خمسون دولارا"),
        ("سعر الستشارة خمسن دولار", "لا أعرف سعر"),
    ],
    ids=["other fact in the caption", "other fact heard", "no fact in the caption"],
)
def test_answer_without_the_fact_fails(heard: str, caption: str) -> None:
    with pytest.raises(CallError):
        conversation.check_answer(said(heard, caption), FACTS[0], FACTS)


def test_badly_recognised_fact_passes() -> None:
    answer = said("سعر الستشارة خمسن دولار", "سِعْرُ الاِسْتِشَارَةِ خَمْسُونَ دُولَارًا")
    conversation.check_answer(answer, FACTS[0], FACTS)


class Listening:
    """Replaces a caller, who hears the utterances with their captions; empty: it has none."""

    def __init__(self, *heard: tuple[Utterance, str]) -> None:
        self.captions, self.captioned = ["Hello."], [0.0]
        self._heard = list(heard)

    async def say(self, _: object) -> None: ...

    async def hear(self, _: float, after: float) -> Utterance:
        utterance, caption = self._heard.pop(0)
        if caption:
            self.captions.append(caption)
            self.captioned.append(utterance.start)
        return utterance


async def test_one_moment_alone_is_not_the_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversation, "speak", lambda *_: np.zeros(1, dtype=np.int16))
    one_moment, answer = said("", "").utterance, Utterance("agent", 4.0, 6.0, np.zeros(1, dtype=np.int16), RATE)
    caller = Listening((one_moment, ""), (answer, "In Damascus."))
    _, utterance, caption = await conversation.ask(caller, "Where is it?")  # type: ignore[arg-type]
    assert utterance is answer
    assert caption == "In Damascus."


def test_still_or_blank_video_fails() -> None:
    noise = np.random.default_rng(1).integers(0, 255, (8, 8, 3), dtype=np.uint8)
    conversation.check_video([noise, noise[::-1].copy()])
    with pytest.raises(CallError, match="does not move"):
        conversation.check_video([noise, noise])
    with pytest.raises(CallError, match="blank"):
        conversation.check_video([noise, np.zeros_like(noise)])


def test_timeline_starts_at_request_and_omits_missing_steps() -> None:
    moments = Moments(requested=10.0, opened=10.1, state="dispatched", connected=10.4, joined=10.3, first_word=11.0)
    answer = Said(Utterance("agent", 13.0, 14.0, np.zeros(1, dtype=np.int16), RATE), Transcript("", "ar"), "")
    steps = conversation.timeline(Conversation(moments, said("", ""), 12.0, answer, []))
    assert [name for name, _ in steps][:3] == ["request sent", "room created, dispatched", "agent joined"]
    assert steps[-1][0] == "answer begins"
    assert steps[-1][1] == pytest.approx(3.0)
    assert "first video frame" not in dict(steps)


def test_only_a_long_pause_ends_an_utterance() -> None:
    tone = (np.sin(np.linspace(0, 100, RATE // 50)) * 8000).astype(np.int16)
    silence = np.zeros_like(tone)
    splitter, now, heard = UtteranceSplitter(RATE, "agent"), 0.0, []
    for frame in [silence] * 5 + [tone] * 10 + [silence] * 20 + [tone] * 10 + [silence] * 120:
        now += 0.02
        if (utterance := splitter.listen(frame, now)) is not None:
            heard.append(utterance)
    assert len(heard) == 1, "a shorter pause does not end the utterance"
    assert heard[0].start == pytest.approx(0.12)
    assert heard[0].end == pytest.approx(0.9)
    assert len(heard[0].samples) / RATE == pytest.approx(0.78 + QUIET_SECONDS, abs=0.1)
