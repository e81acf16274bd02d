"""Loading settings from environment variables."""

import pytest
from pydantic import Field, ValidationError

from process.settings import Port, ProcessSettings, SettingsError, load


class Example(ProcessSettings):
    image: str = Field(validation_alias="IMAGE", description="an image")
    pin: int = Field(default=1, repr=False, ge=1, le=9999, validation_alias="PIN", description="a PIN")
    port: Port = Field(default=8080, validation_alias="PORT", description="a port")
    namespace: str | None = Field(default=None, validation_alias="NAMESPACE", description="a namespace")
    lease: str = Field(
        default_factory=lambda earlier: earlier["namespace"], validation_alias="LEASE", description="a Lease"
    )


COMPLETE = {"IMAGE": "app:1", "LEASE": "lease"}


def rejected(environment: dict[str, str]) -> str:
    with pytest.raises(SettingsError) as caught:
        load(Example, environment)
    return str(caught.value)


def test_values_are_converted_and_other_variables_ignored() -> None:
    loaded = load(Example, {**COMPLETE, "PORT": "90", "HOME": "/root", "image": "other"})
    assert loaded == Example(image="app:1", port=90, lease="lease")


@pytest.mark.parametrize("empty", ["", "  ", "\n"])
def test_empty_variable_counts_as_unset(empty: str) -> None:
    assert load(Example, {**COMPLETE, "PORT": empty, "NAMESPACE": empty}) == load(Example, COMPLETE)
    assert rejected({**COMPLETE, "IMAGE": empty}) == "IMAGE is not set: set it to an image"


def test_surrounding_blanks_are_removed() -> None:
    loaded = load(Example, {"IMAGE": " app:1\n", "LEASE": "lease", "PORT": " 90 "})
    assert (loaded.image, loaded.port) == ("app:1", 90)


def test_default_may_come_from_another_variable() -> None:
    assert load(Example, {"IMAGE": "app:1", "NAMESPACE": "shop"}).lease == "shop"
    assert rejected({"IMAGE": "app:1"}) == "LEASE is not set: set it to a Lease"


@pytest.mark.parametrize("value", ["http", "0", "65536", "-1", "1.5"])
def test_error_names_variable_value_bounds_and_default(value: str) -> None:
    assert rejected({**COMPLETE, "PORT": value}) == (
        f"PORT is '{value}': set it to a whole number between 1 and 65535 (a port), or leave it out for 8080"
    )


def test_one_line_names_every_invalid_variable_once() -> None:
    message = rejected({"PORT": "two\nlines"})
    assert message.startswith("IMAGE is not set: set it to an image; PORT is 'two\\nlines': set it to")
    assert "\n" not in message
    assert "LEASE" not in message, "its default was not tried, because another variable is invalid"


def test_error_never_shows_a_secret() -> None:
    with pytest.raises(SettingsError, match="PIN is invalid: set it to a whole number between 1 and 9999") as caught:
        load(Example, {**COMPLETE, "PIN": "sesame"})
    assert "sesame" not in str(caught.value)
    assert caught.value.__context__ is None, "pydantic's error shows the value"
    assert "1234" not in repr(load(Example, {**COMPLETE, "PIN": "1234"}))


def test_settings_are_frozen() -> None:
    loaded = load(Example, COMPLETE)
    with pytest.raises(ValidationError, match="frozen"):
        loaded.image = "other"
