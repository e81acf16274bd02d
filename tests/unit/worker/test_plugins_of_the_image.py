"""The plugins of the stock image: which there are, what they add to its size, and that nothing imports them unasked."""

import re
import subprocess
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Final

from packaging.requirements import Requirement

from devkit.paths import REPOSITORY

MOST_MIB: Final = 40.0
"""What all plugins together may add to the image, with the packages that only they need."""
NEEDED_ANYWAY: Final = {"livekit-plugins-openai", "livekit-plugins-tavus"}


def worker_requirements() -> set[str]:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    texts = [*project["dependencies"], *project["optional-dependencies"]["worker"]]
    return {Requirement(text).name for text in texts}


def plugins() -> set[str]:
    return {name for name in worker_requirements() if name.startswith("livekit-plugins-")} - NEEDED_ANYWAY


def closure(names: set[str]) -> set[str]:
    """Return the packages and all that they need."""
    found: set[str] = set()
    waiting = [(name, frozenset[str]()) for name in names]
    while waiting:
        name, extras = waiting.pop()
        key = re.sub(r"[-_.]+", "-", name).lower()
        try:
            requires = distribution(name).requires or []
        except PackageNotFoundError:  # for another platform
            continue
        if key in found and not extras:
            continue
        found.add(key)
        for requirement in map(Requirement, requires):
            wanted = [{"extra": extra} for extra in extras or {""}]
            if requirement.marker is None or any(requirement.marker.evaluate(environment) for environment in wanted):
                waiting.append((requirement.name, frozenset(requirement.extras)))
    return found


def mebibytes(name: str) -> float:
    files = [file for file in distribution(name).files or [] if "__pycache__" not in file.parts]
    return sum(Path(str(file.locate())).stat().st_size for file in files) / 2**20


def test_plugins_stay_within_their_budget() -> None:
    added = closure(plugins()) - closure(worker_requirements() - plugins())
    sizes = {name: mebibytes(name) for name in added}
    assert {name for name in sizes if name.startswith("livekit-plugins-")} == plugins()
    assert sum(sizes.values()) <= MOST_MIB, sorted(sizes.items(), key=lambda item: -item[1])[:5]


def test_worker_imports_no_plugin_that_nobody_declared() -> None:
    script = (
        "import sys, worker.call.preload, worker.call.job; print([n for n in sys.modules if 'livekit.plugins.' in n])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=100)
    modules = set(re.findall(r"livekit\.plugins\.(\w+)", done.stdout))
    assert modules == {"openai", "tavus"}


def test_guide_lists_every_plugin_of_the_image() -> None:
    guide = (REPOSITORY / "docs/guides/providers.md").read_text()
    rows = [line for line in guide.splitlines() if line.startswith("| `")]
    named = {name for row in rows for name in re.findall(r"`(\w+)`", row.split("|")[1])}
    assert {name.removeprefix("livekit-plugins-") for name in plugins()} <= named
