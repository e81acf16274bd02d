"""One request with a report: its signature, and what its answer means."""

from collections.abc import AsyncIterator

import aiohttp
import pytest

from agentspec.signing import decode_key
from tests.receiver import SIGNING_KEY, Receiver, receiving
from worker.server import webhook
from worker.server.webhook import Delivery, signed

KEY = decode_key(SIGNING_KEY)


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as found:
        yield found


async def posted(url: str) -> Delivery:
    async with aiohttp.ClientSession() as client:
        return await webhook.post(client, url, KEY, "AJ_1", 1614265330, b'{"type": "call.ended"}')


def test_signature_is_the_one_of_the_published_example() -> None:
    """The example of the libraries of Standard Webhooks."""
    headers = signed(KEY, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
    assert headers == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


async def test_accepted_report_is_delivered_once(receiver: Receiver) -> None:
    assert await posted(receiver.url) == Delivery()
    assert (receiver.ids, receiver.reports, receiver.faults) == (["AJ_1"], [{"type": "call.ended"}], [])


@pytest.mark.parametrize(("status", "is_final"), [(400, True), (401, False), (404, False), (410, True), (503, False)])
async def test_status_says_whether_to_send_again(receiver: Receiver, status: int, is_final: bool) -> None:
    receiver.statuses = [status]
    assert await posted(receiver.url) == Delivery(f"HTTP {status}", is_final)


async def test_redirect_is_not_followed(receiver: Receiver) -> None:
    receiver.statuses, receiver.headers = [307], {"Location": receiver.url}
    assert await posted(receiver.url) == Delivery("HTTP 307")
    assert receiver.ids == ["AJ_1"]


@pytest.mark.parametrize(("asked", "seconds"), [("7", 7.0), ("Fri, 27 Nov 2026 08:00:00 GMT", 0.0), ("-1", 0.0)])
async def test_receiver_may_ask_for_a_pause(receiver: Receiver, asked: str, seconds: float) -> None:
    receiver.statuses, receiver.headers = [429], {"Retry-After": asked}
    assert await posted(receiver.url) == Delivery("HTTP 429", retry_after=seconds)


async def test_unreachable_receiver_is_tried_again() -> None:
    assert await posted("http://127.0.0.1:1/calls") == Delivery("ClientConnectorError")


@pytest.mark.parametrize("host", ["hooks..example.com", f"{'a' * 64}.example.com"], ids=["empty label", "long label"])
async def test_address_that_cannot_be_resolved_fails_the_delivery(host: str) -> None:
    assert await posted(f"https://{host}/calls") == Delivery("UnicodeError")


@pytest.mark.parametrize("text", ["", "whsec_", "whsec_c2hvcnQ=", "not base64!", "A" * 400])
def test_unusable_signing_key_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not Base64|has \d+ bytes"):
        decode_key(text)
