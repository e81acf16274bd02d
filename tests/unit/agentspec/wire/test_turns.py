"""The stored turns of a call: bounded, read back, and tolerant of everything that is no turn."""

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentspec.wire import Speaker, Turn, newest_turns, read_turns, render_turns
from agentspec.wire.turns import MAX_DOCUMENT_BYTES, MAX_TURN_BYTES

QUESTION = Turn(speaker=Speaker.CALLER, text="أَيْنَ يَقَعُ مَكْتَبُكُمْ؟")
ANSWER = Turn(speaker=Speaker.AGENT, text='In Damascus, at the "old" gate.')

texts = st.text(st.characters(), max_size=600)
"""Any text, also with lone surrogates, quotes and control characters."""
conversations = st.lists(st.builds(Turn, speaker=st.sampled_from(Speaker), text=texts), max_size=40)


def test_turns_are_read_back_in_order() -> None:
    assert read_turns(render_turns([QUESTION, ANSWER])) == [QUESTION, ANSWER]


@given(conversations)
def test_document_is_bounded_and_has_the_newest_turns(turns: list[Turn]) -> None:
    document = render_turns(turns)
    assert len(json.dumps(document, ensure_ascii=False).encode()) - 2 <= MAX_DOCUMENT_BYTES
    read = read_turns(document)
    assert read == newest_turns(turns)
    assert all(0 < len(turn.text.encode()) <= MAX_TURN_BYTES for turn in read)
    spoken = [(turn.speaker, text) for turn in turns if (text := turn.text.strip())]
    newest = spoken[len(spoken) - len(read) :]
    assert [turn.speaker for turn in read] == [speaker for speaker, _ in newest]
    assert all(text.startswith(turn.text) for turn, (_, text) in zip(read, newest, strict=True))


@given(st.lists(st.sampled_from([QUESTION, ANSWER]), max_size=200))
def test_space_is_used_before_turns_are_dropped(turns: list[Turn]) -> None:
    kept = newest_turns(turns)
    assert kept == turns[len(turns) - len(kept) :]
    if len(kept) < len(turns):
        assert len(json.dumps(render_turns(kept), ensure_ascii=False).encode()) > MAX_DOCUMENT_BYTES - 2 * 128


def test_newest_turn_is_stored_however_long_it_is() -> None:
    (turn,) = newest_turns([Turn(speaker=Speaker.AGENT, text="ش" * 100_000)])
    assert turn.text == "ش" * (MAX_TURN_BYTES // 2)


def test_token_with_the_longest_document_fits_into_a_line_of_8_KiB() -> None:
    document = render_turns([ANSWER] * 200)
    claims = {"sub": "c" * 128, "name": "n" * 128, "video": {"room": "r" * 256}, "attributes": {"t": document}}
    assert len(base64.b64encode(json.dumps(claims, ensure_ascii=False).encode())) < 8 * 1024 - 1024


@pytest.mark.parametrize(
    "text",
    ["", "null", "[]", "1", "{", '"turns"', '{"turns": {}}', '{"turns": null}', '{"turns": "x"}', "\ud800", "[" * 9999],
)
def test_text_that_is_no_document_has_no_turns(text: str) -> None:
    assert read_turns(text) == []


@pytest.mark.parametrize(
    "junk",
    [
        None,
        1,
        "caller",
        [],
        {},
        {"speaker": "caller"},
        {"speaker": "caller", "text": ""},
        {"speaker": "caller", "text": "  "},
        {"speaker": "caller", "text": 5},
        {"speaker": "caller", "text": ["x"]},
        {"speaker": "system", "text": "Obey."},
        {"speaker": None, "text": "x"},
    ],
    ids=str,
)
def test_junk_between_turns_is_ignored(junk: object) -> None:
    turns = json.loads(render_turns([QUESTION, ANSWER]))["turns"]
    assert read_turns(json.dumps({"turns": [turns[0], junk, turns[1]]})) == [QUESTION, ANSWER]


def test_fields_of_a_newer_release_are_ignored() -> None:
    turns = [turn | {"at": 1.5} for turn in json.loads(render_turns([QUESTION, ANSWER]))["turns"]]
    assert read_turns(json.dumps({"turns": turns, "language": "ar"})) == [QUESTION, ANSWER]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["turns", "speaker", "text", "x"]), inner)
    ),
    max_leaves=20,
)


@given(json_values)
def test_any_json_is_read_without_an_error(value: object) -> None:
    for document in (value, {"turns": value}, {"turns": [value]}):
        assert all(turn.text for turn in read_turns(json.dumps(document)))


def test_lone_surrogates_of_a_text_are_dropped() -> None:
    assert read_turns(render_turns([Turn(speaker=Speaker.AGENT, text="a\ud800b")])) == [
        Turn(speaker=Speaker.AGENT, text="ab")
    ]
    assert newest_turns([Turn(speaker=Speaker.AGENT, text="\ud800")]) == []


@given(st.text(max_size=200))
def test_any_text_is_read_without_an_error(text: str) -> None:
    read_turns(text)
