"""The dashboards drawn in a real browser, with uPlot."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from devkit.dashboards import browser

pytestmark = pytest.mark.timeout(300)

GREEN, RED, LINE = (58, 157, 69), (211, 52, 74), (57, 115, 208)
"""Colours of the page: two figures, and the third line of a graph."""
TIMES = [1_700_000_000 + 60 * minute for minute in range(10)]


def panel(kind: str, x: int, y: int, **content: Any) -> dict[str, Any]:
    return {"title": kind, "kind": kind, "x": x, "y": y, "w": 12, "h": 8} | content


def series(label: str, value: float) -> dict[str, Any]:
    return {"label": label, "values": [value] * 5 + [None] + [value] * 4, "last": "1"}


def colours(path: Path) -> set[tuple[int, int, int]]:
    with Image.open(path) as image:
        assert image.width == browser.WIDTH
        pixels = np.asarray(image.convert("RGB")).reshape(-1, 3)
    return {(int(red), int(green), int(blue)) for red, green, blue in np.unique(pixels, axis=0)}


def test_image_shows_every_kind_of_panel(tmp_path: Path) -> None:
    graph = {"bars": False, "suffix": " s", "limits": [{"value": 2, "colour": "red"}]}
    lines = [series("a", 1), series("b", 2), series("c", 3)]
    panels = [
        panel("stat", 0, 0, text="Leads", colour="green"),
        panel("row", 0, 8, h=1, w=24),
        panel("graph", 0, 9, series=lines, **graph),
        panel("graph", 12, 9, series=lines, **(graph | {"bars": True})),
        panel("heat", 0, 17, labels=["1 s", "2 s"], cells=[[1] * 10, [0] * 10]),
        panel("table", 12, 17, columns=["agent"], rows=[["ornina"]], empty="none"),
    ]
    picture = {"title": "t", "description": "d", "note": "not Grafana", "times": TIMES, "panels": panels}
    empty = [
        panel("stat", 0, 0, text="No leader", colour="red"),
        panel("graph", 0, 8, series=[], **graph),
        panel("heat", 12, 8, labels=[], cells=[]),
        panel("table", 0, 16, columns=["agent"], rows=[], empty="none"),
    ]
    full, bare = tmp_path / "full.png", tmp_path / "folder" / "bare.png"
    browser.draw({full: picture, bare: picture | {"panels": empty}})
    assert {GREEN, LINE} <= colours(full)
    assert RED not in colours(full)
    assert RED in colours(bare)
    assert not {GREEN, LINE} & colours(bare)
