"""Inputs of an image, the mirror of its base, and outdated images."""

from pathlib import Path

import pytest

from devkit.errors import DevkitError
from devkit.image_inputs import content_tag, copied_sources
from devkit.images import find_mirror, outdated, removable

DOCKERFILE = """\
FROM base AS packages
COPY --chown=1:1 lock.txt \\
     more.txt /tmp/
FROM base
COPY --from=packages /opt /opt
copy ["app", "/app"]
RUN echo COPY nothing /here
"""


@pytest.fixture
def context(tmp_path: Path) -> Path:
    (tmp_path / "Dockerfile").write_text(DOCKERFILE)
    (tmp_path / "lock.txt").write_text("package==1\n")
    (tmp_path / "more.txt").write_text("")
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "main.py").write_text("print(1)\n")
    return tmp_path


def tag(context: Path, base: str = "base:1") -> str:
    return content_tag(context / "Dockerfile", context, base)


def test_sources_of_every_copy_from_the_context_are_found() -> None:
    assert copied_sources(DOCKERFILE) == ["lock.txt", "more.txt", "app"]


def test_tag_ignores_files_that_are_not_copied(context: Path) -> None:
    before = tag(context)
    (context / "unrelated.txt").write_text("new")
    (context / "app" / "__pycache__").mkdir()
    (context / "app" / "__pycache__" / "main.pyc").write_bytes(b"compiled")
    assert tag(context) == before


def test_tag_changes_with_content_name_mode_dockerfile_and_base(context: Path) -> None:
    tags = [tag(context), tag(context, base="base:2")]
    (context / "app" / "main.py").write_text("print(2)\n")
    tags.append(tag(context))
    (context / "app" / "main.py").rename(context / "app" / "other.py")
    tags.append(tag(context))
    (context / "app" / "other.py").chmod(0o755)
    tags.append(tag(context))
    (context / "Dockerfile").write_text(DOCKERFILE + "USER 1\n")
    tags.append(tag(context))
    assert len(set(tags)) == len(tags)


def test_error_names_missing_source_or_dockerfile(context: Path) -> None:
    (context / "more.txt").unlink()
    with pytest.raises(DevkitError, match=r"more\.txt"):
        tag(context)
    with pytest.raises(DevkitError, match=r"Dockerfile\.worker is missing"):
        content_tag(context / "Dockerfile.worker", context, "base:1")


@pytest.mark.parametrize(
    ("sources", "mirror"),
    [
        pytest.param(["deb http://mirror.test/debian bookworm main"], "http://mirror.test/debian", id="one line"),
        pytest.param(
            ["deb [signed-by=/k] http://mirror.test/d bookworm main"], "http://mirror.test/d", id="with options"
        ),
        pytest.param(
            ["Types: deb\nURIs: http://mirror.test/x\nSuites: bookworm bookworm-updates\nComponents: main\n"],
            "http://mirror.test/x",
            id="a stanza",
        ),
        pytest.param(
            ["Types: deb\nURIs: http://mirror.test/security\nSuites: bookworm-security\n"], None, id="security only"
        ),
        pytest.param(["# deb http://mirror.test/debian bookworm main"], None, id="commented out"),
        pytest.param([], None, id="none"),
    ],
)
def test_mirror_is_read_from_apt_sources(sources: list[str], mirror: str | None) -> None:
    assert find_mirror(sources) == mirror


def test_product_images_beyond_the_newest_three_are_outdated() -> None:
    worker = [f"localhost/avatar-agent-worker:{number}" for number in range(5)]
    others = ["localhost/avatar-agent-base:bookworm-1", *(f"localhost/other:{number}" for number in range(9))]
    examples = [f"localhost/avatar-agent-example-one:{number}" for number in range(4)]
    examples += ["localhost/avatar-agent-example-two:0"]
    found = outdated([*others, *worker, *examples, "localhost/avatar-agent-controller:0"])
    assert found == [*worker[3:], examples[3]]


def test_removed_image_leaves_node_with_its_digest_reference() -> None:
    imported = {
        "localhost/avatar-agent-worker:old": "sha256:a",
        "localhost/avatar-agent-worker:new": "sha256:b",
        "localhost/avatar-agent-pause:1": "sha256:c",
        "sha256:1": "sha256:a",
        "sha256:2": "sha256:b",
        "sha256:3": "sha256:c",
    }
    assert removable(imported, ["localhost/avatar-agent-worker:new"]) == [
        "localhost/avatar-agent-worker:old",
        "sha256:1",
    ]
