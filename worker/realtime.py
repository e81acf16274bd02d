"""OpenAI's Realtime API of the OpenAI plugin, as a call needs it (livekit-agents 1.8.9).

Like `worker.sdk`, this module overrides private methods of the SDK, and states what the SDK lacks.
tests/unit/worker/test_realtime.py runs the installed SDK against the simulated API, and fails when a new version
changes what this module relies on.
"""

import asyncio
import contextlib
import logging
import sys
from collections import deque
from collections.abc import Callable
from typing import Any, Final

import aiohttp
from livekit import rtc
from livekit.agents import APIConnectionError, APIConnectOptions, APIError, APIStatusError, APITimeoutError, llm
from livekit.agents.metrics import RealtimeModelMetrics
from livekit.plugins.openai.realtime import RealtimeModel, RealtimeSession
from openai.types.realtime import RealtimeError, RealtimeErrorEvent, ResponseCreatedEvent

logger = logging.getLogger(__name__)

CONNECT_SECONDS: Final = 4.0
"""How long opening the WebSocket may take."""
PING_SECONDS: Final = 4.0
"""A connection without data is pinged after this time, and given up half this time later: a reply is due by then."""
PADDING_SECONDS: Final = 0.5
"""Audio before the caller's speech that belongs to it: speech is noticed after its begin."""
_MAX_BACKOFF_SECONDS: Final = 5.0
_EDITS: Final = "chat_ctx_"
_RESPONSES: Final = "response_create_"
"""Prefixes of the ids that the SDK gives its events."""
_STATUSES: Final = {
    "model_not_found": 404,
    "insufficient_quota": 429,
    "rate_limit_exceeded": 429,
    "invalid_api_key": 401,
    "invalid_request_error": 400,
    "server_error": 500,
}
"""HTTP status of an error that the API sends as an event, by its code or else its type."""


class TurnModel(RealtimeModel):
    """A realtime model whose failures cost a turn, not the call."""

    def __init__(self, *, reconnects: bool, **options: Any) -> None:
        """Take the keyword arguments of RealtimeModel. `reconnects`: connect again until the session is closed."""
        retries = sys.maxsize if reconnects else 0
        super().__init__(
            conn_options=APIConnectOptions(max_retry=retries, retry_interval=0.0, timeout=CONNECT_SECONDS), **options
        )
        self.on_outcome: Callable[[Exception | None], None] = lambda _: None
        """Called with None when a response has succeeded, and with the error when one or a connection has failed."""
        self.on_lost_reply: Callable[[Exception], None] = lambda _: None
        """Called when a reply that may be due will not come."""
        self.on_usage: Callable[[object], None] = lambda _: None
        """Called with what the SDK measured of a response or a transcription."""

    def session(self, *, turn_detection_disabled: bool = False) -> "TurnSession":
        """Override: return a session of the class below."""
        session = TurnSession(self, turn_detection_disabled=turn_detection_disabled)
        self._sessions.add(session)
        return session

    def caller_speaks(self, speaks: bool) -> None:
        """Begin or stop to send the caller's audio, from the begin of a speech until its turn is committed."""
        for session in self._sessions:
            if isinstance(session, TurnSession):
                session.on_caller(speaks)


