"""One call: join the room, wait for the caller, greet, converse, end with an outcome.

The job starts before the caller arrives. Meanwhile the call prepares the room, the session and the avatar. The
greeting's audio was synthesised before, so the first word follows the caller's arrival at once.
"""

import asyncio
import logging
import os
import time
from collections.abc import Coroutine
from functools import partial
from typing import Final

from livekit import api
from livekit.agents import NOT_GIVEN, Agent, AutoSubscribe, JobContext
from livekit.agents.voice import (
    AgentStateChangedEvent,
    CloseEvent,
    CloseReason,
    ConversationItemAddedEvent,
)
from livekit.agents.voice.room_io import RoomOptions

from agentspec.wire import (
    REPORTED_OUTCOMES,
    CallOutcome,
    Speaker,
    WorkerConfig,
    read_dispatch_metadata,
    read_room_record,
    with_outcome,
)
from worker import avatar_reports, job_reports, provider_reports, sdk
from worker.call import (
    budget,
    call_agent,
    conversation,
    metrics,
    outcomes,
    prompt,
    sentences,
    speech_detection,
    turn_taking,
    voice,
)
from worker.call.agent_audio import AgentAudio
from worker.call.avatars.declared import avatar_of
from worker.call.call_avatar import CallAvatar, has_video
from worker.call.call_record import CallRecord
from worker.call.caller import Caller
from worker.call.conversation import index_of
from worker.call.idle import IdleCaller
from worker.call.length import CallLength
from worker.call.opening import Opening
from worker.call.prepared_speech import PreparedSpeech
from worker.call.reply_output import ReplyOutput
from worker.call.room_state import RoomState
from worker.call.tools import CallControl, make_tools
from worker.call.tracing import CallTrace
from worker.call.turn_failures import TurnFailures
from worker.call.voice import Stages

logger = logging.getLogger(__name__)

OLDEST_REQUEST_SECONDS: Final = 150.0
"""An older call was answered before, and this agent replaces a lost one: a gateway searches for an agent for 120 s."""

_SDK_OUTCOMES: Final = {sdk.ROOM_DISCONNECTED: CallOutcome.ROOM_CLOSED, sdk.JOB_CRASHED: CallOutcome.CRASHED}
"""Outcomes of jobs that the SDK ended, by its shutdown reason."""


