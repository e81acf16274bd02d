"""The informer's copy of one kind's objects, in virtual time, against an API server in memory."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kube import informer as informer_module
from kube.client import ApiError, Document, Documents
from kube.informer import INITIAL_BACKOFF_SECONDS, MAX_BACKOFF_SECONDS, Informer
from kube.kinds import CONFIG_MAP, POD
from tests.unit.fakes.apiserver import TOO_OLD, UNREACHABLE, FakeApiServer
from tests.unit.fakes.virtualtime import VirtualLoop, run, use_loop_clock

Group = tuple[str, str]
"""Namespace and agent; the agent is empty for objects without that label."""

AVA: Group = ("shop", "ava")
EVA: Group = ("shop", "eva")
SHARED: Group = ("shop", "")
SELECTOR = "managed-by=tests"
EVENT_SECONDS = 0.1
"""Longer than a response of the API server in memory."""


def config_map(name: str = "one", agent: str | None = "ava", data: str = "a", **labels: str | None) -> Document:
    """A ConfigMap that the selector matches."""
    own: dict[str, str | None] = {"managed-by": "tests"}
    if agent is not None:
        own["agent"] = agent
    return {"metadata": {"namespace": "shop", "name": name, "labels": {**own, **labels}}, "data": {"text": data}}


def unselected(name: str = "one") -> Document:
    """A ConfigMap that the selector does not match."""
    return config_map(name, **{"managed-by": "another"})


def at_version(version: int, name: str = "one", data: str = "a") -> Document:
    document = config_map(name, data=data)
    document["metadata"]["resourceVersion"] = str(version)
    return document


def group_of(document: Document) -> Group:
    metadata = document["metadata"]
    return metadata["namespace"], metadata["labels"].get("agent", "")


def text(document: Document) -> str:
    return str(document["data"]["text"])


def max_attempts(seconds: float) -> float:
    """The most attempts in that time when the backoff grows as it should."""
    return seconds / MAX_BACKOFF_SECONDS + 8


class Scene:
    """An informer of ConfigMaps, its API server, and the groups whose changes it reported."""

    def __init__(self, server: FakeApiServer | None = None) -> None:
        self.server = server or FakeApiServer()
        self.changed: list[Group] = []
        self.informer = Informer(
            self.server,
            CONFIG_MAP,
            "shop",
            group_of=group_of,
            parse=text,
            on_change=self.changed.append,
            selector=SELECTOR,
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run the informer, synced, and forget the changes of its first list."""
        task = asyncio.create_task(self.informer.run())
        try:
            await self.informer.wait_synced()
            await asyncio.sleep(EVENT_SECONDS)
            self.changed.clear()
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])

    def requests(self, verb: str) -> int:
        return self.server.requests[verb, "ConfigMap"]

    def seconds_since_contact(self) -> float:
        assert self.informer.last_contact is not None
        return asyncio.get_running_loop().time() - self.informer.last_contact


@pytest.fixture(autouse=True, scope="module")
def clock() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        use_loop_clock(patch, informer_module)
        yield


@pytest.fixture
async def scene(virtual_time: VirtualLoop) -> Scene:
    return Scene()


async def test_existing_objects_are_listed_and_changes_are_followed(scene: Scene) -> None:
    scene.server.put(CONFIG_MAP, config_map("one"))
    scene.server.put(CONFIG_MAP, config_map("two", "eva"))
    scene.server.put(CONFIG_MAP, config_map("all", agent=None))
    async with scene.running():
        assert scene.informer.group(AVA) == {"one": "a"}
        assert scene.informer.group(EVA) == {"two": "a"}
        assert scene.informer.group(SHARED) == {"all": "a"}
        scene.server.put(CONFIG_MAP, config_map("three"))
        scene.server.put(CONFIG_MAP, config_map("one", data="b"))
        scene.server.remove(CONFIG_MAP, "shop", "two")
        await asyncio.sleep(EVENT_SECONDS)
        assert scene.informer.group(AVA) == {"one": "b", "three": "a"}
        assert scene.informer.group(EVA) == {}
        assert scene.changed == [AVA, AVA, EVA]
    assert scene.requests("list") == 1


