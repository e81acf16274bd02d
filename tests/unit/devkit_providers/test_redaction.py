"""Tokens stay out of logs."""

import logging

from devkit.providers.redaction import TokenFilter, without_tokens

TOKEN = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJ4In0.cGImmTYF-kiAcpK9_AOwAzv"


def test_only_the_token_is_replaced() -> None:
    assert without_tokens(f"401 - invalid token: {TOKEN}, error: bad") == "401 - invalid token: <token>, error: bad"


def test_tokens_in_arguments_of_a_record_are_replaced() -> None:
    record = logging.LogRecord("livekit", logging.ERROR, __file__, 1, "failed: %s", (TOKEN,), None)
    assert TokenFilter().filter(record)
    assert record.getMessage() == "failed: <token>"
