"""Origins: the gateway's own page under its trusted names, and the origins that agents allow."""

import pytest

from gateway.agents import InvalidAgent
from gateway.api.origins import allowed_origins, is_own_origin
from tests.unit.gateway.fakes import FakeAgents, example_agent

OWN_HOSTS = ("calls.example",)


@pytest.mark.parametrize(
    ("origin", "host", "own"),
    [
        ("https://calls.example", "calls.example", True),
        ("https://calls.example", "calls.example:443", True),
        ("http://calls.example:80", "calls.example", True),
        ("https://CALLS.example", "calls.EXAMPLE", True),
        ("https://calls.example", "other.example", False),
        ("https://calls.example:8443", "calls.example", False),
        ("https://calls.example.evil", "calls.example", False),
        ("null", "calls.example", False),
        ("https://", "", False),
        ("https://[", "calls.example", False),
        ("https://calls.example:x", "calls.example", False),
    ],
)
def test_own_origin_matches_the_host_header(origin: str, host: str, own: bool) -> None:
    assert is_own_origin(origin, host, OWN_HOSTS) is own


@pytest.mark.parametrize(
    "host",
    [
        "rebound.evil",
        "10.96.0.7",
        "evil.calls.example",
        "localhost.evil",
        "127.0.0.1.evil",
        "xlocalhost",
        "[2001:db8::1]",
    ],
)
def test_host_without_a_trusted_name_is_not_own(host: str) -> None:
    assert not is_own_origin(f"http://{host}", host, OWN_HOSTS)


@pytest.mark.parametrize("host", ["localhost:8080", "demo.localhost", "127.0.0.1:8080", "127.5.0.1", "[::1]:8080"])
def test_loopback_hosts_are_own_without_a_name(host: str) -> None:
    assert is_own_origin(f"http://{host}", host, ())


def test_origins_of_every_valid_agent_are_allowed() -> None:
    agents = FakeAgents(
        [
            example_agent(allowed_origins=["https://a.example"]),
            example_agent("private", access="Authenticated", allowed_origins=["https://b.example"]),
            InvalidAgent("agents", "broken", "spec.language: no"),
        ]
    )
    assert allowed_origins(agents) == {"https://a.example", "https://b.example"}
