"""Every reach into private parts of livekit-agents 1.8.9 and its plugins, except those of the stages.

No other module of this package but `worker.stages`, `worker.realtime` and `worker.own_tools` imports a private module,
reads a private attribute or overrides a private method of the SDK. Ruff enforces it (pyproject.toml: TID251 bans the
imports, SLF001 the attributes). Each function and class here states what the SDK lacks. tests/unit/worker/test_sdk.py
runs the installed SDK, and fails when a new version changes what this module relies on.

`Server` runs in the main process; everything below it runs in call processes.
"""

import asyncio
import time
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import aiohttp
import numpy as np
from livekit import api, rtc
from livekit.agents import AgentServer, AgentSession, JobContext
from livekit.agents.inference.eot.languages import LOCAL_LANGUAGES
from livekit.agents.ipc.job_executor import JobExecutor, JobStatus
from livekit.agents.ipc.job_proc_executor import ProcJobExecutor
from livekit.agents.voice.agent_session import SessionConnectOptions
from livekit.agents.voice.io import AudioOutput, PlaybackFinishedEvent, PlaybackStartedEvent
from livekit.agents.voice.room_io import _ParticipantAudioOutput
from livekit.agents.voice.transcription._speaking_rate import SpeakingRateStream
from livekit.plugins import tavus
from numpy.fft import rfft
from numpy.typing import NDArray

from worker import forkserver
from worker.own_tools import YieldingSession

__all__ = [
    "CALL_PROCESS_MODULES",
    "JOB_CRASHED",
    "ROOM_DISCONNECTED",
    "AvatarOutputCapture",
    "CallSession",
    "InterceptedOutput",
    "RoomAudioOutput",
    "RunningJob",
    "Server",
    "SessionConnectOptions",
    "has_local_turn_detection",
    "last_output",
    "offered_at",
    "set_tavus_api",
    "stop_waiting_for_avatar",
]

_STABLE_SECONDS: Final = 10.0
"""A registration that lasts this long resets the backoff."""
_MAX_BACKOFF_SECONDS: Final = 10.0
PING_SECONDS: Final = 6.0
"""A worker pings LiveKit after this time without data, and gives the connection up half this time later.

So a connection that was cut silently is lost within 10 s. With the SDK's 30 s it takes up to 45 s. Meanwhile the worker
counts as registered, and a call that is dispatched to it may fail after 27 s (gateway/calls/step.py: MAX_DECLINES).
"""
_MAX_DOUBLINGS: Final = 10
"""2.0 ** 1024 overflows: a worker that fails for hours must keep retrying."""


CALL_PROCESS_MODULES: Final = ("livekit.agents.ipc._preload", "livekit.agents.ipc._preload_freeze")
"""What the SDK's fork server imports after all other modules: models, the native library, then a frozen heap."""


@dataclass(frozen=True)
class RunningJob:
    """A job that has a call process."""

    id: str
    room: str
    pid: int
    """Of the call process."""


