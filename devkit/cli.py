"""Command line of the platform: up, down, status, build, logs."""

import os
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from devkit import binaries, cluster, debian, images, kubernetes, livekit, system
from devkit.errors import DevkitError
from devkit.instance import MAX_NODES, Layout, Record, check_name, load, names
from devkit.logs import follow_log, last_lines
from devkit.paths import REPOSITORY
from devkit.processes import is_alive
from devkit.progress import LineProgress, Progress, TerminalProgress
from devkit.tools import API_TOOLS, BENCH_TOOLS, CHECK_TOOLS, LIVEKIT

console = Console()


@contextmanager
def show_progress() -> Iterator[Progress]:
    """Show progress on this console; print a DevkitError and exit with 1."""
    try:
        if console.is_terminal:
            with TerminalProgress(console) as progress:
                yield progress
        else:
            yield LineProgress(console)
    except DevkitError as error:
        Console(stderr=True).print(f"[red]error:[/red] {escape(str(error))}", highlight=False, soft_wrap=True)
        sys.exit(1)


def _name_option(command: Callable[..., Any]) -> Callable[..., Any]:
    return click.option(
        "--name", default="dev", show_default=True, help="Name of the instance; several can run side by side."
    )(command)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Run this machine as a Kubernetes platform with a LiveKit server."""


@main.command()
@_name_option
@click.option("--api-only", is_flag=True, help="Start only an API server: no node, DNS or LiveKit.")
@click.option("--internet", is_flag=True, help="Let pods reach the internet, for real providers.")
@click.option("--nodes", type=click.IntRange(1, MAX_NODES), default=1, show_default=True, help="Number of nodes.")
def up(name: str, api_only: bool, internet: bool, nodes: int) -> None:
    """Start an instance, unless it already runs."""
    with show_progress() as progress:
        made = cluster.up(name, progress, api_only=api_only, internet=internet, nodes=nodes)
    console.print(f"export KUBECONFIG={made.kubeconfig}", highlight=False, soft_wrap=True)
    if not api_only:
        console.print(f"LiveKit: {made.livekit_url}", highlight=False)


@main.command()
@_name_option
@click.option("--all", "every", is_flag=True, help="Stop every instance on this machine, incomplete ones included.")
def down(name: str, every: bool) -> None:
    """Stop an instance and remove everything it created; built programs and images stay cached."""
    with show_progress() as progress:
        for one in names() if every else [name]:
            cluster.down(one, progress)


@main.command()
@_name_option
@click.option("--api-only", is_flag=True, help="Build only the programs for tests against an API server: no node.")
@click.option("--bench", is_flag=True, help="Also build the programs that only the benchmarks need.")
def build(name: str, api_only: bool, bench: bool) -> None:
    """Build and install everything that the tests need, and load the product's images into a running instance."""
    with show_progress() as progress:
        if bench:
            binaries.ensure(progress, BENCH_TOOLS)
            debian.ensure(progress, debian.PROMPTS)
        if api_only:
            system.ensure(progress, api_only=True)
            debian.ensure(progress, debian.PROMETHEUS)
            binaries.ensure(progress, (*API_TOOLS, LIVEKIT))
        else:
            _build_all(name, progress)


def _build_all(name: str, progress: Progress) -> None:
    system.ensure(progress, api_only=False)
    system.install(system.BROWSER, progress)
    debian.ensure(progress, debian.PROMETHEUS)
    # The compiler needs the processors, and the images' package downloads need the network. Side by side, both take
    # little longer than the slower one alone.
    with ThreadPoolExecutor(2) as pool:
        programs = pool.submit(binaries.ensure, progress)
        made = pool.submit(images.build_all, progress)
        programs.result()
        built = made.result()
    for dockerfile in sorted(REPOSITORY.glob("examples/*/Dockerfile")):
        images.build_example(dockerfile.parent, built.worker, progress)
    record = load(check_name(name))
    if record is not None and not record.api_only and cluster.is_complete(record):
        cluster.load_images(name, [built.controller, built.worker], progress)
    for image in (built.controller, built.worker):
        console.print(image, highlight=False)


@main.command(context_settings={"ignore_unknown_options": True})
@click.argument("program", type=click.Choice([tool.name for tool in CHECK_TOOLS]))
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def tool(program: str, arguments: tuple[str, ...]) -> None:
    """Run a linter of `make check`, such as `tool helm lint charts/avatar-agent`; build it first if it is missing."""
    (chosen,) = (tool for tool in CHECK_TOOLS if tool.name == program)
    with show_progress() as progress:
        path = binaries.ensure(progress, [chosen])[program]
    os.execv(path, [path, *arguments])


@main.command()
@_name_option
def status(name: str) -> None:
    """Show the processes of an instance and whether it answers; exit with 1 when it is not complete."""
    with show_progress():
        record = load(check_name(name))
        if record is None and name in names():
            raise DevkitError(
                f"instance {name} is incomplete or from another version: run `up` to replace it or `down` to remove it"
            )
        if record is None:
            others = ", ".join(names()) or "none"
            raise DevkitError(
                f"there is no instance {name} (instances: {others}): run `python -m devkit up --name {name}`"
            )
        complete = _print_status(record)
    sys.exit(0 if complete else 1)


def _print_status(record: Record) -> bool:
    layout = Layout(record.name)
    table = Table("process", "pid", "state", "log")
    for process in layout.processes.all():
        state = "[green]running[/green]" if is_alive(process) else "[red]ended[/red]"
        table.add_row(process.name, str(process.pid), state, str(layout.processes.log_file(process.name)))
    console.print(table)
    console.print(f"network     {record.subnet}, node {record.subnets.node}", highlight=False)
    console.print(f"API server  {_answer(kubernetes.answers(layout, record))}")
    if not record.api_only:
        console.print(f"LiveKit     {_answer(livekit.answers(record))} at {livekit.url(record)}", highlight=False)
    console.print(f"kubeconfig  {layout.kubeconfig}", highlight=False, soft_wrap=True)
    return cluster.is_complete(record)


def _answer(answers: bool) -> str:
    return "[green]answers[/green]" if answers else "[red]does not answer[/red]"


@main.command()
@_name_option
@click.argument("process", required=False)
@click.option("--lines", default=50, show_default=True, help="Number of lines to print, from the end.")
@click.option("--follow", "-f", is_flag=True, help="Print new lines as they are written.")
def logs(name: str, process: str | None, lines: int, follow: bool) -> None:
    """Print the log of one process of an instance, or list the processes that have a log."""
    with show_progress():
        folder = Layout(check_name(name)).logs
        available = sorted(path.stem for path in folder.glob("*.log"))
        if process is None:
            click.echo("\n".join(available) or f"instance {name} has no logs")
            return
        if process not in available:
            raise DevkitError(f"instance {name} has no log of {process}; logs: {', '.join(available) or 'none'}")
        path = folder / f"{process}.log"
        for line in last_lines(path, lines):
            click.echo(line)
    if follow:
        for line in follow_log(path):
            click.echo(line)
