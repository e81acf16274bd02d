"""Who may report demand."""

from typing import Any

import pytest

from agentspec.names import DEMAND_AUDIENCE
from controller.runtime.authentication import GatewayAuthentication
from kube.client import ApiError
from tests.unit.controller.recorder import Recorder

GATEWAY = "system:serviceaccount:shop:gateway"


def review(username: str = GATEWAY, audience: str = DEMAND_AUDIENCE, authenticated: bool = True) -> dict[str, Any]:
    return {"status": {"authenticated": authenticated, "audiences": [audience], "user": {"username": username}}}


@pytest.mark.parametrize(
    ("header", "answer", "expected", "asked"),
    [
        pytest.param("Bearer t", review(), True, 1, id="the gateway's token"),
        pytest.param("bearer t", review(), True, 1, id="a scheme has no case"),
        pytest.param("Bearer t", review("system:serviceaccount:shop:other"), False, 1, id="somebody else's token"),
        pytest.param("Bearer t", review(audience="api"), False, 1, id="a token made for another audience"),
        pytest.param("Bearer t", review(authenticated=False), False, 1, id="a token that is none"),
        pytest.param("", review(), False, 0, id="no token: nobody is asked"),
        pytest.param("Basic t", review(), False, 0, id="another scheme"),
        pytest.param("Bearer ", review(), False, 0, id="an empty token"),
    ],
)
async def test_only_the_gateways_token_counts(header: str, answer: dict[str, Any], expected: bool, asked: int) -> None:
    client = Recorder(answer)
    assert await GatewayAuthentication(client, GATEWAY).is_gateway(header) is expected
    assert len(client.written) == asked


async def test_without_a_gateway_nobody_may() -> None:
    client = Recorder(review())
    assert await GatewayAuthentication(client, None).is_gateway("Bearer t") is False
    assert client.written == []


@pytest.mark.parametrize("answer", [review(), review(authenticated=False)])
async def test_an_answer_is_remembered_for_the_same_token_only(answer: dict[str, Any]) -> None:
    client = Recorder(answer)
    authentication = GatewayAuthentication(client, GATEWAY)
    first = await authentication.is_gateway("Bearer t")
    assert await authentication.is_gateway("Bearer t") is first
    assert len(client.written) == 1
    await authentication.is_gateway("Bearer u")
    assert len(client.written) == 2


async def test_when_nobody_can_tell_nothing_is_remembered() -> None:
    client = Recorder(ApiError(0, "Unreachable", "POST /x", "refused"))
    authentication = GatewayAuthentication(client, GATEWAY)
    with pytest.raises(ApiError):
        await authentication.is_gateway("Bearer t")
    client.answer = review()
    assert await authentication.is_gateway("Bearer t") is True
