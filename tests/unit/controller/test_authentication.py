"""Authentication of gateways that report demand."""

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
    ("header", "answer", "expected", "reviews"),
    [
        pytest.param("Bearer t", review(), True, 1, id="the gateway's token"),
        pytest.param("bearer t", review(), True, 1, id="lower-case scheme"),
        pytest.param("Bearer t", review("system:serviceaccount:shop:other"), False, 1, id="another account's token"),
        pytest.param("Bearer t", review(audience="api"), False, 1, id="a token for another audience"),
        pytest.param("Bearer t", review(authenticated=False), False, 1, id="an invalid token"),
        pytest.param("", review(), False, 0, id="no token"),
        pytest.param("Basic t", review(), False, 0, id="another scheme"),
        pytest.param("Bearer ", review(), False, 0, id="an empty token"),
    ],
)
async def test_only_the_gateways_token_is_accepted(
    header: str, answer: dict[str, Any], expected: bool, reviews: int
) -> None:
    client = Recorder(answer)
    assert await GatewayAuthentication(client, GATEWAY).is_gateway(header) is expected
    assert len(client.written) == reviews


async def test_no_token_is_accepted_without_a_gateway() -> None:
    client = Recorder(review())
    assert await GatewayAuthentication(client, None).is_gateway("Bearer t") is False
    assert client.written == []


@pytest.mark.parametrize("answer", [review(), review(authenticated=False)])
async def test_result_is_cached_per_token(answer: dict[str, Any]) -> None:
    client = Recorder(answer)
    authentication = GatewayAuthentication(client, GATEWAY)
    first = await authentication.is_gateway("Bearer t")
    assert await authentication.is_gateway("Bearer t") is first
    assert len(client.written) == 1
    await authentication.is_gateway("Bearer u")
    assert len(client.written) == 2


async def test_failed_review_is_not_cached() -> None:
    client = Recorder(ApiError(0, "Unreachable", "POST /x", "refused"))
    authentication = GatewayAuthentication(client, GATEWAY)
    with pytest.raises(ApiError):
        await authentication.is_gateway("Bearer t")
    client.answer = review()
    assert await authentication.is_gateway("Bearer t") is True
