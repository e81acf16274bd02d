"""The avatar that an agent's configuration declares, made for one call."""

import pytest
from livekit.protocol.agent import Job

from agentspec.wire import WorkerConfig
from tests.unit.worker.builders import TAVUS, make_config
from worker.call.avatars import declared
from worker.call.avatars.declared import avatar_of


def job() -> Job:
    """A job, as LiveKit assigns it."""
    made = Job(id="AJ_1")
    made.room.name = "ornina-c1"
    return made


def test_agent_without_an_avatar_gets_none(config: WorkerConfig) -> None:
    assert avatar_of(config, job()) is None


@pytest.mark.parametrize(
    ("config", "url"),
    [({}, "ws://livekit.test:7880"), ({"avatarLivekitURL": "wss://voice.example"}, "wss://voice.example")],
    ids=["one address", "public address"],
)
async def test_provider_of_the_avatar_gets_the_public_address(
    monkeypatch: pytest.MonkeyPatch, config: dict[str, str], url: str
) -> None:
    monkeypatch.setenv("TAVUS_API_KEY", "tavus-key")
    given: list[object] = []
    monkeypatch.setattr(declared, "TavusAvatar", lambda *_, **options: given.append(options["livekit_url"]))
    avatar_of(make_config(avatar=TAVUS, **config), job())
    assert given == [url]


async def test_avatar_of_a_call_is_named_after_its_job(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAVUS_API_KEY", "tavus-key")
    monkeypatch.setenv("AVATAR_AGENT_UID", "uid-1")
    names: list[str] = []
    monkeypatch.setattr(declared, "TavusAvatar", lambda spec, api, name, **_: names.append(str(name)))
    avatar_of(make_config(avatar=TAVUS), job())
    (name,) = names
    assert name.startswith("avatar-agent/uid-1.") and name.endswith("/AJ_1/ornina-c1")
