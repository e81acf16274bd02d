"""Draws an avatar: its mouth opens with the loudness of its speech, and it moves during silence too."""

from __future__ import annotations

import colorsys
import math
import zlib

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

WIDTH, HEIGHT = 320, 240

_LOUD = 5000.0
"""Root mean square of 16-bit speech that opens the mouth all the way."""
_BLINK_EVERY_SECONDS = 3.1
_BLINK_SECONDS = 0.2
_SWAY_SECONDS = 4.0
_ORBIT_SECONDS = 3.0
"""Time for one orbit of the white dot, by which consecutive frames differ."""
_SKIN, _DARK, _WHITE = (233, 196, 160), (60, 40, 40), (250, 250, 250)


def loudness(samples: NDArray[np.int16]) -> float:
    """Return how far speech opens the mouth, from 0.0 (silence) to 1.0."""
    if samples.size == 0:
        return 0.0
    return min(1.0, float(np.sqrt(np.mean(np.square(samples, dtype=np.float64)))) / _LOUD)


class AvatarImage:
    """The image of one avatar. Its background colour depends on `face_id`, so that avatars differ."""

    def __init__(self, face_id: str) -> None:
        hue = zlib.crc32(face_id.encode()) % 360 / 360
        red, green, blue = (int(255 * part) for part in colorsys.hsv_to_rgb(hue, 0.45, 0.75))
        self._background = (red, green, blue)

    def draw(self, at: float, mouth: float) -> bytes:
        """Return the image `at` seconds after the start as RGBA rows; `mouth` is its opening from 0.0 to 1.0."""
        image = Image.new("RGBA", (WIDTH, HEIGHT), self._background)
        pen = ImageDraw.Draw(image)
        sway = 10 * math.sin(2 * math.pi * at / _SWAY_SECONDS)
        x, y = WIDTH / 2 + sway, HEIGHT / 2 + sway / 4
        pen.ellipse((x - 75, y - 100, x + 75, y + 100), fill=_SKIN)
        lid = 1 if at % _BLINK_EVERY_SECONDS < _BLINK_SECONDS else 11
        for side in (-30, 30):
            pen.ellipse((x + side - 15, y - 30 - lid, x + side + 15, y - 30 + lid), fill=_WHITE)
            pen.ellipse((x + side - 6, y - 30 - min(lid, 6), x + side + 6, y - 30 + min(lid, 6)), fill=_DARK)
        turn = 2 * math.pi * at / _ORBIT_SECONDS
        dot_x, dot_y = WIDTH / 2 + 140 * math.cos(turn), HEIGHT / 2 + 105 * math.sin(turn)
        pen.ellipse((dot_x - 10, dot_y - 10, dot_x + 10, dot_y + 10), fill=_WHITE)
        gap = 2 + 28 * mouth
        pen.ellipse((x - 32, y + 45 - gap, x + 32, y + 45 + gap), fill=(150, 40, 50))
        return image.tobytes()
