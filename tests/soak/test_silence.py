"""What callers hear when a provider misbehaves: each stage, each kind of fault, by voice and with an avatar.

The run prints a table: when the first sound and the reply or apology began after the caller's last word, and the
longest silence until then.
"""

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass

import pytest

from tests.e2e import agents
from tests.e2e.callers import ARABIC, greeted
from tests.e2e.conftest import Platform
from tests.soak.turns import ALLOWANCE_SECONDS, STAGES, Question, Said, Turn, take_turn

KINDS = ("500", "stall", "half_close", "empty", "half_stall")
ASKED = Question(*ARABIC, "ar")
AVATAR_ALLOWANCE_SECONDS = 1.0
"""An avatar receives the audio before it plays it."""

pytestmark = pytest.mark.timeout(1200)


@dataclass(frozen=True)
class Case:
    """A turn with a fault of one kind in one stage; without a stage, a turn while all providers are healthy."""

    stage: str
    kind: str
    avatar: bool
    turn: Turn

    def __str__(self) -> str:
        output = "avatar" if self.avatar else "voice"
        return f"{self.stage or '-':4} {self.kind or 'healthy':11} {output:7} {self.turn}"


async def table(platform: Platform, agent: str, *, avatar: bool) -> list[Case]:
    """Return one turn for each stage and kind: a call for each stage, whose first turn is a healthy one."""
    cases: list[Case] = []
    for stage in STAGES:
        async with AsyncExitStack() as stack:
            caller = await greeted(stack, platform, agent, stage)
            if avatar:
                await caller.see(3, 30)
            for kind in ("", *KINDS):
                faults = [{"kind": kind, "endpoints": [STAGES[stage]]}] if kind else []
                turn = await take_turn(platform, caller, ASKED, faults)
                cases.append(Case(stage if kind else "", kind, avatar, turn))
                print(cases[-1], flush=True)
                await asyncio.sleep(1.0)
    return cases


@pytest.mark.allows_errors(
    "provider failed",
    "Error in _llm_inference_task",
    "Error in _tts_inference_task",
    "TTS failed after partial audio was already sent to the user, skip retrying.",
)
@pytest.mark.parametrize("avatar", [False, True], ids=["voice", "avatar"])
def test_no_caller_waits_in_silence(platform: Platform, avatar: bool) -> None:
    agent = agents.manifest(
        platform.targets, "silence", avatar=avatar, arabic=True, conversation={"idlePromptSeconds": 0}
    )
    with agents.declared(platform.product, agent) as name:
        cases = asyncio.run(table(platform, name, avatar=avatar))
    allowance = ALLOWANCE_SECONDS + (AVATAR_ALLOWANCE_SECONDS if avatar else 0.0)
    silent = [str(case) for case in cases if case.turn.is_silent(allowance)]
    assert silent == [], "the first sound is late, or a silence is too long"
    # A reply that stops half-way has begun in time, so only its silence counts.
    whole = [case for case in cases if case.kind != "half_stall" or case.stage == "stt"]
    unanswered = [str(case) for case in whole if case.turn.is_late(allowance)]
    assert unanswered == [], "the reply or the apology is late"
    assert [str(case) for case in cases if not case.kind and case.turn.said is Said.APOLOGY] == []
    assert [str(case) for case in cases if case.kind and case.turn.said is not Said.APOLOGY] == []
