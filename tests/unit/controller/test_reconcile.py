"""One reconcile, from what is in the cluster to what is written into it."""

import base64
from typing import Any, cast

import pytest

from controller.fleet import Fleet
from controller.livekit import LiveKitCheck
from controller.metrics import Metrics
from controller.observation import Key, LiveKitAnswer, LiveKitVerdict
from controller.reconcile import READY_SECONDS, Reconciler
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
