"""Secrets, texts and providers' answers, put together for one agent."""

import base64
from typing import cast

import pytest

from agentspec import AvatarAgentSpec, ConditionStatus, Reason
from controller.cluster.client import ApiError, Document
from controller.cluster.kinds import SECRET, Kind
from controller.inputs import InputReader
from controller.observation import Key, Provider, ProviderAnswer, ProviderVerdict
from controller.providers import Providers, Values
from controller.references import References
from tests.unit.controller.builders import spec
from tests.unit.controller.recorder import Recorder

KEY = Key("shop", "ava")
FORBIDDEN = ApiError(403, "Forbidden", "GET /api/v1/…", 'secrets "openai" is forbidden')
SILENT_FORBIDDEN = ApiError(403, "Refused", "GET /api/v1/namespaces/shop/secrets/openai", "")
AWAY = ApiError(0, "Unreachable", "GET /api/v1/…", "connection refused")


class Cluster(Recorder):
    """Fails at one Secret, if a test says so."""

    failure: ApiError | None = None

    async def get(self, kind: Kind, namespace: str, name: str) -> Document | None:
        if self.failure is not None and (kind, name) == (SECRET, "openai"):
            raise self.failure
        return await super().get(kind, namespace, name)


class Answering:
    """Providers that answer as told, and note what they were asked with."""

    def __init__(self) -> None:
        self.answers = {
            Provider.LIVEKIT: ProviderAnswer(ProviderVerdict.ACCEPTED),
            Provider.OPENAI: ProviderAnswer(ProviderVerdict.ACCEPTED),
        }
        self.asked: list[Values] = []

    async def check(self, key: Key, declared: AvatarAgentSpec, values: Values) -> dict[Provider, ProviderAnswer]:
        self.asked.append(values)
        return self.answers


@pytest.fixture
async def cluster() -> Cluster:
    made = Cluster()
    put(made, "livekit", apiKey="key", apiSecret="secret")
    put(made, "openai", apiKey="sk")
    document = {"metadata": {"resourceVersion": "1"}, "data": {"task": "Guide.", "hello": "Welcome."}}
    made.objects["ConfigMap", "texts"] = document
    return made


def put(cluster: Cluster, name: str, **values: str) -> None:
    data = {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}
    cluster.objects["Secret", name] = {"metadata": {"resourceVersion": "1"}, "data": data}


def reader(cluster: Cluster, providers: Answering) -> InputReader:
    return InputReader(References(cluster, list[Key]().append), cast(Providers, providers))


async def test_everything_is_there(cluster: Cluster) -> None:
    providers = Answering()
    persona = {
        "instructionsRef": {"name": "texts", "key": "task"},
        "greetingRef": {"name": "texts", "key": "hello"},
    }
    declared = spec(persona=persona, knowledge=[{"name": "hours", "text": "Nine to five."}])
    inputs = await reader(cluster, providers).read(KEY, "uid", declared)
    assert inputs.usable
    assert (inputs.instructions, inputs.greeting) == ("Guide.", "Welcome.")
    assert [document.text for document in inputs.documents] == ["Nine to five."]
    assert inputs.credentials_fingerprint
    assert providers.asked == [{"livekit": {"apiKey": "key", "apiSecret": "secret"}, "openai": {"apiKey": "sk"}}]


async def test_nobody_is_asked_with_half_the_keys(cluster: Cluster) -> None:
    providers = Answering()
    put(cluster, "openai", other="sk")
    inputs = await reader(cluster, providers).read(KEY, "uid", spec())
    assert (inputs.credentials.status, inputs.credentials.reason) == (ConditionStatus.FALSE, Reason.SECRET_KEY_MISSING)
    assert not inputs.usable
    assert inputs.credentials_fingerprint == ""
    assert providers.asked == []


@pytest.mark.parametrize(
    ("failure", "told"),
    [
        pytest.param(FORBIDDEN, 'cannot be read: secrets "openai" is forbidden.', id="in the API server's words"),
        pytest.param(SILENT_FORBIDDEN, "cannot be read: 403 Refused: GET", id="which said nothing"),
    ],
)
async def test_a_secret_that_may_not_be_read_is_a_condition(cluster: Cluster, failure: ApiError, told: str) -> None:
    cluster.failure = failure
    inputs = await reader(cluster, Answering()).read(KEY, "uid", spec())
    assert (inputs.credentials.status, inputs.credentials.reason) == (ConditionStatus.FALSE, Reason.SECRET_UNREADABLE)
    assert told in inputs.credentials.message


async def test_an_api_server_that_is_away_is_no_condition(cluster: Cluster) -> None:
    cluster.failure = AWAY
    with pytest.raises(ApiError, match="connection refused"):
        await reader(cluster, Answering()).read(KEY, "uid", spec())


async def test_silence_of_a_provider_holds_nothing_back(cluster: Cluster) -> None:
    providers = Answering()
    providers.answers[Provider.OPENAI] = ProviderAnswer(ProviderVerdict.UNREACHABLE, "no answer within 5 s")
    inputs = await reader(cluster, providers).read(KEY, "uid", spec())
    assert inputs.credentials.status is ConditionStatus.UNKNOWN
    assert inputs.usable
