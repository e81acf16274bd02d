"""An avatar plugin of the image: checked before a caller needs it, and bounded in a call."""

import sys
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest
from livekit.agents import APIConnectionError, APIStatusError
from livekit.agents.voice.io import AgentOutput
from livekit.protocol.agent import Job

from agentspec import AvatarPluginSpec
from agentspec.names import AVATAR_KEY_VARIABLE
from devkit.paths import REPOSITORY
from tests.unit.worker.builders import PLUGIN, make_config
from tests.unit.worker.fakes import FakeRoom, FakeSink, FakeWrapper
from worker import avatar_limit, plugins
from worker.call import budget
from worker.call.avatar_seat import WorkerSeat
from worker.call.avatars import plugin
from worker.call.avatars.declared import avatar_of
from worker.call.avatars.plugin import PluginAvatar
from worker.call.metrics import AvatarOutcome
from worker.call.room_avatar import AvatarError, RoomAvatar

KEY = "the-key-of-the-provider"
SPEC = AvatarPluginSpec.model_validate(PLUGIN["plugin"])


@pytest.fixture(autouse=True)
def image(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The image of the example: it has the plugin puppet."""
    monkeypatch.syspath_prepend(REPOSITORY / "examples" / "avatar-plugin")
    monkeypatch.setenv(AVATAR_KEY_VARIABLE, KEY)
    monkeypatch.setenv(plugin._FAILURE_VARIABLE, "")
    yield
    sys.modules.pop("livekit.plugins.puppet", None)


def declared(**changes: object) -> AvatarPluginSpec:
    return AvatarPluginSpec.model_validate(cast(dict[str, object], PLUGIN["plugin"]) | changes)


def test_declared_plugin_that_fits_has_no_failure() -> None:
    assert plugin._failure(SPEC, KEY) == ""


@pytest.mark.parametrize(
    ("changes", "failure"),
    [
        ({"name": "bey"}, "the worker image has no livekit.plugins.bey"),
        ({"name": "openai"}, "livekit.plugins.openai has no AvatarSession"),
        ({"options": {"avatarID": "a"}}, "avatarID is no option of livekit.plugins.puppet.AvatarSession, which takes "),
        ({"options": {"avatar_id": "a"}}, "livekit.plugins.puppet.AvatarSession needs the option api_url (text)"),
        ({"options": {"avatar_id": 5, "api_url": "http://x"}}, "avatar_id must be text, not integer"),
        ({"options": {"api_key": "k"}}, "api_key is a secret: set credentialsSecretRef instead"),
        ({"credentialsSecretRef": None}, "livekit.plugins.puppet.AvatarSession needs the option api_key (text)"),
    ],
)
def test_wrong_declaration_is_explained(changes: dict[str, object], failure: str) -> None:
    assert plugin._failure(declared(**changes), KEY).startswith(failure)


def test_class_that_is_no_avatar_session_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugins, "find", lambda *_: SimpleNamespace)
    assert "is no livekit.agents.voice.avatar.AvatarSession" in plugin._failure(SPEC, KEY)


@pytest.mark.parametrize(("takes", "failure"), [({"persona"}, ""), (set(), "takes no api_key: remove")])
def test_key_goes_where_the_plugin_takes_it(monkeypatch: pytest.MonkeyPatch, takes: set[str], failure: str) -> None:
    monkeypatch.setattr(plugins, "takes", lambda *_: False)
    monkeypatch.setattr(plugins, "option_with_field", lambda *_: next(iter(takes), None))
    spec = declared(options={"persona": {"name": "Ava"}})
    if failure:
        with pytest.raises(plugins.PluginError, match=failure):
            plugin._with_key(object, spec, KEY)
    else:
        assert plugin._with_key(object, spec, KEY) == {"persona": {"name": "Ava", "api_key": KEY}}


def test_failure_of_the_check_reaches_status_log_and_calls_without_the_key(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("PUPPET_SECRET", "the-secret-of-the-variable")
    text = f"the plugin\0dislikes\n{KEY} and the-secret-of-the-variable"
    monkeypatch.setattr("worker.isolated.failure_of", lambda *_: text)
    plugin.check(make_config(avatar=PLUGIN, secretVariables=["PUPPET_SECRET"]))
    assert plugin.known_failure() == "the plugin dislikes … and …"
    assert "avatar plugin cannot be used" in caplog.text
    imported: list[str] = []
    monkeypatch.setattr(plugins, "find", lambda name, _: imported.append(name))
    plugin.preload(make_config(avatar=PLUGIN))
    assert imported == [], "code that failed is not imported again"


def test_agent_without_a_plugin_checks_and_imports_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.isolated.failure_of", lambda *_: "checked")
    monkeypatch.setattr(plugins, "find", lambda *_: pytest.fail("imported"))
    for config in (make_config(), make_config(avatar=PLUGIN | {"provider": "None"})):
        plugin.check(config)
        plugin.preload(config)
    assert plugin.known_failure() == ""


def test_declared_plugin_is_imported_before_a_call(monkeypatch: pytest.MonkeyPatch) -> None:
    plugin.preload(make_config(avatar=PLUGIN))
    assert "livekit.plugins.puppet" in sys.modules


class FakeSession:
    """The plugin's session."""

    avatar_identity = "puppet-avatar"

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.has_output = True
        self.urls: list[str] = []
        self.closed = 0

    async def start(self, session: Any, room: object, *, livekit_url: str) -> None:  # noqa: ANN401
        self.urls.append(livekit_url)
        if self.error is not None:
            raise self.error
        if self.has_output:
            session.output.audio = FakeSink()

    async def wait_for_join(self, timeout: float) -> None:  # noqa: ASYNC109 - the plugin's signature
        assert timeout == budget.AVATAR_JOIN_SECONDS

    async def aclose(self) -> None:
        self.closed += 1


class Scene:
    """An avatar of the plugin in a room."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.plugin = FakeSession()
        self.room = FakeRoom()
        output = AgentOutput(lambda: None, lambda: None, lambda: None)
        self.room_output = FakeSink()
        output.audio = FakeWrapper(self.room_output)
        session = SimpleNamespace(output=output, current_speech=None)
        monkeypatch.setattr(plugin, "make", lambda spec, key: self.plugin)
        provider = PluginAvatar(SPEC, WorkerSeat("AJ_1", None), "wss://voice.example")
        self.avatar = RoomAvatar(cast(Any, session), self.room.as_room(), provider, on_lost=lambda *_: None)


@pytest.fixture
async def scene(monkeypatch: pytest.MonkeyPatch) -> Scene:
    return Scene(monkeypatch)


async def test_avatar_starts_with_the_address_and_is_removed_at_the_end(scene: Scene) -> None:
    await scene.avatar.start()
    await scene.avatar.attach()
    assert scene.plugin.urls == ["wss://voice.example"]
    assert scene.avatar.detach() is True, "the audio went to the plugin's output"
    assert await scene.avatar.close() is True
    assert scene.plugin.closed == 1


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (APIStatusError("", status_code=401, body="secret"), "puppet answered HTTP 401: check the API key"),
        (APIStatusError("", status_code=503, body="secret"), "puppet answered HTTP 503: see the provider's status"),
        (APIConnectionError("secret"), "avatar plugin puppet failed: APIConnectionError"),
        (RuntimeError("secret"), "avatar plugin puppet failed: RuntimeError, see the worker's log"),
    ],
)
async def test_refusal_says_what_to_check_and_quotes_no_answer(scene: Scene, error: Exception, words: str) -> None:
    scene.plugin.error = error
    with pytest.raises(AvatarError, match=words) as caught:
        await scene.avatar.start()
    assert caught.value.outcome is AvatarOutcome.REFUSED
    assert "secret" not in str(caught.value)


async def test_plugin_that_only_logs_its_error_has_failed(scene: Scene) -> None:
    scene.plugin.has_output = False
    with pytest.raises(AvatarError, match="puppet started no avatar, see the worker's log"):
        await scene.avatar.start()


async def test_avatar_that_is_no_participant_of_its_own_is_refused(scene: Scene) -> None:
    scene.plugin.avatar_identity = scene.room.local_participant.identity
    with pytest.raises(AvatarError, match="it renders within the worker"):
        await scene.avatar.start()


async def test_call_with_an_unusable_plugin_names_the_failure(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(plugin._FAILURE_VARIABLE, "no such option")
    with pytest.raises(AvatarError, match="avatar plugin puppet: no such option"):
        await scene.avatar.start()
    assert await scene.avatar.close() is True


@pytest.mark.parametrize(
    ("jobs", "limit", "free"),
    [
        (["AJ_1", "AJ_2"], 1, True),
        (["AJ_0", "AJ_1"], 1, False),
        (["AJ_0", "AJ_1"], 2, True),
        (["AJ_0", "AJ_1"], None, True),
        ([], 0, True),
    ],
    ids=["the first", "taken", "one of two", "no limit", "unknown job"],
)
async def test_seats_are_taken_in_the_order_of_the_workers_jobs(
    monkeypatch: pytest.MonkeyPatch, jobs: list[str], limit: int | None, free: bool
) -> None:
    monkeypatch.setattr(avatar_limit, "jobs_with_avatar", lambda: jobs)
    monkeypatch.setattr(avatar_limit, "read", lambda: limit)
    avatar = avatar_of(make_config(avatar=PLUGIN), Job(id="AJ_1"))
    assert avatar is not None and avatar.provider == "puppet"
    assert await avatar.has_seat() is free
    assert await avatar.keeps_seat()
