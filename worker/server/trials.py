"""Tries stt and llm once per worker, so that a wrong model or language is known before a caller has to find out.

The worker synthesises its phrases anyway, which tries tts (`worker.call.phrases`). Here each stage gets the smallest
request that a call would send: a completion of one word, and the transcription of one second of a prepared phrase.
Both together cost about twenty tokens and one second of audio. A realtime model says one word instead. They are not
sent before LiveKit has registered the worker, because readiness comes first, nor for a stage that a call has shown to
work. Workers that start together wait for different times, at most SPREAD_SECONDS, so that they do not exceed the
provider's rate limit.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from typing import Final

from livekit import rtc
from livekit.agents import APIError, ChatContext, llm

from agentspec.wire import ProviderStage, WorkerConfig
from worker import realtime
from worker.call import budget, outcomes, phrases, voice
from worker.call.providers.sentences import instructions
from worker.call.tools.http import http_tool
from worker.call.voice import Stages
from worker.provider_reports import ProviderLog, StageOutcome, failed, succeeded
from worker.realtime import NotReadError

logger = logging.getLogger(__name__)

SPREAD_SECONDS: Final = 5.0
ATTEMPT_SECONDS: Final = 30.0
"""Longest duration of one attempt, whatever the time limits of its stage are."""

_Attempt = Callable[[WorkerConfig, Stages, Callable[[StageOutcome], None]], Awaitable[None]]


async def run(config: WorkerConfig, stages: Stages, log: ProviderLog, registered: asyncio.Event) -> None:
    """Try each stage until one of its requests has succeeded; `log` receives the outcomes.

    Gives up after as many attempts as the phrases get. From then on only calls show whether the stage works.
    """
    await registered.wait()
    for pause in (random.uniform(0.0, SPREAD_SECONDS), *budget.PREPARE_RETRY_SECONDS):
        await asyncio.sleep(pause)
        attempts = _attempts(stages)
        untried = [stage for stage in attempts if not log.has_succeeded(stage)]
        if not untried:
            return
        await asyncio.gather(*(_try(stage, attempts[stage], config, stages, log) for stage in untried))


async def try_once(config: WorkerConfig, stages: Stages, log: ProviderLog) -> None:
    """Try every stage once, tts first: stt hears its phrase. `log` receives the outcomes."""
    await phrases.prepare_first(config, stages, log.record)
    attempts = _attempts(stages)
    await asyncio.gather(*(_try(stage, attempts[stage], config, stages, log) for stage in attempts))


async def _try(
    stage: ProviderStage, attempt: "_Attempt", config: WorkerConfig, stages: Stages, log: ProviderLog
) -> None:
    def record(outcome: StageOutcome) -> None:
        log.record(outcome)
        if (failure := outcome.failure) is not None:
            fields = {"stage": stage, "status": failure.status, "error": failure.code or failure.error}
            logger.warning("trying a provider failed", extra=fields)

    try:
        async with asyncio.timeout(ATTEMPT_SECONDS):
            await attempt(config, stages, record)
    except TimeoutError as error:
        record(failed(stage, error))
    except APIError:
        pass  # the stage has emitted it
    except Exception:  # a trial must never end the worker
        logger.exception("trial crashed", extra={"stage": stage})


async def _complete(config: WorkerConfig, stages: Stages, record: Callable[[StageOutcome], None]) -> None:
    context = ChatContext.empty()
    context.add_message(role="user", content="Answer with the word: yes")
    async with stages.make_llm() as stage:
        outcomes.follow(ProviderStage.LLM, stage, record)
        await stage.chat(
            chat_ctx=context, tools=_tools(config), tool_choice="none", conn_options=voice.LLM_CONNECTION
        ).collect()


async def _transcribe(config: WorkerConfig, stages: Stages, record: Callable[[StageOutcome], None]) -> None:
    second = first_second(await phrases.prepared(config, stages))
    async with stages.make_stt(config.language) as stage:
        outcomes.follow(ProviderStage.STT, stage, record)
        await stage.recognize(second, conn_options=voice.STT_CONNECTION)


async def _read(config: WorkerConfig, stages: Stages, record: Callable[[StageOutcome], None]) -> None:
    """Let a realtime model say one word, which needs the right key, model and voice."""
    model = stages.make_realtime(config.language, reconnects=False)
    try:
        await realtime.read(model, instructions("yes"), _tools(config))
    except (APIError, NotReadError, llm.RealtimeError) as error:
        record(failed(ProviderStage.LLM, error))
    else:
        record(succeeded(ProviderStage.LLM))
    finally:
        await model.aclose()


def _tools(config: WorkerConfig) -> list[llm.Tool]:
    """Return the HTTP tools: the provider checks their schemas, so a wrong one is known before a call sends it."""
    return [http_tool(tool.name, tool.http, {}) for tool in config.tools if tool.http is not None]


_ATTEMPTS: Final[dict[ProviderStage, _Attempt]] = {ProviderStage.STT: _transcribe, ProviderStage.LLM: _complete}
_REALTIME_ATTEMPTS: Final[dict[ProviderStage, _Attempt]] = {ProviderStage.LLM: _read}


def _attempts(stages: Stages) -> dict[ProviderStage, _Attempt]:
    return _REALTIME_ATTEMPTS if stages.is_realtime else _ATTEMPTS


def first_second(phrase: rtc.AudioFrame | None) -> rtc.AudioFrame:
    """Return the first second of a phrase; silence when no phrase could be prepared, which tries the model as well."""
    rate, channels = (phrase.sample_rate, phrase.num_channels) if phrase is not None else (16_000, 1)
    samples = bytes(phrase.data.cast("b")) if phrase is not None else b""
    size = 2 * rate * channels
    return rtc.AudioFrame(
        data=samples[:size].ljust(size, b"\0"), sample_rate=rate, num_channels=channels, samples_per_channel=rate
    )
