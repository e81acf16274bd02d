"""The scan of pod logs after each end-to-end test finds errors and tracebacks, also of deleted pods."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from devkit.paths import REPOSITORY
from tests.e2e import pod_logs
from tests.e2e.pod_logs import PodLogs
from tests.waiting import eventually_blocking

TRACEBACK = "Traceback (most recent call last):"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "pods"


@pytest.fixture
def logs(folder: Path) -> Iterator[PodLogs]:
    opened = PodLogs(folder, {"agents"})
    yield opened
    opened.close()


def log(folder: Path, *texts: str, pod: str = "ava-worker-1", namespace: str = "agents", tag: str = "F") -> Path:
    """Append to a container's log as the kubelet does."""
    container = folder / f"{namespace}_{pod}_0a1b" / "worker"
    container.mkdir(parents=True, exist_ok=True)
    with (container / "0.log").open("a") as file:
        file.writelines(f"2026-01-02T03:04:05.678901234Z stderr {tag} {text}\n" for text in texts)
    return container.parent


def line(level: str, message: str, **fields: str) -> str:
    return json.dumps({"time": "2026-01-02T03:04:05.678+00:00", "level": level, "message": message, **fields})


def messages(logs: PodLogs) -> list[str]:
    return [error.message for error in logs.read()]


@pytest.mark.parametrize("level", ["error", "critical"])
def test_error_is_found_once_with_its_pod(folder: Path, logs: PodLogs, level: str) -> None:
    log(folder, line("info", "call started"), line(level, "provider failed", stage="tts"))
    (error,) = logs.read()
    assert (error.pod, error.message) == ("agents/ava-worker-1", "provider failed")
    assert '"stage": "tts"' in error.text
    assert logs.read() == []


def test_exception_is_found_at_whatever_level(folder: Path, logs: PodLogs) -> None:
    log(folder, line("warning", "event not posted", exception=f"{TRACEBACK}\n..."))
    assert messages(logs) == ["event not posted"]


def test_traceback_outside_of_json_is_found_whole(folder: Path, logs: PodLogs) -> None:
    log(folder, "WARNING: from a native library", TRACEBACK, "  File ...", "ValueError: no", line("info", "stopped"))
    (error,) = logs.read()
    assert error.message == TRACEBACK
    assert error.text.splitlines() == [TRACEBACK, "  File ...", "ValueError: no"]


@pytest.mark.parametrize("text", ["thread 'tokio' panicked at src/lib.rs:7", "Fatal Python error: Segmentation fault"])
def test_crash_of_native_code_is_found(folder: Path, logs: PodLogs, text: str) -> None:
    log(folder, text)
    assert messages(logs) == [text]


def test_other_levels_and_other_namespaces_are_no_errors(folder: Path, logs: PodLogs) -> None:
    log(folder, line("warning", "avatar failed"), line("info", "call ended"), "[1, 2]", "plain text")
    log(folder, line("error", "not ours"), pod="coredns", namespace="kube-system")
    assert logs.read() == []


def test_line_that_the_kubelet_splits_is_one_line(folder: Path, logs: PodLogs) -> None:
    whole = line("error", "provider failed", detail="x" * 50)
    log(folder, whole[:20], tag="P")
    assert logs.read() == []
    log(folder, whole[20:])
    assert messages(logs) == ["provider failed"]


def test_line_is_read_when_it_is_finished(folder: Path, logs: PodLogs) -> None:
    pod = log(folder, line("info", "started"))
    written = f"2026-01-02T03:04:05Z stderr F {line('error', 'provider failed')}\n"
    with (pod / "worker" / "0.log").open("a") as file:
        file.write(written[:40])
        file.flush()
        assert logs.read() == []
        file.write(written[40:])
    assert messages(logs) == ["provider failed"]


def test_errors_of_a_deleted_pod_are_found(folder: Path, logs: PodLogs) -> None:
    pod = log(folder, line("info", "started"))
    logs.find_files()
    log(folder, line("critical", "worker failed"))
    shutil.rmtree(pod)
    assert messages(logs) == ["worker failed"]


@pytest.mark.parametrize("listed", ["pods", "containers", "files"])
def test_folder_deleted_during_the_search_is_skipped(
    folder: Path, logs: PodLogs, monkeypatch: pytest.MonkeyPatch, listed: str
) -> None:
    log(folder, line("error", "of another pod"), pod="ava-worker-2")
    deleted = log(folder, line("error", "of the deleted pod"), pod="ava-worker-1")
    step = {"pods": folder, "containers": deleted, "files": deleted / "worker"}[listed]
    scandir = os.scandir

    @contextmanager
    def delete_after_listing(path: Path | str) -> Iterator[Iterator[os.DirEntry[str]]]:
        with scandir(path) as entries:
            found = list(entries)
        if Path(path) == step:
            monkeypatch.undo()
            shutil.rmtree(deleted)
        yield iter(found)

    monkeypatch.setattr(os, "scandir", delete_after_listing)
    assert messages(logs) == ["of another pod"]
    assert not deleted.exists()