async def test_objects_outside_the_selection_are_ignored(scene: Scene) -> None:
    scene.server.put(CONFIG_MAP, {"metadata": {"namespace": "shop", "name": "theirs"}, "data": {"text": "x"}})
    scene.server.put(POD, config_map("a-pod"))
    elsewhere = config_map("one")
    elsewhere["metadata"]["namespace"] = "office"
    scene.server.put(CONFIG_MAP, elsewhere)
    async with scene.running():
        assert scene.informer.group_keys() == set()
        scene.server.put(CONFIG_MAP, config_map("mine"))
        await asyncio.sleep(EVENT_SECONDS)
        assert scene.informer.group_keys() == {AVA}


async def test_change_outside_the_parsed_part_is_not_reported(scene: Scene) -> None:
    scene.server.put(CONFIG_MAP, config_map())
    async with scene.running():
        scene.server.put(CONFIG_MAP, config_map(note="another label"))
        await asyncio.sleep(EVENT_SECONDS)
        assert scene.changed == []
        assert scene.informer.group(AVA) == {"one": "a"}


async def test_edited_label_moves_object_and_reports_both_groups(scene: Scene) -> None:
    scene.server.put(CONFIG_MAP, config_map())
    async with scene.running():
        scene.server.put(CONFIG_MAP, config_map(agent="eva"))
        await asyncio.sleep(EVENT_SECONDS)
        assert (scene.informer.group(AVA), scene.informer.group(EVA)) == ({}, {"one": "a"})
        assert scene.changed == [AVA, EVA]


async def test_object_leaves_and_returns_with_its_selected_label(scene: Scene) -> None:
    scene.server.put(CONFIG_MAP, config_map())
    async with scene.running():
        scene.server.put(CONFIG_MAP, unselected())
        await asyncio.sleep(EVENT_SECONDS)
        assert (scene.informer.group(AVA), scene.changed) == ({}, [AVA])
        scene.server.put(CONFIG_MAP, config_map())
        await asyncio.sleep(EVENT_SECONDS)
        assert (scene.informer.group(AVA), scene.changed) == ({"one": "a"}, [AVA, AVA])


async def test_ended_or_broken_watch_resumes_at_its_version(scene: Scene) -> None:
    async with scene.running():
        for number, error in enumerate([None, UNREACHABLE]):
            before = scene.server.put(CONFIG_MAP, config_map(f"before-{number}"))["metadata"]["resourceVersion"]
            await asyncio.sleep(EVENT_SECONDS)
            scene.server.end_watches(error)
            scene.server.put(CONFIG_MAP, config_map(f"meanwhile-{number}"))
            await asyncio.sleep(INITIAL_BACKOFF_SECONDS + EVENT_SECONDS)
            assert scene.server.watch_versions[-1] == before
        assert len(scene.informer.group(AVA)) == 4
        assert len(scene.changed) == 4, "each is reported once"
    assert scene.requests("list") == 1


async def test_bookmark_advances_the_version_and_counts_as_contact(scene: Scene) -> None:
    async with scene.running():
        await asyncio.sleep(60)
        scene.server.put(POD, config_map("another-kind"))
        scene.server.bookmark(CONFIG_MAP)
        await asyncio.sleep(EVENT_SECONDS)
        assert scene.seconds_since_contact() < 1
        scene.server.compact()
        scene.server.end_watches()
        await asyncio.sleep(EVENT_SECONDS)
        assert scene.server.watch_versions[-1] == str(scene.server.version)
        assert scene.changed == []
    assert scene.requests("list") == 1


async def test_new_list_after_a_gap_replaces_the_copy(scene: Scene) -> None:
    for name in ("one", "two", "ghost"):
        scene.server.put(CONFIG_MAP, config_map(name))
    async with scene.running():
        scene.server.end_watches(UNREACHABLE)
        await asyncio.sleep(0.05)
        scene.server.remove(CONFIG_MAP, "shop", "ghost")
        scene.server.put(CONFIG_MAP, config_map("two", data="b"))
        scene.server.put(CONFIG_MAP, config_map("three"))
        scene.server.compact()
        await asyncio.sleep(INITIAL_BACKOFF_SECONDS + EVENT_SECONDS)
        assert scene.informer.group(AVA) == {"one": "a", "two": "b", "three": "a"}
        assert scene.changed == [AVA, AVA, AVA], "the unchanged object is not reported"
        scene.server.put(CONFIG_MAP, config_map("four"))
        await asyncio.sleep(EVENT_SECONDS)
        assert "four" in scene.informer.group(AVA), "the watch continues"
    assert scene.requests("list") == 2


