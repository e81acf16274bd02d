"""Short commands of the system, run to their end with a bound."""

import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from devkit.errors import DevkitError


def run(
    argv: Sequence[str], *, seconds: float = 60, stdin: str | None = None, env: Mapping[str, str] | None = None
) -> str:
    """Standard output of a command; a failure becomes a DevkitError that carries what the command said."""
    try:
        done = subprocess.run(argv, input=stdin, env=env, capture_output=True, text=True, timeout=seconds, check=False)
    except FileNotFoundError as error:
        raise DevkitError(f"the program {argv[0]} is missing on this machine: install it") from error
    except subprocess.TimeoutExpired as error:
        raise DevkitError(f"{' '.join(argv[:4])} ... did not end within {seconds:.0f} s") from error
    if done.returncode != 0:
        said = (done.stderr.strip() or done.stdout.strip())[-2000:]
        raise DevkitError(f"{' '.join(argv)} failed ({done.returncode}): {said}")
    return done.stdout


def follow(
    argv: Sequence[str],
    on_line: Callable[[str], None],
    *,
    seconds: float,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
) -> None:
    """Run a long command and hand over each line it says, on either stream, as it comes.

    Raises DevkitError with its last lines when it fails, or when it has not ended after `seconds`.
    """
    last: list[str] = []
    with subprocess.Popen(
        argv, cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as child:
        bound = threading.Timer(seconds, child.kill)
        bound.start()
        try:
            assert child.stdout is not None
            for line in child.stdout:
                last = [*last[-20:], line.rstrip()]
                on_line(line.rstrip())
        except BaseException:
            child.terminate()
            raise
        finally:
            bound.cancel()
    if child.returncode != 0:
        said = "\n".join(last)
        raise DevkitError(f"{' '.join(argv[:3])} ... failed ({child.returncode}):\n{said}")


def succeeds(argv: Sequence[str], *, seconds: float = 60) -> bool:
    """Whether a command ends with 0; for questions whose answer may be no."""
    try:
        run(argv, seconds=seconds)
    except DevkitError:
        return False
    return True
