"""Renders the chart with Helm."""

import subprocess
from pathlib import Path
from typing import Any

import yaml

CHART = Path(__file__).resolve().parents[2] / "charts" / "avatar-agent"
RELEASE = "test"
NAMESPACE = "system"

Documents = list[dict[str, Any]]


class Renderer:
    """Runs Helm on the chart."""

    def __init__(self, helm: str) -> None:
        self._helm = helm

    def __call__(self, *settings: str) -> Documents:
        """Return the documents of a release with these values (`key=value`) and flags (`--flag=value`)."""
        return [document for document in yaml.safe_load_all(self._run("template", *settings)) if document]

    def notes(self, *settings: str) -> str:
        """Return the notes that an installation with these values prints."""
        return self._run("install", "--dry-run=client", *settings).split("NOTES:")[1]

    def _run(self, command: str, *arguments: str) -> str:
        options: list[str] = []
        for argument in arguments:
            options += [argument] if argument.startswith("--") else ["--set", argument]
        argv = [self._helm, command, RELEASE, str(CHART), "-n", NAMESPACE, *options]
        return subprocess.run(argv, capture_output=True, text=True, timeout=60, check=True).stdout


def pick(documents: Documents, kind: str, name: str) -> dict[str, Any]:
    """Return the one object of this kind and name."""
    (found,) = [d for d in documents if d["kind"] == kind and d["metadata"]["name"] == name]
    return found
