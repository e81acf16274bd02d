"""What the demo uses of a person's environment, and what it refuses before anything is started."""

from dataclasses import replace
from pathlib import Path

import pytest

from devkit.cluster import Cluster
from devkit.demo import targets
from devkit.demo.manifests import Document, Targets
from devkit.errors import DevkitError

LIVEKIT = {"LIVEKIT_URL": "wss://livekit.test", "LIVEKIT_API_KEY": "key", "LIVEKIT_API_SECRET": "secret"}
OPENAI = {"OPENAI_API_KEY": "openai-real"}
TAVUS = {"TAVUS_API_KEY": "tavus-real"}
CLUSTER = Cluster(
    "t", Path("k"), "10.100.0.1", "ws://10.100.0.1:7880", "own", "own-secret", Path("kubectl"), Path("helm")
)
ALL_SIMULATED = Targets(
    livekit_url="ws://10.100.0.1:7880",
    livekit_key="own",
    livekit_secret="own-secret",
    openai_url="http://10.100.0.1:9100/v1",
    openai_key="simulated openai",
    tavus_url="http://10.100.0.1:9200/v2",
    tavus_key="simulated tavus",
)


def agent(face: str) -> list[Document]:
    tavus = {"faceID": face, "palID": "pal", "credentialsSecretRef": {"name": "s"}}
    return [{"kind": "AvatarAgent", "spec": {"avatar": {"tavus": tavus}}}, {"kind": "Secret"}]


MINE, EXAMPLE = agent("face"), agent("replace-with-your-face-id")


@pytest.fixture(autouse=True)
def simulators(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The simulated providers that were started."""
    started: list[str] = []

    def start(cluster: Cluster, provider: str, port: int) -> str:
        started.append(provider)
        return f"simulated {provider}"

    monkeypatch.setattr(targets, "start_simulator", start)
    return started


@pytest.mark.parametrize(
    ("environment", "expected", "simulated", "internet"),
    [
        pytest.param({}, ALL_SIMULATED, ["openai", "tavus"], False, id="nothing given"),
        pytest.param(
            {"OPENAI_API_KEY": "", "LIVEKIT_URL": ""}, ALL_SIMULATED, ["openai", "tavus"], False, id="set but empty"
        ),
        pytest.param(
            OPENAI,
            replace(ALL_SIMULATED, openai_url="", openai_key="openai-real"),
            ["tavus"],
            True,
            id="OpenAI at its own address",
        ),
        pytest.param(
            OPENAI | {"OPENAI_BASE_URL": "https://proxy.test/v1"},
            replace(ALL_SIMULATED, openai_url="https://proxy.test/v1", openai_key="openai-real"),
            ["tavus"],
            True,
            id="OpenAI behind a proxy",
        ),
        pytest.param(
            LIVEKIT | TAVUS,
            replace(
                ALL_SIMULATED,
                livekit_url="wss://livekit.test",
                livekit_key="key",
                livekit_secret="secret",
                tavus_url="",
                tavus_key="tavus-real",
            ),
            ["openai"],
            True,
            id="LiveKit and Tavus",
        ),
    ],
)
def test_what_is_in_the_environment_is_real_and_the_rest_simulated(
    environment: dict[str, str], expected: Targets, simulated: list[str], internet: bool, simulators: list[str]
) -> None:
    targets.check(environment, MINE, own_cluster=False)
    assert targets.local_targets(CLUSTER, environment) == expected
    assert simulators == simulated
    assert targets.needs_internet(environment) == internet


def test_on_a_cluster_of_the_users_everything_comes_from_the_environment(simulators: list[str]) -> None:
    environment = LIVEKIT | OPENAI | TAVUS
    targets.check(environment, MINE, own_cluster=True)
    assert targets.external_targets(environment) == Targets(
        "wss://livekit.test", "key", "secret", "", "openai-real", "", "tavus-real"
    )
    assert simulators == []


@pytest.mark.parametrize(
    ("environment", "documents", "own_cluster", "message"),
    [
        pytest.param(
            {"LIVEKIT_URL": "wss://livekit.test", "LIVEKIT_API_KEY": "key"},
            MINE,
            False,
            "with LIVEKIT_URL the demo needs LIVEKIT_API_SECRET",
            id="LiveKit without its secret",
        ),
        pytest.param(LIVEKIT, MINE, True, "needs OPENAI_API_KEY, TAVUS_API_KEY", id="a cluster without providers"),
        pytest.param(TAVUS, MINE, False, "set LIVEKIT_URL", id="Tavus cannot reach this machine's LiveKit"),
        pytest.param(TAVUS | LIVEKIT, EXAMPLE, False, "does not know the faceID of", id="the example's face"),
        pytest.param(TAVUS | LIVEKIT | OPENAI, EXAMPLE, True, "does not know the faceID of", id="on any cluster"),
    ],
)
def test_what_cannot_work_is_refused_with_what_to_do(
    environment: dict[str, str], documents: list[Document], own_cluster: bool, message: str
) -> None:
    with pytest.raises(DevkitError, match=message):
        targets.check(environment, documents, own_cluster=own_cluster)


def test_a_stand_in_for_tavus_takes_any_face() -> None:
    environment = TAVUS | {"TAVUS_BASE_URL": "http://stand-in.test/v2"}
    targets.check(environment, EXAMPLE, own_cluster=False)
