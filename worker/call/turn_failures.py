"""A turn without a reply: the agent apologises, and too many in a row end the call."""

import asyncio
import logging
from collections.abc import Callable, Coroutine

from livekit import rtc
from livekit.agents.voice import AgentSession, ErrorEvent

from agentspec.wire import CallOutcome
from worker import provider_reports
from worker.call import budget, metrics, phrases, sentences
from worker.call.reply_output import ReplyOutput
from worker.call.turn_watch import TurnWatch
from worker.call.voice import Stages
from worker.stages import EmptyReply

logger = logging.getLogger(__name__)


class TurnFailures:
    """Watches the turns of a session and the errors of its stages.

    `end` ends the call, and `spawn` runs a coroutine as a named task of the call.
    """

    def __init__(
        self,
        session: AgentSession[None],
        output: ReplyOutput,
        stages: Stages,
        language: str,
        *,
        end: Callable[[CallOutcome, str], None],
        spawn: Callable[[Coroutine[None, None, None], str], None],
    ) -> None:
        self._session = session
        self._stages = stages
        self._language = language
        self._sentences = sentences.for_language(language)
        self._end = end
        self._spawn = spawn
        self._turns = TurnWatch(session, output, on_unexplained=self._fail_turn)
        self._apology: rtc.AudioFrame | None = None
        self._apologising = False

    def watch(self) -> None:
        """Start to watch, and read the prepared sentences of a failing turn before one fails."""
        self._session.on("error", self._on_error)
        self._turns.watch()
        self._spawn(self._read_sentences(), "read_sentences")

    def close(self) -> None:
        """Stop watching: nothing more is played."""
        self._turns.close()

    async def _read_sentences(self) -> None:
        texts = self._sentences
        self._turns.one_moment, self._apology = await asyncio.gather(
            *(self._audio(text) for text in (texts.one_moment, texts.apology))
        )

    async def _audio(self, text: str) -> rtc.AudioFrame | None:
        return await phrases.audio(text, self._language, self._stages)

    def _on_error(self, event: ErrorEvent) -> None:
        error = event.error
        stage = str(error.type).removesuffix("_error").replace("realtime_model", "llm")
        is_retried = getattr(error, "recoverable", True)
        metrics.PROVIDER_ERRORS.labels(stage, "true" if is_retried else "false").inc()
        if is_retried:
            return
        cause = error.error
        details = {"error": type(cause).__name__, "status": getattr(cause, "status_code", None)}
        details |= {"code": provider_reports.code_of(cause)}
        if isinstance(cause, EmptyReply):
            details |= {"finish_reason": cause.finish_reason, "max_tokens": cause.max_tokens}
        logger.error("provider failed", extra=self._stages.fields(stage) | details)
        self._fail_turn()

    def _fail_turn(self) -> None:
        """Apologise for a turn without a reply; end the call after too many in a row."""
        if self._apologising or not self._turns.failed():
            return
        if self._turns.failed_turns > budget.MAX_FAILED_TURNS:
            self._end(CallOutcome.PROVIDER_FAILED, f"{self._turns.failed_turns} turns in a row had no reply")
            return
        self._apologising = True
        self._spawn(self._apologise(), "apologise")

    async def _apologise(self) -> None:
        """Say that an error occurred, so that the caller does not wait in silence."""
        text = self._sentences.apology
        try:
            async with asyncio.timeout(budget.SAY_SECONDS):
                audio = self._apology or await self._audio(text)
                if audio is not None:
                    speech = self._session.say(
                        text, audio=phrases.frames(audio), allow_interruptions=False, add_to_chat_ctx=False
                    )
                    await speech.wait_for_playout()
        except TimeoutError:
            logger.warning("apology did not play in time", extra={"seconds": budget.SAY_SECONDS})
        finally:
            self._apologising = False
