"""Documents of every release are read, and documents of later ones too.

A folder holds the documents of one release, written by that release's own types. A release adds a folder. The documents
of an old release never change. The folder `unreleased` holds what the next release adds.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agentspec import AvatarProvider, DispatchMode, OnAvatarFailure, Placement
from agentspec.model import Model
from agentspec.wire import (
    CallOutcome,
    Demand,
    DispatchMetadata,
    JobReport,
    JobState,
    RoomRecord,
    Supply,
    WorkerCalls,
    WorkerConfig,
    WorkerStatus,
    read,
    read_dispatch_metadata,
    read_room_record,
    render,
)

SAMPLES = sorted(Path(__file__).parent.glob("*/*.json"))
MAPS = {"pending", "agents", "metadata"}
"""Fields whose keys are data: a new key there is not an unknown field."""


def room_record(text: str) -> RoomRecord:
    record = read_room_record(text)
    assert record is not None
    return record


def dispatch_metadata(text: str) -> DispatchMetadata:
    metadata, dropped = read_dispatch_metadata(text)
    assert dropped == 0
    return metadata


READERS: dict[str, Callable[[str], Model]] = {
    "worker-status": lambda text: read(WorkerStatus, text),
    "demand": lambda text: read(Demand, text),
    "supply": lambda text: read(Supply, text),
    "room-record": room_record,
    "dispatch-metadata": dispatch_metadata,
    "worker-config": lambda text: read(WorkerConfig, text),
    "worker-calls": lambda text: read(WorkerCalls, text),
}
UNRELEASED = "unreleased"
ADDED = {"worker-calls"}
"""Document types that no release has yet."""


def parse(sample: Path, text: str) -> Any:  # noqa: ANN401 - a document of any type
    """Read a document as the process does that receives it."""
    (reader,) = [reader for kind, reader in READERS.items() if sample.stem.startswith(f"{kind}-")]
    return reader(text)


def named(sample: Path) -> str:
    return f"{sample.parent.name}/{sample.stem}"


def with_unknown_fields(value: object, *, is_map: bool = False) -> object:
    """Add fields that no release knows to every object of a document."""
    if isinstance(value, list):
        return [with_unknown_fields(item) for item in value]
    if not isinstance(value, dict):
        return value
    result = {key: with_unknown_fields(inner, is_map=key in MAPS) for key, inner in value.items()}
    return result if is_map else {"new": 1, **result, "newer": {"nested": [{"deeper": None}]}}


def test_there_is_a_sample_of_every_document_type() -> None:
    for release in {sample.parent for sample in SAMPLES}:
        for kind in ADDED if release.name == UNRELEASED else READERS.keys() - ADDED:
            assert {f"{kind}-full", f"{kind}-minimal"} <= {sample.stem for sample in release.iterdir()}


@pytest.mark.parametrize("sample", SAMPLES, ids=named)
def test_document_is_rendered_as_its_release_wrote_it(sample: Path) -> None:
    """No value is lost, and release 0.1.0, which rejects unknown fields, still reads what today's code writes."""
    document = json.loads(sample.read_text())
    if sample.stem == "dispatch-metadata-seated":
        document["avatar"] = True  # `with_avatar` leaves out the default
    assert json.loads(render(parse(sample, sample.read_text()))) == document


@pytest.mark.parametrize("sample", SAMPLES, ids=named)
def test_unknown_fields_at_every_depth_change_nothing(sample: Path) -> None:
    text = sample.read_text()
    newer = json.dumps(with_unknown_fields(json.loads(text)))
    assert newer.count("deeper") >= 1
    assert parse(sample, newer) == parse(sample, text)


def sample_of(name: str, release: str = "0.1.0") -> Any:  # noqa: ANN401 - a document of any type
    path = Path(__file__).parent / release / f"{name}.json"
    return parse(path, path.read_text())


def test_values_of_the_samples_are_what_they_say() -> None:
    config = sample_of("worker-config-full")
    assert (config.dispatch_mode, config.placement) == (DispatchMode.AUTOMATIC, Placement.SPREAD)
    assert (config.avatar.provider, config.avatar.on_failure) == (AvatarProvider.TAVUS, OnAvatarFailure.END_CALL)
    assert (config.voice.tts.voice, config.voice.openai.credentials_secret_ref.name) == ("nova", "openai")
    assert [document.name for document in config.knowledge] == ["ornina/hours.md", "offers"]
    assert sample_of("room-record-ended").outcome is CallOutcome.NO_AVATAR_SEAT
    assert sample_of("room-record-full").outcome == ""
    assert sample_of("supply-full").agents["avatar/ornina"].free_avatars == 2
    assert sample_of("supply-full").agents["sales/front-desk"].free_avatars is None
    assert sample_of("demand-full").pending == {"avatar/ornina": 3, "sales/front-desk": 1}
    assert sample_of("worker-status-full").free_slots == 1
    metadata = sample_of("dispatch-metadata-without-seat")
    assert (metadata.is_from_gateway, metadata.avatar, metadata.user_id) == (True, False, "u-17")
    assert metadata.metadata == {"plan": "gold", "city": "دمشق", "orders": 3, "score": 0.5, "vip": True}
    assert sample_of("dispatch-metadata-seated").avatar is True


def test_values_of_the_unreleased_samples_are_what_they_say() -> None:
    joined = JobReport(job_id="AJ_4kYp", room="ornina-7f3a", state=JobState.JOINED)
    ended = JobReport(job_id="AJ_9mQz", room="support-12", state=JobState.ENDED, outcome=CallOutcome.PROVIDER_FAILED)
    assert sample_of("worker-status-jobs", UNRELEASED).jobs == [joined, ended]
    assert sample_of("worker-calls-full", UNRELEASED).jobs[1:] == [joined, ended]
    lost = sample_of("worker-calls-lost", UNRELEASED)
    assert (lost.agent, lost.worker, lost.jobs, lost.lost) == ("avatar/ornina", "ornina-worker-1", [joined], True)
    assert sample_of("worker-calls-minimal", UNRELEASED).jobs == []


def test_unknown_state_of_a_job_counts_as_joined() -> None:
    text = '{"agent": "avatar/ornina", "worker": "w", "jobs": [{"jobID": "AJ_1", "room": "r", "state": "paused"}]}'
    assert read(WorkerCalls, text).jobs[0].state is JobState.JOINED
