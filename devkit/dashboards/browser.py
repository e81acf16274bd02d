"""Draws pictures in Chromium, with uPlot."""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from PIL import Image
from playwright.sync_api import sync_playwright

from devkit import nodejs
from devkit.dashboards.picture import Document

CHROMIUM: Final = "/usr/bin/chromium"
WIDTH: Final = 1680
COLOURS: Final = 64
"""Enough for the page, and a third of the file's size."""
_START_MILLISECONDS: Final = 120_000.0
"""Chromium's first start on a busy machine takes some 20 s."""
_WEB: Final = Path(__file__).with_name("web")


def draw(pictures: Mapping[Path, Document]) -> None:
    """Save each picture as a PNG."""
    folder = nodejs.install(_WEB)
    plot = folder / "node_modules" / "uplot" / "dist"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"], timeout=_START_MILLISECONDS
        )
        try:
            for path, picture in pictures.items():
                page = browser.new_page(viewport={"width": WIDTH, "height": 900})
                page.set_content((folder / "page.html").read_text())
                for sheet in (plot / "uPlot.min.css", folder / "page.css"):
                    page.add_style_tag(path=sheet)
                for script in (plot / "uPlot.iife.min.js", folder / "page.js"):
                    page.add_script_tag(path=script)
                page.evaluate("picture => draw(picture)", picture)
                _save(path, page.screenshot(full_page=True))
                page.close()
        finally:
            browser.close()


def _save(path: Path, screenshot: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with Image.open(io.BytesIO(screenshot)) as image:
        image.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE).save(path, optimize=True)
