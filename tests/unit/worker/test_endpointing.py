"""How the benchmark of turn-taking counts waiting and cut-ins."""

import math

import pytest

from tests.bench.endpointing import FIRST_SOUND_SECONDS, Delays, Pause, Turns, answered_in_pause, cut_ins, waiting

DELAYS = Delays(threshold_scale=2.0, minimum=0.3, maximum=0.9)


def turns(*pauses: Pause, threshold: float | None = 0.2) -> Turns:
    return Turns("voice", threshold, False, pauses, pauses)


@pytest.mark.parametrize(
    ("probability", "threshold", "seconds"),
    [(0.4, 0.2, 0.3), (0.39, 0.2, 0.9), (0.0, None, 0.3)],
    ids=["complete", "unfinished", "silence alone"],
)
def test_turn_ends_after_one_of_the_delays(probability: float, threshold: float | None, seconds: float) -> None:
    voice = turns(Pause(probability), threshold=threshold)
    assert waiting(voice, DELAYS) == (seconds, seconds)


def test_slow_twentieth_of_the_turns_is_the_95th_percentile() -> None:
    assert waiting(turns(*[Pause(1.0)] * 18, *[Pause(0.0)] * 2), DELAYS) == (0.3, 0.9)
    assert waiting(turns(*[Pause(1.0)] * 39, Pause(0.0)), DELAYS) == (0.3, 0.3)


def test_answer_before_the_caller_is_heard_again_is_a_cut_in() -> None:
    first_sound = 0.3 + FIRST_SOUND_SECONDS
    cut, held_back, waited = (
        Pause(1.0, heard_again=first_sound + 0.01),
        Pause(1.0, heard_again=first_sound - 0.01),
        Pause(0.0, heard_again=0.9),
    )
    assert cut_ins(turns(cut, held_back, waited, waited), DELAYS) == 0.25
    assert answered_in_pause(turns(cut, held_back, waited, waited), DELAYS, 0.5) == 0.5
    assert answered_in_pause(turns(cut, waited), DELAYS, math.inf) == 1.0
