"""Waiting against cut-ins, for settings of the turn detection: the curve that the product's settings are chosen from.

Every voice has complete turns and unfinished ones. Whole prompts of people are complete; what precedes an inner pause
of at least 0.3 s is unfinished. espeak-ng's turns are sentences, and clauses that continue; their pauses have the
lengths of the people's.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from livekit.agents import LanguageCode
from livekit.agents.inference import TurnDetector
from livekit.local_inference import EOT

from devkit import benchmarks, debian
from devkit.benchmarks import CurvePoint, TurnTaking, VoiceTurns
from devkit.progress import LogProgress
from tests.bench import turns
from tests.bench.endpointing import SHORTEST_PAUSE, Delays, Pause, Turns, answered_in_pause, cut_ins, replay, waiting
from worker import sdk
from worker.call import turn_taking

SDK_DELAYS = Delays(1.0, 0.3, 2.5)
"""The defaults of livekit-agents 1.8.9 for this model (voice/turn.py)."""
SDK_SILENCE_DELAY = 0.5
"""The same for languages that the model does not know."""
CHOSEN = Delays(1.0, turn_taking.MIN_DELAY, turn_taking.MAX_DELAY)
CURVE = (
    SDK_DELAYS,
    *(Delays(1.0, minimum, 0.9) for minimum in (0.3, 0.4, 0.45, 0.5, 0.6)),
    *(Delays(scale, 0.45, 0.9) for scale in (0.7, 1.3)),
    *(Delays(1.0, 0.45, maximum) for maximum in (0.6, 1.5, 2.5)),
)
"""Points of the curve, each one step away from the chosen one."""
SHORT_PAUSE, LONG_PAUSE = 0.8, 1.5
"""Seconds. The recorded pauses are shorter, because the prompts were read; people who think pause longer."""
ANSWER_OVERHEAD = 0.27
"""Seconds from the end of the turn until a caller hears the answer, with a real server and providers that answer at
once: the answer came 2.77 s after the last word with a delay of 2.5 s."""
MOST_ANSWER_SECONDS = 1.2
MOST_CUT_INS = 0.05


async def human_turns(folder: Path, language: str, eot: EOT) -> Turns:
    complete = [(await replay(turns.recording(file), eot))[-1] for file in turns.complete_prompts(folder)]
    unfinished: list[Pause] = []
    for file in turns.long_prompts(folder):
        if len(unfinished) < turns.TURNS:
            pauses = await replay(turns.recording(file), eot)
            unfinished += [pause for pause in pauses[:-1] if pause.silence >= SHORTEST_PAUSE]
    return Turns(
        f"{language}, human", await threshold_of(language), False, tuple(complete), tuple(unfinished[: turns.TURNS])
    )


async def synthetic_turns(language: str, eot: EOT, lengths: Sequence[tuple[float, float]]) -> Turns:
    async def last(texts: tuple[str, ...]) -> AsyncIterator[Pause]:
        for samples in turns.spoken(texts):
            yield (await replay(samples, eot))[-1]

    complete = [pause async for pause in last(turns.SENTENCES[language])]
    judged = [pause async for pause in last(turns.CLAUSES[language])]
    unfinished = [
        replace(pause, silence=silence, heard_again=heard_again)
        for pause, (silence, heard_again) in zip(judged, _spread(lengths, len(judged)), strict=True)
    ]
    return Turns(f"{language}, espeak-ng", await threshold_of(language), True, tuple(complete), tuple(unfinished))


def _spread(lengths: Sequence[tuple[float, float]], count: int) -> list[tuple[float, float]]:
    """Return `count` of the sorted lengths at equal distances, in an order that no text or voice follows."""
    ordered = sorted(lengths)
    chosen = [ordered[index * len(ordered) // count] for index in range(count)]
    return [chosen[index * 7 % count] for index in range(count)]


async def all_turns() -> list[Turns]:
    eot = EOT()
    folders = debian.ensure(LogProgress(), debian.PROMPTS)
    people = [await human_turns(folder, language, eot) for language, folder in sorted(folders.items())]
    lengths = [(pause.silence, pause.heard_again) for voice in people for pause in voice.unfinished]
    return [*people, *[await synthetic_turns(language, eot, lengths) for language in sorted(turns.SENTENCES)]]


async def threshold_of(language: str) -> float | None:
    """Return the model's own threshold of a language; None for a language that the session does not use it for."""
    if not sdk.has_local_turn_detection(language):
        return None
    return await TurnDetector(version="v1-mini").unlikely_threshold(LanguageCode(language))


