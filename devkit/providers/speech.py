"""Speech synthesis and recognition for callers and tests, independent of the worker.

`speak` returns the samples of a text, `Recogniser` the text of samples, and `similarity` compares two texts.
"""

from devkit.providers.recognition import Recogniser, RecognitionError, Transcript
from devkit.providers.synthesis import SAMPLE_RATE, SynthesisError, speak
from devkit.providers.text import language_of, similarity

__all__ = [
    "SAMPLE_RATE",
    "Recogniser",
    "RecognitionError",
    "SynthesisError",
    "Transcript",
    "language_of",
    "similarity",
    "speak",
]
