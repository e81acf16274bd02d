"""`python -m devkit dashboards`."""

import time
from pathlib import Path

import click

from devkit import system
from devkit.cli import console, show_progress
from devkit.dashboards import browser
from devkit.dashboards.panels import GENERATED, Window, load
from devkit.dashboards.picture import compose
from devkit.dashboards.prometheus import Prometheus
from devkit.progress import Progress

POINTS = 240
"""Points of a graph at most: about one for two pixels."""


@click.command()
@click.option("--prometheus", required=True, help="URL of a Prometheus that scrapes the product.")
@click.option("--minutes", default=60.0, show_default=True, help="Time that the pictures show, up to now.")
@click.option(
    "--scrape-seconds", default=30.0, show_default=True, help="How often that Prometheus scrapes: the chart's default."
)
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("build/dashboards"),
    show_default=True,
    help="Folder for the pictures.",
)
def dashboards(prometheus: str, minutes: float, scrape_seconds: float, output: Path) -> None:
    """Draw the three dashboards as pictures, from the same JSON that Grafana reads."""
    end = time.time()
    with show_progress() as progress:
        paths = draw(Prometheus(prometheus), window(end - minutes * 60, end, scrape_seconds), output, progress)
    for path in paths:
        console.print(str(path), highlight=False, soft_wrap=True)


def window(start: float, end: float, scrape_seconds: float) -> Window:
    """Return the time from start to end with the points that a picture shows."""
    return Window(start, end, max(scrape_seconds, (end - start) / POINTS), scrape_seconds)


def draw(server: Prometheus, shown: Window, output: Path, progress: Progress) -> list[Path]:
    """Draw the three dashboards into a folder; return the paths of the pictures."""
    system.install(system.BROWSER, progress)
    with progress.step("Query Prometheus"):
        pictures = {
            output / f"{path.stem}.png": compose(load(path, shown), server, shown)
            for path in sorted(GENERATED.glob("*.json"))
        }
    with progress.step("Draw"):
        browser.draw(pictures)
    return list(pictures)