class Call:
    """The call of a job, from the assignment to the end."""

    def __init__(self, context: JobContext, config: WorkerConfig, stages: Stages) -> None:
        self._context = context
        self._shut_down = context.shutdown
        object.__setattr__(context, "shutdown", self._on_shutdown_request)
        self._stages = stages
        self._tasks: set[asyncio.Task[None]] = set()
        self._outcome: CallOutcome | None = None
        self._own_reason = ""
        """The reason with which own code ended the job; empty: none."""
        self._closes_room = False
        """This call deletes the room: it ended here, and only the caller was in the room."""
        self._outcome_recorded = False
        self._leaving: asyncio.Task[None] | None = None
        self._started = time.monotonic()
        self._caller_arrived: float | None = None
        self._answered = False
        self._is_closing = False
        metadata, dropped = read_dispatch_metadata(context.job.metadata)
        context.log_context_fields = {"room": context.job.room.name, "job_id": context.job.id}
        if metadata.is_from_gateway:
            context.log_context_fields["call_id"] = metadata.call_id
        if dropped:
            logger.warning("dispatch metadata shortened", extra={"dropped": dropped})
        self._is_from_gateway = metadata.is_from_gateway
        self._metadata = metadata
        index = index_of(config)  # of the agent's own language: the fork server has built it
        self._config = config = config.in_language(metadata.language)
        self._record = CallRecord(config, metadata)
        self._trace = CallTrace(config, metadata)
        self._caller = Caller(context.room, metadata.caller_identity, on_left=self._on_caller_left)
        control = CallControl(context, self._caller, self._say_goodbye, self._end_by_agent)
        tools = make_tools(config.tools, control, os.environ.__getitem__)
        self._session = voice.make_session(stages, config.language, index, tools)
        spoken = sentences.for_language(config.language)
        self._speech = speech = PreparedSpeech(self._session, stages, config.language)
        self._idle_caller = IdleCaller(self._session, config.conversation, spoken, speech, self.end)
        self._length = CallLength(self._session, config, spoken, speech, self.end)
        self._room_state = RoomState(context, self._caller, stores_turns=config.conversation.resume_after_rescue)
        self._opening = Opening(self._session, config)
        self._agent_audio = AgentAudio(context.room)
        self._output = ReplyOutput(self._agent_audio.output)
        self._turns = TurnFailures(
            self._session, self._output, stages, config.language, end=self.end, spawn=self._spawn
        )
        self._avatar = CallAvatar(
            self._session,
            context.room,
            avatar_of(config, context.job),
            config.avatar.on_failure,
            has_seat=metadata.avatar,
            has_video=partial(has_video, metadata, self._caller),
            end_call=self.end,
            repeat_speech=self._repeat_speech,
            report=partial(avatar_reports.report, context.job.id),
        )

    async def start(self) -> None:
        """Join the room and start the session. The conversation continues in tasks of its own."""
        self._context.add_shutdown_callback(self._on_shutdown)
        await self._context.connect(auto_subscribe=AutoSubscribe.SUBSCRIBE_NONE)
        self._trace.start(self._context, requested_at=self._requested_at())
        job_reports.joined(self._context.job.id)
        metrics.STARTED.inc()
        if (offered_at := sdk.offered_at(self._context)) is not None:
            metrics.JOIN_DURATION.observe(time.time() - offered_at)
        self._caller.watch()
        agent = await self._make_agent()
        self._follow_session()
        self._spawn(self._agent_audio.publish(), "publish_audio")
        if self._opening.text:
            turn_taking.ignore_caller(self._session)
        await self._session.start(
            agent,
            room=self._context.room,
            room_options=RoomOptions(
                text_input=False,
                audio_input=speech_detection.ROOM_AUDIO,
                audio_output=False,
                participant_kinds=list(Caller.KINDS),
                close_on_disconnect=False,
                participant_identity=self._caller.identity or NOT_GIVEN,
            ),
            session_host=False,
            record=False,
        )
        self._spawn(self._avatar.run(), "avatar")
        self._spawn(self._converse(), "converse")
        self._spawn(self._length.enforce(), "enforce_length")
        self._spawn(self._room_state.run(), "store_state")

    async def _make_agent(self) -> Agent:
        """Return the agent that takes the call, with its facts and the conversation of a lost agent."""
        job = self._context.job
        agent = await call_agent.make_agent(self._config, self._metadata, room=job.room.name, job_id=job.id)
        await self._opening.resume(agent, self._room_state.load())
        return agent

    def _follow_session(self) -> None:
        """Listen to the session's events, and watch what callers hear."""
        self._session.on("close", self._on_close)
        self._session.on_closing = self._on_closing
        self._session.on("agent_state_changed", self._on_agent_state)
        self._session.on("conversation_item_added", self._on_item)
        self._record.follow(self._session)
        metrics.follow_usage(self._session)
        outcomes.follow_session(self._session, provider_reports.report)
        self._session.output.audio = self._output
        self._turns.watch()

    async def _converse(self) -> None:
        self._opening.prepare(self._stages)
        if not await self._wait_for_caller():
            return
        self._caller_arrived = time.monotonic()
        logger.info("caller arrived", extra={"waited_seconds": round(self._caller_arrived - self._started, 3)})
        if facts := prompt.telephone_facts(self._caller.telephone_facts):
            await conversation.add_facts(self._session.current_agent, facts)
        if self._opening.text:
            await self._wait_until_audible()
            await self._avatar.wait_until_decided()
            await self._opening.say()
        await self._idle_caller.run()

    async def _wait_for_caller(self) -> bool:
        """Wait for the caller. Ends the call and returns False when no caller joined or answered in time."""
        for arrival, limit, missing in (
            (self._caller.joined, budget.CALLER_SECONDS, "no caller"),
            (self._caller.arrived, budget.RINGING_SECONDS, "no answer of the telephone"),
        ):
            try:
                await asyncio.wait_for(arrival(), limit)
            except TimeoutError:
                self.end(CallOutcome.CALLER_ABSENT, f"{missing} within {limit:g} s")
                return False
        return True

    def _on_caller_left(self) -> None:
        if self._caller.has_arrived:
            self.end(CallOutcome.CALLER_LEFT, "the caller left the room")
        else:
            self.end(CallOutcome.CALLER_ABSENT, "the telephone was not answered")

    async def _wait_until_audible(self) -> None:
        """Wait until the caller can hear the agent, at most AUDIBLE_SECONDS."""
        try:
            async with asyncio.timeout(budget.AUDIBLE_SECONDS):
                await self._caller.connected()
                await self._agent_audio.wait_for_subscription()
        except TimeoutError:
            logger.warning("caller did not subscribe to the agent's audio", extra={"seconds": budget.AUDIBLE_SECONDS})

    def _repeat_speech(self) -> None:
        """Say by voice what the lost avatar did not play."""
        if self._is_closing:
            return
        self._opening.repeat()

    def _on_agent_state(self, event: AgentStateChangedEvent) -> None:
        if event.new_state != "speaking" or self._answered or self._caller_arrived is None:
            return
        self._answered = True
        seconds = time.monotonic() - self._caller_arrived
        if self._opening.text:
            metrics.GREETING_DURATION.observe(seconds)
            if not self._opening.is_rescue:
                self._record_answer()
        logger.info("answered", extra={"seconds": round(seconds, 3)})

    def _record_answer(self) -> None:
        """Record how long the caller of a gateway waited for the first sound."""
        if (requested_at := self._requested_at()) is not None:
            metrics.ANSWER_DURATION.observe(max(0.0, time.time() - requested_at))

    def _requested_at(self) -> float | None:
        """When the caller asked a gateway for the call, in Unix seconds; None: no gateway, or a rescue."""
        record = read_room_record(self._room_state.record) if self._is_from_gateway else None
        if record is None or time.time() - record.created_at > OLDEST_REQUEST_SECONDS:
            return None
        return record.created_at

    def _on_item(self, event: ConversationItemAddedEvent) -> None:
        if event.item.type != "message":
            return
        text = event.item.text_content or ""
        if event.item.role == "user":
            metrics.record_caller_turn(event.item.metrics)
            self._room_state.add(Speaker.CALLER, text)
        else:
            metrics.record_reply(event.item.metrics)
            self._room_state.add(Speaker.AGENT, text)

    def _on_closing(self) -> None:
        """Say nothing more: own code ends the call, or the job ends, for example because the room was closed."""
        self._is_closing = True
        self._turns.close()
        self._cancel_tasks()

    def _on_close(self, event: CloseEvent) -> None:
        if event.reason is CloseReason.ERROR:
            self.end(CallOutcome.PROVIDER_FAILED, "stt, llm or tts failed repeatedly")
        elif not self._session.is_closed_by_job and self._context.room.isconnected():
            self._end_by_agent()

    def _on_shutdown_request(self, reason: str = "") -> None:
        """Replace the context's `shutdown`, by which own code ends the call. Its shutdown callbacks get the reason."""
        if self._outcome is None:
            self._own_reason = reason
        self._end_by_agent()

    async def _say_goodbye(self) -> None:
        goodbye = sentences.for_language(self._config.language).goodbye
        await self._speech.say(goodbye, allow_interruptions=False)

    def _end_by_agent(self) -> None:
        self.end(CallOutcome.AGENT_ENDED, "the agent ended the call")

    def end(self, outcome: CallOutcome, reason: str) -> None:
        """End the call. The first outcome counts; later ones are ignored."""
        if self._outcome is None:
            self._outcome = outcome
            # A gateway sends another agent to a caller whose agent crashed, so the room must stay.
            is_replaced = outcome is CallOutcome.CRASHED and self._is_from_gateway
            self._closes_room = not (is_replaced or self._caller.others_present())
            logger.info("ending call", extra={"outcome": outcome, "reason": reason})
            self._turns.close()
            self._cancel_tasks()
            self._leaving = asyncio.create_task(self._leave(outcome), name="leave")

    async def _leave(self, outcome: CallOutcome) -> None:
        """Record the outcome in the room and leave. Without the record the gateway would consider the agent lost."""
        if self._is_from_gateway and self._closes_room and outcome in REPORTED_OUTCOMES:
            try:
                await asyncio.wait_for(self._record_outcome(outcome), budget.RECORD_SECONDS)
                self._outcome_recorded = True
            except Exception as error:  # the call must end whatever fails here
                logger.warning("could not record the outcome in the room", extra={"error": type(error).__name__})
        self._shut_down(self._own_reason or outcome)

    async def _record_outcome(self, outcome: CallOutcome) -> None:
        metadata = with_outcome(self._room_state.record, outcome)
        update = api.UpdateRoomMetadataRequest(room=self._context.room.name, metadata=metadata)
        await self._context.api.room.update_room_metadata(update)

    async def _on_shutdown(self, reason: str) -> None:
        """Release what belongs to the call. The SDK runs this after the agent has left, whatever ended the job."""
        outcome = self._outcome or _SDK_OUTCOMES.get(reason, CallOutcome.STOPPED)
        self._outcome = outcome
        job_reports.ended(self._context.job.id, outcome)
        self._caller.unwatch()
        self._turns.close()
        self._cancel_tasks()
        self._record.finish(self._context, outcome)
        # Concurrently: an avatar may take long to close, and a gateway would send another agent to a room without one.
        await asyncio.gather(self._avatar.close(), self._agent_audio.close(), self._close_room())
        seconds = time.monotonic() - self._started
        metrics.ENDED.labels(outcome).inc()
        metrics.CALL_DURATION.observe(seconds)
        logger.info("call ended", extra={"outcome": outcome, "seconds": round(seconds, 1)})
        await self._trace.finish(outcome)

    async def _close_room(self) -> None:
        if not self._closes_room:
            return
        if self._outcome_recorded:
            await asyncio.sleep(budget.GATEWAY_CLOSE_SECONDS)
        try:
            await asyncio.wait_for(asyncio.shield(self._context.delete_room()), budget.DELETE_SECONDS)
        except TimeoutError:
            logger.warning("deleting the room timed out", extra={"seconds": budget.DELETE_SECONDS})

    def _cancel_tasks(self) -> None:
        for task in self._tasks - {asyncio.current_task()}:
            task.cancel()

    def _spawn(self, work: Coroutine[None, None, None], name: str) -> None:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._on_task_done)

    def _on_task_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if task.cancelled() or task.exception() is None or not self._context.room.isconnected():
            return
        logger.error("call task failed", extra={"task": task.get_name()}, exc_info=task.exception())
        self.end(CallOutcome.CRASHED, f"internal error in {task.get_name()}")
