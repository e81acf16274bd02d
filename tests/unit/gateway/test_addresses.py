"""Addresses of clients: proxies, their spellings, and which addresses share one rate limit."""

import pytest
from starlette.datastructures import Headers

from gateway.api.addresses import client_address, rate_limit_key
from gateway.api.limits import RateLimit
from gateway.errors import RequestError

PEER = "192.0.2.1"


def forwarded(*lines: str) -> Headers:
    """Request headers with these lines of X-Forwarded-For."""
    return Headers(raw=[(b"x-forwarded-for", line.encode()) for line in lines])


@pytest.mark.parametrize(
    ("hops", "line", "address"),
    [
        (0, "203.0.113.9", PEER),
        (1, "203.0.113.9", "203.0.113.9"),
        (1, "6.6.6.6, 203.0.113.9", "203.0.113.9"),
        (2, "6.6.6.6, 203.0.113.9, 198.51.100.1", "203.0.113.9"),
        (2, "203.0.113.9", PEER),
        (1, "", PEER),
        (1, "unknown", PEER),
        (1, "6.6.6.6, _hidden", PEER),
    ],
)
def test_client_address_comes_from_trusted_proxies_only(hops: int, line: str, address: str) -> None:
    assert client_address(forwarded(line), PEER, hops) == address


@pytest.mark.parametrize(("hops", "address"), [(1, "198.51.100.1"), (2, "203.0.113.9"), (3, "6.6.6.6"), (4, PEER)])
def test_proxy_may_add_a_header_line_of_its_own(hops: int, address: str) -> None:
    assert client_address(forwarded("6.6.6.6", "203.0.113.9, 198.51.100.1"), PEER, hops) == address


@pytest.mark.parametrize(
    ("entry", "address"),
    [
        ("203.0.113.7:40000", "203.0.113.7"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("::FFFF:CB00:7107", "203.0.113.7"),
        ("64:ff9b::203.0.113.7", "203.0.113.7"),
        ("[2001:db8::1]:443", "2001:db8::1"),
        ('"[2001:db8::1]"', "2001:db8::1"),
        ("2001:DB8:0:0:0:0:0:1", "2001:db8::1"),
        ("fe80::1%eth0", "fe80::1"),
    ],
)
def test_every_spelling_of_an_address_is_the_same_address(entry: str, address: str) -> None:
    assert client_address(forwarded(entry), PEER, 1) == address
    assert client_address(forwarded(), entry, 0) == address


@pytest.mark.parametrize(
    ("address", "key"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("2001:db8:1:2::1", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff:ffff:ffff:ffff", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::1", "2001:db8:1:3::/64"),
        ("testclient", "testclient"),
        ("", ""),
    ],
)
def test_ipv6_addresses_share_a_limit_by_64(address: str, key: str) -> None:
    assert rate_limit_key(address) == key


@pytest.mark.parametrize(
    "entry",
    [
        lambda number: f"203.0.113.7:{40_000 + number}",
        lambda number: f"[2001:db8::1]:{1 + number}",
        lambda number: f"2001:db8:1:2::{number:x}",
        lambda number: f"2001:db8:1:2:{number:x}::1",
        lambda number: f"::ffff:203.0.113.{7}" if number % 2 else "203.0.113.7",
        lambda number: f"{number}.6.6.6, 203.0.113.7",
        lambda number: f"unknown-{number}",
    ],
    ids=[
        "ports",
        "ports of IPv6",
        "one /64",
        "low half of one /64",
        "mapped and plain",
        "spoofed entries",
        "no address",
    ],
)
def test_1000_varied_requests_of_one_client_get_30_tokens(entry: object) -> None:
    assert callable(entry)
    limit, allowed = RateLimit(30, "too many"), 0
    for number in range(1000):
        address = client_address(forwarded(entry(number)), PEER, 1)
        allowed += limit.take_token(rate_limit_key(address), now=0.0) == 0
    assert allowed == 30


def test_spoofed_header_beyond_the_trusted_hops_does_not_change_the_client() -> None:
    limit = RateLimit(1, "too many")
    limit.count(rate_limit_key(client_address(forwarded("203.0.113.7"), PEER, 1)))
    with pytest.raises(RequestError):
        limit.count(rate_limit_key(client_address(forwarded("1.1.1.1", "2.2.2.2, 203.0.113.7"), PEER, 1)))
