"""The command line of the simulated providers, and their HTTP server."""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from aiohttp import web

from devkit.providers.redaction import TokenFilter
from devkit.providers.simulator import S, SettingsError, parse_settings, read_key

_SHUTDOWN_SECONDS = 5.0


def arguments(name: str, port: int) -> argparse.ArgumentParser:
    """Return a parser with the options of every provider; `name` is its module, `port` the default."""
    parser = argparse.ArgumentParser(prog=f"python -m devkit.providers.{name}")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=port, help="port to listen on (default: %(default)s)")
    parser.add_argument("--api-key-file", type=Path, required=True, help="file with the API key that clients must send")
    parser.add_argument(
        "--settings",
        default="{}",
        metavar="JSON",
        help='initial settings, as for PUT /_simulator: {"latency_ms": 50, "faults": [{"kind": "429"}]}',
    )
    return parser


def run(options: argparse.Namespace, settings: type[S], make_app: Callable[[str, S], web.Application]) -> int:
    """Serve until SIGINT or SIGTERM and return the exit status: 2 for invalid options."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    for handler in logging.getLogger().handlers:
        handler.addFilter(TokenFilter())
    try:
        app = make_app(read_key(options.api_key_file), parse_settings(options.settings, settings))
    except SettingsError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    try:
        asyncio.run(_serve(app, options.host, options.port))
    except OSError as error:
        print(f"error: cannot listen on {options.host}:{options.port}: {error}", file=sys.stderr)
        return 1
    return 0


async def _serve(app: web.Application, host: str, port: int) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=_SHUTDOWN_SECONDS)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
        logging.getLogger(__name__).info("listening on %s:%d", host, port)
        await stop.wait()
    finally:
        await runner.cleanup()