class Server(AgentServer):
    """An AgentServer that knows whether it is registered, and that reports lost processes and load changes at once.

    AgentServer (livekit-agents 1.8.9, worker.py) has no event for a lost registration or a closed process. It also
    retries rejected registrations without a pause, and reports its load every 2.5 s only. It has no option for another
    fork server than multiprocessing's; this one uses `worker.forkserver`.
    """

    def __init__(self, **options: Any) -> None:
        """Take the keyword arguments of AgentServer."""
        super().__init__(**options)
        self._mp_ctx = forkserver.CONTEXT
        self.registered = False
        """Whether LiveKit sends jobs to this worker."""
        self._unstable_connections = 0
        self.on("worker_started", self._follow_process_pool)

    @property
    def worker_id(self) -> str:
        """The id that LiveKit gave this worker; empty before the first registration.

        The SDK's `id` is a placeholder until then.
        """
        return "" if self.id == "unregistered" else self.id

    def running_job_ids(self) -> list[str]:
        """Return the ids of the jobs that have a process.

        The SDK's `active_jobs` raises AttributeError until `run` has created the process pool.
        """
        return [info.job.id for info in self.active_jobs] if hasattr(self, "_proc_pool") else []

    def running_jobs(self) -> list[RunningJob]:
        """Return the jobs that have a process of their own. The SDK's `active_jobs` does not name the process."""
        processes = self._proc_pool.processes if hasattr(self, "_proc_pool") else []
        return [
            RunningJob(process.running_job.job.id, process.running_job.job.room.name, process.pid or 0)
            for process in processes
            if isinstance(process, ProcJobExecutor) and process.running_job is not None
        ]

    async def end_job(self, job_id: str, *, seconds: float) -> None:
        """End a job and its process, and kill the process when it has not ended after `seconds`; 0: at once.

        The SDK ends jobs only together with the server.
        """
        process = self._proc_pool.get_by_job_id(job_id)
        if not isinstance(process, ProcJobExecutor):
            return
        try:
            await asyncio.wait_for(process.aclose(), seconds)
        except TimeoutError:
            await process.kill()

    @property
    def livekit_api(self) -> api.LiveKitAPI | None:
        """The client of LiveKit's API with the worker's credentials; None before `run`."""
        return getattr(self, "_api", None)

    def idle_processes(self) -> int:
        """Return how many initialised call processes wait for a job. The SDK has no property for it."""
        return self._proc_pool._warmed_proc_queue.qsize() if hasattr(self, "_proc_pool") else 0

    def keep_idle_processes(self, count: int, *, starting: int = 0) -> None:
        """Keep at most `count` idle call processes, and one more for each of the accepted jobs that have none yet.

        The SDK sets the number from its own load threshold; with an infinite `load_threshold` it leaves it alone. It
        never closes a process that it has started. Does nothing until `run` has created the process pool.
        """
        if not hasattr(self, "_proc_pool"):
            return
        self._proc_pool.set_target_idle_processes(count)
        idle = self._proc_pool._warmed_proc_queue
        for _ in range(idle.qsize() - count - starting):
            closing = asyncio.create_task(idle.get_nowait().aclose(), name="close_idle_process")
            self._proc_pool._close_tasks.add(closing)
            closing.add_done_callback(self._proc_pool._close_tasks.discard)

    def before_load(self) -> None:
        """Do, in the event loop, what follows the load. Override this."""

    def on_process_closed(self, job_id: str, room: str, *, failed: bool) -> None:
        """Handle the end of a call process that had a job; `failed` when its exit status was not 0. Override this."""

    def _follow_process_pool(self) -> None:
        self._proc_pool.on("process_closed", self._on_process_closed)

    def _on_process_closed(self, process: JobExecutor) -> None:
        job = process.running_job
        if job is not None:
            self.on_process_closed(job.job.id, job.job.room.name, failed=process.status is JobStatus.FAILED)

    async def _run_ws(self, ws: aiohttp.ClientWebSocketResponse) -> None:
        """Override: the SDK runs this exactly while the worker is registered."""
        self.registered = True
        since = time.monotonic()
        try:
            await super()._run_ws(ws)
        finally:
            self.registered = False
            if time.monotonic() - since >= _STABLE_SECONDS:
                self._unstable_connections = 0
            self.on_registration_lost()

    def on_registration_lost(self) -> None:
        """Handle the end of a registration, also at shutdown. Override this."""

    async def _connection_task(self) -> None:
        """Override: the SDK connects and registers in this loop.

        The SDK's backoff covers connections that fail. It does not cover a connection that is accepted and whose
        registration is then rejected or lost; without a pause the worker would retry as fast as LiveKit answers. The
        SDK has no option for its heartbeat either.
        """
        assert self._http_session is not None
        connect = self._http_session.ws_connect

        async def connect_with_backoff(*args: Any, **options: Any) -> aiohttp.ClientWebSocketResponse:
            if self._unstable_connections:
                doublings = min(self._unstable_connections - 1, _MAX_DOUBLINGS)
                await asyncio.sleep(min(2.0**doublings, _MAX_BACKOFF_SECONDS))
            socket: aiohttp.ClientWebSocketResponse = await connect(*args, **(options | {"heartbeat": PING_SECONDS}))
            self._unstable_connections += 1
            return socket

        object.__setattr__(self._http_session, "ws_connect", connect_with_backoff)
        await super()._connection_task()

    async def _invoke_load_fnc(self) -> float:
        """Override: the SDK calls this twice a second and before each job offer.

        The SDK reports the load to LiveKit every 2.5 s only. LiveKit would refuse a slot that became free for that
        long, so a changed load is reported at once. The SDK computes the load in a thread, `before_load` in the event
        loop.
        """
        self.before_load()
        load = await super()._invoke_load_fnc()
        if self.registered and load != self._worker_load:
            self._worker_load = load
            await self._update_worker_status()
        return load


