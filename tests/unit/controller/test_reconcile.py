"""One reconcile, from what is in the cluster to what is written into it."""

import base64
from typing import Any, cast

import pytest

from controller.fleet import Fleet
from controller.livekit import LiveKitCheck
from controller.metrics import Metrics
from controller.observation import Key, LiveKitAnswer, LiveKitVerdict
from controller.reconcile import NOT_READY_SECONDS, READY_SECONDS, Reconciler
from controller.settings import Settings
from tests.unit.controller.builders import SPEC
from tests.unit.controller.recorder import Recorder

KEY = Key("shop", "ava")
UID = "uid-1"


class Accepting:
    """A LiveKit that accepts every pair of keys."""

    async def check(self, url: str, key: str, secret: str) -> LiveKitAnswer:
        return LiveKitAnswer(LiveKitVerdict.ACCEPTED)


async def _nobody(_: Key) -> None:
    return


def put_secret(client: Recorder, name: str, **values: str) -> None:
    data = {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}
    client.objects["Secret", name] = {"data": data}


@pytest.fixture
async def client() -> Recorder:
    """A cluster with one AvatarAgent and complete Secrets."""
    made = Recorder()
    metadata = {"namespace": "shop", "name": "ava", "uid": UID, "generation": 1}
    made.objects["AvatarAgent", "ava"] = {"metadata": metadata, "spec": SPEC}
    put_secret(made, "livekit", apiKey="key", apiSecret="secret")
    put_secret(made, "openai", apiKey="first", other="unused")
    return made


@pytest.fixture
def reconciler(client: Recorder) -> Reconciler:
    livekit = cast(LiveKitCheck, Accepting())
    return Reconciler(Settings("worker:1"), client, Fleet(), livekit, Metrics(), _nobody)


def template(client: Recorder) -> dict[str, Any]:
    found: dict[str, Any] = client.of("Deployment")[-1]["spec"]["template"]
    return found


async def test_a_changed_value_of_a_secret_rolls_new_workers_in(client: Recorder, reconciler: Reconciler) -> None:
    await reconciler.reconcile(KEY)
    before = template(client)
    await reconciler.reconcile(KEY)
    assert template(client) == before, "the same values are the same pods"
    put_secret(client, "openai", apiKey="second", other="unused")
    await reconciler.reconcile(KEY)
    assert template(client) != before
    assert template(client)["spec"] == before["spec"]


async def test_what_workers_do_not_use_rolls_nothing(client: Recorder, reconciler: Reconciler) -> None:
    await reconciler.reconcile(KEY)
    before = template(client)
    put_secret(client, "openai", apiKey="first\n", other="changed")
    await reconciler.reconcile(KEY)
    assert template(client) == before


async def test_the_values_themselves_are_written_nowhere(client: Recorder, reconciler: Reconciler) -> None:
    put_secret(client, "openai", apiKey="sk-very-secret")
    await reconciler.reconcile(KEY)
    assert "sk-very-secret" not in str(client.written)
    own = template(client)["metadata"]["annotations"]["avataragents.io/credentials"]
    client.objects["AvatarAgent", "ava"]["metadata"]["uid"] = "uid-2"
    await reconciler.reconcile(KEY)
    assert template(client)["metadata"]["annotations"]["avataragents.io/credentials"] != own, "nobody compares agents"


def test_a_change_of_a_secret_is_noticed_within_a_minute() -> None:
    assert READY_SECONDS <= 60


def owned_by(*references: dict[str, Any], replicas: int = 7) -> dict[str, Any]:
    metadata = {"namespace": "shop", "name": "ava-worker", "ownerReferences": list(references)}
    return {"metadata": metadata, "spec": {"replicas": replicas}}


OWN = {"kind": "AvatarAgent", "name": "ava", "uid": UID}
EARLIER = {"kind": "AvatarAgent", "name": "ava", "uid": "uid-0"}
OTHER = {"kind": "Application", "name": "shop", "uid": "uid-9"}


def summary(client: Recorder) -> tuple[str, str, str]:
    conditions = client.of("AvatarAgent")[-1]["status"]["conditions"]
    (found,) = [condition for condition in conditions if condition["type"] == "Ready"]
    return found["status"], found["reason"], found["message"]


@pytest.mark.parametrize("kind", ["Deployment", "ServiceAccount"])
@pytest.mark.parametrize(
    ("references", "told"),
    [
        pytest.param((), "or rename the AvatarAgent", id="somebody made it by hand"),
        pytest.param((OTHER,), "or rename the AvatarAgent", id="another operator made it"),
        pytest.param((EARLIER,), "until Kubernetes has removed it", id="the agent's predecessor left it"),
    ],
)
@pytest.mark.parametrize("complete", [True, False], ids=["inputs are fine", "inputs are broken"])
async def test_what_belongs_to_others_is_named_and_left_alone(
    client: Recorder,
    reconciler: Reconciler,
    kind: str,
    references: tuple[dict[str, Any], ...],
    told: str,
    complete: bool,
) -> None:
    client.objects[kind, "ava-worker"] = owned_by(*references)
    if not complete:
        del client.objects["Secret", "openai"]
    assert await reconciler.reconcile(KEY) == NOT_READY_SECONDS
    assert {written for _, written, _ in client.written} == {"AvatarAgent", "Event"}
    status, reason, message = summary(client)
    assert (status, reason) == ("False", "ApplyRefused")
    assert f"{kind} 'ava-worker' exists" in message
    assert told in message


async def test_its_own_are_kept_up(client: Recorder, reconciler: Reconciler) -> None:
    for kind in ("Deployment", "ServiceAccount"):
        client.objects[kind, "ava-worker"] = owned_by(OTHER, OWN, replicas=1)
    await reconciler.reconcile(KEY)
    assert len(client.of("Deployment")) == len(client.of("ServiceAccount")) == 1
