"""Images of the previous release, built from its commit, so a run that needs them needs the project's Git history."""

import subprocess
from pathlib import Path

from devkit import images
from devkit.paths import REPOSITORY
from devkit.progress import LogProgress

REVISION = "39af3677e195020bdc773946721f2d62bbbc082c"
"""The commit of release 0.1.0."""


def checked_out(folder: Path) -> Path:
    """Write the release's files to a new folder, and return it."""
    folder.mkdir()
    archive = subprocess.run(["git", "-C", str(REPOSITORY), "archive", REVISION], capture_output=True, check=True)
    subprocess.run(["tar", "-x", "-C", str(folder)], input=archive.stdout, check=True)
    return folder


def image(component: str, sources: Path) -> str:
    """Build the release's image of a component, and return its name."""
    name = f"localhost/avatar-agent-previous-{component}:{REVISION[:12]}"
    with LogProgress().step(f"Build the previous {component} image") as step:
        images.build(sources / f"Dockerfile.{component}", sources, name, step)
    return name
