"""The gateway's settings."""

import json
from pathlib import Path

import pytest

from gateway.settings import WEB_DIR, GatewaySettings, OidcIssuer
from process.settings import SettingsError, load


def test_empty_environment_is_enough() -> None:
    assert load(GatewaySettings, {}) == GatewaySettings(
        port=8080,
        probe_port=8081,
        gateway_name="gateway",
        default_namespace="default",
        watch_namespace="",
        api_keys_dir=None,
        gateway_hosts=(),
        oidc_issuers=(),
        controller_url="",
        controller_token_file=None,
        trusted_proxy_hops=0,
        max_pending_per_agent=50,
        public_calls_per_minute=30,
        key_calls_per_minute=600,
        agent_calls_per_minute=600,
        livekit_client_dir=WEB_DIR / "assets",
    )


def test_every_variable_is_loaded() -> None:
    loaded = load(
        GatewaySettings,
        {
            "PORT": "9090",
            "PROBE_PORT": "9091",
            "POD_NAME": "gateway-1",
            "DEFAULT_NAMESPACE": "agents",
            "WATCH_NAMESPACE": "shop",
            "API_KEYS_DIR": "/keys",
            "GATEWAY_HOSTS": "calls.example.com, calls.example.org,",
            "CONTROLLER_URL": "http://controller/",
            "CONTROLLER_TOKEN_FILE": "/token",
            "TRUSTED_PROXY_HOPS": "2",
            "MAX_PENDING_PER_AGENT": "7",
            "PUBLIC_CALLS_PER_MINUTE": "9",
            "OIDC_ISSUERS": '[{"issuer": "https://a.example", "audience": "b", "agents": ["d/e"]}]',
            "KEY_CALLS_PER_MINUTE": "10",
            "AGENT_CALLS_PER_MINUTE": "11",
            "LIVEKIT_CLIENT_DIR": "/assets",
        },
    )
    assert loaded == GatewaySettings(
        port=9090,
        probe_port=9091,
        gateway_name="gateway-1",
        default_namespace="agents",
        watch_namespace="shop",
        api_keys_dir=Path("/keys"),
        gateway_hosts=("calls.example.com", "calls.example.org"),
        controller_url="http://controller",
        controller_token_file=Path("/token"),
        trusted_proxy_hops=2,
        max_pending_per_agent=7,
        public_calls_per_minute=9,
        oidc_issuers=(OidcIssuer(issuer="https://a.example", audience="b", agents=("d/e",)),),
        key_calls_per_minute=10,
        agent_calls_per_minute=11,
        livekit_client_dir=Path("/assets"),
    )


@pytest.mark.parametrize("value", ["-1", "9", "two", "1.5"])
def test_error_explains_an_invalid_number(value: str) -> None:
    with pytest.raises(SettingsError, match=rf"TRUSTED_PROXY_HOPS is '{value}'.*whole number between 0 and 8"):
        load(GatewaySettings, {"TRUSTED_PROXY_HOPS": value})


def test_empty_number_is_the_default() -> None:
    assert load(GatewaySettings, {"TRUSTED_PROXY_HOPS": ""}).trusted_proxy_hops == 0


@pytest.mark.parametrize("hosts", ["https://calls.example.com", "Calls.example.com", "calls.example.com:8443", "*"])
def test_host_that_is_no_plain_name_is_refused(hosts: str) -> None:
    with pytest.raises(SettingsError, match=r"GATEWAY_HOSTS is .*host names"):
        load(GatewaySettings, {"GATEWAY_HOSTS": hosts})


@pytest.mark.parametrize(
    "changed",
    [
        {"namespaces": []},
        {"agents": ["ornina"]},
        {"audience": ""},
        {"issuer": "http://login.example.com"},
        {"jwksURL": "ftp://login.example.com"},
        {"jwksUrl": "https://login.example.com/keys"},
    ],
    ids=["all agents", "agent without namespace", "any audience", "issuer without https", "odd URL", "unknown field"],
)
def test_issuer_that_is_too_open_or_misspelt_is_refused(changed: dict[str, object]) -> None:
    entry = {"issuer": "https://login.example.com", "audience": "a", "namespaces": ["b"]}
    load(GatewaySettings, {"OIDC_ISSUERS": json.dumps([entry])})
    with pytest.raises(SettingsError, match="OIDC_ISSUERS"):
        load(GatewaySettings, {"OIDC_ISSUERS": json.dumps([entry | changed])})


def test_issuer_with_two_sources_of_keys_is_refused() -> None:
    entry = {"issuer": "https://login.example.com", "audience": "a", "namespaces": ["b"]}
    with pytest.raises(SettingsError, match="the same for equal issuers"):
        load(GatewaySettings, {"OIDC_ISSUERS": json.dumps([entry, entry | {"jwksURL": "https://a.example"}])})
    with pytest.raises(SettingsError, match="a JSON list"):
        load(GatewaySettings, {"OIDC_ISSUERS": "{"})
