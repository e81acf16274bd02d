"""Connects `TurnBudget` with a session: passes on what happens in it, and does what is due."""

import asyncio
import logging
import math
from collections.abc import Callable
from typing import Any

from livekit import rtc
from livekit.agents import llm, tts
from livekit.agents.voice import (
    AgentSession,
    AgentStateChangedEvent,
    FunctionToolsExecutedEvent,
    ToolExecutionUpdatedEvent,
    UserStateChangedEvent,
)

from worker import provider_reports, realtime, stages
from worker.call import budget, metrics
from worker.call.conversation import BoundedLLM
from worker.call.reply_output import ReplyOutput
from worker.call.turn_budget import Action, TurnBudget
from worker.call.turn_stt import TurnSTT
from worker.realtime import TurnModel

logger = logging.getLogger(__name__)


class TurnWatch:
    """Watches the turns of a session. `one_moment` is the prepared phrase, once it has been read.

    A turn that takes too long ends as a failure of the stage that did not answer: the session emits that stage's
    error. `on_unexplained` is called instead when no stage is busy.
    """

    def __init__(self, session: AgentSession[None], output: ReplyOutput, on_unexplained: Callable[[], None]) -> None:
        self.one_moment: rtc.AudioFrame | None = None
        self._session = session
        self._output = output
        self._on_unexplained = on_unexplained
        self._budget = TurnBudget()
        self._timer: asyncio.TimerHandle | None = None
        self._playing: asyncio.Task[None] | None = None
        self._is_closed = False

    def watch(self) -> None:
        """Start to watch."""
        self._session.on("user_state_changed", self._on_user_state)
        self._session.on("agent_state_changed", self._on_agent_state)
        self._session.on("tool_execution_updated", self._on_tool)
        self._session.on("function_tools_executed", self._on_tools_executed)
        self._output.on_audio = self._on_audio
        self._output.on_ended = self._on_audio_ended
        if isinstance(self._session.stt, TurnSTT):
            self._session.stt.on_started = self._on_transcription_started
            self._session.stt.on_finished = self._on_transcription_ended
        if isinstance(self._session.llm, TurnModel):
            self._session.llm.on_lost_reply = self._on_lost_reply

    def close(self) -> None:
        """Stop watching: nothing more is played."""
        self._is_closed = True
        self._arm()
        if self._playing is not None:
            self._playing.cancel()

    @property
    def failed_turns(self) -> int:
        """How many turns have failed in a row."""
        return self._budget.failed_turns

    def failed(self) -> bool:
        """Record that a stage failed. Returns whether to apologise; not once the watch is closed."""
        apologises = self._budget.failed()
        self._arm()
        return apologises and not self._is_closed

    def _on_user_state(self, event: UserStateChangedEvent) -> None:
        speaks = event.new_state == "speaking"
        if speaks:
            self._budget.caller_speaks()
        else:
            self._budget.caller_stopped(self._now())
        if isinstance(self._session.llm, TurnModel):
            self._session.llm.caller_speaks(speaks)
            if event.old_state == "speaking" and self._is_heard():
                self._budget.turn_began(self._now())
        self._arm()

    def _is_heard(self) -> bool:
        """Whether the session replies to what the caller says: not during a speech that nobody may interrupt."""
        current = self._session.current_speech
        return current is None or current.done() or current.allow_interruptions

    def _on_lost_reply(self, error: Exception) -> None:
        """A realtime model's reply will not come, for example because its connection broke."""
        if self._is_closed or not self._budget.owes_reply:
            return
        self._record_failure(error)
        _ = self._session.interrupt(force=True)
        self._on_unexplained()

    def _record_failure(self, error: Exception) -> None:
        """Count and log the failure of a realtime model, whose session emits no error for a single turn."""
        metrics.PROVIDER_ERRORS.labels("llm", "false").inc()
        fields = {"error": type(error).__name__, "status": getattr(error, "status_code", None)}
        logger.error("provider failed", extra={"stage": "llm", "code": provider_reports.code_of(error), **fields})

    def _on_agent_state(self, event: AgentStateChangedEvent) -> None:
        if event.new_state == "listening":
            self._budget.agent_listens()
            self._arm()

    def _on_tool(self, event: ToolExecutionUpdatedEvent) -> None:
        if event.update.type == "tool_call_started":
            self._budget.tool_started(self._now())
            self._arm()

    def _on_tools_executed(self, event: FunctionToolsExecutedEvent) -> None:
        """All tools of a step have ended, or gave a first answer and go on in the background."""
        self._budget.tools_ended(self._now(), owes_reply=event.has_tool_reply)
        self._arm()

    def _on_transcription_started(self) -> None:
        self._budget.transcription_started(self._now())
        self._arm()

    def _on_transcription_ended(self, has_text: bool) -> None:
        self._budget.transcription_ended(has_text=has_text)
        self._arm()

    def _on_audio(self, until: float) -> None:
        self._budget.audio(until)
        if self._timer is None:
            self._arm()  # an armed timer looks again when it fires; so a frame costs next to nothing

    def _on_audio_ended(self, interrupted: bool) -> None:
        self._budget.audio_ended(interrupted=interrupted)
        self._arm()

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        at = None if self._is_closed else self._budget.next_due()
        if at is not None and at != math.inf:
            self._timer = asyncio.get_running_loop().call_at(at, self._act)

    def _act(self) -> None:
        self._timer = None
        match self._budget.due(self._now()):
            case Action.ONE_MOMENT:
                self._playing = asyncio.create_task(self._say_one_moment(), name="one_moment")
            case Action.GIVE_UP:
                self._give_up()
        self._arm()

    async def _say_one_moment(self) -> None:
        if self.one_moment is None:
            return
        try:
            await self._output.play(self.one_moment)
        except TimeoutError:
            return  # the agent still speaks
        logger.info("reply is slow, said one moment")

    def _give_up(self) -> None:
        """End the turn as a failure of the stage that holds it up."""
        logger.warning("gave up on a reply", extra={"seconds": budget.GIVE_UP_SECONDS})
        _ = self._session.interrupt(force=True)
        stage = self._busy_stage()
        if isinstance(self._session.llm, TurnModel):
            error = realtime.too_late()
            self._session.llm.on_outcome(error)
            self._record_failure(error)
        if stage is None:
            self._on_unexplained()
        else:
            stages.emit_timeout(stage)

    def _busy_stage(self) -> llm.LLM[Any] | tts.TTS[Any] | None:
        """Return the stage that holds up the reply: speech if it is busy, because the model's words wait for it.

        A transcription fails by itself before a turn is given up.
        """
        model = self._session.llm
        for stage in (self._session.tts, model.inner if isinstance(model, BoundedLLM) else model):
            if isinstance(stage, llm.LLM | tts.TTS) and stages.is_busy(stage):
                return stage
        return None
