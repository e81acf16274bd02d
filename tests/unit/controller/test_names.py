"""NameUnique: one AvatarAgent holds each agent name on each server."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentspec import ConditionStatus, Reason
from controller.observation import Key
from controller.policy.names import Claim, holder, name_unique, server_of

CLAIMS = st.builds(
    Claim,
    key=st.builds(Key, st.sampled_from(["a", "b", "a-b"]), st.sampled_from(["x", "y", "z"])),
    server=st.sampled_from(["one:443", "two:443"]),
    name=st.sampled_from(["ava", "eve", ""]),
    created=st.sampled_from(["2026-01-01T00:00:00Z", "2026-01-01T00:00:01Z", "2025-12-31T23:59:59Z"]),
    uid=st.just("uid"),
)
MANY = st.lists(CLAIMS, max_size=12, unique_by=lambda claim: claim.key)


@given(MANY)
def test_each_name_on_each_server_has_exactly_one_holder(claims: list[Claim]) -> None:
    holders = [(claim.server, claim.name) for claim in claims if holder(claim, claims) is None]
    assert sorted(holders) == sorted({(claim.server, claim.name) for claim in claims})


@given(MANY.flatmap(lambda claims: st.tuples(st.just(claims), st.permutations(claims))))
def test_oldest_claim_is_the_holder_in_any_order(orders: tuple[list[Claim], list[Claim]]) -> None:
    claims, shuffled = orders
    for claim in claims:
        found = holder(claim, shuffled)
        assert found == holder(claim, claims)
        if found is not None:
            assert (found.server, found.name) == (claim.server, claim.name)
            assert found.created <= claim.created
            assert holder(found, claims) is None, "the holder has no older rival"


@given(MANY)
def test_next_oldest_claim_follows_the_holder(claims: list[Claim]) -> None:
    for claim in claims:
        found = holder(claim, claims)
        if found is not None:
            rest = [other for other in claims if other is not found]
            freed = [other for other in rest if (other.server, other.name) == (found.server, found.name)]
            assert [other.key for other in freed if holder(other, rest) is None] == [
                min(freed, key=lambda other: (other.created, other.key)).key
            ]


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        pytest.param("wss://LiveKit.Example/", "wss://livekit.example:443", True, id="case, slash and default port"),
        pytest.param("ws://livekit.example", "ws://livekit.example:80/", True, id="default port without TLS"),
        pytest.param("ws://livekit.example:7880", "ws://livekit.example:7881", False, id="ports"),
        pytest.param("wss://livekit.example/eu", "wss://livekit.example/us", False, id="paths behind one proxy"),
        pytest.param("wss://a.livekit.cloud", "wss://b.livekit.cloud", False, id="projects"),
        pytest.param("ws://livekit:7880", "ws://livekit.shop.svc.cluster.local.:7880", True, id="in-cluster names"),
        pytest.param("ws://livekit.shop:7880", "ws://livekit.shop.svc:7880", True, id="in-cluster names, shortened"),
        pytest.param("ws://[::1]:7880", "ws://[::1]:7880/", True, id="IPv6"),
        pytest.param("ws://host:99999", "ws://host:99999", True, id="not a URL"),
    ],
)
def test_spellings_of_a_server_url(first: str, second: str, same: bool) -> None:
    assert (server_of(first, "shop") == server_of(second, "shop")) is same


@pytest.mark.parametrize(
    ("url", "same"),
    [
        pytest.param("ws://livekit:7880", False, id="Service in the agent's namespace"),
        pytest.param("ws://livekit.media:7880", True, id="Service in a named namespace"),
        pytest.param("wss://livekit.example", True, id="outside the cluster"),
        pytest.param("ws://10.0.0.7:7880", True, id="an address"),
        pytest.param("ws://[fd00::7]:7880", True, id="an IPv6 address"),
        pytest.param("ws://localhost:7880", True, id="localhost"),
    ],
)
def test_server_url_in_two_namespaces(url: str, same: bool) -> None:
    assert (server_of(url, "shop") == server_of(url, "office")) is same


@given(st.text(max_size=64))
def test_any_text_has_a_server_identity(url: str) -> None:
    assert server_of(url, "shop") == server_of(url, "shop")


def claim(namespace: str, name: str = "") -> Claim:
    return Claim(Key(namespace, "ava"), "livekit.example:443", name, "2026-01-01T00:00:00Z", "uid")


@pytest.mark.parametrize("automatic", [False, True])
def test_holder_has_a_unique_name(automatic: bool) -> None:
    verdict = name_unique(claim("shop", "" if automatic else "guide"), None, automatic)
    assert (verdict.status, verdict.reason) == (ConditionStatus.TRUE, Reason.NAME_UNIQUE)
    assert ("LiveKit sends one to every new room" if automatic else "'guide'") in verdict.message


@pytest.mark.parametrize(
    ("automatic", "remedy"),
    [(False, "Set another spec.agentName here"), (True, "Set dispatch.mode: Explicit on one of the two")],
    ids=["explicit", "automatic"],
)
def test_younger_agent_learns_the_holder_and_the_remedy(automatic: bool, remedy: str) -> None:
    name = "" if automatic else "guide"
    verdict = name_unique(claim("shop", name), claim("office", name), automatic)
    assert (verdict.status, verdict.reason) == (ConditionStatus.FALSE, Reason.NAME_TAKEN)
    assert "AvatarAgent office/ava is older" in verdict.message
    assert remedy in verdict.message