def test_files_are_opened_while_they_are_watched(folder: Path, logs: PodLogs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pod_logs, "POLL_SECONDS", 0.01)
    with logs.watched():
        pod = log(folder, line("error", "provider failed"))
        eventually_blocking(lambda: logs._files, "the file is opened")
        shutil.rmtree(pod)
        assert messages(logs) == ["provider failed"]


def test_log_continues_after_a_rotation(folder: Path, logs: PodLogs) -> None:
    pod = log(folder, line("error", "first"))
    assert messages(logs) == ["first"]
    log(folder, line("error", "second"))
    (pod / "worker" / "0.log").rename(pod / "worker" / "0.log.20260102-030405")
    log(folder, line("error", "third"))
    assert messages(logs) == ["second", "third"]


def test_check_fails_with_every_error_that_is_not_allowed(folder: Path, logs: PodLogs) -> None:
    log(folder, line("error", "allowed"), line("error", "not allowed"), TRACEBACK)
    with pytest.raises(AssertionError) as failure:
        pod_logs.check(logs.read, {"allowed"})
    assert "not allowed" in str(failure.value) and TRACEBACK in str(failure.value)
    assert '"allowed"' not in str(failure.value)
    pod_logs.check(logs.read, ())


def test_only_known_harmless_errors_are_allowed(folder: Path, logs: PodLogs) -> None:
    callback = "error running user callback for local_track_published: room_handle: 5"
    log(
        folder,
        line("error", "process exited with non-zero exit code -10"),
        line("error", callback, exception=f"{TRACEBACK}\nKeyError: 'TR_AMTL'"),
        line("error", callback, exception=f"{TRACEBACK}\nValueError: no"),
        line("error", "call process failed, its call is lost"),
        line("error", "provider failed", stage="stt", error="APITimeoutError"),
        line("error", "provider failed", stage="stt", error="APIStatusError"),
        line("error", "provider failed", stage="tts", error="APITimeoutError"),
    )
    found = pod_logs.unexpected(logs.read(), ())
    assert [error.message.rsplit(" ", 1)[1] for error in found] == ["-10", "5", "lost", "failed", "failed"]
    assert "ValueError" in found[1].text
    assert "APIStatusError" in found[3].text and "tts" in found[4].text


SESSION = """
from pathlib import Path

import pytest

from tests.e2e.conftest import no_unexpected_errors, pytest_configure
from tests.e2e.pod_logs import PodLogs
from tests.unit.e2e.test_pod_logs import TRACEBACK, line, log

FOLDER = Path(__file__).parent / "pods"


@pytest.fixture
def platform():
    return None


@pytest.fixture(scope="session")
def pod_logs():
    logs = PodLogs(FOLDER, {"agents"})
    yield logs
    logs.close()


def test_clean(platform):
    log(FOLDER, line("warning", "avatar failed"))


def test_error(platform):
    log(FOLDER, line("error", "provider failed"))


def test_traceback(platform):
    log(FOLDER, TRACEBACK)


@pytest.mark.allows_errors("provider failed")
def test_allowed(platform):
    log(FOLDER, line("error", "provider failed"))


@pytest.mark.allows_errors("provider failed")
def test_other_error(platform):
    log(FOLDER, line("error", "worker failed"))
"""


def test_logged_error_fails_the_test_that_does_not_allow_it(tmp_path: Path) -> None:
    (tmp_path / "test_session.py").write_text(SESSION)
    (tmp_path / "conftest.py").write_text("from tests.e2e.conftest import pytest_configure\n")
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-rA",
        "--tb=no",
        "-p",
        "no:cacheprovider",
        f"--rootdir={tmp_path}",
    ]
    options = ["-c", str(tmp_path / "none.ini"), "--strict-markers", "--import-mode=importlib"]
    (tmp_path / "none.ini").touch()
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(
        [*command, *options, str(tmp_path)], cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=90
    )
    assert done.returncode == 1, done.stdout + done.stderr
    failed = {row.split("::")[1].split(" ")[0] for row in done.stdout.splitlines() if row.startswith("ERROR ")}
    assert failed == {"test_error", "test_traceback", "test_other_error"}, done.stdout
