"""Settings from the environment."""

from pathlib import Path

import pytest

from gateway.settings import Settings, SettingsError, read_settings


def test_an_empty_environment_is_enough() -> None:
    assert read_settings({}) == Settings()


def test_every_variable_is_read() -> None:
    found = read_settings(
        {
            "PORT": "9090",
            "POD_NAME": "gateway-1",
            "DEFAULT_NAMESPACE": "agents",
            "WATCH_NAMESPACE": "agents",
            "API_KEYS_DIR": "/keys",
            "CONTROLLER_URL": "http://controller/",
            "CONTROLLER_TOKEN_FILE": "/token",
            "TRUSTED_PROXY_HOPS": "2",
            "MAX_PENDING_PER_AGENT": "7",
            "PUBLIC_CALLS_PER_MINUTE": "9",
            "LIVEKIT_CLIENT_DIR": "/assets",
        }
    )
    assert found == Settings(
        port=9090,
        gateway_name="gateway-1",
        default_namespace="agents",
        watch_namespace="agents",
        api_keys_dir=Path("/keys"),
        controller_url="http://controller",
        controller_token_file=Path("/token"),
        trusted_proxy_hops=2,
        max_pending_per_agent=7,
        public_calls_per_minute=9,
        livekit_client_dir=Path("/assets"),
    )


@pytest.mark.parametrize("value", ["", "-1", "9", "two", "1.5"])
def test_a_number_that_makes_no_sense_is_explained(value: str) -> None:
    with pytest.raises(SettingsError, match=r"TRUSTED_PROXY_HOPS.*whole number between 0 and 8"):
        read_settings({"TRUSTED_PROXY_HOPS": value})