class TurnSession(RealtimeSession):
    """A session with the model. It sends audio only while a turn of the caller is open.

    The SDK sends all audio, so a turn would begin with the agent's own words and with minutes of silence, which the
    provider bills.
    """

    def __init__(self, model: TurnModel, *, turn_detection_disabled: bool) -> None:
        self._model = model
        self._failures = 0
        """Connections that failed since the last response."""
        self._caller_speaks = self._is_turn_open = False
        self._padding: deque[rtc.AudioFrame] = deque()
        self._padding_seconds = 0.0
        self._closed = asyncio.Event()
        self._rejected: RealtimeError | None = None
        """The error event that is being handled."""
        super().__init__(model, turn_detection_disabled=turn_detection_disabled)
        self.on("metrics_collected", self._on_metrics)

    def on_caller(self, speaks: bool) -> None:
        """The caller began or stopped to speak."""
        self._caller_speaks = speaks
        if speaks and not self._is_turn_open:
            self._is_turn_open = True
            while self._padding:
                super().push_audio(self._padding.popleft())
            self._padding_seconds = 0.0

    def push_audio(self, frame: rtc.AudioFrame) -> None:
        """Override: keep the audio of a silent caller for the begin of the next turn."""
        if self._is_turn_open:
            super().push_audio(frame)
            return
        self._padding.append(frame)
        self._padding_seconds += frame.duration
        while self._padding_seconds > PADDING_SECONDS:
            self._padding_seconds -= self._padding.popleft().duration

    async def update_chat_ctx(self, chat_ctx: llm.ChatContext) -> None:
        """Override: a provider that does not confirm an edit must not end the call. The SDK raises after 5 s."""
        try:
            await super().update_chat_ctx(chat_ctx)
        except llm.RealtimeError:
            logger.warning("realtime model did not confirm the conversation")

    def commit_audio(self) -> None:
        """Override: the turn has ended."""
        super().commit_audio()
        self._is_turn_open = self._caller_speaks

    def clear_audio(self) -> None:
        """Override: forget the turn's audio."""
        super().clear_audio()
        self._padding.clear()
        self._padding_seconds = 0.0
        self._is_turn_open = self._caller_speaks

    async def aclose(self) -> None:
        """Override: do not wait for the pause before the next connection."""
        self._closed.set()
        await super().aclose()

    async def _create_ws_conn(self) -> aiohttp.ClientWebSocketResponse:
        """Override: connect with a heartbeat, which the SDK lacks, and with a growing pause after failures."""
        if self._failures > 1:
            pause = min(0.25 * 2 ** min(self._failures, 10), _MAX_BACKOFF_SECONDS)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._closed.wait(), pause)
        url, headers = self._create_ws_url_and_headers()
        http = self._realtime_model._ensure_http_session()
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                return await http.ws_connect(url, headers=headers, heartbeat=PING_SECONDS)
        except aiohttp.ClientError as error:
            raise APIConnectionError("cannot open the WebSocket") from error
        except TimeoutError:
            raise APIConnectionError(f"no WebSocket within {CONNECT_SECONDS:g} s") from None

    def _is_fatal_error(self, error: object | None) -> bool:
        """Override: no error ends the session. The call ends after too many turns without a reply."""
        return False

    def _handle_response_created(self, event: ResponseCreatedEvent) -> None:
        """Override: the connection works."""
        self._failures = 0
        super()._handle_response_created(event)

    def _handle_error(self, event: RealtimeErrorEvent) -> None:
        """Override: only the event's id tells what it answers. The SDK names its events by their purpose."""
        self._rejected = event.error
        try:
            super()._handle_error(event)
        finally:
            self._rejected = None

    def _emit_error(self, error: Exception, recoverable: bool) -> None:
        """Override: the SDK emits here each failed connection and response, and each rejected event."""
        is_connection = isinstance(error, APIConnectionError)
        if is_connection:
            self._failures += 1
        super()._emit_error(error, recoverable)
        rejected = self._rejected
        if rejected is not None and _is_edit(rejected):
            return
        cause = cause_of(error)
        self._model.on_outcome(cause)
        is_setting = rejected is not None and not (rejected.event_id or _RESPONSES).startswith(_RESPONSES)
        if is_connection or not (is_setting or self.has_active_generation):
            self._model.on_lost_reply(cause)

    def _on_metrics(self, measured: object) -> None:
        self._model.on_usage(measured)
        if isinstance(measured, RealtimeModelMetrics) and measured.ttft >= 0:
            self._model.on_outcome(None)


def _is_edit(error: RealtimeError) -> bool:
    """Return whether an edit of the conversation was rejected. The reply comes nevertheless.

    After a lost connection, the provider does not know the items of an answer that was cut off. The SDK gives an edit
    of such an item no id.
    """
    return error.type == "invalid_request_error" and (error.event_id or _EDITS).startswith(_EDITS)


def cause_of(error: Exception) -> Exception:
    """Return an error with the status and the body of the provider's answer, which the SDK's errors hide."""
    cause = error.__cause__
    if isinstance(cause, aiohttp.WSServerHandshakeError):
        return APIStatusError("the WebSocket is refused", status_code=cause.status)
    if not isinstance(error, APIError) or error.body is None:
        return error
    answer = error.body
    code, kind = getattr(answer, "code", None), getattr(answer, "type", None)
    parameter, message = getattr(answer, "param", None), getattr(answer, "message", None)
    body = {
        "code": code,
        "type": kind,
        "param": parameter.rpartition(".")[2] if isinstance(parameter, str) else None,
        "message": message,
    }
    status = _STATUSES.get(str(code)) or _STATUSES.get(str(kind)) or -1
    return APIStatusError("the realtime model failed", status_code=status, body=body)


def too_late() -> Exception:
    """Return the error of a model that did not answer a turn in time."""
    return APITimeoutError("the turn took too long", retryable=False)


class NotReadError(Exception):
    """The model said other words than it was asked to read."""


async def read(model: TurnModel, instructions: str, tools: list[Any] | None = None) -> tuple[rtc.AudioFrame, str]:
    """Return audio and text of one response to instructions, in a session of its own.

    Raises the first error of the provider. The caller bounds the time.
    """
    session = model.session(turn_detection_disabled=True)
    failed: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    def on_error(event: llm.RealtimeModelError) -> None:
        if not failed.done():
            failed.set_exception(cause_of(event.error))

    session.on("error", on_error)
    reading: asyncio.Future[Any] = asyncio.ensure_future(_read(session, instructions, tools or []))
    try:
        await asyncio.wait({reading, failed}, return_when=asyncio.FIRST_COMPLETED)
        audio, text = (failed if failed.done() else reading).result()
        return audio, text
    finally:
        failed.cancel()
        reading.cancel()
        await asyncio.wait({reading})
        await _close(session)


async def _read(session: TurnSession, instructions: str, tools: list[Any]) -> tuple[rtc.AudioFrame, str]:
    if tools:
        await session.update_tools(tools)
    created = await session.generate_reply(instructions=instructions)
    frames, text = [], ""
    async for message in created.message_stream:
        frames += [frame async for frame in message.audio_stream]
        text += "".join([str(piece) async for piece in message.text_stream])
    if not frames:
        raise NotReadError("the response has no audio")
    return rtc.combine_audio_frames(frames), text


async def _close(session: TurnSession) -> None:
    """Close a session; one whose connection has failed raises that error again."""
    with contextlib.suppress(APIError):
        await session.aclose()
