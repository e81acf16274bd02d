"""Run programs of the system, with a timeout."""

import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from devkit.errors import DevkitError


def run(
    argv: Sequence[str], *, seconds: float = 60, stdin: str | None = None, env: Mapping[str, str] | None = None
) -> str:
    """Run a command and return its standard output. Raises DevkitError with the command's output when it fails."""
    try:
        done = subprocess.run(argv, input=stdin, env=env, capture_output=True, text=True, timeout=seconds, check=False)
    except FileNotFoundError as error:
        raise DevkitError(f"the program {argv[0]} is missing: install it") from error
    except subprocess.TimeoutExpired as error:
        raise DevkitError(f"{' '.join(argv[:4])} ... timed out after {seconds:.0f} s") from error
    if done.returncode != 0:
        output = (done.stderr.strip() or done.stdout.strip())[-2000:]
        raise DevkitError(f"{' '.join(argv)} failed (exit code {done.returncode}): {output}")
    return done.stdout


def follow(
    argv: Sequence[str],
    on_line: Callable[[str], None],
    *,
    seconds: float,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
) -> None:
    """Run a long command and call `on_line` with each line of its output, from both streams.

    Raises DevkitError with the last lines when the command fails, or when it runs longer than `seconds`.
    """
    last: list[str] = []
    with subprocess.Popen(
        argv, cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as child:
        timeout = threading.Timer(seconds, child.kill)
        timeout.start()
        try:
            assert child.stdout is not None
            for line in child.stdout:
                last = [*last[-20:], line.rstrip()]
                on_line(line.rstrip())
        except BaseException:
            child.terminate()
            raise
        finally:
            timeout.cancel()
    if child.returncode != 0:
        output = "\n".join(last)
        raise DevkitError(f"{' '.join(argv[:3])} ... failed (exit code {child.returncode}):\n{output}")


def succeeds(argv: Sequence[str], *, seconds: float = 60) -> bool:
    """Run a command and return whether it exits with 0."""
    try:
        run(argv, seconds=seconds)
    except DevkitError:
        return False
    return True
