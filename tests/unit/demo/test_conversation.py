"""The demo's judgement: it must refuse what is not an answered call."""

import numpy as np
import pytest

from devkit.demo import conversation
from devkit.demo.caller import CallError, Moments
from devkit.demo.conversation import Conversation, Entry
from devkit.demo.ear import QUIET_SECONDS, Ear
from devkit.providers.speech import Transcript

RATE = 24_000
FACTS = [Entry("سعر الاستشارة", "سعر الاستشارة خمسون دولارا"), Entry("العنوان", "يقع مكتبنا في مدينة دمشق")]


def test_entries_are_the_headings_and_their_lines() -> None:
    text = "## One?\nfirst\nline\n\n## Two?\nsecond\n"
    assert conversation.entries(text) == [Entry("One?", "first line"), Entry("Two?", "second")]


@pytest.mark.parametrize("heard", ["welcome to the office", "", "سعر الاستشارة خمسون"], ids=["Latin", "none", "other"])
def test_a_greeting_that_is_not_the_declared_one_in_arabic_is_refused(heard: str) -> None:
    with pytest.raises(CallError):
        conversation.check_greeting(Transcript(heard, "ar"), "أهلا وسهلا بك في أورنينا")


def test_a_misspelt_greeting_passes() -> None:
    conversation.check_greeting(Transcript("اهلا و سهلن بكا في اورنينا", "ar"), "أَهْلًا وَسَهْلًا بِكَ فِي أُورْنِينَا")


@pytest.mark.parametrize(
    ("heard", "caption"),
    [
        ("سعر الستشارة خمسن دولار", "يقع مكتبنا في مدينة دمشق"),
        ("يقع مكتبنا في دمشق", "سعر الاستشارة خمسون دولارا"),
        ("سعر الستشارة خمسن دولار", "لا أعرف سعر"),
    ],
    ids=["another fact told", "another fact heard", "no fact told"],
)
def test_an_answer_that_is_not_the_fact_is_refused(heard: str, caption: str) -> None:
    with pytest.raises(CallError):
        conversation.check_answer(Transcript(heard, "ar"), caption, FACTS[0], FACTS)


def test_the_fact_told_and_misheard_passes() -> None:
    heard = Transcript("سعر الستشارة خمسن دولار", "ar")
    conversation.check_answer(heard, "سِعْرُ الاِسْتِشَارَةِ خَمْسُونَ دُولَارًا", FACTS[0], FACTS)


def test_a_picture_that_stands_still_or_is_blank_is_refused() -> None:
    noise = np.random.default_rng(1).integers(0, 255, (8, 8, 3), dtype=np.uint8)
    conversation.check_pictures([noise, noise[::-1].copy()])
    with pytest.raises(CallError, match="still"):
        conversation.check_pictures([noise, noise])
    with pytest.raises(CallError, match="blank"):
        conversation.check_pictures([noise, np.zeros_like(noise)])


def test_the_timeline_counts_from_the_request_and_leaves_out_what_was_not_seen() -> None:
    moments = Moments(requested=10.0, dispatched=10.1, connected=10.4, joined=10.3, first_word=11.0)
    empty = Transcript("", "ar")
    steps = conversation.timeline(Conversation(moments, 12.0, 13.0, empty, empty, "", []))
    assert [name for name, _ in steps][:3] == ["request sent", "room created, agent dispatched", "agent joined"]
    assert steps[-1][0] == "answer begins"
    assert steps[-1][1] == pytest.approx(3.0)
    assert "first video frame" not in dict(steps)


def test_the_ear_ends_an_utterance_at_a_long_pause_only() -> None:
    tone = (np.sin(np.linspace(0, 100, RATE // 50)) * 8000).astype(np.int16)
    silence = np.zeros_like(tone)
    ear, now, heard = Ear(RATE), 0.0, []
    for frame in [silence] * 5 + [tone] * 10 + [silence] * 20 + [tone] * 10 + [silence] * 120:
        now += 0.02
        if (utterance := ear.listen(frame, now)) is not None:
            heard.append(utterance)
    assert len(heard) == 1, "a pause shorter than QUIET_SECONDS belongs to the utterance"
    assert heard[0].start == pytest.approx(0.12)
    assert heard[0].end == pytest.approx(0.9)
    assert len(heard[0].samples) / RATE == pytest.approx(0.78 + QUIET_SECONDS, abs=0.1)
