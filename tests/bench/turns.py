"""Complete and unfinished turns: Debian's telephone prompts, spoken by people, and espeak-ng in two languages."""

import wave
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from devkit.providers import synthesis

SAMPLE_RATE: Final = 16_000
"""In Hz: that of the local models."""
TURNS: Final = 60
"""Complete turns of each voice, and unfinished ones at most."""
_SEARCHED: Final = 160
"""Prompts of each language, the longest, that are searched for inner pauses."""
_SHORTEST_SECONDS: Final = 0.8
"""Shorter prompts are parts for assembly, such as digits and letters."""
_FOLDERS: Final = ("", "dictate", "followme")
"""Folders with sentences. The others hold digits, letters and silence."""
_AUDIBLE: Final = 200
"""Smallest sample of a synthetic voice's last sound: what follows is added silence."""
_SYNTHETIC_VOICES: Final = ("alloy", "coral", "echo", "onyx", "verse")

Samples = NDArray[np.int16]

SENTENCES: Final[Mapping[str, tuple[str, ...]]] = {
    "en": (
        "What are your opening hours?",
        "I would like to book a table for two people.",
        "Can you tell me where the office is?",
        "No, thank you.",
        "My number is five five zero one two three.",
        "I need help with my invoice.",
        "How much does it cost to join?",
        "Tomorrow at ten in the morning.",
        "Do you offer courses for beginners?",
        "Please call me back this afternoon.",
        "I want to speak with somebody from support.",
        "Yes, that is right.",
    ),
    "ar": (
        "ما هي ساعات العمل؟",
        "أريد أن أحجز موعداً غداً صباحاً.",
        "أين يقع المكتب؟",
        "لا، شكراً.",
        "كم سعر الدورة؟",
        "أريد التحدث مع الدعم الفني.",
        "هل تقدمون دورات للمبتدئين؟",
        "اسمي سلمى وأسكن في دمشق.",
        "متى تبدأ الدورة القادمة؟",
        "أحتاج إلى مساعدة في الفاتورة.",
        "من فضلكم اتصلوا بي غداً.",
        "نعم، هذا صحيح.",
    ),
}
"""Complete turns of the synthetic voices."""

CLAUSES: Final[Mapping[str, tuple[str, ...]]] = {
    "en": (
        "I would like to book a table for,",
        "My number is five five zero,",
        "Can you tell me where,",
        "If I come tomorrow morning,",
        "I wanted to ask whether,",
        "My daughter and I would like to,",
        "The invoice that you sent me last week,",
        "Well, I am not sure but,",
        "I called yesterday because,",
        "Do you offer courses for,",
        "We need the room from Monday to,",
        "First I would like to know,",
    ),
    "ar": (
        "أريد أن أحجز موعداً في،",
        "رقمي هو خمسة خمسة صفر،",
        "هل يمكنك أن تخبرني أين،",
        "إذا جئت غداً صباحاً،",
        "أردت أن أسأل عن،",
        "أنا وابنتي نريد أن،",
        "الفاتورة التي أرسلتموها لي،",
        "لست متأكداً ولكن،",
        "اتصلت أمس لأن،",
        "هل تقدمون دورات في،",
        "نحتاج القاعة من يوم الاثنين إلى،",
        "أولاً أريد أن أعرف،",
    ),
}
"""Beginnings of turns. espeak-ng speaks the comma with the pitch of a clause that continues."""


def prompts(folder: Path) -> list[Path]:
    """Return the prompts of a language that are sentences, by name."""
    files = (file for name in _FOLDERS for file in (folder / name).glob("*.wav"))
    return sorted(file for file in files if _seconds(file) >= _SHORTEST_SECONDS)


def complete_prompts(folder: Path) -> list[Path]:
    """Return `TURNS` prompts, at equal distances in the alphabet."""
    found = prompts(folder)
    return [found[index * len(found) // TURNS] for index in range(TURNS)]


def long_prompts(folder: Path) -> list[Path]:
    """Return the prompts to search for inner pauses, the longest first."""
    return sorted(prompts(folder), key=lambda file: (-_seconds(file), file))[:_SEARCHED]


def recording(file: Path) -> Samples:
    """Return a prompt's samples."""
    with wave.open(str(file), "rb") as audio:
        samples = np.frombuffer(audio.readframes(audio.getnframes()), dtype="<i2")
        return synthesis.resample(samples, audio.getframerate(), SAMPLE_RATE)


def spoken(texts: tuple[str, ...]) -> Iterator[Samples]:
    """Yield `TURNS` synthetic turns: every text by every voice."""
    for voice in _SYNTHETIC_VOICES:
        for text in texts:
            samples = synthesis.resample(synthesis.speak(text, voice), synthesis.SAMPLE_RATE, SAMPLE_RATE)
            yield samples[: int(np.flatnonzero(np.abs(samples.astype(int)) > _AUDIBLE)[-1]) + 1]


def _seconds(file: Path) -> float:
    with wave.open(str(file), "rb") as audio:
        return audio.getnframes() / audio.getframerate()
