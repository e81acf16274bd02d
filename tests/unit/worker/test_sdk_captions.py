"""The pace of captions: the product's method finds what that of the installed SDK finds, and the SDK uses it."""

import importlib
import importlib.util
import sys
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from livekit import rtc

from tests.unit.worker.conversation import SAMPLE_RATE, Samples, speech
from worker import sdk

MODULE = "livekit.agents.voice.transcription._speaking_rate"


@pytest.fixture
def original(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Return the SDK's module as it is installed, without the product's method."""
    found = importlib.util.find_spec(MODULE)
    assert found is not None and found.origin is not None
    name = MODULE + "_installed"
    spec = importlib.util.spec_from_file_location(name, found.origin)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, module)
    spec.loader.exec_module(module)
    return module


async def rates(module: ModuleType, samples: Samples, rate: int) -> list[tuple[float, float]]:
    """Return when the SDK's stream estimates a speed, and the speed."""
    stream: Any = module.SpeakingRateDetector().stream()
    for start in range(0, samples.size, rate // 20):
        part = samples[start : start + rate // 20]
        stream.push_frame(rtc.AudioFrame(part.tobytes(), rate, 1, part.size))
    stream.end_input()
    return [(event.timestamp, event.speaking_rate) async for event in stream]


@pytest.mark.parametrize("rate", [16_000, 24_000])
async def test_pace_of_captions_equals_that_of_the_sdk(original: ModuleType, rate: int) -> None:
    """The estimates of one second each, those of silence, and that of the rest."""
    samples = np.concatenate([speech(2.3), np.zeros(2 * SAMPLE_RATE, np.int16), speech(1.75)])
    expected = await rates(original, samples, rate)
    assert len({speed for _, speed in expected}) > 10
    found = await rates(importlib.import_module(MODULE), samples, rate)
    assert [at for at, _ in found] == [at for at, _ in expected]
    assert [speed for _, speed in found] == pytest.approx([speed for _, speed in expected], rel=1e-6)


@pytest.mark.parametrize("size", [0, 599, 600, 899, 900])
def test_short_audio_has_the_pace_that_the_sdk_finds(original: ModuleType, size: int) -> None:
    """Windows of 600 samples, each 300 after the one before."""
    audio = speech(1.0)[:size].astype(np.float32) / np.float32(32767)
    stream = object.__new__(original.SpeakingRateStream)
    expected = stream._spectral_flux(audio, SAMPLE_RATE * 3 // 2) if size >= 600 else 0.0
    assert sdk._spectral_flux(stream, audio, SAMPLE_RATE * 3 // 2) == pytest.approx(expected, rel=1e-6)


def test_sdk_uses_the_product_method(original: ModuleType) -> None:
    used = importlib.import_module(MODULE).SpeakingRateStream
    assert used._spectral_flux is sdk._spectral_flux
    assert original.SpeakingRateStream._spectral_flux is not sdk._spectral_flux
