"""Programs of the platform: taken from PATH when they fit, else built once from pinned modules and cached."""

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
from devkit.tools import TOOLS, Tool
from devkit.workplace import workplace

# A Kubernetes build takes 8 minutes on 2 cores; beyond this something is stuck, in seconds.
_BUILD_BOUND = 3600.0
_BUILD_ENV = {"GOFLAGS": "-mod=readonly -buildvcs=false"}


@dataclass(frozen=True)
class Binaries:
    """Where the programs are, by name."""

    paths: Mapping[str, Path]

    def __getitem__(self, name: str) -> str:
        return str(self.paths[name])


def cache_key(tool: Tool, module_files: Sequence[bytes]) -> str:
    """Changes whenever the binaries could: module files, packages, linker flags, build flags."""
    digest = hashlib.sha256()
    texts = (*sorted(tool.packages.items()), tool.linker_flags, *sorted(_BUILD_ENV.items()))
    for part in (*module_files, *(str(text).encode() for text in texts)):
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return digest.hexdigest()[:16]


def fits(said: str, wanted: str) -> bool:
    """Whether a program's own version line names the wanted major and minor version."""
    found = re.search(r"(\d+)\.(\d+)", said)
    return found is not None and list(found.groups()) == wanted.split(".")[:2]


def ensure(progress: Progress, tools: Sequence[Tool] = TOOLS) -> Binaries:
    """Paths of all programs of these tools; what is neither on the machine nor in the cache is built first."""
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
        with lock(f"build-{tool.name}", _BUILD_BOUND, progress), progress.step(title) as step:
            # Somebody else may have built it while we waited for the lock.
            paths.update(_cached(tool) or _build(tool, step))
    return Binaries(paths)


def _on_machine(tool: Tool) -> dict[str, Path] | None:
    """The tool's programs when all are on PATH or under KUBEBUILDER_ASSETS in a fitting version."""
    search = os.pathsep.join(filter(None, (os.environ.get("KUBEBUILDER_ASSETS"), os.environ.get("PATH"))))
    found: dict[str, Path] = {}
    for binary in tool.packages:
        path = shutil.which(binary, path=search)
        if path is None:
            return None
        try:
            said = run([path, *tool.version_arguments], seconds=10)
        except DevkitError:
            return None
        if not fits(said, tool.version):
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
    """Build into a temporary folder beside the final one and rename it: a half build is never taken for a whole.

    An interrupted build goes on where it stopped, because Go's own cache keeps every compiled package.
    """
    step.update("looking for Go")
    go = golang.ensure()
    folder = _folder(tool)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with workplace(f"build-{tool.name}") as temporary:
        output = temporary / "out"
        output.mkdir()
        _go_build(go, tool, output, step)
        output.rename(folder)
    return {binary: folder / binary for binary in tool.packages}


def _go_build(go: Path, tool: Tool, output: Path, step: Step) -> None:
    """Download the modules, count the packages, compile them; each message of Go moves the step on."""
    # A workspace file or another toolchain of this machine's user is not part of these builds.
    env = {**os.environ, **_BUILD_ENV, "GOWORK": "off", "GOTOOLCHAIN": "local"}
    packages = list(tool.packages.values())
    # With several packages Go names each binary after its package's folder, which is what we want for Kubernetes.
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
    follow(listing, lambda text: count(text, "listed"), seconds=_BUILD_BOUND, cwd=tool.module, env=env)
    step.update(f"{counts['listed']} packages, less those in Go's cache")
    follow(building, lambda text: count(text, "compiled"), seconds=_BUILD_BOUND, cwd=tool.module, env=env)