async def test_older_version_does_not_replace_a_newer_one(scene: Scene) -> None:
    scene.informer.upsert(at_version(20, data="new"))
    scene.informer.upsert(at_version(10, data="old"))
    scene.informer.upsert(at_version(20, data="same version"))
    assert scene.informer.group(AVA) == {"one": "new"}
    assert scene.changed == [AVA]


async def test_response_to_a_write_is_added_unless_the_watch_passed_it(scene: Scene) -> None:
    async with scene.running():
        response = scene.server.put(CONFIG_MAP, config_map())
        scene.informer.observe_write(response)
        assert scene.informer.group(AVA) == {"one": "a"}
        await asyncio.sleep(EVENT_SECONDS)
        assert scene.changed == [AVA], "the event of the same version is not reported"
        scene.server.remove(CONFIG_MAP, "shop", "one")
        await asyncio.sleep(EVENT_SECONDS)
        scene.informer.observe_write(response)
        assert scene.informer.group(AVA) == {}, "the watch has reported its deletion"


@pytest.mark.parametrize(
    ("version", "remains"),
    [
        pytest.param(19, True, id="deletion of an older version"),
        pytest.param(20, False, id="deletion of this version"),
        pytest.param(21, False, id="deletion of a newer version"),
    ],
)
async def test_deletion_removes_only_older_versions(scene: Scene, version: int, remains: bool) -> None:
    scene.informer.upsert(at_version(20))
    scene.changed.clear()
    scene.informer.remove(at_version(version))
    assert bool(scene.informer.group(AVA)) is remains
    assert scene.changed == ([] if remains else [AVA])
    scene.informer.remove(at_version(99, name="unknown"))
    assert len(scene.changed) <= 1


