"""Providers that the demo takes from the environment, and checks before anything starts."""

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


def agent(face_id: str) -> list[Document]:
    tavus = {"faceID": face_id, "palID": "pal", "credentialsSecretRef": {"name": "s"}}
    return [{"kind": "AvatarAgent", "spec": {"avatar": {"tavus": tavus}}}, {"kind": "Secret"}]


MINE, EXAMPLE = agent("face"), agent("replace-with-your-face-id")


@pytest.fixture(autouse=True)
def simulators(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the simulated providers that were started."""
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
def test_providers_without_key_in_environment_are_simulated(
    environment: dict[str, str], expected: Targets, simulated: list[str], internet: bool, simulators: list[str]
) -> None:
    targets.check(environment, MINE, own_cluster=False)
    assert targets.local_targets(CLUSTER, environment) == expected
    assert simulators == simulated
    assert targets.needs_internet(environment) == internet


def test_own_cluster_takes_all_providers_from_environment(simulators: list[str]) -> None:
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
            "with LIVEKIT_URL, set LIVEKIT_API_SECRET in",
            id="LiveKit without its secret",
        ),
        pytest.param(LIVEKIT, MINE, True, "set OPENAI_API_KEY, TAVUS_API_KEY", id="own cluster without providers"),
        pytest.param(TAVUS, MINE, False, "set LIVEKIT_URL", id="Tavus cannot reach this machine's LiveKit"),
        pytest.param(TAVUS | LIVEKIT, EXAMPLE, False, "does not know the faceID of", id="placeholder of the example"),
        pytest.param(
            TAVUS | LIVEKIT | OPENAI, EXAMPLE, True, "does not know the faceID of", id="placeholder with an own cluster"
        ),
    ],
)
def test_unusable_environment_is_rejected_with_remedy(
    environment: dict[str, str], documents: list[Document], own_cluster: bool, message: str
) -> None:
    with pytest.raises(DevkitError, match=message):
        targets.check(environment, documents, own_cluster=own_cluster)


def test_tavus_with_base_url_accepts_the_placeholder() -> None:
    environment = TAVUS | {"TAVUS_BASE_URL": "http://stand-in.test/v2"}
    targets.check(environment, EXAMPLE, own_cluster=False)
