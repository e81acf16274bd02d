"""Options from a manifest against a plugin's constructor: what is wrong, and what it takes, before a call needs it."""

import dataclasses
import sys
from pathlib import Path
from typing import Any, Literal

import pytest
from livekit.agents import NOT_GIVEN, NotGivenOr
from livekit.plugins import tavus

from worker import plugins
from worker.plugins import PluginError


@dataclasses.dataclass
class Persona:
    name: str
    api_key: str = ""
    speed: float | None = None


class _Handle:
    """An object that only code can create."""


class Session:
    """A class with the kinds of parameters that plugins have."""

    def __init__(
        self,
        persona: Persona,
        *,
        url: NotGivenOr[str] = NOT_GIVEN,
        retries: NotGivenOr[int | None] = NOT_GIVEN,
        mode: Literal["fast", "good"] = "fast",
        tags: list[str] = [],  # noqa: B006 - never changed
        http: NotGivenOr[_Handle] = NOT_GIVEN,
        client: "Unknown" = None,  # type: ignore[name-defined]  # noqa: F821 - as in plugins with TYPE_CHECKING
    ) -> None:
        self.persona = persona


class Resolvable:
    """As Session, with types that exist."""

    def __init__(
        self,
        persona: NotGivenOr[Persona] = NOT_GIVEN,
        *,
        url: NotGivenOr[str] = NOT_GIVEN,
        retries: NotGivenOr[int | None] = NOT_GIVEN,
        mode: Literal["fast", "good"] = "fast",
        tags: list[str] = [],  # noqa: B006 - never changed
        client: NotGivenOr[object] = NOT_GIVEN,
        loud: bool = False,
    ) -> None:
        self.persona = persona


def test_options_become_arguments_of_the_declared_types() -> None:
    options = {
        "persona": {"name": "Ava", "speed": 2},
        "url": "https://x",
        "retries": None,
        "mode": "good",
        "tags": ["a"],
        "loud": True,
    }
    made = plugins.arguments(Resolvable, options)
    assert made == options | {"persona": Persona("Ava", speed=2)}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"avatarId": "x"}, ["avatarId is no option of Resolvable", "persona (object with name, api_key, speed)"]),
        ({"url": 5}, ["url must be text, not integer"]),
        ({"retries": "2"}, ["retries must be integer, not text"]),
        ({"retries": True}, ["retries must be integer, not true or false"]),
        ({"mode": "slow"}, ["mode must be fast or good, not text"]),
        ({"tags": "a"}, ["tags must be list, not text"]),
        ({"loud": "yes"}, ["loud must be true or false, not text"]),
        ({"persona": "Ava"}, ["persona must be object with name, api_key, speed, not text"]),
        ({"persona": {"nane": "Ava"}}, ["persona: nane is no option of Persona, which takes name (text)"]),
        ({"persona": {}}, ["persona: Persona needs the option name (text)"]),
        ({"persona": {"name": "Ava", "speed": "fast"}}, ["persona: speed must be number, not text"]),
    ],
)
def test_wrong_option_is_named_with_what_is_taken(options: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(PluginError) as caught:
        plugins.arguments(Resolvable, options)
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_type_that_only_type_checkers_import_is_not_checked() -> None:
    made = plugins.arguments(Session, {"client": 5, "persona": {"name": "Ava"}})
    assert made == {"client": 5, "persona": Persona("Ava")}
    with pytest.raises(PluginError, match=r"uri is no option of Session, which takes .*, client$"):
        plugins.arguments(Session, {"persona": {"name": "Ava"}, "uri": "x"})
    with pytest.raises(PluginError, match="Session needs the option persona"):
        plugins.arguments(Session, {})
    with pytest.raises(PluginError, match="url must be text, not integer"):
        plugins.arguments(Session, {"persona": {"name": "Ava"}, "url": 5})


def test_option_that_no_manifest_can_contain_is_refused() -> None:
    with pytest.raises(PluginError, match="http must be _Handle, not text"):
        plugins.arguments(Session, {"persona": {"name": "Ava"}, "http": "x"})


def test_key_belongs_to_the_one_object_that_has_a_field_for_it() -> None:
    assert plugins.option_with_field(Resolvable, "api_key") == "persona"
    assert plugins.option_with_field(Resolvable, "api_token") is None
    assert not plugins.takes(Resolvable, "api_key")


def test_options_of_an_installed_plugin_are_checked() -> None:
    kind = plugins.find("tavus", "AvatarSession")
    assert kind is tavus.AvatarSession
    assert plugins.arguments(kind, {"face_id": "f", "conn_options": {"timeout": 3.0}})["conn_options"].timeout == 3.0
    with pytest.raises(PluginError, match=r"faceID is no option of livekit.plugins.tavus.AvatarSession, which takes "):
        plugins.arguments(kind, {"faceID": "f"})


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("bey", "the worker image has no livekit.plugins.bey: install it in an image of your own"),
        ("openai", "livekit.plugins.openai has no AvatarSession"),
    ],
)
def test_plugin_that_is_missing_is_explained(name: str, words: str) -> None:
    with pytest.raises(PluginError, match=words):
        plugins.find(name, "AvatarSession")


def test_missing_package_of_a_plugin_is_not_taken_for_the_plugin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "livekit" / "plugins"
    folder.mkdir(parents=True)
    (folder / "halfway.py").write_text("import a_package_that_is_not_installed\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="a_package_that_is_not_installed"):
        plugins.find("halfway", "AvatarSession")
    sys.modules.pop("livekit.plugins.halfway", None)