async def test_unreachable_server_is_retried_with_backoff_and_copy_stays(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    scene.server.put(CONFIG_MAP, config_map())
    async with scene.running():
        scene.server.failures["watch", "ConfigMap"] = UNREACHABLE
        scene.server.end_watches(UNREACHABLE)
        await asyncio.sleep(120)
        assert scene.informer.group(AVA) == {"one": "a"}
        assert scene.requests("watch") < max_attempts(120)
        del scene.server.failures["watch", "ConfigMap"]
        scene.server.put(CONFIG_MAP, config_map(data="b"))
        await asyncio.sleep(MAX_BACKOFF_SECONDS + EVENT_SECONDS)
        assert scene.informer.group(AVA) == {"one": "b"}
        caplog.clear()
        scene.server.end_watches(UNREACHABLE)
        await asyncio.sleep(EVENT_SECONDS)
        assert [getattr(record, "retry_seconds", None) for record in caplog.records] == [INITIAL_BACKOFF_SECONDS]
    assert scene.requests("list") == 1


@pytest.mark.parametrize("status", [403, 500, 504])
async def test_error_inside_a_watch_leads_to_a_new_list(scene: Scene, status: int) -> None:
    async with scene.running():
        scene.server.end_watches(ApiError(status, "Odd", "WATCH", "odd"))
        await asyncio.sleep(INITIAL_BACKOFF_SECONDS + EVENT_SECONDS)
        assert scene.requests("list") == 2


@pytest.mark.parametrize("status", [0, 429, 500, 503])
async def test_watch_rejected_for_now_resumes_at_its_version(scene: Scene, status: int) -> None:
    async with scene.running():
        before = scene.server.put(CONFIG_MAP, config_map())["metadata"]["resourceVersion"]
        await asyncio.sleep(EVENT_SECONDS)
        scene.server.failures["watch", "ConfigMap"] = ApiError(status, "Busy", "WATCH", "not now")
        scene.server.end_watches(ApiError(min(status, 429), "Busy", "WATCH", "slow down"))
        await asyncio.sleep(120)
        assert 4 < scene.requests("watch") < max_attempts(120)
        scene.server.put(CONFIG_MAP, config_map("meanwhile"))
        scene.server.failures.clear()
        await asyncio.sleep(MAX_BACKOFF_SECONDS + EVENT_SECONDS)
        assert scene.server.watch_versions[-1] == before
        assert set(scene.informer.group(AVA)) == {"one", "meanwhile"}
    assert scene.requests("list") == 1


@pytest.mark.parametrize("status", [400, 403, 504])
async def test_invalid_or_forbidden_watch_starts_again_with_a_list(scene: Scene, status: int) -> None:
    async with scene.running():
        scene.server.failures["watch", "ConfigMap"] = ApiError(status, "Odd", "WATCH", "odd")
        scene.server.end_watches(UNREACHABLE)
        await asyncio.sleep(60)
        scene.server.failures.clear()
        await asyncio.sleep(MAX_BACKOFF_SECONDS + EVENT_SECONDS)
        assert scene.requests("list") > 1
        scene.server.put(CONFIG_MAP, config_map())
        await asyncio.sleep(EVENT_SECONDS)
        assert scene.informer.group(AVA) == {"one": "a"}


async def test_accepted_watch_counts_as_contact_before_any_event(scene: Scene) -> None:
    async with scene.running():
        for _ in range(8):
            await asyncio.sleep(50)  # too short for a bookmark
            scene.server.end_watches(UNREACHABLE)
            await asyncio.sleep(INITIAL_BACKOFF_SECONDS + EVENT_SECONDS)
            assert scene.seconds_since_contact() < 1, "the backoff does not grow"
    assert scene.requests("list") == 1


async def test_watches_that_end_at_once_are_reopened_with_backoff(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    def end() -> None:
        scene.server.end_watches()
        timers.append(asyncio.get_running_loop().call_later(0.005, end))

    async with scene.running():
        timers: list[asyncio.TimerHandle] = []
        end()
        await asyncio.sleep(120)
        assert scene.requests("watch") < max_attempts(120)
        timers[-1].cancel()
        scene.server.put(CONFIG_MAP, config_map())
        await asyncio.sleep(MAX_BACKOFF_SECONDS + EVENT_SECONDS)
        assert scene.informer.group(AVA) == {"one": "a"}
    assert scene.requests("list") == 1
    assert {getattr(record, "error", "") for record in caplog.records} == {"ended at once"}


async def test_short_watches_with_events_are_reopened_after_a_pause(scene: Scene) -> None:
    def end() -> None:
        scene.server.bookmark(CONFIG_MAP)
        scene.server.end_watches()
        timers.append(asyncio.get_running_loop().call_later(0.005, end))

    async with scene.running():
        timers: list[asyncio.TimerHandle] = []
        end()
        await asyncio.sleep(60)
        assert scene.requests("watch") < 60 / INITIAL_BACKOFF_SECONDS + 4
        timers[-1].cancel()


class SlowListServer(FakeApiServer):
    """Its lists are half a second old when they arrive."""

    async def list_with_version(self, *args: Any, **selection: Any) -> tuple[Documents, str]:
        result = await super().list_with_version(*args, **selection)
        await asyncio.sleep(0.5)
        return result


@pytest.mark.usefixtures("virtual_time")
async def test_old_list_does_not_undo_newer_writes() -> None:
    scene = Scene(SlowListServer())
    scene.server.put(CONFIG_MAP, config_map("gone"))
    async with scene.running():
        scene.server.end_watches(TOO_OLD)
        scene.server.remove(CONFIG_MAP, "shop", "gone")
        await asyncio.sleep(0.2)
        scene.informer.observe_write(scene.server.put(CONFIG_MAP, config_map("made")))
        scene.informer.observe_write(scene.server.put(CONFIG_MAP, config_map("made-and-gone")))
        scene.server.remove(CONFIG_MAP, "shop", "made-and-gone")
        await asyncio.sleep(1)
        assert scene.informer.group(AVA) == {"made": "a"}
        assert scene.changed == [AVA] * 4, "two created, two deleted, each reported once"


async def test_copy_follows_a_cluster_restored_from_a_backup(scene: Scene) -> None:
    for name in ("one", "two", "lost"):
        scene.server.put(CONFIG_MAP, config_map(name))
    async with scene.running():
        scene.server.restore(10)
        scene.server.put(CONFIG_MAP, config_map("one"))
        scene.server.put(CONFIG_MAP, config_map("two", data="b"))
        scene.server.end_watches(UNREACHABLE)
        await asyncio.sleep(MAX_BACKOFF_SECONDS)
        assert scene.informer.group(AVA) == {"one": "a", "two": "b"}
        assert scene.changed == [AVA, AVA], "the unchanged object is not reported"
        scene.server.put(CONFIG_MAP, config_map("two", data="c"))
        scene.server.remove(CONFIG_MAP, "shop", "one")
        await asyncio.sleep(EVENT_SECONDS)
        assert scene.informer.group(AVA) == {"two": "c"}, "the watch continues"


async def test_versions_that_stay_too_old_are_listed_with_backoff(scene: Scene) -> None:
    async with scene.running():
        scene.server.failures["watch", "ConfigMap"] = TOO_OLD
        scene.server.end_watches()
        await asyncio.sleep(120)
        assert scene.requests("list") < max_attempts(120)


async def test_informer_is_synced_only_after_the_first_list(scene: Scene) -> None:
    scene.server.put(CONFIG_MAP, config_map())
    scene.server.failures["list", "ConfigMap"] = UNREACHABLE
    running = asyncio.create_task(scene.informer.run())
    waiting = asyncio.create_task(scene.informer.wait_synced())
    await asyncio.sleep(60)
    assert (scene.informer.synced, waiting.done()) == (False, False)
    assert scene.informer.last_contact is None
    scene.server.failures.clear()
    await asyncio.wait_for(waiting, MAX_BACKOFF_SECONDS + 1)
    assert scene.informer.synced
    assert scene.informer.group(AVA) == {"one": "a"}
    running.cancel()
    await asyncio.wait([running])


names = st.sampled_from(["one", "two", "three"])
steps = st.one_of(
    st.tuples(st.just("put"), names, st.sampled_from(["ava", "eva", None]), st.sampled_from("ab")),
    st.tuples(st.just("unselect"), names),
    st.tuples(st.just("remove"), names),
    st.tuples(st.just("write"), names, st.floats(0, 1)),
    st.tuples(st.just("end"), st.sampled_from([None, UNREACHABLE, TOO_OLD])),
    st.tuples(st.just("compact")),
    st.tuples(st.just("wait"), st.floats(0, 2)),
)


def perform(scene: Scene, step: tuple[Any, ...]) -> None:
    """Carry out one change of the cluster or of the connection."""
    match step:
        case ("put", name, agent, data):
            scene.server.put(CONFIG_MAP, config_map(name, agent, data))
        case ("unselect", name):
            scene.server.put(CONFIG_MAP, unselected(name))
        case ("remove", name) if name in scene.server.names(CONFIG_MAP):
            scene.server.remove(CONFIG_MAP, "shop", name)
        case ("write", name, seconds):  # by the informer's own process; the response may be late
            response = scene.server.put(CONFIG_MAP, config_map(name, data="w"))
            asyncio.get_running_loop().call_later(seconds, scene.informer.observe_write, response)
        case ("end", error):
            scene.server.end_watches(error)
        case ("compact",):
            scene.server.compact()


async def _check_convergence(history: list[tuple[Any, ...]]) -> None:
    scene = Scene()
    async with scene.running():
        for step in history:
            perform(scene, step)
            await asyncio.sleep(step[1] if step[0] == "wait" else 0.002)
        before = {key: dict(scene.informer.group(key)) for key in (AVA, EVA, SHARED)}
        scene.changed.clear()
        await asyncio.sleep(2 * MAX_BACKOFF_SECONDS)
        existing, _ = await scene.server.list_with_version(CONFIG_MAP, "shop", SELECTOR)
        for key in (AVA, EVA, SHARED):
            expected = {one["metadata"]["name"]: text(one) for one in existing if group_of(one) == key}
            assert scene.informer.group(key) == expected
            assert expected == before[key] or key in scene.changed, "every change is reported"


@given(st.lists(steps, max_size=30))
def test_copy_converges_and_every_change_is_reported(history: list[tuple[Any, ...]]) -> None:
    run(_check_convergence(history))
