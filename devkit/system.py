"""The Debian packages that the platform needs; installs those that are missing."""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from devkit.commands import follow
from devkit.errors import DevkitError
from devkit.network import BRIDGE_FILTER
from devkit.progress import Progress

# A program or file of each package, to the package's name.
_NETWORK = {"ip": "iproute2", "nsenter": "util-linux", "sysctl": "procps"}
_NODE = {
    "containerd": "containerd",
    "runc": "runc",
    "/usr/lib/cni/bridge": "containernetworking-plugins",
    "iptables": "iptables",
    "conntrack": "conntrack",
    "mount": "mount",
    "umount": "mount",
}
_KERNEL_MODULES = {"modprobe": "kmod"}
_INTERNET = {"slirp4netns": "slirp4netns"}
_IMAGES = {
    "buildah": "buildah",
    "debootstrap": "debootstrap",
    "gpgv": "gpgv",
    "gcc": "gcc",
    "/usr/include/stdlib.h": "libc6-dev",
    "/usr/share/keyrings/debian-archive-keyring.gpg": "debian-archive-keyring",
}
SPEECH = {"espeak-ng": "espeak-ng"}
"""Speech synthesis for the simulated OpenAI and the demo's caller."""
BROWSER = {
    "/usr/bin/chromium": "chromium",
    "/usr/share/fonts/truetype/noto/NotoSansArabic-Regular.ttf": "fonts-noto-core",
}
"""The browser for tests of the call page, and a font for Arabic."""
_APT_TIMEOUT = 1200.0
"""In seconds, for a slow mirror."""


def missing_packages(needed: Mapping[str, str]) -> list[str]:
    """Return the packages whose program or file (an absolute path) this machine lacks."""
    absent = {
        package
        for mark, package in needed.items()
        if not (Path(mark).exists() if mark.startswith("/") else shutil.which(mark))
    }
    return sorted(absent)


def ensure(progress: Progress, *, api_only: bool, internet: bool = False) -> None:
    """Check that this machine can run an instance, and install the missing Debian packages."""
    if os.geteuid() != 0:
        raise DevkitError("the devkit creates network namespaces, mounts and cgroups: run it as root")
    needed = dict(_NETWORK)
    if not api_only:
        needed |= _NODE | _IMAGES | SPEECH | ({} if BRIDGE_FILTER.exists() else _KERNEL_MODULES)
    if internet:
        needed |= _INTERNET
    install(needed, progress)


def install(needed: Mapping[str, str], progress: Progress) -> None:
    """Install the packages that are missing. Raises DevkitError that names them without apt-get or root rights."""
    missing = missing_packages(needed)
    if not missing:
        return
    apt = shutil.which("apt-get")
    if apt is None or os.geteuid() != 0:
        reason = "this machine has no apt-get" if apt is None else "only root can install them"
        raise DevkitError(f"packages are missing and {reason}: install {', '.join(missing)}")
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    with progress.step(f"Install {', '.join(missing)}") as step:
        follow([apt, "update"], step.update, seconds=_APT_TIMEOUT, env=env)
        command = [apt, "install", "-y", "--no-install-recommends", *missing]
        follow(command, step.update, seconds=_APT_TIMEOUT, env=env)
    if still := missing_packages(needed):
        raise DevkitError(f"apt-get install succeeded, but these packages are still missing: {', '.join(still)}")
