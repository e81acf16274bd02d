"""Images without a public registry: a base from Debian's packages, ours from their Dockerfiles, into the node."""

import contextlib
import json
import os
import re
import shutil
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from devkit.commands import follow, run, succeeds
from devkit.errors import DevkitError
from devkit.image_inputs import content_tag
from devkit.instance import Layout
from devkit.locks import lock
from devkit.mounts import unmount_below
from devkit.node import PAUSE_IMAGE, Ctr
from devkit.paths import REPOSITORY, cache_dir, run_dir
from devkit.progress import Progress, Step
from devkit.workplace import workplace

_SUITE = "bookworm"
# The last part is ours: raise it when the way the base is made changes.
BASE_IMAGE = f"localhost/avatar-agent-base:{_SUITE}-1"
_BASE_PACKAGES = "python3,python3-venv,ca-certificates"
# What a program in a container never reads.
_BASE_LEFT_OUT = ("./dev/*", "./proc/*", "./sys/*", "./var/cache/*", "./var/lib/apt/lists/*", "./usr/share/doc/*",
                  "./usr/share/man/*", "./usr/share/locale/*")  # fmt: skip
_PRODUCT = ("localhost/avatar-agent-controller", "localhost/avatar-agent-worker")
# How many builds of each are kept: the current one, and a way back.
_KEPT = 3
_BUILD_BOUND = 3600.0
# Settings of a machine with its own package index and authority, which the Dockerfiles take with ARG.
_PASSED_ON = ("PIP_INDEX_URL", "PIP_CERT", "NPM_CONFIG_REGISTRY", "NODE_EXTRA_CA_CERTS")
_MOUNTED = ("/etc/ssl/certs", "/etc/pip.conf")

_PAUSE_SOURCE = """\
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>
static void end(int number) { (void)number; _exit(0); }
static void reap(int number) { (void)number; while (waitpid(-1, 0, WNOHANG) > 0) {} }
int main(void) { signal(SIGINT, end); signal(SIGTERM, end); signal(SIGCHLD, reap); for (;;) pause(); }
"""


@dataclass(frozen=True)
class Images:
    """Full references of the product's images in the node."""

    controller: str
    worker: str


def _buildah(*arguments: str) -> list[str]:
    """buildah on storage of our own, so that nobody else's images are touched and `rm -r` of the cache is enough."""
    return ["buildah", "--root", str(_storage()), "--runroot", str(_run_root()), *arguments]


def _storage() -> Path:
    return cache_dir() / "buildah"


def _run_root() -> Path:
    """What buildah has mounted at the moment; every storage has its own."""
    return run_dir(f"buildah-{zlib.crc32(bytes(_storage())):08x}")


def forget_run_root() -> None:
    """Remove buildah's books of mounts, which it starts anew; left alone while something is being built."""
    with contextlib.suppress(DevkitError), lock("images", seconds=0):
        unmount_below([_run_root()])
        shutil.rmtree(_run_root(), ignore_errors=True)


def _have(image: str) -> bool:
    return succeeds(_buildah("inspect", "--type", "image", image))


def build_all(progress: Progress) -> Images:
    """Build whatever is not built yet: the pause and base images, then the product's own."""
    with lock("images", _BUILD_BOUND, progress):
        _build_pause(progress)
        _build_base(progress)
        built = Images(_build("controller", progress), _build("worker", progress))
        for image in outdated(_listed()):
            # A layer that another image is made of stays; one that is in use by somebody is left for next time.
            succeeds(_buildah("rmi", image))
        return built


def _listed() -> list[str]:
    """Every image with a name, the newest first."""
    listed = json.loads(run(_buildah("images", "--json")))
    newest_first = sorted(listed, key=lambda image: int(image["created"]), reverse=True)
    return [str(name) for image in newest_first for name in image["names"] or []]


def outdated(newest_first: Iterable[str]) -> list[str]:
    """The product's images that are not among the newest few of their kind; others are not ours to judge."""
    kept: dict[str, int] = {}
    found = []
    for image in newest_first:
        kind = image.rpartition(":")[0]
        if kind in _PRODUCT:
            kept[kind] = kept.get(kind, 0) + 1
            if kept[kind] > _KEPT:
                found.append(image)
    return found


def forget_outdated(layout: Layout) -> None:
    """Drop the product's images from the node that are no longer among those that were built last."""
    ctr = Ctr(layout)
    if unwanted := forgettable(ctr.images(), _listed()):
        ctr.remove_images(unwanted)


def forgettable(imported: Mapping[str, str], built: Iterable[str]) -> list[str]:
    """Product images in the node (reference to digest) that are not built any more, with their nameless twins.

    The kubelet's side of containerd adds a reference `sha256:...` to each image, which would keep its content.
    """
    kept_names = set(built)
    old = [name for name in imported if name.rpartition(":")[0] in _PRODUCT and name not in kept_names]
    kept_digests = {digest for name, digest in imported.items() if not name.startswith("sha256:") and name not in old}
    twins = [name for name, digest in imported.items() if name.startswith("sha256:") and digest not in kept_digests]
    return [*old, *twins]