ROOM_DISCONNECTED: Final = "room disconnected"
"""Shutdown reason of a job whose room was deleted or whose connection was lost (ipc/job_proc_lazy_main.py)."""
JOB_CRASHED: Final = "job crashed"
"""Shutdown reason of a job whose entrypoint raised (ipc/job_proc_lazy_main.py)."""


def offered_at(context: JobContext) -> float | None:
    """Return when LiveKit offered the job to the worker, in Unix seconds; None when unknown.

    The SDK keeps the time in `JobContext._info` and offers no public property for it.
    """
    return context._info.received_at or None


def has_local_turn_detection(language: str) -> bool:
    """Return whether the end-of-turn model that runs locally has a threshold for a primary language subtag.

    For any other language the model falls back to the English threshold without a warning
    (inference/eot/languages.py).
    """
    return language in LOCAL_LANGUAGES


class RoomAudioOutput(_ParticipantAudioOutput):
    """The agent's audio track in a room, for a session to play to.

    The SDK creates this output inside RoomIO, once the caller has arrived. Here the call creates it, so that it can
    publish the track earlier.
    """

    async def wait_for_subscription(self) -> None:
        """Wait until a participant has subscribed to the track."""
        await asyncio.shield(self.subscribed)  # a cancelled wait must not cancel the SDK's future


_is_in_call: Final = ContextVar("is_in_call", default=False)
"""True in the job's entrypoint and in all tasks that begin there, so also in own code.

The SDK ends jobs in a task of its own (ipc/job_proc_lazy_main.py `_shutdown_job`). What a closing session starts there
is own code too: an agent's `on_exit`.
"""


class CallSession(YieldingSession):
    """A session that calls `on_closing` when it begins to close, and knows whether the job's end closes it.

    It can also send changed tools to a realtime model.

    The SDK's event `close` comes when it has closed. Closing interrupts the speeches that there are, and then waits for
    all: one that begins in between can keep the session and its call process for 60 s (livekit-agents 1.8.9,
    voice/agent_session.py `_teardown_activity`).

    The event has the same reason whether own code closes the session or the SDK does, because the job ends.
    """

    def __init__(self, **options: Any) -> None:
        """Create the session, in a task of the call."""
        super().__init__(**options)
        self.on_closing: Callable[[], None] = lambda: None
        self.is_closed_by_job = False
        """The SDK closes the session, because the job ends: the worker stops it, or its room is gone.

        False when own code had begun to close it before.
        """
        _is_in_call.set(True)

    async def aclose(self) -> None:
        """Override: own code may call this, and the SDK does when the job ends.

        Own code does not wait for the end: closing waits for all speeches and their tools, so also for a tool, an
        `on_enter` or an `on_exit` that awaits this.
        """
        if _is_in_call.get():
            self.shutdown(drain=False)
            return
        self.is_closed_by_job |= not self._is_closing()
        await super().aclose()

    async def refresh_tools(self) -> None:
        """Send the tools of the session and of the current agent to its realtime model, after a toolset has changed.

        The SDK sends them only when an agent starts. It holds the lock during the start, and may then send older ones.
        Other language models get the tools with each request. For them, the SDK's `update_tools` would remove the calls
        of the session's tools from the conversation (voice/agent_activity.py).
        """
        async with self._activity_lock:
            activity = self._activity
            if activity is not None and activity.realtime_llm_session is not None:
                await activity.update_tools(activity.agent.tools)

    async def _aclose_impl(self, **options: Any) -> None:
        """Override: every way of closing calls this."""
        self.on_closing()
        token = _is_in_call.set(True)
        try:
            await super()._aclose_impl(**options)
        finally:
            _is_in_call.reset(token)


