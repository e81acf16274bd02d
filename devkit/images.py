"""Container images without a public registry: a base from Debian's packages, and the product's from Dockerfiles."""

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
from devkit.instance import NodeLayout
from devkit.locks import lock
from devkit.mounts import unmount_below
from devkit.node import PAUSE_IMAGE, Ctr
from devkit.paths import REPOSITORY, cache_dir, run_dir
from devkit.progress import Progress, Step
from devkit.temporary import temporary_folder

_SUITE = "bookworm"
# Raise the number at the end when this module builds the base differently.
BASE_IMAGE = f"localhost/avatar-agent-base:{_SUITE}-1"
_BASE_PACKAGES = "python3,python3-venv,ca-certificates"
# Files that a program in a container never reads.
_BASE_EXCLUDED = ("./dev/*", "./proc/*", "./sys/*", "./var/cache/*", "./var/lib/apt/lists/*", "./usr/share/doc/*",
                  "./usr/share/man/*", "./usr/share/locale/*")  # fmt: skip
_PRODUCT = ("localhost/avatar-agent-controller", "localhost/avatar-agent-worker")
_EXAMPLE = "localhost/avatar-agent-example-"
"""Beginning of the names of images that examples build on the worker image."""
# Builds to keep of each image: the current one, and some to go back to.
_BUILDS_TO_KEEP = 3
_BUILD_TIMEOUT = 3600.0
# Build arguments of the Dockerfiles, for a machine with its own package index and certificate authority.
_FORWARDED = ("PIP_INDEX_URL", "PIP_CERT", "NPM_CONFIG_REGISTRY", "NODE_EXTRA_CA_CERTS")
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
    """References of the product's images on the node."""

    controller: str
    worker: str


def _buildah(*arguments: str) -> list[str]:
    """Return a buildah command with its own storage: it touches no other images, and the cache contains it."""
    return ["buildah", "--root", str(_storage()), "--runroot", str(_run_root()), *arguments]


def _storage() -> Path:
    return cache_dir() / "buildah"


def _run_root() -> Path:
    """Return the folder of buildah's mounts; each storage has its own."""
    return run_dir(f"buildah-{zlib.crc32(bytes(_storage())):08x}")


def remove_run_root() -> None:
    """Remove buildah's record of mounts, which it creates again; do nothing during a build."""
    with contextlib.suppress(DevkitError), lock("images", seconds=0):
        unmount_below([_run_root()])
        shutil.rmtree(_run_root(), ignore_errors=True)


def _exists(image: str) -> bool:
    return succeeds(_buildah("inspect", "--type", "image", image))


def build_all(progress: Progress) -> Images:
    """Build the images that do not exist yet: pause, base, and the product's."""
    with lock("images", _BUILD_TIMEOUT, progress):
        _build_pause(progress)
        _build_base(progress)
        built = Images(_build("controller", progress), _build("worker", progress))
        for image in outdated(_listed()):
            # Shared layers stay. An image in use stays as well, until a later build.
            succeeds(_buildah("rmi", image))
        return built


def _listed() -> list[str]:
    """Return the names of all images, newest first."""
    listed = json.loads(run(_buildah("images", "--json")))
    newest_first = sorted(listed, key=lambda image: int(image["created"]), reverse=True)
    return [str(name) for image in newest_first for name in image["names"] or []]


def outdated(newest_first: Iterable[str]) -> list[str]:
    """Return the product's images that are older than the newest few of their kind; ignore all other images."""
    kept: dict[str, int] = {}
    found = []
    for image in newest_first:
        kind = image.rpartition(":")[0]
        if _is_ours(kind):
            kept[kind] = kept.get(kind, 0) + 1
            if kept[kind] > _BUILDS_TO_KEEP:
                found.append(image)
    return found


def _is_ours(kind: str) -> bool:
    return kind in _PRODUCT or kind.startswith(_EXAMPLE)


def remove_outdated(node: NodeLayout) -> None:
    """Remove product images from the node that the image storage no longer has."""
    ctr = Ctr(node)
    if unwanted := removable(ctr.images(), _listed()):
        ctr.remove_images(unwanted)


def removable(imported: Mapping[str, str], built: Iterable[str]) -> list[str]:
    """Return references of product images on the node (reference to digest) that are no longer among the built ones.

    This includes the reference `sha256:...` that containerd's CRI plugin adds to each image; it would keep the content.
    """
    kept_names = set(built)
    old = [name for name in imported if _is_ours(name.rpartition(":")[0]) and name not in kept_names]
    kept_digests = {digest for name, digest in imported.items() if not name.startswith("sha256:") and name not in old}
    twins = [name for name, digest in imported.items() if name.startswith("sha256:") and digest not in kept_digests]
    return [*old, *twins]


