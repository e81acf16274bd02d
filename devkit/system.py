"""Programs from Debian's packages: what the platform needs, and installing what is missing."""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from devkit.commands import follow
from devkit.errors import DevkitError
from devkit.network import BRIDGE_FILTER
from devkit.progress import Progress

# Something that only the package brings, to the package's name.
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
"""What the simulated OpenAI and the demo's caller speak with."""
BROWSER = {
    "/usr/bin/chromium": "chromium",
    "/usr/share/fonts/truetype/noto/NotoSansArabic-Regular.ttf": "fonts-noto-core",
}
"""What the tests open the call page with, and a font for its Arabic."""
# A slow mirror may take this long, in seconds.
_APT_BOUND = 1200.0


def missing_packages(needed: Mapping[str, str]) -> list[str]:
    """Packages whose mark (a program's name or a file's path) is not on this machine."""
    absent = {
        package
        for mark, package in needed.items()
        if not (Path(mark).exists() if mark.startswith("/") else shutil.which(mark))
    }
    return sorted(absent)


def ensure(progress: Progress, *, api_only: bool, internet: bool = False) -> None:
    """Check that this machine can carry an instance, and install the Debian packages that are missing."""
    if os.geteuid() != 0:
        raise DevkitError("the devkit makes network namespaces, mounts and cgroups: run it as root")
    needed = dict(_NETWORK)
    if not api_only:
        needed |= _NODE | _IMAGES | SPEECH | ({} if BRIDGE_FILTER.exists() else _KERNEL_MODULES)
    if internet:
        needed |= _INTERNET
    install(needed, progress)


def install(needed: Mapping[str, str], progress: Progress) -> None:
    """Install those of the packages that are missing; without apt or the right to it, say which they are."""
    missing = missing_packages(needed)
    if not missing:
        return
    apt = shutil.which("apt-get")
    if apt is None or os.geteuid() != 0:
        why = "this machine has no apt-get" if apt is None else "only root may"
        raise DevkitError(f"missing: {', '.join(missing)}; {why}, so install them yourself")
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    with progress.step(f"Install {', '.join(missing)}") as step:
        follow([apt, "update"], step.update, seconds=_APT_BOUND, env=env)
        command = [apt, "install", "-y", "--no-install-recommends", *missing]
        follow(command, step.update, seconds=_APT_BOUND, env=env)
    if still := missing_packages(needed):
        raise DevkitError(f"still missing after apt-get install: {', '.join(still)}")
