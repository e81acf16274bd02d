"""The command line: `avatar-agent dev FILE` and `avatar-agent check FILE`."""

import asyncio
import dataclasses
import json
import logging
import os
import sys
from pathlib import Path

import click

from avatar_agent.local import check as checks
from avatar_agent.local import page
from avatar_agent.local.check import Outcome, Verdict
from avatar_agent.local.dev import DevError, Options, run
from process import logs

_FILE = click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
_LIVEKIT = click.option(
    "--livekit-url", default="", metavar="URL", help="LiveKit server to use instead of the manifest's."
)
_COLOURS = {Outcome.PASSED: "green", Outcome.WARNING: "yellow", Outcome.FAILED: "red", Outcome.SKIPPED: "yellow"}


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Run and check an AvatarAgent on this machine, without Kubernetes.

    FILE is a manifest with one AvatarAgent. Its Secrets and ConfigMaps may be in the same file, or in other manifests
    of the folder. LIVEKIT_API_KEY, LIVEKIT_API_SECRET, OPENAI_API_KEY and the other variables of a worker have
    priority over the Secrets.
    """
    levels = dict.fromkeys(("gateway", "aiohttp", "uvicorn", "livekit", "asyncio"), logging.WARNING)
    logs.configure(levels=levels | {"gateway.assembly": logging.CRITICAL})  # `dev` says itself what the page lacks


@main.command()
@_FILE
@_LIVEKIT
@click.option("--port", default=8080, show_default=True, type=click.IntRange(0, 65535), help="Port of the call page.")
@click.option("--no-browser", is_flag=True, help="Do not open the call page in a browser.")
def dev(file: Path, livekit_url: str, port: int, no_browser: bool) -> None:
    """Run the agent, open the call page, and reload when the manifest or the agent's code changes.

    Without --livekit-url, the manifest's server is used if its credentials are known, else livekit-server from PATH.
    """
    options = Options(file, livekit_url, port, opens_browser=not no_browser, shell=os.environ, say=click.echo)
    if not page.has_client():
        click.echo("the call page has no LiveKit client: run npm ci --prefix gateway/web", err=True)
    try:
        asyncio.run(run(options))
    except DevError as error:
        raise click.ClickException(str(error)) from error


@main.command()
@_FILE
@_LIVEKIT
@click.option("--json", "as_json", is_flag=True, help="Print the verdicts as JSON.")
def check(file: Path, livekit_url: str, as_json: bool) -> None:
    """Check manifest, Secrets, knowledge, credentials, code, voice, tools and avatar. Exit with 1 if a check fails."""
    verdicts = asyncio.run(checks.run(file, os.environ, livekit_url))
    if as_json:
        click.echo(json.dumps([dataclasses.asdict(verdict) for verdict in verdicts], ensure_ascii=False, indent=2))
    else:
        for verdict in verdicts:
            click.echo(_line(verdict, max(len(one.check) for one in verdicts)))
    sys.exit(1 if any(verdict.outcome is Outcome.FAILED for verdict in verdicts) else 0)


def _line(verdict: Verdict, width: int) -> str:
    word = click.style(f"{verdict.outcome.value:<8}", fg=_COLOURS[verdict.outcome])
    return f"{word} {verdict.check:<{width}}  {verdict.message}"
