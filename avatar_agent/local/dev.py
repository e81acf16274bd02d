"""Runs an agent on this machine, and starts it again when its manifest or its code changes."""

import asyncio
import contextlib
import getpass
import re
import signal
import tempfile
import webbrowser
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from agentspec import AvatarAgentSpec, AvatarProvider, ConditionStatus, DispatchAccess, DispatchMode
from agentspec.avatar import AvatarSpec
from avatar_agent.local import livekit, page, schema, watching, worker
from avatar_agent.local.check import program_warning, with_livekit
from avatar_agent.local.inputs import AVATAR_VARIABLES, LIVEKIT_VARIABLES, Inputs, inputs_of, variables_of
from avatar_agent.local.manifest import Manifest, ManifestError, load
from controller.policy.specification import spec_faults

_MAX_AGENT_NAME: Final = 128
_FOLDER_PREFIX: Final = "aa-"
"""Short, because the path of a worker's socket in this folder has at most 104 characters on macOS."""
_LOOPBACK: Final = ("127.0.0.1", "localhost", "::1")

Say = Callable[[str], None]


class DevError(Exception):
    """The agent cannot run here. The message says what to do."""


@dataclass(frozen=True)
class Options:
    """What the command line sets."""

    path: Path
    livekit_url: str
    port: int
    opens_browser: bool
    shell: Mapping[str, str] = field(repr=False)
    say: Say = field(repr=False)


async def run(options: Options) -> None:
    """Run until SIGINT or SIGTERM. Raises DevError when the agent cannot start the first time."""
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    running = asyncio.create_task(_Loop(options).run())
    stopping = asyncio.create_task(stopped.wait())
    await asyncio.wait({running, stopping}, return_when=asyncio.FIRST_COMPLETED)
    for task in (running, stopping):
        task.cancel()
    if stopped.is_set():
        options.say("stopping")
    with contextlib.suppress(asyncio.CancelledError):
        await running


