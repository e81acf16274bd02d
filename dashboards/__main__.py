"""``python -m dashboards`` writes the dashboards' JSON; ``--check`` fails when a file is stale."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from dashboards import calls, fleet, operator

_ROOT: Final = Path(__file__).resolve().parent.parent
FOLDERS: Final = [_ROOT / "dashboards/generated", _ROOT / "charts/avatar-agent/files/dashboards"]
"""The files to import by hand, and their copies in the chart: Helm cannot read files outside a chart."""


def rendered() -> dict[str, str]:
    """Return the text of each dashboard by its file name."""
    return {f"{module.UID}.json": module.render() for module in (fleet, calls, operator)}


def main(arguments: Sequence[str]) -> int:
    """Write what is stale, or with `--check` name it. Return the exit code."""
    wanted = {folder / name: text for folder in FOLDERS for name, text in rendered().items()}
    stale = [path for path, text in wanted.items() if not path.exists() or path.read_text() != text]
    extra = [path for folder in FOLDERS for path in sorted(folder.glob("*.json")) if path not in wanted]
    if "--check" not in arguments:
        for path in stale:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(wanted[path])
        for path in extra:
            path.unlink()
        return 0
    for path in (*stale, *extra):
        print(f"{path.relative_to(_ROOT)} is stale: run `make generate` and commit the result", file=sys.stderr)
    return 1 if stale or extra else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
