"""The inputs of an image: the files that its Dockerfile copies, and a tag that changes exactly when they do."""

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path

from devkit.errors import DevkitError

_IGNORED = {"__pycache__", ".mypy_cache", ".pytest_cache", "node_modules"}


def copied_sources(dockerfile: str) -> list[str]:
    """Return the sources of every COPY and ADD that reads from the build context, not from another stage."""
    joined = re.sub(r"\\\s*\n", " ", dockerfile)
    sources: list[str] = []
    for line in joined.splitlines():
        instruction, _, rest = line.strip().partition(" ")
        if instruction.upper() not in ("COPY", "ADD"):
            continue
        words = rest.split()
        while words and words[0].startswith("--"):
            if words[0].startswith("--from"):
                break
            words.pop(0)
        if words and words[0].startswith("--from"):
            continue
        if words and words[0].startswith("["):
            words = [str(word) for word in json.loads(" ".join(words))]
        sources += words[:-1]
    return sources


def _files(context: Path, pattern: str) -> Iterator[Path]:
    """Yield the regular files of one source: a file, a folder or a glob."""
    relative = pattern.strip("/") or "."
    found = [context] if relative == "." else sorted(context.glob(relative))
    if not found:
        raise DevkitError(f"the Dockerfile copies {pattern}, which does not exist in {context}")
    for path in found:
        inside = sorted(path.rglob("*")) if path.is_dir() else [path]
        for file in inside:
            parts = set(file.relative_to(context).parts)
            if file.is_file() and not parts & _IGNORED:
                yield file


def content_tag(dockerfile: Path, context: Path, base: str) -> str:
    """Return a hash of the Dockerfile, the base image's reference, and path, mode and content of every copied file."""
    if not dockerfile.exists():
        raise DevkitError(f"{dockerfile} is missing: restore it to build the image")
    text = dockerfile.read_text()
    digest = hashlib.sha256(f"{base}\n{text}".encode())
    for pattern in copied_sources(text):
        for file in _files(context, pattern):
            content = hashlib.sha256(file.read_bytes()).hexdigest()
            digest.update(f"{file.relative_to(context)} {file.stat().st_mode & 0o777:o} {content}\n".encode())
    return digest.hexdigest()[:12]
