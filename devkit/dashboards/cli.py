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
    window = Window(end - minutes * 60, end, max(scrape_seconds, minutes * 60 / POINTS), scrape_seconds)
    server = Prometheus(prometheus)
    with show_progress() as progress:
        system.install(system.BROWSER, progress)
        with progress.step("Query Prometheus"):
            pictures = {
                output / f"{path.stem}.png": compose(load(path, window), server, window)
                for path in sorted(GENERATED.glob("*.json"))
            }
        with progress.step("Draw"):
            browser.draw(pictures)
    for path in pictures:
        console.print(str(path), highlight=False, soft_wrap=True)
