"""Authentication of gateways that report demand."""

from typing import Any

import pytest

from agentspec.names import DEMAND_AUDIENCE
from controller.runtime.authentication import GatewayAuthentication
from kube.client import ApiError, Document
from kube.kinds import TOKEN_REVIEW, Kind
from tests.unit.fakes.apiserver import UNREACHABLE, FakeApiServer

GATEWAY = "system:serviceaccount:shop:gateway"


def review(username: str = GATEWAY, audience: str = DEMAND_AUDIENCE, authenticated: bool = True) -> dict[str, Any]:
    return {"status": {"authenticated": authenticated, "audiences": [audience], "user": {"username": username}}}


class Reviewer(FakeApiServer):
    """An API server that gives the same answer to every token review."""

    def __init__(self, answer: Document) -> None:
        super().__init__()
        self.answer = answer

    async def create(self, kind: Kind, namespace: str | None, document: Document) -> Document:
        await super().create(kind, namespace, document)
        return self.answer

    @property
    def reviews(self) -> int:
        """The number of reviews."""
        return len(self.written(TOKEN_REVIEW))


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
    server = Reviewer(answer)
    assert await GatewayAuthentication(server, GATEWAY).is_gateway(header) is expected
    assert server.reviews == reviews


async def test_no_token_is_accepted_without_a_gateway() -> None:
    server = Reviewer(review())
    assert await GatewayAuthentication(server, None).is_gateway("Bearer t") is False
    assert server.reviews == 0


@pytest.mark.parametrize("answer", [review(), review(authenticated=False)], ids=["accepted", "rejected"])
async def test_result_is_cached_per_token(answer: dict[str, Any]) -> None:
    server = Reviewer(answer)
    authentication = GatewayAuthentication(server, GATEWAY)
    first = await authentication.is_gateway("Bearer t")
    assert await authentication.is_gateway("Bearer t") is first
    assert server.reviews == 1
    await authentication.is_gateway("Bearer u")
    assert server.reviews == 2


async def test_failed_review_is_not_cached() -> None:
    server = Reviewer(review())
    server.failures["create", "TokenReview"] = UNREACHABLE
    authentication = GatewayAuthentication(server, GATEWAY)
    with pytest.raises(ApiError):
        await authentication.is_gateway("Bearer t")
    server.failures.clear()
    assert await authentication.is_gateway("Bearer t") is True
