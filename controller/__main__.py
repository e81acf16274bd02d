"""``python -m controller``: runs the operator until SIGTERM."""

import asyncio
import os
import sys

import aiohttp

from controller import logs
from controller.app import Controller
from controller.cluster.client import connect
from controller.settings import Settings, SettingsError


async def run(settings: Settings) -> None:
    """Connect and run."""
    async with connect() as client, aiohttp.ClientSession() as session:
        await Controller(settings, client, session).run()


def main() -> int:
    logs.configure()
    try:
        settings = Settings.from_environment(os.environ)
    except SettingsError as error:
        print(error, file=sys.stderr)
        return 2
    asyncio.run(run(settings))
    return 0


if __name__ == "__main__":
    sys.exit(main())