class AvatarOutputCapture:
    """Stands in for a session while an avatar plugin starts, and keeps the plugin's audio output in `sink`.

    Avatar plugins replace the session's output in `start`, before the avatar has joined (livekit-plugins-tavus 1.8.9,
    avatar.py), or set it as `output.audio`. All else that a plugin does with the session reaches the real one.
    """

    def __init__(self, session: AgentSession[None]) -> None:
        self._session = session
        self.output = self
        self.sink: AudioOutput | None = None
        """The plugin's audio output, once it has set one."""

    def replace_audio_tail(self, sink: AudioOutput) -> None:
        """Keep the output instead of giving it to the session."""
        self.sink = sink

    @property
    def audio(self) -> AudioOutput | None:
        """The plugin's audio output."""
        return self.sink

    @audio.setter
    def audio(self, sink: AudioOutput | None) -> None:
        self.sink = sink

    def __getattr__(self, name: str) -> object:
        return getattr(self._session, name)


class InterceptedOutput(AudioOutput):
    """An audio output that decides which reports of the next output it passes on.

    The SDK passes on all of them (voice/io.py).
    """

    def on_next_finished(self, event: PlaybackFinishedEvent) -> None:
        """Handle the next output's report of a played segment. Override this."""
        raise NotImplementedError

    def on_next_started(self, event: PlaybackStartedEvent) -> None:
        """Handle the next output's report that playback began. Override this."""
        raise NotImplementedError

    def _dispatch_playback_finished(self, ev: PlaybackFinishedEvent) -> None:
        """Override: the next output's `playback_finished` event calls this."""
        if type(ev) is PlaybackFinishedEvent:
            self.on_next_finished(ev)
        else:  # a capture that was cancelled before the output had it
            super()._dispatch_playback_finished(ev)

    def _forward_next_playback_started(self, ev: PlaybackStartedEvent) -> None:
        """Override: the next output's `playback_started` event calls this."""
        self.on_next_started(ev)


def last_output(output: AudioOutput) -> AudioOutput:
    """Return the last output of a chain: the one that `AgentOutput.replace_audio_tail` replaces.

    The SDK can replace the last output but not read it.
    """
    while output.next_in_chain is not None:
        output = output.next_in_chain
    return output


def stop_waiting_for_avatar(sink: AudioOutput | None) -> None:
    """Cancel the wait of an avatar's audio output for its participant.

    DataStreamAudioOutput (voice/avatar/_datastream_io.py) has no close method: its task waits for the avatar until the
    process ends.
    """
    task: asyncio.Task[None] | None = getattr(sink, "_start_atask", None)
    if task is not None:
        task.cancel()


def set_tavus_api(avatar: tavus.AvatarSession, api: Any) -> None:  # noqa: ANN401 - any class with the called method
    """Replace the API client of an avatar session. The plugin creates its own, and takes none."""
    avatar._api = api


def make_room_audio_output(room: rtc.Room, *, sample_rate: int, track_name: str) -> RoomAudioOutput:
    """Create the output of a mono microphone track; call `start` to publish it."""
    return RoomAudioOutput(
        room,
        sample_rate=sample_rate,
        num_channels=1,
        track_publish_options=rtc.TrackPublishOptions(source=rtc.TrackSource.SOURCE_MICROPHONE),
        track_name=track_name,
    )


@cache
def _spectral_window(length: int) -> NDArray[np.float64]:
    """Return the window that the SDK multiplies each piece of audio by, with its factor for the spectrum."""
    window = np.hanning(length)
    return np.asarray(window / np.sqrt(np.sum(window**2)))


def _spectral_flux(_: SpeakingRateStream, audio: NDArray[np.float32], sample_rate: int) -> float:
    """Return how much the spectrum of speech changes from one piece of 25 ms to the next.

    The SDK paces captions by it, ten times for each second of the agent's speech. Its own method transforms each piece
    by itself, which takes six times as long. As speech arrives faster than it is spoken, that blocks the event loop.
    """
    length = int(sample_rate * 0.025)
    if audio.size < length:
        return 0.0
    pieces = np.lib.stride_tricks.sliding_window_view(audio, length)[:: length // 2]
    magnitudes = np.abs(rfft(pieces * _spectral_window(length)))
    changes = np.abs(np.diff(magnitudes, axis=0)).sum(axis=1)
    return float(changes.mean()) if changes.size else 0.0


SpeakingRateStream._spectral_flux = _spectral_flux  # type: ignore[assignment,method-assign]