def ensure_pause(progress: Progress) -> None:
    """Build the pause image if it does not exist; a node needs no other image to start."""
    if not _exists(PAUSE_IMAGE):
        with lock("images", _BUILD_TIMEOUT, progress):
            _build_pause(progress)


def _build_pause(progress: Progress) -> None:
    """Build the image whose process holds a pod's namespaces: one static program."""
    if _exists(PAUSE_IMAGE):
        return
    with progress.step("Build the pause image"), temporary_folder("pause") as context:
        (context / "pause.c").write_text(_PAUSE_SOURCE)
        run(["gcc", "-static", "-Os", "-o", str(context / "pause"), str(context / "pause.c")])
        (context / "Dockerfile").write_text('FROM scratch\nCOPY pause /pause\nUSER 65535\nENTRYPOINT ["/pause"]\n')
        run(_buildah("bud", "--tag", PAUSE_IMAGE, str(context)), seconds=_BUILD_TIMEOUT)


def _build_base(progress: Progress) -> None:
    """Build a Debian image with Python, which replaces python:3.11-slim-bookworm as PYTHON_IMAGE."""
    if _exists(BASE_IMAGE):
        return
    with progress.step("Build the base image") as step, temporary_folder("base") as folder:
        root = folder / "root"
        command = ["debootstrap", "--variant=minbase", f"--include={_BASE_PACKAGES}", _SUITE, str(root)]
        mirror = find_mirror(path.read_text() for path in _apt_sources())
        follow([*command, *([mirror] if mirror else [])], step.update, seconds=_BUILD_TIMEOUT)
        step.update("packing")
        excludes = [f"--exclude={pattern}" for pattern in _BASE_EXCLUDED]
        run(["tar", "-C", str(root), *excludes, "-cf", f"{folder}/root.tar", "."], seconds=600)
        (folder / "Dockerfile").write_text('FROM scratch\nADD root.tar /\nCMD ["python3"]\n')
        (folder / ".dockerignore").write_text("root\n")
        run(_buildah("bud", "--tag", BASE_IMAGE, str(folder)), seconds=_BUILD_TIMEOUT)


def _apt_sources() -> list[Path]:
    folder = Path("/etc/apt")
    files = [folder / "sources.list", *sorted((folder / "sources.list.d").glob("*"))]
    return [path for path in files if path.is_file() and path.suffix in (".list", ".sources")]


def find_mirror(sources: Iterable[str], suite: str = _SUITE) -> str | None:
    """Return the mirror of `suite` in apt's sources, in either format; None: use debootstrap's default."""
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
    """Build Dockerfile.COMPONENT unless an image with the same content tag exists, and return its reference."""
    dockerfile = REPOSITORY / f"Dockerfile.{component}"
    image = f"localhost/avatar-agent-{component}:{content_tag(dockerfile, REPOSITORY, BASE_IMAGE)}"
    if _exists(image):
        return image
    with progress.step(f"Build the {component} image") as step:
        build(dockerfile, REPOSITORY, image, step)
    return image


def build_example(folder: Path, worker: str, progress: Progress) -> str:
    """Build an example's Dockerfile on the worker image unless that exists, and return the image's reference."""
    dockerfile = folder / "Dockerfile"
    image = f"{_EXAMPLE}{folder.name}:{content_tag(dockerfile, folder, worker)}"
    with lock("images", _BUILD_TIMEOUT, progress):
        if not _exists(image):
            with progress.step(f"Build the image of the example {folder.name}") as step:
                build(dockerfile, folder, image, step, base=f"WORKER_IMAGE={worker}")
    return image


def build(dockerfile: Path, context: Path, image: str, step: Step, *, base: str = f"PYTHON_IMAGE={BASE_IMAGE}") -> None:
    """Build a Dockerfile with this machine's certificates and package index; `base` names its argument and image."""
    arguments = [f"--build-arg={base}"]
    arguments += [f"--build-arg={name}={os.environ[name]}" for name in _FORWARDED if name in os.environ]
    arguments += [f"--volume={path}:{path}:ro" for path in _MOUNTED if Path(path).exists()]
    command = ["bud", "--layers", "--isolation=chroot", *arguments, f"--file={dockerfile}", f"--tag={image}"]
    follow(_buildah(*command, str(context)), step.update, seconds=_BUILD_TIMEOUT)


def load(node: NodeLayout, images: Iterable[str], progress: Progress) -> None:
    """Import images into a node's containerd, unless it has them already."""
    ctr = Ctr(node)
    present = ctr.images()
    for image in images:
        if image in present:
            continue
        with progress.step(f"Load {image}"), temporary_folder(f"load-{node.name}") as folder:
            archive = folder / "image.tar"
            # Docker's format leaves layers uncompressed; an OCI archive would spend most of the time in gzip.
            run(_buildah("push", "--quiet", image, f"docker-archive:{archive}:{image}"), seconds=600)
            ctr.import_image(archive)
