"""Ten wrong manifests and ten broken agents, on the real node: each is refused or explained before its first caller."""

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from devkit.demo.product import AGENTS_NAMESPACE
from devkit.errors import DevkitError
from tests.e2e import agents
from tests.e2e.callers import becomes
from tests.e2e.conftest import Platform
from tests.unit.worker.test_own_code import CASES, write

EXPLAINED_SECONDS = 180
"""Ten workers start at once on two cores, and code that hangs is given up after a minute."""

REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "two ways of hearing": (
        {"voice": {"realtime": {}, "stt": {"model": "gpt-4o-transcribe"}}},
        "remove the settings of both, or remove voice.realtime",
    ),
    "plugin without a name": ({"voice": {"stt": {"provider": "Plugin"}}}, "provider Plugin needs plugin"),
    "agent without a class": ({"worker": {"agent": "restaurant.agents"}}, "such as my_company.agents:Receptionist"),
    "unknown time zone": ({"timeZone": "Europe / Berlin"}, "set a time zone of the IANA database"),
    "one tool twice": ({"tools": [{"name": "end", "endCall": {}}, {"name": "end", "sendDTMF": {}}]}, "Duplicate value"),
}
"""Changes of a manifest that the API server refuses, and a part of the message."""
EXPLAINED: dict[str, tuple[dict[str, Any], str, str, str]] = {
    "missing-plugin": (
        {"voice": {"stt": {"provider": "Plugin", "plugin": "not_installed"}}},
        "ProvidersHealthy",
        "StageSettingsInvalid",
        "not_installed",
    ),
    "unknown-option": (
        {"voice": {"stt": {"provider": "Plugin", "plugin": "deepgram", "options": {"modle": "nova-3"}}}},
        "ProvidersHealthy",
        "StageSettingsInvalid",
        "modle",
    ),
    "unknown-language": ({"language": "zu"}, "Ready", "InvalidSpec", "does not know 'zu'"),
    "missing-secret": (
        {"worker": {"envFrom": [{"secretRef": {"name": "not-there"}}]}},
        "CredentialsValid",
        "SecretNotFound",
        "not-there",
    ),
    "silent-server": (
        {"tools": [{"name": "shop", "mcp": {"url": "http://127.0.0.1:9/mcp"}}]},
        "ProvidersHealthy",
        "ToolsFailing",
        "shop",
    ),
}
"""Changes that the controller or a worker explains: condition, reason, and a part of the message."""

pytestmark = pytest.mark.timeout(600)


def wrong(platform: Platform, name: str, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return a valid agent with one field changed."""
    agent = agents.manifest(platform.targets, name, scaling={"mode": "Fixed", "workers": 1})
    for field, value in changes.items():
        kept = agent["spec"].get(field) if isinstance(value, dict) else None
        agent["spec"][field] = {**(kept or {}), **value} if isinstance(value, dict) else value
    return agent


@pytest.mark.parametrize("what", REFUSED)
def test_wrong_manifest_is_refused(platform: Platform, what: str) -> None:
    changes, message = REFUSED[what]
    with pytest.raises(DevkitError, match=message):
        platform.product.apply([wrong(platform, "refused", changes)])
    assert "refused" not in platform.product.kubectl_run("-n", AGENTS_NAMESPACE, "get", "avataragents", "-o", "name")


@pytest.mark.allows_errors("stage settings invalid")
@pytest.mark.parametrize("name", EXPLAINED)
async def test_wrong_manifest_is_explained(platform: Platform, name: str) -> None:
    changes, kind, reason, message = EXPLAINED[name]
    with agents.declared(platform.product, wrong(platform, name, changes), ready=False):
        await becomes(platform.product, name, kind, "False", reason, seconds=EXPLAINED_SECONDS)
        assert message in agents.condition(platform.product, name, kind)[2]


TEN = (
    "missing module",
    "missing module inside",
    "no such name",
    "not an agent",
    "raises at import",
    "ends the process",
    "crashes",
    "hangs at import",
    "needs two arguments",
    "syntax error",
)
"""Of the broken codes that the unit tests know."""
TEN_ON_A_NODE = {"requests": {"cpu": "50m", "memory": "256Mi"}}
"""By default, two cores hold seven workers."""


@pytest.fixture
def image(platform: Platform, tmp_path: Path) -> Iterator[str]:
    """An image with a module for each broken agent."""
    folder = tmp_path / "broken-agents"
    folder.mkdir()
    for number, what in enumerate(TEN):
        write(folder / f"shop{number}.py", CASES[what][1])
    (folder / "Dockerfile").write_text("ARG WORKER_IMAGE\nFROM ${WORKER_IMAGE}\nCOPY *.py ./\n")
    yield platform.cluster.load_example(folder, platform.product.worker_image)


def code_and_failure(number: int, what: str) -> tuple[str, str]:
    """Return `worker.agent` of a broken agent, and a part of its failure."""
    code, _, failure = CASES[what]
    code, failure = (
        text.replace("shop:", f"shop{number}:").replace("shop.py", f"shop{number}.py") for text in (code, failure)
    )
    return code, failure.replace("shop has", f"shop{number} has").replace("within 1 s", "within 60 s")


@pytest.mark.allows_errors("own code failed, not registering", "own code raised")
def test_ten_broken_agents_are_explained_at_once(platform: Platform, image: str) -> None:
    product, failures = platform.product, {}
    with ExitStack() as stack:
        for number, what in enumerate(TEN):
            code, failures[f"broken-{number}"] = code_and_failure(number, what)
            worker = {"image": image, "agent": code, "resources": TEN_ON_A_NODE}
            agent = wrong(platform, f"broken-{number}", {"worker": worker})
            stack.enter_context(agents.declared(product, agent, ready=False))
        for name, failure in failures.items():
            asyncio.run(becomes(product, name, "Ready", "False", "AgentCodeFailed", seconds=EXPLAINED_SECONDS))
            assert failure in agents.condition(product, name, "Ready")[2]
            (pod,) = agents.workers(product, name)
            assert pod["status"]["containerStatuses"][0]["restartCount"] == 0, "no crash loop"
