"""Where the devkit keeps things: caches that survive `down`, and state that does not."""

import os
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
MODULES = Path(__file__).resolve().parent / "modules"


def _base(variable: str, default: str) -> Path:
    value = os.environ.get(variable, "")
    root = Path(value) if value else Path.home() / default
    return root / "avatar-agent"


def cache_dir() -> Path:
    """Binaries, image layers and containerd's content: costly to make, valid for every instance."""
    return _base("XDG_CACHE_HOME", ".cache")


def state_dir() -> Path:
    """One folder per instance, deleted by `down`."""
    return _base("XDG_STATE_HOME", ".local/state")


def run_dir(name: str) -> Path:
    """Sockets of an instance: a short path, because a socket's path may have only 107 characters."""
    return Path("/run/avatar-agent") / name
