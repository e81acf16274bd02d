"""The inputs of one agent: Secrets, texts and the providers' answers."""

import asyncio
from typing import cast

import pytest

from agentspec import AvatarAgentSpec, ConditionStatus, Reason
from controller.inputs.providers import Providers, Values
from controller.inputs.reader import InputReader
from controller.inputs.references import References
from controller.observation import Key, Provider, ProviderAnswer, ProviderVerdict
from kube.client import ApiError, Document
from kube.kinds import CONFIG_MAP, SECRET, Kind
from tests.unit.controller.builders import KEY, config_map, secret, spec
from tests.unit.fakes.apiserver import UNREACHABLE, FakeApiServer
from tests.unit.fakes.virtualtime import VirtualLoop

FORBIDDEN = ApiError(403, "Forbidden", "GET /api/v1/…", 'secrets "openai" is forbidden')
SILENT_FORBIDDEN = ApiError(403, "Refused", "GET /api/v1/namespaces/shop/secrets/openai", "")
FAILING = ApiError(500, "InternalError", "GET /api/v1/…", "kms: unavailable")

FACTS = [{"configMapRef": {"name": "facts"}}]


class Cluster(FakeApiServer):
    """An API server that fails to read one Secret or all ConfigMaps when a test sets a failure."""

    failure: ApiError | None = None
    config_maps_failure: Exception | None = None
    secrets_seconds = 0.0

    async def get(self, kind: Kind, namespace: str, name: str) -> Document | None:
        if self.failure is not None and (kind, name) == (SECRET, "openai"):
            raise self.failure
        if self.config_maps_failure is not None and kind is CONFIG_MAP:
            raise self.config_maps_failure
        if kind is SECRET:
            await asyncio.sleep(self.secrets_seconds)
        return await super().get(kind, namespace, name)


class FakeProviders:
    """Returns a fixed answer and records the values that were checked."""

    def __init__(self) -> None:
        self.answers = {
            Provider.LIVEKIT: ProviderAnswer(ProviderVerdict.ACCEPTED),
            Provider.OPENAI: ProviderAnswer(ProviderVerdict.ACCEPTED),
        }
        self.checked: list[Values] = []

    async def check(self, key: Key, declared: AvatarAgentSpec, values: Values) -> dict[Provider, ProviderAnswer]:
        self.checked.append(values)
        return self.answers

    def forget(self, key: Key) -> None: ...


@pytest.fixture
def cluster(virtual_time: VirtualLoop) -> Cluster:
    """An API server in virtual time, with two Secrets and one ConfigMap."""
    made = Cluster()
    made.put(SECRET, secret("livekit", apiKey="key", apiSecret="secret"))
    made.put(SECRET, secret("openai", apiKey="sk"))
    made.put(CONFIG_MAP, config_map("texts", task="Guide.", hello="Welcome."))
    return made


def reader(cluster: Cluster, providers: FakeProviders) -> InputReader:
    return InputReader(References(cluster, list[Key]().append), cast(Providers, providers))


async def test_complete_inputs_are_usable(cluster: Cluster) -> None:
    providers = FakeProviders()
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
    assert providers.checked == [{"livekit": {"apiKey": "key", "apiSecret": "secret"}, "openai": {"apiKey": "sk"}}]


async def test_incomplete_secrets_are_not_probed(cluster: Cluster) -> None:
    providers = FakeProviders()
    cluster.put(SECRET, secret("openai", other="sk"))
    inputs = await reader(cluster, providers).read(KEY, "uid", spec())
    assert (inputs.credentials.status, inputs.credentials.reason) == (ConditionStatus.FALSE, Reason.SECRET_KEY_MISSING)
    assert not inputs.usable
    assert inputs.credentials_fingerprint == ""
    assert providers.checked == []


