"""Debian packages that are unpacked into the cache, not installed: installing them would start a service."""

import hashlib
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from devkit.commands import follow, run
from devkit.errors import DevkitError
from devkit.locks import lock
from devkit.paths import cache_dir
from devkit.progress import Progress, Step
from devkit.temporary import temporary_folder

_APT_TIMEOUT = 1200.0
"""In seconds, for a slow mirror."""


@dataclass(frozen=True)
class Bundle:
    """Packages that are unpacked into one folder."""

    name: str
    packages: Sequence[str]
    """They need no other package, except those of every Debian."""
    files: Mapping[str, str]
    """Path in the folder of each program or folder that the devkit uses."""

    @property
    def folder(self) -> Path:
        digest = hashlib.sha256(" ".join(self.packages).encode()).hexdigest()[:16]
        return cache_dir() / "debian" / f"{self.name}-{digest}"


PROMETHEUS = Bundle(
    "prometheus",
    (
        "prometheus",
        # Its web page loads these.
        "fonts-glyphicons-halflings",
        "libjs-bootstrap4",
        "libjs-d3",
        "libjs-eonasdan-bootstrap-datetimepicker",
        "libjs-jquery",
        "libjs-jquery-hotkeys",
        "libjs-moment",
        "libjs-moment-timezone",
        "libjs-mustache",
        "libjs-popper.js",
        "libjs-rickshaw",
    ),
    {"prometheus": "usr/bin/prometheus", "promtool": "usr/bin/promtool", "web": "usr/share/prometheus/web"},
)
"""Prometheus, its tool promtool that checks and tests rules, and its web page."""


PROMPTS = Bundle(
    "telephone-prompts",
    tuple(f"asterisk-core-sounds-{language}-wav" for language in ("en", "es", "fr", "it", "ru")),
    {
        "en": "usr/share/asterisk/sounds/en_US_f_Allison",
        "es": "usr/share/asterisk/sounds/es_MX_f_Allison",
        "fr": "usr/share/asterisk/sounds/fr_CA_f_June",
        "it": "usr/share/asterisk/sounds/it_IT_m_Carlo",
        "ru": "usr/share/asterisk/sounds/ru_RU_f_IvrvoiceRU",
    },
)
"""Recordings of people, as WAV files of 8 kHz: some 500 telephone prompts in each language."""


def ensure(progress: Progress, bundle: Bundle) -> dict[str, Path]:
    """Return the paths of a bundle's files; download and unpack the packages unless the cache has them."""
    if not bundle.folder.is_dir():
        title = f"Download the Debian package {bundle.name}"
        with lock(f"debian-{bundle.name}", _APT_TIMEOUT, progress), progress.step(title) as step:
            # Another process may have unpacked it while this one waited for the lock.
            if not bundle.folder.is_dir():
                _unpack(bundle, step)
    found = {name: bundle.folder / path for name, path in bundle.files.items()}
    if missing := [str(path) for path in found.values() if not path.exists()]:
        raise DevkitError(f"the Debian package {bundle.name} does not contain {', '.join(missing)}")
    return found


def _unpack(bundle: Bundle, step: Step) -> None:
    """Unpack into a temporary folder and rename it, so that an incomplete folder is never used."""
    apt = shutil.which("apt-get")
    if apt is None or os.geteuid() != 0:
        reason = "this machine has no apt-get" if apt is None else "only root can update apt's lists"
        raise DevkitError(f"the Debian package {bundle.name} is missing and {reason}")
    bundle.folder.parent.mkdir(parents=True, exist_ok=True)
    with temporary_folder(f"debian-{bundle.name}") as temporary:
        follow([apt, "update"], step.update, seconds=_APT_TIMEOUT)
        follow([apt, "download", *bundle.packages], step.update, seconds=_APT_TIMEOUT, cwd=temporary)
        for package in sorted(temporary.glob("*.deb")):
            step.update(f"unpacking {package.name}")
            run(["dpkg-deb", "--extract", str(package), str(temporary / "out")])
        (temporary / "out").rename(bundle.folder)
