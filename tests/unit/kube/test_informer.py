"""What is kept of one kind's objects, whatever becomes of the watch."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentspec.names import AGENT_LABEL
from controller.cluster.observe import MANAGED_SELECTOR, agent_of
from controller.observation import Key
from kube import informer as informers
from kube.client import ApiError, Document, Documents
from kube.informer import INITIAL_BACKOFF_SECONDS, MAX_BACKOFF_SECONDS, Informer
from kube.kinds import CONFIG_MAP, POD
from tests.unit.fakes.apiserver import TOO_OLD, UNREACHABLE, FakeApiServer
from tests.unit.fakes.virtualtime import run, use_loop_clock

KEY, OTHER = Key("shop", "ava"), Key("shop", "eva")
SHARED = Key("shop", "")


def child(name: str = "one", agent: str | None = "ava", data: str = "a", **labels: str | None) -> Document:
    """A managed ConfigMap."""
    known: dict[str, str | None] = {
        "app.kubernetes.io/managed-by": "avatar-agent",
        "app.kubernetes.io/component": "worker",
    }
    if agent is not None:
        known["avataragents.io/agent"] = agent
    return {"metadata": {"namespace": "shop", "name": name, "labels": {**known, **labels}}, "data": {"text": data}}


def at(version: int, name: str = "one", agent: str | None = "ava", data: str = "a") -> Document:
    """The same with a version."""
    document = child(name, agent, data)
    document["metadata"]["resourceVersion"] = str(version)
    return document


def text(document: Document) -> str:
    return str(document["data"]["text"])


def watched(server: FakeApiServer, namespace: str | None, changed: list[Key]) -> Informer[Key, str]:
    return Informer(
        server,
        CONFIG_MAP,
        namespace,
        group_of=agent_of,
        parse=text,
        on_change=changed.append,
        selector=MANAGED_SELECTOR,
    )


class Scene:
    """An informer, what it watches, and whom it told."""

    def __init__(self, namespace: str | None = "shop") -> None:
        self.server = FakeApiServer()
        self.changed: list[Key] = []
        self.informer = watched(self.server, namespace, self.changed)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.informer.run())
        try:
            await self.informer.wait_synced()
            await asyncio.sleep(0.1)
            self.changed.clear()
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])


@pytest.fixture(autouse=True, scope="module")
def clock() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        use_loop_clock(patch, informers)
        yield


def played(scenario: Callable[[Scene], Coroutine[Any, Any, None]]) -> None:
    async def play() -> None:
        await scenario(Scene())

    run(play())


def test_what_is_there_is_listed_and_what_happens_is_followed() -> None:
    async def scenario(scene: Scene) -> None:
        scene.server.put(CONFIG_MAP, child("one"))
        scene.server.put(CONFIG_MAP, child("two", "eva"))
        scene.server.put(CONFIG_MAP, child("all", agent=None))
        async with scene.running():
            assert scene.informer.group(KEY) == {"one": "a"}
            assert scene.informer.group(OTHER) == {"two": "a"}
            assert scene.informer.group(SHARED) == {"all": "a"}, "what serves all agents belongs to none"
            scene.server.put(CONFIG_MAP, child("three"))
            scene.server.put(CONFIG_MAP, child("one", data="b"))
            scene.server.remove(CONFIG_MAP, "shop", "two")
            await asyncio.sleep(0.1)
            assert scene.informer.group(KEY) == {"one": "b", "three": "a"}
            assert scene.informer.group(OTHER) == {}
            assert scene.changed == [KEY, KEY, OTHER]
        assert scene.server.requests["list", "ConfigMap"] == 1

    played(scenario)


def test_what_is_others_is_not_seen() -> None:
    async def scenario(scene: Scene) -> None:
        scene.server.put(CONFIG_MAP, {"metadata": {"namespace": "shop", "name": "theirs"}, "data": {"text": "x"}})
        scene.server.put(POD, child("a-pod"))
        elsewhere = child("one")
        elsewhere["metadata"]["namespace"] = "office"
        scene.server.put(CONFIG_MAP, elsewhere)
        async with scene.running():
            assert {key.namespace for key in scene.informer.group_keys()} == set()
            scene.server.put(CONFIG_MAP, child("mine"))
            await asyncio.sleep(0.1)
            assert {key.namespace for key in scene.informer.group_keys()} == {"shop"}

    played(scenario)


def test_a_change_of_what_does_not_matter_is_not_told() -> None:
    async def scenario(scene: Scene) -> None:
        scene.server.put(CONFIG_MAP, child())
        async with scene.running():
            scene.server.put(CONFIG_MAP, child(note="about it"))
            await asyncio.sleep(0.1)
            assert scene.changed == []
            assert scene.informer.group(KEY) == {"one": "a"}

    played(scenario)


def test_a_label_that_somebody_edits_moves_the_object_and_both_agents_are_told() -> None:
    async def scenario(scene: Scene) -> None:
        scene.server.put(CONFIG_MAP, child())
        async with scene.running():
            scene.server.put(CONFIG_MAP, child(agent="eva"))
            await asyncio.sleep(0.1)
            assert (scene.informer.group(KEY), scene.informer.group(OTHER)) == ({}, {"one": "a"})
            assert scene.changed == [KEY, OTHER]

    played(scenario)


def test_a_label_that_somebody_removes_is_a_loss_and_one_that_comes_back_a_find() -> None:
    async def scenario(scene: Scene) -> None:
        scene.server.put(CONFIG_MAP, child())
        async with scene.running():
            scene.server.put(CONFIG_MAP, child(**{"app.kubernetes.io/managed-by": "somebody"}))
            await asyncio.sleep(0.1)
            assert (scene.informer.group(KEY), scene.changed) == ({}, [KEY])
            scene.server.put(CONFIG_MAP, child())
            await asyncio.sleep(0.1)
            assert (scene.informer.group(KEY), scene.changed) == ({"one": "a"}, [KEY, KEY])

    played(scenario)


def test_a_watch_that_ends_or_breaks_goes_on_where_it_stood() -> None:
    async def scenario(scene: Scene) -> None:
        async with scene.running():
            for number, error in enumerate([None, UNREACHABLE]):
                stood = scene.server.put(CONFIG_MAP, child(f"before-{number}"))["metadata"]["resourceVersion"]
                await asyncio.sleep(0.1)
                scene.server.end_watches(error)
                scene.server.put(CONFIG_MAP, child(f"meanwhile-{number}"))
                await asyncio.sleep(INITIAL_BACKOFF_SECONDS + 0.1)
                assert scene.server.watch_versions[-1] == stood
            assert len(scene.informer.group(KEY)) == 4
            assert len(scene.changed) == 4, "each once"
        assert scene.server.requests["list", "ConfigMap"] == 1

    played(scenario)


def test_bookmarks_keep_the_version_young_and_are_heard() -> None:
    async def scenario(scene: Scene) -> None:
        async with scene.running():
            await asyncio.sleep(60)
            scene.server.put(POD, child("others-are-busy"))
            scene.server.bookmark(CONFIG_MAP)
            await asyncio.sleep(0.1)
            assert scene.informer.last_contact is not None
            assert asyncio.get_running_loop().time() - scene.informer.last_contact < 1
            scene.server.compact()
            scene.server.end_watches()
            await asyncio.sleep(0.1)
            assert scene.server.watch_versions[-1] == str(scene.server.version)
            assert scene.changed == []
        assert scene.server.requests["list", "ConfigMap"] == 1, "nothing had to be listed again"

    played(scenario)


def test_after_a_gap_everything_is_listed_and_what_is_gone_is_missed() -> None:
    async def scenario(scene: Scene) -> None:
        for name in ("one", "two", "ghost"):
            scene.server.put(CONFIG_MAP, child(name))
        async with scene.running():
            scene.server.end_watches(UNREACHABLE)
            await asyncio.sleep(0.05)
            scene.server.remove(CONFIG_MAP, "shop", "ghost")
            scene.server.put(CONFIG_MAP, child("two", data="b"))
            scene.server.put(CONFIG_MAP, child("three"))
            scene.server.compact()
            await asyncio.sleep(INITIAL_BACKOFF_SECONDS + 0.1)
            assert scene.informer.group(KEY) == {"one": "a", "two": "b", "three": "a"}
            assert scene.changed == [KEY, KEY, KEY], "one that is unchanged is not told"
            scene.server.put(CONFIG_MAP, child("four"))
            await asyncio.sleep(0.1)
            assert "four" in scene.informer.group(KEY), "and the watch goes on"
        assert scene.server.requests["list", "ConfigMap"] == 2

    played(scenario)


def test_what_was_written_while_it_was_listed_is_not_undone_by_the_watch() -> None:
    async def scenario(scene: Scene) -> None:
        scene.informer.upsert(at(20, data="new"))
        scene.informer.upsert(at(10, data="old"))
        scene.informer.upsert(at(20, data="odd"))
        assert scene.informer.group(KEY) == {"one": "new"}
        assert scene.changed == [KEY]

    played(scenario)


def test_an_answer_to_a_write_is_seen_at_once_unless_the_watch_was_quicker() -> None:
    async def scenario(scene: Scene) -> None:
        async with scene.running():
            answer = scene.server.put(CONFIG_MAP, child())
            scene.informer.observe_write(answer)
            assert scene.informer.group(KEY) == {"one": "a"}
            await asyncio.sleep(0.1)
            assert scene.changed == [KEY], "the watch tells nothing new"
            scene.server.remove(CONFIG_MAP, "shop", "one")
            await asyncio.sleep(0.1)
            scene.informer.observe_write(answer)
            assert scene.informer.group(KEY) == {}, "it was deleted meanwhile"

    played(scenario)


@pytest.mark.parametrize(("version", "kept"), [(19, True), (20, False), (21, False)])
def test_a_deletion_counts_unless_a_younger_object_stands_there(version: int, kept: bool) -> None:
    async def scenario(scene: Scene) -> None:
        scene.informer.upsert(at(20))
        scene.changed.clear()
        scene.informer.remove(at(version))
        assert bool(scene.informer.group(KEY)) is kept
        assert scene.changed == ([] if kept else [KEY])
        scene.informer.remove(at(99, name="never-seen"))
        assert len(scene.changed) <= 1

    played(scenario)


def test_an_api_server_that_is_away_is_asked_less_and_less_often_and_nothing_is_forgotten(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def scenario(scene: Scene) -> None:
        scene.server.put(CONFIG_MAP, child())
        async with scene.running():
            scene.server.failures["watch", "ConfigMap"] = UNREACHABLE
            scene.server.end_watches(UNREACHABLE)
            await asyncio.sleep(120)
            assert scene.informer.group(KEY) == {"one": "a"}
            assert scene.server.requests["watch", "ConfigMap"] < 120 / MAX_BACKOFF_SECONDS + 8
            del scene.server.failures["watch", "ConfigMap"]
            scene.server.put(CONFIG_MAP, child(data="b"))
            await asyncio.sleep(MAX_BACKOFF_SECONDS + 0.1)
            assert scene.informer.group(KEY) == {"one": "b"}
            caplog.clear()
            scene.server.end_watches(UNREACHABLE)
            await asyncio.sleep(0.1)
            assert [getattr(record, "retry_seconds", None) for record in caplog.records] == [INITIAL_BACKOFF_SECONDS]
        assert scene.server.requests["list", "ConfigMap"] == 1

    played(scenario)


@pytest.mark.parametrize("status", [403, 500, 504])
def test_a_watch_that_ends_with_an_error_may_miss_something_and_all_is_listed_again(status: int) -> None:
    async def scenario(scene: Scene) -> None:
        async with scene.running():
            scene.server.end_watches(ApiError(status, "Odd", "WATCH", "odd"))
            await asyncio.sleep(INITIAL_BACKOFF_SECONDS + 0.1)
            assert scene.server.requests["list", "ConfigMap"] == 2

    played(scenario)


@pytest.mark.parametrize("status", [0, 429, 500, 503])
def test_a_watch_that_is_refused_for_now_goes_on_later_where_it_stood(status: int) -> None:
    async def scenario(scene: Scene) -> None:
        async with scene.running():
            stood = scene.server.put(CONFIG_MAP, child())["metadata"]["resourceVersion"]
            await asyncio.sleep(0.1)
            scene.server.failures["watch", "ConfigMap"] = ApiError(status, "Busy", "WATCH", "not now")
            scene.server.end_watches(ApiError(min(status, 429), "Busy", "WATCH", "slow down"))
            await asyncio.sleep(120)
            assert 4 < scene.server.requests["watch", "ConfigMap"] < 120 / MAX_BACKOFF_SECONDS + 8
            scene.server.put(CONFIG_MAP, child("meanwhile"))
            scene.server.failures.clear()
            await asyncio.sleep(MAX_BACKOFF_SECONDS + 0.1)
            assert scene.server.watch_versions[-1] == stood
            assert set(scene.informer.group(KEY)) == {"one", "meanwhile"}
        assert scene.server.requests["list", "ConfigMap"] == 1

    played(scenario)


@pytest.mark.parametrize("status", [400, 403, 504])
def test_a_watch_that_is_refused_for_what_it_asks_begins_with_a_list(status: int) -> None:
    async def scenario(scene: Scene) -> None:
        async with scene.running():
            scene.server.failures["watch", "ConfigMap"] = ApiError(status, "Odd", "WATCH", "odd")
            scene.server.end_watches(UNREACHABLE)
            await asyncio.sleep(60)
            scene.server.failures.clear()
            await asyncio.sleep(MAX_BACKOFF_SECONDS + 0.1)
            assert scene.server.requests["list", "ConfigMap"] > 1
            scene.server.put(CONFIG_MAP, child())
            await asyncio.sleep(0.1)
            assert scene.informer.group(KEY) == {"one": "a"}

    played(scenario)


def test_watches_that_something_in_between_cuts_are_heard_when_they_are_accepted() -> None:
    async def scenario(scene: Scene) -> None:
        async with scene.running():
            for _ in range(8):
                await asyncio.sleep(50)  # no bookmark comes in so short a time
                scene.server.end_watches(UNREACHABLE)
                await asyncio.sleep(INITIAL_BACKOFF_SECONDS + 0.1)
                assert scene.informer.last_contact is not None
                assert asyncio.get_running_loop().time() - scene.informer.last_contact < 1, "the backoff stays"
        assert scene.server.requests["list", "ConfigMap"] == 1

    played(scenario)


def test_watches_that_end_at_once_are_opened_less_and_less_often(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(scene: Scene) -> None:
        def end() -> None:
            scene.server.end_watches()
            ending.append(asyncio.get_running_loop().call_later(0.005, end))

        async with scene.running():
            ending: list[asyncio.TimerHandle] = []
            end()
            await asyncio.sleep(120)
            assert scene.server.requests["watch", "ConfigMap"] < 120 / MAX_BACKOFF_SECONDS + 8
            ending[-1].cancel()
            scene.server.put(CONFIG_MAP, child())
            await asyncio.sleep(MAX_BACKOFF_SECONDS + 0.1)
            assert scene.informer.group(KEY) == {"one": "a"}
        assert scene.server.requests["list", "ConfigMap"] == 1

    played(scenario)
    assert {getattr(record, "error", "") for record in caplog.records} == {"ended at once"}


def test_watches_that_bring_something_and_end_at_once_are_not_opened_all_the_time() -> None:
    async def scenario(scene: Scene) -> None:
        def end() -> None:
            scene.server.bookmark(CONFIG_MAP)
            scene.server.end_watches()
            ending.append(asyncio.get_running_loop().call_later(0.005, end))

        async with scene.running():
            ending: list[asyncio.TimerHandle] = []
            end()
            await asyncio.sleep(60)
            assert scene.server.requests["watch", "ConfigMap"] < 60 / INITIAL_BACKOFF_SECONDS + 4
            ending[-1].cancel()

    played(scenario)


class SlowList(FakeApiServer):
    """Its lists are half a second old when they arrive."""

    async def list_with_version(self, *args: Any, **shape: Any) -> tuple[Documents, str]:
        found = await super().list_with_version(*args, **shape)
        await asyncio.sleep(0.5)
        return found


def test_a_list_does_not_undo_what_was_written_meanwhile() -> None:
    async def scenario(scene: Scene) -> None:
        scene.server = SlowList()
        scene.informer = watched(scene.server, "shop", scene.changed)
        scene.server.put(CONFIG_MAP, child("gone"))
        async with scene.running():
            scene.server.end_watches(TOO_OLD)
            scene.server.remove(CONFIG_MAP, "shop", "gone")
            await asyncio.sleep(0.2)
            scene.informer.observe_write(scene.server.put(CONFIG_MAP, child("made")))
            scene.informer.observe_write(scene.server.put(CONFIG_MAP, child("made-and-gone")))
            scene.server.remove(CONFIG_MAP, "shop", "made-and-gone")
            await asyncio.sleep(1)
            assert scene.informer.group(KEY) == {"made": "a"}
            assert scene.changed == [KEY] * 4, "two made, two gone, and nothing twice"

    played(scenario)


def test_versions_that_are_always_too_old_are_not_listed_all_the_time() -> None:
    async def scenario(scene: Scene) -> None:
        async with scene.running():
            scene.server.failures["watch", "ConfigMap"] = TOO_OLD
            scene.server.end_watches()
            await asyncio.sleep(120)
            assert scene.server.requests["list", "ConfigMap"] < 120 / MAX_BACKOFF_SECONDS + 8

    played(scenario)


def test_nothing_is_listed_before_everything_is() -> None:
    async def scenario(scene: Scene) -> None:
        scene.server.put(CONFIG_MAP, child())
        scene.server.failures["list", "ConfigMap"] = UNREACHABLE
        running = asyncio.create_task(scene.informer.run())
        waiting = asyncio.create_task(scene.informer.wait_synced())
        await asyncio.sleep(60)
        assert not waiting.done()
        assert scene.informer.last_contact is None
        scene.server.failures.clear()
        await asyncio.wait_for(waiting, MAX_BACKOFF_SECONDS + 1)
        assert scene.informer.group(KEY) == {"one": "a"}
        running.cancel()
        await asyncio.wait([running])

    played(scenario)


names = st.sampled_from(["one", "two", "three"])
steps = st.one_of(
    st.tuples(st.just("put"), names, st.sampled_from(["ava", "eva", None]), st.sampled_from("ab")),
    st.tuples(st.just("release"), names),
    st.tuples(st.just("remove"), names),
    st.tuples(st.just("write"), names, st.floats(0, 1)),
    st.tuples(st.just("end"), st.sampled_from([None, UNREACHABLE, TOO_OLD])),
    st.tuples(st.just("compact")),
    st.tuples(st.just("wait"), st.floats(0, 2)),
)


def do(scene: Scene, step: tuple[Any, ...]) -> None:
    """One thing that happens in the cluster, or to the connection."""
    match step:
        case ("put", name, agent, data):
            scene.server.put(CONFIG_MAP, child(name, agent, data))
        case ("release", name):
            scene.server.put(CONFIG_MAP, child(name, **{"app.kubernetes.io/managed-by": "somebody"}))
        case ("remove", name) if name in scene.server.names(CONFIG_MAP):
            scene.server.remove(CONFIG_MAP, "shop", name)
        case ("write", name, seconds):  # the controller's own; its answer may come late
            answer = scene.server.put(CONFIG_MAP, child(name, data="w"))
            asyncio.get_running_loop().call_later(seconds, scene.informer.observe_write, answer)
        case ("end", error):
            scene.server.end_watches(error)
        case ("compact",):
            scene.server.compact()


@given(st.lists(steps, max_size=30))
def test_whatever_happens_in_the_end_it_knows_what_is_there_and_who_is_concerned_was_told(
    happenings: list[tuple[Any, ...]],
) -> None:
    async def scenario(scene: Scene) -> None:
        async with scene.running():
            for step in happenings:
                do(scene, step)
                await asyncio.sleep(step[1] if step[0] == "wait" else 0.002)
            seen = {key: dict(scene.informer.group(key)) for key in (KEY, OTHER, SHARED)}
            scene.changed.clear()
            await asyncio.sleep(2 * MAX_BACKOFF_SECONDS)
            there, _ = await scene.server.list_with_version(CONFIG_MAP, "shop", MANAGED_SELECTOR)
            for key in (KEY, OTHER, SHARED):
                own = [one for one in there if one["metadata"]["labels"].get(AGENT_LABEL, "") == key.name]
                known = scene.informer.group(key)
                assert known == {one["metadata"]["name"]: text(one) for one in own}
                assert known == seen[key] or key in scene.changed

    played(scenario)
