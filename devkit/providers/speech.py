"""Speaking and listening for callers and tests, by means that are independent of the worker.

`speak` turns text into samples, `Recogniser` turns samples into text, `similarity` says how alike two texts are.
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
