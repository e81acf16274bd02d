"""Tokens allow one caller to speak and listen in one room, and nothing else."""

import time

import jwt

from gateway.calls.step import CONNECT_TIMEOUT_SECONDS
from gateway.livekit.tokens import Credentials, call_token, is_call_token, join_token
from tests.unit.gateway.fakes import CREDENTIALS


def test_join_token_grants_only_what_a_call_needs() -> None:
    token = join_token(CREDENTIALS, room="ornina-c1", identity="caller-c1", name="ليلى")
    claims = jwt.decode(token, CREDENTIALS.api_secret, algorithms=["HS256"])
    assert claims["video"] == {
        "roomJoin": True,
        "room": "ornina-c1",
        "canPublish": True,
        "canPublishSources": ["microphone"],
        "canSubscribe": True,
        "canPublishData": False,
        "canUpdateOwnMetadata": False,
    }
    assert (claims["iss"], claims["sub"], claims["name"]) == ("devkey", "caller-c1", "ليلى")
    assert 0 < claims["exp"] - time.time() - CONNECT_TIMEOUT_SECONDS <= 15, (
        "the token expires soon after the connect timeout"
    )
    assert set(claims) == {"iss", "sub", "name", "video", "nbf", "exp"}, "no agent, room or admin grants"


def test_call_token_is_valid_for_one_call_of_one_server() -> None:
    token = call_token(CREDENTIALS, "c1")
    assert is_call_token(CREDENTIALS, "c1", token)
    assert not is_call_token(CREDENTIALS, "c2", token)
    assert not is_call_token(Credentials("devkey", "another-secret-of-thirty-two-characters"), "c1", token)
    assert not is_call_token(CREDENTIALS, "c1", "ключ")


def test_repr_of_credentials_hides_the_secret() -> None:
    assert CREDENTIALS.api_secret not in repr(CREDENTIALS)
