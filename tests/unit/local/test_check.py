"""What `avatar-agent check` and `avatar-agent dev` say of a manifest and of the trials of a worker."""

from pathlib import Path
from typing import Any

import pytest

from agentspec import AvatarAgentSpec
from agentspec.wire import ProviderStage, StageReports
from avatar_agent.local import check, dev, trials
from avatar_agent.local.check import Outcome, Verdict
from avatar_agent.local.manifest import load
from avatar_agent.local.trials import Trials
from devkit.paths import REPOSITORY
from tests.unit.local.test_inputs import LIVEKIT, OPENAI, SPEC, written
from tests.unit.worker.builders import make_config, make_settings
from worker.provider_reports import ProviderLog, invalid, succeeded
from worker.server.tool_trials import ToolTrials

HTTP = {"name": "stock", "http": {"url": "https://shop.example/stock", "description": "Look up the stock."}}
MCP = {"name": "shop", "mcp": {"url": "https://shop.example/mcp"}}
MISTAKES = [
    pytest.param({"dispatch": {"roomNamePattern": "("}}, "spec.dispatch.roomNamePattern: ", id="room pattern"),
    pytest.param({"timeZone": "Europe/Berln"}, "spec.timeZone: 'Europe/Berln' is no time zone", id="time zone"),
    pytest.param({"languages": ["zu"]}, "spec.languages: whisper-1 does not know 'zu'", id="language"),
]


def spec_of(**changes: Any) -> AvatarAgentSpec:
    return AvatarAgentSpec.model_validate(SPEC | changes)


def inputs_of_dev(path: Path) -> list[str]:
    """Let `dev` read a manifest; return what it says."""
    said: list[str] = []
    options = dev.Options(path, "ws://127.0.0.1:1", 0, opens_browser=False, shell={}, say=said.append)
    dev._Loop(options)._inputs(load(path))
    return said


def reports(*working: ProviderStage, **faults: str) -> StageReports:
    log = ProviderLog()
    for stage in working:
        log.record(succeeded(stage))
    for name, fault in faults.items():
        log.record(invalid(ProviderStage(name), fault))
    return log.reports(0.0)


def tools_verdict(tried: Trials, *tools: dict[str, Any]) -> Verdict:
    verdicts = check.trial_verdicts(spec_of(tools=list(tools)), tried)
    (found,) = [verdict for verdict in verdicts if verdict.check == "tools"]
    return found


@pytest.mark.parametrize(("changes", "text"), MISTAKES)
def test_mistake_that_the_api_server_accepts_fails_the_check(changes: dict[str, Any], text: str) -> None:
    (verdict,) = check.manifest_verdicts(spec_of(**changes))
    assert verdict.outcome is Outcome.FAILED and verdict.message.startswith(text)


@pytest.mark.parametrize(("changes", "text"), MISTAKES)
def test_mistake_that_the_api_server_accepts_stops_dev(tmp_path: Path, changes: dict[str, Any], text: str) -> None:
    with pytest.raises(dev.DevError) as raised:
        inputs_of_dev(written(tmp_path, changes, LIVEKIT, OPENAI))
    assert str(raised.value).startswith(text)


def test_valid_manifest_passes() -> None:
    (verdict,) = check.manifest_verdicts(spec_of())
    assert verdict.outcome is Outcome.PASSED


def test_image_with_a_possible_program_is_a_warning(tmp_path: Path) -> None:
    worker = {"image": "registry.example.com/program:1.0"}
    (verdict,) = check.manifest_verdicts(spec_of(worker=worker))
    assert verdict.outcome is Outcome.WARNING
    assert "the stock agent in its place" in verdict.message
    assert inputs_of_dev(written(tmp_path, {"worker": worker}, LIVEKIT, OPENAI)) == [verdict.message]


@pytest.mark.parametrize("worker", [{}, {"image": "registry.example.com/own:1.0", "agent": "own.code:Agent"}])
def test_agent_class_and_stock_agent_have_no_warning(worker: dict[str, str]) -> None:
    assert check.program_warning(spec_of(worker=worker)) == ""


def test_tools_pass_when_servers_and_model_accept_them() -> None:
    tried = Trials(stages=reports(*ProviderStage))
    assert tools_verdict(tried, HTTP, MCP).outcome is Outcome.PASSED


def test_schemas_that_no_model_saw_are_skipped() -> None:
    tried = Trials(stages=reports(llm="spec.voice.llm.options: wrong"))
    verdict = tools_verdict(tried, HTTP, MCP)
    assert verdict.outcome is Outcome.SKIPPED
    assert "see voice llm" in verdict.message
    assert tools_verdict(tried, MCP).outcome is Outcome.PASSED, "a server needs no language model"


async def test_invalid_settings_leave_the_servers_to_be_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    async def refused(_: ToolTrials) -> str:
        return "shop: connection refused"

    monkeypatch.setattr(ToolTrials, "try_once", refused)
    voice = {"openai": {"credentialsSecretRef": {"name": "openai"}}, "llm": {"options": {"temprature": 0.1}}}
    tried = await trials._requests(make_settings(make_config(voice=voice, tools=[MCP])))
    assert tried.stages.llm.failure is not None
    verdict = tools_verdict(tried, MCP)
    assert (verdict.outcome, verdict.message) == (Outcome.FAILED, "shop: connection refused")


def test_example_of_a_whole_program_has_the_warning() -> None:
    manifest = load(REPOSITORY / "examples/whole-program/agent.yaml")
    assert check.program_warning(AvatarAgentSpec.model_validate(manifest.agent["spec"]))
