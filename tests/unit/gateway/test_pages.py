"""The files of the call page."""

import re
from pathlib import Path

import pytest

from gateway.calls.call import MESSAGES
from gateway.errors import ErrorReason
from gateway.settings import WEB_DIR
from gateway.web.pages import Pages, livekit_sources

TEXTS = (WEB_DIR / "texts.js").read_text()
LANGUAGES = {name: TEXTS.split(f"const {name} = {{")[1].split("\n};")[0] for name in ("en", "ar")}
KEY = re.compile(r"\b([A-Za-z]+):")


def keys(language: str) -> list[str]:
    """Return every key of a language's texts, in order; the texts themselves are removed first."""
    without_words = re.sub(r'"(?:[^"\\]|\\.)*"|`[^`]*`', '""', LANGUAGES[language])
    return KEY.findall(without_words)


def test_both_languages_have_the_same_texts() -> None:
    assert keys("en") == keys("ar")
    assert len(keys("en")) > 40


def test_every_call_reason_has_a_text() -> None:
    assert {reason.value for reason in MESSAGES} <= set(keys("en"))


def test_every_error_reason_that_callers_can_get_has_a_text() -> None:
    never_caused_by_callers = {
        ErrorReason.BAD_JSON,
        ErrorReason.INVALID_REQUEST,
        ErrorReason.UNSUPPORTED_MEDIA_TYPE,
        ErrorReason.BODY_TOO_LARGE,
        ErrorReason.BODY_TOO_SLOW,
        ErrorReason.NOT_FOUND,
        ErrorReason.METHOD_NOT_ALLOWED,
        ErrorReason.ROOM_TAKEN,
        ErrorReason.ROOM_NOT_FOUND,
        ErrorReason.IDEMPOTENCY_KEY_REUSED,
        ErrorReason.CALL_OVER,
        ErrorReason.CALL_NOT_FOUND,
        ErrorReason.ISSUER_UNREACHABLE,  # the page sends no token
        ErrorReason.INTERNAL,
    }
    assert {reason.value for reason in set(ErrorReason) - never_caused_by_callers} <= set(keys("en"))


def test_every_text_that_the_page_names_exists() -> None:
    page = (WEB_DIR / "index.html").read_text()
    wanted = set(re.findall(r'data-(?:text|label)="(\w+)"', page))
    assert wanted <= set(keys("en"))
    assert len(wanted) > 8


def test_page_has_no_inline_code_and_no_external_addresses() -> None:
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
def test_page_connects_to_the_sources_of_its_livekit_server(url: str, sources: list[str]) -> None:
    assert livekit_sources(url) == sources


def test_missing_file_is_listed(tmp_path: Path) -> None:
    assert Pages(tmp_path).assets.missing() == [str(tmp_path / "livekit-client.esm.mjs")]
    (tmp_path / "livekit-client.esm.mjs").write_text("")
    assert Pages(tmp_path).assets.missing() == []