def ensure_pause(progress: Progress) -> None:
    """Build the pause image unless it is built; the only one that a node needs to start."""
    if not _have(PAUSE_IMAGE):
        with lock("images", _BUILD_BOUND, progress):
            _build_pause(progress)


def _build_pause(progress: Progress) -> None:
    """The image that holds a pod's namespaces: one static program."""
    if _have(PAUSE_IMAGE):
        return
    with progress.step("Build the pause image"), workplace("pause") as context:
        (context / "pause.c").write_text(_PAUSE_SOURCE)
        run(["gcc", "-static", "-Os", "-o", str(context / "pause"), str(context / "pause.c")])
        (context / "Dockerfile").write_text('FROM scratch\nCOPY pause /pause\nUSER 65535\nENTRYPOINT ["/pause"]\n')
        run(_buildah("bud", "--tag", PAUSE_IMAGE, str(context)), seconds=_BUILD_BOUND)


def _build_base(progress: Progress) -> None:
    """A Debian with Python, which stands in for python:3.11-slim-bookworm as PYTHON_IMAGE."""
    if _have(BASE_IMAGE):
        return
    with progress.step("Build the base image") as step, workplace("base") as folder:
        root = folder / "root"
        command = ["debootstrap", "--variant=minbase", f"--include={_BASE_PACKAGES}", _SUITE, str(root)]
        mirror = find_mirror(path.read_text() for path in _apt_sources())
        follow([*command, *([mirror] if mirror else [])], step.update, seconds=_BUILD_BOUND)
        step.update("packing")
        excludes = [f"--exclude={pattern}" for pattern in _BASE_LEFT_OUT]
        run(["tar", "-C", str(root), *excludes, "-cf", f"{folder}/root.tar", "."], seconds=600)
        (folder / "Dockerfile").write_text('FROM scratch\nADD root.tar /\nCMD ["python3"]\n')
        (folder / ".dockerignore").write_text("root\n")
        run(_buildah("bud", "--tag", BASE_IMAGE, str(folder)), seconds=_BUILD_BOUND)


def _apt_sources() -> list[Path]:
    folder = Path("/etc/apt")
    files = [folder / "sources.list", *sorted((folder / "sources.list.d").glob("*"))]
    return [path for path in files if path.is_file() and path.suffix in (".list", ".sources")]


def find_mirror(sources: Iterable[str], suite: str = _SUITE) -> str | None:
    """The mirror this machine installs `suite` from, in either format of apt's sources; None: debootstrap's default."""
    for text in sources:
        line = re.search(rf"^deb\s+(?:\[[^\]]*\]\s+)?(\S+)\s+{suite}\s", text, re.MULTILINE)
        if line:
            return line[1]
        for stanza in text.split("\n\n"):
            fields = dict(re.findall(r"^(\w[\w-]*):\s*(.*)$", stanza, re.MULTILINE))
            if suite in fields.get("Suites", "").split():
                return str(fields["URIs"].split()[0])
    return None


def _build(component: str, progress: Progress) -> str:
    """Build Dockerfile.COMPONENT unless an image with the same content tag exists; its reference."""
    dockerfile = REPOSITORY / f"Dockerfile.{component}"
    image = f"localhost/avatar-agent-{component}:{content_tag(dockerfile, REPOSITORY, BASE_IMAGE)}"
    if _have(image):
        return image
    with progress.step(f"Build the {component} image") as step:
        build(dockerfile, REPOSITORY, image, step)
    return image


def build(dockerfile: Path, context: Path, image: str, step: Step) -> None:
    """Build one Dockerfile on the base image with the machine's certificates and package index."""
    arguments = [f"--build-arg=PYTHON_IMAGE={BASE_IMAGE}"]
    arguments += [f"--build-arg={name}={os.environ[name]}" for name in _PASSED_ON if name in os.environ]
    arguments += [f"--volume={path}:{path}:ro" for path in _MOUNTED if Path(path).exists()]
    command = ["bud", "--layers", "--isolation=chroot", *arguments, f"--file={dockerfile}", f"--tag={image}"]
    follow(_buildah(*command, str(context)), step.update, seconds=_BUILD_BOUND)


def load(layout: Layout, images: Iterable[str], progress: Progress) -> None:
    """Import images into the instance's containerd; one that is there already costs nothing."""
    ctr = Ctr(layout)
    present = ctr.images()
    for image in images:
        if image in present:
            continue
        with progress.step(f"Load {image}"), workplace(f"load-{layout.name}") as folder:
            archive = folder / "image.tar"
            # Docker's format keeps layers uncompressed: into an OCI archive, gzip would take most of the time.
            run(_buildah("push", "--quiet", image, f"docker-archive:{archive}:{image}"), seconds=600)
            ctr.import_image(archive)
