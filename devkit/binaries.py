"""The platform's programs: from PATH in a suitable version, else built once from pinned modules and cached."""

import hashlib
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from devkit import golang
from devkit.commands import follow, run
from devkit.errors import DevkitError
from devkit.locks import lock
from devkit.paths import cache_dir
from devkit.progress import Progress, Step
from devkit.temporary import temporary_folder
from devkit.tools import TOOLS, Tool

_BUILD_TIMEOUT = 3600.0
"""In seconds. A Kubernetes build takes 8 minutes on 2 cores."""
_BUILD_ENV = {"GOFLAGS": "-mod=readonly -buildvcs=false"}


@dataclass(frozen=True)
class Binaries:
    """Paths of the programs, by name."""

    paths: Mapping[str, Path]

    def __getitem__(self, name: str) -> str:
        return str(self.paths[name])


def cache_key(tool: Tool, module_files: Sequence[bytes]) -> str:
    """Return a hash of everything that determines the binaries: module files, packages, linker and build flags."""
    digest = hashlib.sha256()
    texts = (*sorted(tool.packages.items()), tool.linker_flags, *sorted(_BUILD_ENV.items()))
    for part in (*module_files, *(str(text).encode() for text in texts)):
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return digest.hexdigest()[:16]


def has_version(output: str, wanted: str) -> bool:
    """Whether the output of a program's version command names the wanted major and minor version."""
    found = re.search(r"(\d+)\.(\d+)", output)
    return found is not None and list(found.groups()) == wanted.split(".")[:2]


def ensure(progress: Progress, tools: Sequence[Tool] = TOOLS) -> Binaries:
    """Return the paths of all programs of these tools; build those that are neither on PATH nor in the cache."""
    paths: dict[str, Path] = {}
    missing = []
    for tool in tools:
        found = _cached(tool) or _on_machine(tool)
        if found is None:
            missing.append(tool)
        else:
            paths.update(found)
    for number, tool in enumerate(missing, 1):
        title = f"Build {tool.name} {tool.version} ({number} of {len(missing)})"
        with lock(f"build-{tool.name}", _BUILD_TIMEOUT, progress), progress.step(title) as step:
            # Another process may have built it while this one waited for the lock.
            paths.update(_cached(tool) or _build(tool, step))
    return Binaries(paths)


def _on_machine(tool: Tool) -> dict[str, Path] | None:
    """Return the tool's programs if all are on PATH or in KUBEBUILDER_ASSETS, in a suitable version."""
    search = os.pathsep.join(filter(None, (os.environ.get("KUBEBUILDER_ASSETS"), os.environ.get("PATH"))))
    found: dict[str, Path] = {}
    for binary in tool.packages:
        path = shutil.which(binary, path=search)
        if path is None:
            return None
        try:
            output = run([path, *tool.version_arguments], seconds=10)
        except DevkitError:
            return None
        if not has_version(output, tool.version):
            return None
        found[binary] = Path(path)
    return found


def _folder(tool: Tool) -> Path:
    files = [(tool.module / name).read_bytes() for name in ("go.mod", "go.sum")]
    return cache_dir() / "bin" / f"{tool.name}-{tool.version}-{cache_key(tool, files)}"


def _cached(tool: Tool) -> dict[str, Path] | None:
    folder = _folder(tool)
    return {binary: folder / binary for binary in tool.packages} if folder.is_dir() else None


def _build(tool: Tool, step: Step) -> dict[str, Path]:
    """Build into a temporary folder and rename it, so that an incomplete build is never used.

    After an interruption the next build continues where this one stopped: Go caches every compiled package.
    """
    step.update("looking for Go")
    go = golang.ensure()
    folder = _folder(tool)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with temporary_folder(f"build-{tool.name}") as temporary:
        output = temporary / "out"
        output.mkdir()
        _go_build(go, tool, output, step)
        output.rename(folder)
    return {binary: folder / binary for binary in tool.packages}


def _go_build(go: Path, tool: Tool, output: Path, step: Step) -> None:
    """Download the modules, count the packages and compile them; the step shows the numbers."""
    # Ignore a workspace file and other toolchains of this machine's user.
    env = {**os.environ, **_BUILD_ENV, "GOWORK": "off", "GOTOOLCHAIN": "local"}
    packages = list(tool.packages.values())
    # With several packages, Go names each binary after its package's folder: the names that Kubernetes uses.
    target = f"{output}/" if len(packages) > 1 else str(output / next(iter(tool.packages)))
    counts = {"downloaded": 0, "listed": 0, "compiled": 0}

    def count(text: str, kind: str) -> None:
        counts["downloaded" if text.startswith("go: downloading") else kind] += 1
        if counts["compiled"]:
            step.update(f"{counts['compiled']} of at most {counts['listed']} packages compiled")
        else:
            step.update(f"{counts['downloaded']} modules downloaded")

    listing = [str(go), "list", "-deps", *packages]
    building = [str(go), "build", "-v", "-trimpath", "-ldflags", tool.linker_flags, "-o", target, *packages]
    follow(listing, lambda text: count(text, "listed"), seconds=_BUILD_TIMEOUT, cwd=tool.module, env=env)
    step.update(f"{counts['listed']} packages, fewer if Go has some cached")
    follow(building, lambda text: count(text, "compiled"), seconds=_BUILD_TIMEOUT, cwd=tool.module, env=env)
