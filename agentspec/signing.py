"""The key that signs reports, in the form of Standard Webhooks.

Source: github.com/standard-webhooks/standard-webhooks, spec/standard-webhooks.md.
"""

import base64
import binascii
from typing import Final

KEY_PREFIX: Final = "whsec_"
KEY_HINT: Final = (
    f"{KEY_PREFIX} and 24 to 64 random bytes in Base64; create one: echo {KEY_PREFIX}$(openssl rand -base64 32)"
)
_MIN_BYTES: Final = 24
_MAX_BYTES: Final = 64


def decode_key(text: str) -> bytes:
    """Return the bytes of a signing key; the prefix is optional, as in the libraries of Standard Webhooks.

    Raises:
        ValueError: The text is not a signing key.
    """
    try:
        key = base64.b64decode(text.strip().removeprefix(KEY_PREFIX), validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError("is not Base64") from error
    if not _MIN_BYTES <= len(key) <= _MAX_BYTES:
        raise ValueError(f"has {len(key)} bytes")
    return key
