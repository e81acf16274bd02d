"""`python -m devkit demo`."""

import sys
from pathlib import Path

import click
from rich.console import Console
from rich.markup import escape

from devkit.cli import console, show_progress
from devkit.demo.caller import CallError
from devkit.demo.run import OwnCluster, run_demo
from devkit.providers.speech import RecognitionError, SynthesisError


@click.command()
@click.option("--name", default="demo", show_default=True, help="Name of the instance to use or start.")
@click.option(
    "--kubeconfig",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Use your own cluster instead of this machine.",
)
@click.option(
    "--controller-image", default="", help="With --kubeconfig: the controller's image, which your cluster pulls."
)
@click.option("--worker-image", default="", help="With --kubeconfig: the worker's image, which your cluster pulls.")
def demo(name: str, kubeconfig: Path | None, controller_image: str, worker_image: str) -> None:
    """Set everything up and call the agent; exit with 1 when a step fails."""
    own = OwnCluster(kubeconfig, controller_image, worker_image) if kubeconfig else None
    if own and not (controller_image and worker_image):
        raise click.UsageError(
            "with --kubeconfig, set --controller-image and --worker-image as well: your cluster pulls them"
        )
    try:
        with show_progress() as progress:
            run_demo(name, own, console, progress)
    except CallError as error:
        Console(stderr=True).print(f"[red]the call failed:[/red] {escape(str(error))}", highlight=False)
        sys.exit(1)
    except (SynthesisError, RecognitionError) as error:
        Console(stderr=True).print(
            f"[red]speech synthesis or recognition failed:[/red] {escape(str(error))}", highlight=False
        )
        sys.exit(1)
