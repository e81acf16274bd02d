"""Decoding of text files from ConfigMaps."""

import codecs

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.inputs.textfile import NotText, decoded, normalised

ARABIC = "ساعات العمل من التاسعة"


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(ARABIC.encode(), id="UTF-8"),
        pytest.param(codecs.BOM_UTF8 + ARABIC.encode(), id="UTF-8 with a mark"),
        pytest.param(codecs.BOM_UTF16_LE + ARABIC.encode("utf-16-le"), id="UTF-16 of Windows"),
        pytest.param(codecs.BOM_UTF16_BE + ARABIC.encode("utf-16-be"), id="UTF-16, big endian"),
        pytest.param(codecs.BOM_UTF32_LE + ARABIC.encode("utf-32-le"), id="UTF-32"),
        pytest.param(codecs.BOM_UTF32_BE + ARABIC.encode("utf-32-be"), id="UTF-32, big endian"),
    ],
)
def test_text_is_decoded_by_its_byte_order_mark(content: bytes) -> None:
    assert decoded(content) == ARABIC


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        pytest.param(ARABIC.encode("cp1256"), "not UTF-8", id="Windows-1256"),
        pytest.param("Straße".encode("cp1252"), "not UTF-8", id="Windows-1252"),
        pytest.param(ARABIC.encode("utf-16-le"), "binary, or UTF-16 without a byte order mark", id="UTF-16 unmarked"),
        pytest.param("hours".encode("utf-16-le"), "binary, or UTF-16 without a byte order mark", id="UTF-16 in ASCII"),
        pytest.param(codecs.BOM_UTF16_LE + b"a", "marked as UTF-16, but not valid UTF-16", id="half a character"),
        pytest.param(codecs.BOM_UTF8 + b"\xff", "marked as UTF-8, but not valid UTF-8", id="mark before another code"),
        pytest.param(b"\x89PNG\r\n\x1a\n\0\0\0\r", "binary, or UTF-16 without a byte order mark", id="picture"),
        pytest.param(b"%PDF-1.7\n%\xe2\xe3", "a PDF file, not text", id="PDF"),
        pytest.param(b"PK\x03\x04\x14\0\x06", "a ZIP archive or an Office document, not text", id="docx"),
    ],
)
def test_other_content_is_rejected_with_its_fault(content: bytes, fault: str) -> None:
    with pytest.raises(NotText) as raised:
        decoded(content)
    assert str(raised.value) == fault


@given(st.binary(max_size=64))
def test_any_content_is_text_or_rejected(content: bytes) -> None:
    try:
        text = decoded(content)
    except NotText:
        return
    assert "\0" not in text and "\r" not in text


def test_line_ends_become_line_feeds_and_the_mark_goes() -> None:
    assert normalised("\ufeff## Fees\r\nfifty\r\rsixty") == "## Fees\nfifty\n\nsixty"