@pytest.mark.parametrize(
    ("failure", "text"),
    [
        pytest.param(
            FORBIDDEN,
            ': secrets "openai" is forbidden.',
            id="with the API server's message",
        ),
        pytest.param(SILENT_FORBIDDEN, ": 403 Refused: GET", id="without a message"),
    ],
)
async def test_forbidden_secret_makes_the_condition_false(cluster: Cluster, failure: ApiError, text: str) -> None:
    cluster.failure = failure
    inputs = await reader(cluster, FakeProviders()).read(KEY, "uid", spec())
    assert (inputs.credentials.status, inputs.credentials.reason) == (ConditionStatus.FALSE, Reason.SECRET_UNREADABLE)
    assert f"cannot read Secret 'openai' (spec.voice.openai.credentialsSecretRef){text}" in inputs.credentials.message


@pytest.mark.parametrize("failure", [pytest.param(UNREACHABLE, id="unreachable"), pytest.param(FAILING, id="failing")])
async def test_unreadable_secret_makes_the_condition_unknown(cluster: Cluster, failure: ApiError) -> None:
    cluster.failure = failure
    inputs = await reader(cluster, FakeProviders()).read(KEY, "uid", spec())
    seen = inputs.credentials
    assert (seen.status, seen.reason) == (ConditionStatus.UNKNOWN, Reason.SECRET_UNREADABLE)
    assert failure.message in seen.message
    assert not inputs.usable, "the configuration is unknown"


@pytest.mark.parametrize(
    ("failure", "status"),
    [
        pytest.param(FORBIDDEN, ConditionStatus.FALSE, id="forbidden"),
        pytest.param(UNREACHABLE, ConditionStatus.UNKNOWN, id="unreachable"),
        pytest.param(FAILING, ConditionStatus.UNKNOWN, id="failing"),
    ],
)
async def test_unreadable_config_map_makes_the_condition_not_true(
    cluster: Cluster, failure: ApiError, status: ConditionStatus
) -> None:
    cluster.config_maps_failure = failure
    inputs = await reader(cluster, FakeProviders()).read(KEY, "uid", spec(knowledge=FACTS))
    assert (inputs.knowledge.status, inputs.knowledge.reason) == (status, Reason.CONFIG_MAP_UNREADABLE)
    assert failure.message in inputs.knowledge.message
    assert not inputs.usable
    assert inputs.credentials.status is ConditionStatus.TRUE, "known nevertheless"


async def test_failed_read_leaves_no_references(cluster: Cluster) -> None:
    cluster.secrets_seconds, cluster.config_maps_failure = 5.0, RuntimeError("a bug")
    references = References(cluster, list[Key]().append)
    reading = InputReader(references, cast(Providers, FakeProviders()))
    with pytest.raises(ExceptionGroup):
        await reading.read(KEY, "uid", spec(knowledge=FACTS))
    reading.forget(KEY)
    await asyncio.sleep(20)
    assert not references._references
    assert not references._entries


@pytest.mark.parametrize("waiting", [Provider.LIVEKIT, Provider.OPENAI])
async def test_pending_provider_blocks_rollouts(cluster: Cluster, waiting: Provider) -> None:
    providers = FakeProviders()
    providers.answers[waiting] = ProviderAnswer(ProviderVerdict.PENDING)
    inputs = await reader(cluster, providers).read(KEY, "uid", spec())
    seen = inputs.credentials
    assert (seen.status, seen.reason) == (ConditionStatus.UNKNOWN, Reason.CREDENTIALS_PENDING)
    assert not inputs.usable


async def test_unreachable_provider_does_not_block_rollouts(cluster: Cluster) -> None:
    providers = FakeProviders()
    providers.answers[Provider.OPENAI] = ProviderAnswer(ProviderVerdict.UNREACHABLE, "no answer within 5 s")
    inputs = await reader(cluster, providers).read(KEY, "uid", spec())
    assert inputs.credentials.status is ConditionStatus.UNKNOWN
    assert inputs.usable
