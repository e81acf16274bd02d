"""Decodes text files from a ConfigMap.

``kubectl create configmap --from-file`` stores a file that is valid UTF-8 in `data`, and every other file in
`binaryData`. Windows programs save text as UTF-16 with a byte order mark, as UTF-8 with one, or in a code page such as
Windows-1256. A byte order mark identifies an encoding reliably; a code page cannot be identified.
"""

import codecs
from typing import Final

_MARKED: Final = (
    (codecs.BOM_UTF8, "utf-8-sig", "UTF-8"),
    (codecs.BOM_UTF32_LE, "utf-32", "UTF-32"),
    (codecs.BOM_UTF32_BE, "utf-32", "UTF-32"),
    (codecs.BOM_UTF16_LE, "utf-16", "UTF-16"),
    (codecs.BOM_UTF16_BE, "utf-16", "UTF-16"),
)
"""Byte order mark, Python's codec, name. UTF-32 comes first: its little-endian mark begins with that of UTF-16."""

_FORMATS: Final = ((b"%PDF-", "a PDF file"), (b"PK\x03\x04", "a ZIP archive or an Office document"))
"""First bytes of the formats that are most often taken for text."""


class NotText(ValueError):
    """Raised for bytes that are no text; the message continues the sentence "the key is"."""


def decoded(content: bytes) -> str:
    """Return the text of a file in UTF-8, or in UTF-16 or UTF-32 with a byte order mark; raises NotText."""
    codec, name = next(((codec, name) for mark, codec, name in _MARKED if content.startswith(mark)), ("utf-8", ""))
    try:
        text = content.decode(codec)
    except UnicodeDecodeError:
        raise NotText(_fault(content, name)) from None
    if "\0" in text:
        raise NotText(_fault(content, name))
    return normalised(text)


def normalised(text: str) -> str:
    """Return the text without a byte order mark, and with line feeds only."""
    return text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")


def _fault(content: bytes, marked_as: str) -> str:
    for start, name in _FORMATS:
        if content.startswith(start):
            return f"{name}, not text"
    if marked_as:
        return f"marked as {marked_as}, but not valid {marked_as}"
    return "binary, or UTF-16 without a byte order mark" if b"\0" in content else "not UTF-8"
