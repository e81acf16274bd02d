"""The call page's files."""

import re
from pathlib import Path

import pytest

from gateway.calls import MESSAGES
from gateway.errors import ErrorReason
from gateway.pages import Pages, livekit_sources
from gateway.settings import WEB_DIR

TEXTS = (WEB_DIR / "texts.js").read_text()
LANGUAGES = {name: TEXTS.split(f"const {name} = {{")[1].split("\n};")[0] for name in ("en", "ar")}
KEY = re.compile(r"\b([A-Za-z]+):")


def keys(language: str) -> list[str]:
    """Every key of a language's texts, in order; the words themselves are taken out first."""
    without_words = re.sub(r'"(?:[^"\\]|\\.)*"|`[^`]*`', '""', LANGUAGES[language])
    return KEY.findall(without_words)


def test_both_languages_say_everything() -> None:
    assert keys("en") == keys("ar")
    assert len(keys("en")) > 40


def test_every_end_of_a_call_has_its_words() -> None:
    assert {reason.value for reason in MESSAGES} <= set(keys("en"))


def test_every_refusal_that_a_caller_can_meet_has_its_words() -> None:
    of_the_page_itself = {
        ErrorReason.BAD_JSON,
        ErrorReason.INVALID_REQUEST,
        ErrorReason.UNSUPPORTED_MEDIA_TYPE,
        ErrorReason.BODY_TOO_LARGE,
        ErrorReason.BODY_TOO_SLOW,
        ErrorReason.NOT_FOUND,
        ErrorReason.METHOD_NOT_ALLOWED,
        ErrorReason.IDEMPOTENCY_KEY_REUSED,
        ErrorReason.CALL_OVER,
        ErrorReason.CALL_NOT_FOUND,
        ErrorReason.INTERNAL,
    }
    assert {reason.value for reason in set(ErrorReason) - of_the_page_itself} <= set(keys("en"))


def test_every_text_of_the_page_exists() -> None:
    page = (WEB_DIR / "index.html").read_text()
    wanted = set(re.findall(r'data-(?:text|label)="(\w+)"', page))
    assert wanted <= set(keys("en"))
    assert len(wanted) > 8


def test_nothing_is_inline_and_nothing_comes_from_elsewhere() -> None:
    page = (WEB_DIR / "index.html").read_text()
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\bstyle=|\bon\w+=", page)
    for path in (WEB_DIR / name for name in ("index.html", "app.js", "call.js", "texts.js", "style.css")):
        addresses = [found for found in re.findall(r"https?://[^\s\"'‎]+", path.read_text())]
        assert [found for found in addresses if not found.endswith("://")] == [], path.name


@pytest.mark.parametrize(
    ("url", "sources"),
    [
        ("ws://10.0.0.1:7880", ["ws://10.0.0.1:7880", "http://10.0.0.1:7880"]),
        ("wss://lk.example", ["wss://lk.example", "https://lk.example"]),
        (
            "wss://a.livekit.cloud",
            ["wss://a.livekit.cloud", "https://a.livekit.cloud", "wss://*.livekit.cloud", "https://*.livekit.cloud"],
        ),
        ("wss://[x", []),
        ("wss://livekit.cloud.evil", ["wss://livekit.cloud.evil", "https://livekit.cloud.evil"]),
    ],
)
def test_where_the_page_may_connect(url: str, sources: list[str]) -> None:
    assert livekit_sources(url) == sources


def test_a_missing_client_is_noticed_at_start(tmp_path: Path) -> None:
    assert Pages(tmp_path).missing() == [str(tmp_path / "livekit-client.esm.mjs")]
    (tmp_path / "livekit-client.esm.mjs").write_text("")
    assert Pages(tmp_path).missing() == []
