"""Checks an agent without a call: manifest, Secrets, knowledge, credentials, code, voice, tools and avatar."""

import asyncio
import contextlib
import os
import signal
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

import aiohttp
from pydantic import ValidationError

from agentspec import AvatarAgentSpec, AvatarProvider, ConditionStatus
from agentspec.wire import ProviderStage, read
from avatar_agent.local import schema
from avatar_agent.local.inputs import AVATAR_VARIABLES, LIVEKIT_VARIABLES, PLACEHOLDER, Inputs, inputs_of
from avatar_agent.local.manifest import Manifest, ManifestError, load
from avatar_agent.local.trials import Trials
from avatar_agent.local.worker import environment, write_config
from controller.inputs.providers import Providers
from controller.observation import Key, ProviderAnswer, ProviderVerdict
from controller.policy.providers_health import faults_of
from controller.policy.specification import room_pattern_warning, spec_faults

PROBE_SECONDS: Final = 10.0
TRIALS_SECONDS: Final = 180.0
"""How long the process of the trials may take: the import of own code, and of plugins, and all requests."""
_POLL_SECONDS: Final = 0.2


class Outcome(StrEnum):
    """The verdict of one check."""

    PASSED = "passed"
    WARNING = "warning"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Verdict:
    """The result of one check."""

    check: str
    outcome: Outcome
    message: str


async def run(path: Path, shell: Mapping[str, str], livekit_url: str) -> list[Verdict]:
    """Check the agent in a file. `livekit_url` replaces the manifest's server; empty: it does not."""
    try:
        manifest = load(path)
    except ManifestError as error:
        return [Verdict("manifest", Outcome.FAILED, str(error))]
    if faults := schema.faults(manifest.agent):
        return [Verdict("manifest", Outcome.FAILED, fault) for fault in faults]
    spec = with_livekit(AvatarAgentSpec.model_validate(manifest.agent["spec"]), livekit_url)
    inputs = inputs_of(manifest, spec, shell)
    probes, tried = await asyncio.gather(_probes(manifest, inputs), _trials(manifest, inputs))
    return [*manifest_verdicts(spec), *_secrets(inputs), _knowledge(inputs), *probes, *tried]


def with_livekit(spec: AvatarAgentSpec, url: str) -> AvatarAgentSpec:
    """Return the spec with another LiveKit server; an empty URL changes nothing."""
    if not url:
        return spec
    return spec.model_copy(update={"livekit": spec.livekit.model_copy(update={"url": url, "public_url": None})})


def manifest_verdicts(spec: AvatarAgentSpec) -> list[Verdict]:
    """Judge a spec that the API server accepts: what workers or the gateway cannot use in it."""
    failed = [fault.message for fault in spec_faults(spec)]
    if names := placeholders(spec.model_dump(mode="json", by_alias=True), "spec"):
        failed.insert(0, f"Still the placeholder of an example: set {', '.join(names)}.")
    pattern = "" if failed else room_pattern_warning(spec)
    found = [Verdict("manifest", Outcome.FAILED, text) for text in failed]
    found += [Verdict("manifest", Outcome.WARNING, text) for text in (pattern, program_warning(spec)) if text]
    return found or [Verdict("manifest", Outcome.PASSED, "The API server and the workers would accept it.")]


def program_warning(spec: AvatarAgentSpec) -> str:
    """Return why a whole program is neither run nor checked on this machine; empty: the agent is no such program.

    Only the image tells whether it has a program, and the image is not pulled.
    """
    if not spec.worker.image or spec.worker.agent:
        return ""
    return (
        "Warning: spec.worker.image is not run here. If it has a whole program (avatar_agent.serve), this command uses "
        "the stock agent in its place, and shows nothing of the program."
    )


def placeholders(value: object, path: str) -> list[str]:
    """Return the fields whose text is still the one of an example that asks to be replaced."""
    if isinstance(value, dict):
        return [name for key, inner in value.items() for name in placeholders(inner, f"{path}.{key}")]
    if isinstance(value, list):
        return [name for index, inner in enumerate(value) for name in placeholders(inner, f"{path}[{index}]")]
    return [path] if isinstance(value, str) and value.startswith(PLACEHOLDER) else []


def _secrets(inputs: Inputs) -> list[Verdict]:
    problems = [Verdict("secrets", Outcome.FAILED, problem.text) for problem in inputs.variables.problems]
    return problems or [Verdict("secrets", Outcome.PASSED, "Every referenced key has a value.")]


def _knowledge(inputs: Inputs) -> Verdict:
    verdict = inputs.knowledge
    if verdict.status is not ConditionStatus.TRUE:
        return Verdict("knowledge", Outcome.FAILED, verdict.message)
    outcome = Outcome.WARNING if verdict.message.startswith("Warning") else Outcome.PASSED
    return Verdict("knowledge", outcome, verdict.message)