def settings(voice: Turns, delays: Delays) -> Delays:
    """Return the delays that the product, or the SDK by default, uses for the language of a voice."""
    if voice.threshold is not None:
        return delays
    return replace(delays, minimum={CHOSEN: turn_taking.SILENCE_DELAY, SDK_DELAYS: SDK_SILENCE_DELAY}[delays])


def measured(voice: Turns, delays: Delays) -> VoiceTurns:
    used = settings(voice, delays)
    median, p95 = waiting(voice, used)
    return VoiceTurns(
        voice=voice.voice,
        complete=len(voice.complete),
        unfinished=len(voice.unfinished),
        waiting_p50=round(median, 2),
        waiting_p95=round(p95, 2),
        cut_ins=round(cut_ins(voice, used), 3),
        answered_in_short_pause=round(answered_in_pause(voice, used, SHORT_PAUSE), 3),
        answered_in_long_pause=round(answered_in_pause(voice, used, LONG_PAUSE), 3),
    )


def point(voices: Sequence[Turns], delays: Delays) -> CurvePoint:
    """Return a point of the curve: the worst voice for waiting, all unfinished turns together for the shares."""
    each = {voice: measured(voice, delays) for voice in voices}
    synthetic = [result for voice, result in each.items() if voice.is_synthetic]
    people = [result for voice, result in each.items() if not voice.is_synthetic]
    return CurvePoint(
        threshold_scale=delays.threshold_scale,
        min_delay=delays.minimum,
        max_delay=delays.maximum,
        waiting_p50=float(np.median([result.waiting_p50 for result in each.values()])),
        waiting_p95=max(result.waiting_p95 for result in each.values()),
        cut_ins_people=_together(people, lambda result: result.cut_ins),
        cut_ins_synthetic=_together(synthetic, lambda result: result.cut_ins),
        answered_in_short_pause=_together([*people, *synthetic], lambda result: result.answered_in_short_pause),
        answered_in_long_pause=_together([*people, *synthetic], lambda result: result.answered_in_long_pause),
    )


def _together(results: Sequence[VoiceTurns], share: Callable[[VoiceTurns], float]) -> float:
    """Return the share over all unfinished turns of some voices."""
    turns_with = sum(share(result) * result.unfinished for result in results)
    return round(turns_with / sum(result.unfinished for result in results), 3)


@pytest.mark.timeout(1800)
def test_turns_end_in_time_and_are_not_cut() -> None:
    voices = asyncio.run(all_turns())
    known = [voice for voice in voices if voice.threshold is not None]
    before = [measured(voice, SDK_DELAYS) for voice in voices]
    after = [measured(voice, CHOSEN) for voice in voices]
    curve = [point(known, delays) for delays in CURVE]
    for row in (*before, *after, *curve):
        print(row)
    for voice in after:
        assert voice.waiting_p95 + ANSWER_OVERHEAD <= MOST_ANSWER_SECONDS, f"{voice.voice}: callers wait too long"
    chosen = point(known, CHOSEN)
    assert max(chosen.cut_ins_people, chosen.cut_ins_synthetic) <= MOST_CUT_INS
    benchmarks.record(TurnTaking(run=benchmarks.this_run(), before=before, after=after, curve=curve))
