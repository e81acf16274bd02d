"""Folders of the devkit: caches, which survive `down`, and state, which does not."""

import os
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
MODULES = Path(__file__).resolve().parent / "modules"


def _base(variable: str, default: str) -> Path:
    value = os.environ.get(variable, "")
    root = Path(value) if value else Path.home() / default
    return root / "avatar-agent"


def cache_dir() -> Path:
    """Return the folder of binaries, image layers and containerd's content, which all instances share."""
    return _base("XDG_CACHE_HOME", ".cache")


def state_dir() -> Path:
    """Return the folder that contains one folder for each instance; `down` deletes that."""
    return _base("XDG_STATE_HOME", ".local/state")


def run_dir(name: str) -> Path:
    """Return the folder of an instance's sockets. It is short, because a socket's path is limited to 107 characters."""
    return Path("/run/avatar-agent") / name
