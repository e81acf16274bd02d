"""Variables of own code: what they need, what a missing object is reported as, and what a changed value does."""

from typing import Any, cast

import pytest

from agentspec import ConditionStatus, Reason
from agentspec.environment import OWN_PREFIX, RESERVED_VARIABLES
from controller.desired.deployment import pod_template
from controller.desired.identity import Owner
from controller.inputs.providers import Providers
from controller.inputs.reader import InputReader
from controller.inputs.references import References
from controller.observation import Key, Provider, ProviderAnswer, ProviderVerdict
from controller.policy.snapshot import Inputs
from kube.client import ApiError, Document
from kube.kinds import CONFIG_MAP, SECRET, Kind
from tests.unit.controller.builders import KEY, config_map, secret, spec
from tests.unit.fakes.apiserver import UNREACHABLE, FakeApiServer
from tests.unit.fakes.virtualtime import VirtualLoop

ENV = [
    {"name": "DB_URL", "valueFrom": {"secretKeyRef": {"name": "own", "key": "url"}}},
    {"name": "TONE", "valueFrom": {"configMapKeyRef": {"name": "tones", "key": "calm"}}},
]
ENV_FROM = [{"prefix": "SHOP_", "secretRef": {"name": "shop"}}, {"configMapRef": {"name": "opening"}}]


class Cluster(FakeApiServer):
    failure: ApiError | None = None
    """Of every read of the ConfigMap `tones`."""

    async def get(self, kind: Kind, namespace: str, name: str) -> Document | None:
        if self.failure is not None and name == "tones":
            raise self.failure
        return await super().get(kind, namespace, name)


class Accepting:
    """Providers that accept every key."""

    async def check(self, *_: object) -> dict[Provider, ProviderAnswer]:
        return {each: ProviderAnswer(ProviderVerdict.ACCEPTED) for each in (Provider.LIVEKIT, Provider.OPENAI)}

    def forget(self, key: Key) -> None: ...


@pytest.fixture
def cluster(virtual_time: VirtualLoop) -> Cluster:
    made = Cluster()
    for document in (
        secret("livekit", apiKey="key", apiSecret="secret"),
        secret("openai", apiKey="sk"),
        secret("own", url="postgres://user:pass-word@db", pem="-----BEGIN\nlines\n-----END"),
        secret("shop", key="shop-key", empty=""),
    ):
        made.put(SECRET, document)
    made.put(CONFIG_MAP, config_map("tones", calm="softly", loud="LOUD"))
    made.put(CONFIG_MAP, config_map("opening", HOURS="9-5"))
    return made


async def gathered(cluster: Cluster, **worker: Any) -> Inputs:
    declared = spec(worker={"env": ENV, "envFrom": ENV_FROM, **worker})
    reader = InputReader(References(cluster, list[Key]().append), cast(Providers, Accepting()))
    return await reader.read(KEY, "uid", declared)


async def test_complete_variables_are_usable(cluster: Cluster) -> None:
    inputs = await gathered(cluster)
    assert inputs.usable
    assert inputs.secret_variables == ("DB_URL", "SHOP_empty", "SHOP_key"), "the names, for the worker's log"
    assert "pass-word" not in repr(inputs) and "shop-key" not in repr(inputs)


@pytest.mark.parametrize(
    ("kind", "document", "rolls"),
    [
        pytest.param(SECRET, secret("own", url="postgres://other"), True, id="a key of a Secret"),
        pytest.param(SECRET, secret("own", url="postgres://user:pass-word@db", pem="x"), False, id="an unused key"),
        pytest.param(
            SECRET, secret("shop", key="shop-key", empty="", more="1"), True, id="a new key of a whole Secret"
        ),
        pytest.param(CONFIG_MAP, config_map("tones", calm="whispering", loud="LOUD"), True, id="a key of a ConfigMap"),
        pytest.param(CONFIG_MAP, config_map("opening", HOURS="8-5"), True, id="a whole ConfigMap"),
    ],
)
async def test_changed_value_rolls_out(cluster: Cluster, kind: Kind, document: Document, rolls: bool) -> None:
    before = (await gathered(cluster)).credentials_fingerprint
    cluster.put(kind, document)
    assert ((await gathered(cluster)).credentials_fingerprint != before) is rolls


@pytest.mark.parametrize(
    ("kind", "name", "document", "reason", "text"),
    [
        pytest.param(
            SECRET,
            "own",
            None,
            Reason.SECRET_NOT_FOUND,
            "Secret 'own' (spec.worker.env[DB_URL].valueFrom.secretKeyRef) does not exist in namespace 'shop'. Correct "
            "the name, or create the Secret: kubectl -n shop create secret generic own --from-literal=url=…",
            id="no Secret",
        ),
        pytest.param(
            SECRET,
            "own",
            secret("own", uri="x"),
            Reason.SECRET_KEY_MISSING,
            "has no key 'url'. Its keys: uri. Correct the key, or add it: kubectl -n shop edit secret own",
            id="no key in the Secret",
        ),
        pytest.param(
            SECRET, "shop", None, Reason.SECRET_NOT_FOUND, "(spec.worker.envFrom[0].secretRef)", id="no source"
        ),
        pytest.param(
            CONFIG_MAP,
            "tones",
            config_map("tones", loud="LOUD"),
            Reason.CONFIG_MAP_KEY_MISSING,
            "has no key 'calm'. Its keys: loud. Correct the key, or add it: kubectl -n shop edit configmap tones",
            id="no key in the ConfigMap",
        ),
        pytest.param(
            CONFIG_MAP,
            "opening",
            None,
            Reason.CONFIG_MAP_NOT_FOUND,
            "create configmap opening --from-literal=KEY=…",
            id="no ConfigMap",
        ),
    ],
)
async def test_missing_object_blocks_with_the_remedy(
    cluster: Cluster, kind: Kind, name: str, document: Document | None, reason: Reason, text: str
) -> None:
    if document is None:
        cluster.remove(kind, "shop", name)
    else:
        cluster.put(kind, document)
    inputs = await gathered(cluster)
    assert (inputs.credentials.status, inputs.credentials.reason) == (ConditionStatus.FALSE, reason)
    assert text in inputs.credentials.message
    assert not inputs.usable


async def test_unreadable_object_makes_the_condition_unknown(cluster: Cluster) -> None:
    cluster.failure = UNREACHABLE
    inputs = await gathered(cluster)
    assert (inputs.credentials.status, inputs.credentials.reason) == (
        ConditionStatus.UNKNOWN,
        Reason.CONFIG_MAP_UNREADABLE,
    )
    assert not inputs.usable


def test_operators_own_variables_are_reserved() -> None:
    """Whatever the operator sets, a manifest cannot set: Kubernetes would take the last of two."""
    tavus = {"faceID": "f", "palID": "p", "credentialsSecretRef": {"name": "tavus"}}
    template = pod_template(
        Owner("shop", "ava", "uid"),
        spec(avatar={"provider": "Tavus", "tavus": tavus}),
        default_image="worker:1",
        config_map_name="ava-1",
        credentials="",
    )
    (container,) = template["spec"]["containers"]
    names = {variable["name"] for variable in container["env"]}
    others = {name for name in names - set(RESERVED_VARIABLES) if not name.startswith(OWN_PREFIX)}
    assert others == {"OPENAI_API_KEY", "TAVUS_API_KEY"}, "reserved while the provider is in use"