class _Loop:
    """One run of the command."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._say = options.say
        self._shell = dict(options.shell)
        self._url = options.livekit_url
        self._worker: worker.WorkerProcess | None = None
        self._ends: set[asyncio.Task[None]] = set()
        """Workers that end while the next one starts."""
        self._opening: asyncio.Task[None] | None = None
        self._ever_ready = False

    async def run(self) -> None:
        """Start everything, and follow the files until cancelled."""
        manifest = _valid(self._options.path)
        async with AsyncExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=_FOLDER_PREFIX)))
            await self._choose_livekit(manifest, stack)
            agent = page.LocalAgent(manifest.namespace, manifest.name)
            stack.push_async_callback(self._stop)
            inputs = self._inputs(manifest)
            agent.show(inputs.spec, inputs)
            try:
                address = await stack.enter_async_context(page.serving(agent, self._options.port))
            except OSError as error:
                raise DevError(f"cannot serve the call page on port {self._options.port}: {error.strerror}") from error
            await self._follow(manifest, inputs, agent, folder, address)

    async def _follow(
        self, manifest: Manifest, inputs: Inputs, agent: page.LocalAgent, folder: Path, address: str
    ) -> None:
        folders = [self._options.path.resolve().parent, Path.cwd()]
        code = inputs.spec.worker.agent
        state = watching.state_of([*manifest.files, *watching.code_files(code, folders)])
        await self._start(manifest, inputs, folder, folders, address)
        while True:
            state = await watching.changed(code, manifest.files, folders, state)
            try:
                manifest = _valid(self._options.path)
                inputs = self._inputs(manifest)
            except DevError as error:
                self._say(f"not reloaded, the last valid version runs on\n{error}")
                continue
            self._say("reloading")
            code = inputs.spec.worker.agent
            state = watching.state_of([*manifest.files, *watching.code_files(code, folders)])
            agent.show(inputs.spec, inputs)
            await self._start(manifest, inputs, folder, folders, address)

    async def _choose_livekit(self, manifest: Manifest, stack: AsyncExitStack) -> None:
        """Use the given server, else the manifest's if its credentials are known, else one on this machine."""
        spec = AvatarAgentSpec.model_validate(manifest.agent["spec"])
        if self._url or not variables_of(manifest, spec, self._shell).lacks(LIVEKIT_VARIABLES):
            self._say(f"LiveKit: {self._url or spec.livekit.url}")
            return
        if not livekit.is_installed():
            raise DevError(
                "no LiveKit server: set LIVEKIT_API_KEY and LIVEKIT_API_SECRET for the manifest's server, or install "
                "livekit-server (docs.livekit.io/transport/self-hosting/local)"
            )
        try:
            self._url = await stack.enter_async_context(livekit.server())
        except livekit.LiveKitError as error:
            raise DevError(str(error)) from error
        self._shell |= dict(zip(LIVEKIT_VARIABLES, (livekit.KEY, livekit.SECRET), strict=True))
        self._say(f"LiveKit: {self._url}, a server on this machine: the manifest's has no credentials here")

    def _inputs(self, manifest: Manifest) -> Inputs:
        """Return what a worker on this machine needs. Raises DevError that names what is missing."""
        declared = AvatarAgentSpec.model_validate(manifest.agent["spec"])
        spec = local_spec(with_livekit(declared, self._url), manifest.name)
        if (reason := _avatar_fault(spec, manifest, self._shell)) != "":
            self._say(f"no avatar: {reason}")
            spec = spec.model_copy(update={"avatar": AvatarSpec()})
        if (warning := program_warning(spec)) != "":
            self._say(warning)
        inputs = inputs_of(manifest, spec, self._shell)
        faults = [fault.message for fault in spec_faults(spec)]
        faults += [problem.text for problem in inputs.variables.problems]
        if inputs.knowledge.status is not ConditionStatus.TRUE:
            faults.append(inputs.knowledge.message)
        if faults:
            raise DevError("\n".join(faults))
        return inputs

    async def _start(self, manifest: Manifest, inputs: Inputs, folder: Path, folders: list[Path], address: str) -> None:
        """Start a worker, and end the one before it, which cuts its calls."""
        self._end_worker()
        config = worker.write_config(inputs, folder)
        # What a killed worker leaves is removed at the end. The next worker reuses the phrases in this folder.
        variables = worker.environment(inputs, config, folders) | {"TMPDIR": str(folder)}
        started = await worker.start(variables, self._say)
        self._worker = started
        self._opening = asyncio.create_task(self._announce(started, address))

    async def _announce(self, started: worker.WorkerProcess, address: str) -> None:
        """Say when the worker takes calls, and when it ends by itself. Opens the browser the first time."""
        if await started.wait_ready():
            self._say(f"ready: {address}")
            if self._options.opens_browser and not self._ever_ready:
                webbrowser.open(address)
            self._ever_ready = True
        status = await started.wait()
        self._say(f"the worker ended with exit status {status}; it starts again when a file changes")

    def _end_worker(self) -> None:
        if self._opening is not None:
            self._opening.cancel()
        if self._worker is not None:
            ending = asyncio.create_task(self._worker.stop())
            self._ends.add(ending)
            ending.add_done_callback(self._ends.discard)
            self._worker = None

    async def _stop(self) -> None:
        self._end_worker()
        await asyncio.gather(*self._ends, return_exceptions=True)


def _valid(path: Path) -> Manifest:
    """Read and validate the manifest. Raises DevError."""
    try:
        manifest = load(path)
    except ManifestError as error:
        raise DevError(str(error)) from error
    if faults := schema.faults(manifest.agent):
        raise DevError("\n".join(f"{path}: {fault}" for fault in faults))
    return manifest


def local_spec(spec: AvatarAgentSpec, name: str) -> AvatarAgentSpec:
    """Return the spec for this machine.

    The workers of a cluster keep their calls: the agent name is another one, and dispatch is explicit. The page may
    call the agent without a key.
    """
    user = re.sub(r"[^A-Za-z0-9._-]", "-", getpass.getuser())
    suffix = f"-dev-{user}"[:_MAX_AGENT_NAME]
    registered = spec.registered_name(name)[: _MAX_AGENT_NAME - len(suffix)] + suffix
    dispatch = spec.dispatch.model_copy(update={"mode": DispatchMode.EXPLICIT, "access": DispatchAccess.PUBLIC})
    return spec.model_copy(update={"agent_name": registered, "dispatch": dispatch})


def _avatar_fault(spec: AvatarAgentSpec, manifest: Manifest, shell: Mapping[str, str]) -> str:
    """Return why the agent has no avatar here; empty: it has one, or declares none."""
    if spec.avatar.provider is AvatarProvider.NONE:
        return ""
    if urlsplit(spec.livekit.url).hostname in _LOOPBACK:
        return "its provider cannot reach a LiveKit server on this machine"
    problems = variables_of(manifest, spec, shell).problems
    return next((problem.text for problem in problems if problem.variable in AVATAR_VARIABLES), "")