async def _probes(manifest: Manifest, inputs: Inputs) -> list[Verdict]:
    """Send one authenticated request to each provider, as the controller does."""
    if inputs.variables.problems:
        return [Verdict("credentials", Outcome.SKIPPED, "Not tried: see secrets.")]
    key = Key(manifest.namespace, manifest.name)
    answers: dict[str, ProviderAnswer] = {}
    async with aiohttp.ClientSession() as session:
        providers = Providers(session, lambda _: None)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PROBE_SECONDS):
                while not answers or any(one.verdict is ProviderVerdict.PENDING for one in answers.values()):
                    answers = await providers.check(key, inputs.spec, inputs.variables.secrets)
                    await asyncio.sleep(_POLL_SECONDS)
    return [_probe(name, answer) for name, answer in answers.items()]


def _probe(provider: str, answer: ProviderAnswer) -> Verdict:
    name = f"credentials {provider}"
    if answer.verdict is ProviderVerdict.ACCEPTED and answer.detail:
        return Verdict(name, Outcome.WARNING, f"{provider} accepts the key but {answer.detail}.")
    if answer.verdict is ProviderVerdict.ACCEPTED:
        return Verdict(name, Outcome.PASSED, f"{provider} accepts the credentials.")
    what = "rejects the credentials" if answer.verdict is ProviderVerdict.REJECTED else "could not be asked"
    return Verdict(name, Outcome.FAILED, f"{provider} {what}: {answer.detail or 'no answer in time'}.")


async def _trials(manifest: Manifest, inputs: Inputs) -> list[Verdict]:
    """Run the trials of a worker in a process, with the configuration that the worker would have."""
    needed = [p for p in inputs.variables.problems if p.variable not in (*LIVEKIT_VARIABLES, *AVATAR_VARIABLES)]
    if needed:
        return [Verdict("voice", Outcome.SKIPPED, "Not tried: see secrets.")]
    with tempfile.TemporaryDirectory(prefix="avatar-agent-") as folder:
        config = write_config(inputs, Path(folder))
        variables = environment(inputs, config, [manifest.path.resolve().parent, Path.cwd()])
        # The worker's settings need them, and the trials send nothing to LiveKit or to the avatar's provider.
        filled = {name: variables.get(name) or "not-set" for name in (*LIVEKIT_VARIABLES, *AVATAR_VARIABLES)}
        tried = await _run(variables | filled)
    return [Verdict("voice", Outcome.FAILED, tried)] if isinstance(tried, str) else trial_verdicts(inputs.spec, tried)


async def _run(variables: Mapping[str, str]) -> Trials | str:
    """Return the document of the trials, or why there is none."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "avatar_agent.local.trials",
        env=variables,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    try:
        output, log = await asyncio.wait_for(process.communicate(), TRIALS_SECONDS)
    except TimeoutError:
        return f"The trials did not end within {TRIALS_SECONDS:g} s."
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    lines = output.decode(errors="replace").splitlines()
    try:
        return read(Trials, lines[-1])
    except (IndexError, ValidationError):
        last = log.decode(errors="replace").strip().splitlines()[-1:]
        return f"The trials ended with exit status {process.returncode}: {''.join(last)[:500]}"


def trial_verdicts(spec: AvatarAgentSpec, tried: Trials) -> list[Verdict]:
    """Judge code, voice, tools and avatar by the trials of a worker with this spec."""
    if tried.settings_failure:
        return [Verdict("worker", Outcome.FAILED, tried.settings_failure)]
    found = []
    if spec.worker.agent:
        found.append(_failed_or("code", tried.code_failure, f"{spec.worker.agent} can be used."))
    faults = faults_of(spec, tried.stages)
    for stage in map(ProviderStage, spec.voice.needed_stages):
        report, fault = tried.stages.of(stage), faults.get(stage)
        if fault is not None:
            text = f"{fault.answer}. {fault.cure}".strip()
        elif report.failure is not None and report.succeeded_at is None:
            text = f"No answer: {report.failure.error or report.failure.status}."
        else:
            text = "" if report.succeeded_at is not None else "Not tried: see the other stages."
        found.append(_failed_or(f"voice {stage}", text, _WORKS[stage]))
    if spec.tools:
        found.append(_tools(spec, tried))
    if spec.avatar.provider is AvatarProvider.PLUGIN:
        found.append(_failed_or("avatar", tried.avatar_failure, "The plugin can be used."))
    return found


def _tools(spec: AvatarAgentSpec, tried: Trials) -> Verdict:
    """Judge the tools. The language model gets the schemas of HTTP tools with its own trial."""
    has_schemas = any(tool.http is not None for tool in spec.tools)
    if not tried.tool_failure and has_schemas and tried.stages.llm.succeeded_at is None:
        text = "MCP servers list their tools. The schemas of HTTP tools are not tried: see voice llm."
        return Verdict("tools", Outcome.SKIPPED, text)
    works = "MCP servers list their tools, and the language model accepts the schemas."
    return _failed_or("tools", tried.tool_failure, works)


_WORKS: Final = {
    ProviderStage.STT: "A second of speech was transcribed.",
    ProviderStage.LLM: "The language model answered.",
    ProviderStage.TTS: "A phrase was spoken.",
}


def _failed_or(check: str, failure: str, success: str) -> Verdict:
    return Verdict(check, Outcome.FAILED if failure else Outcome.PASSED, failure or success)
