"""Health of the controller: a stalled watch makes it not live, an incomplete first list makes it not ready."""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from typing import Any, cast

import aiohttp
import kopf
import pytest
from kopf._cogs.clients.errors import APINotFoundError
from kopf._core.reactor import observation

from controller.cluster import resync
from controller.cluster.resync import PERIOD_SECONDS
from controller.desired.identity import FIELD_MANAGER
from controller.metrics import Metrics, ReconcileOutcome
from controller.observation import Key, ObservedPod
from controller.reconcile import Result
from controller.runtime import app
from controller.runtime.app import RECONCILE_SECONDS, STALLED_SECONDS, Controller
from controller.runtime.leadership import Leadership
from controller.runtime.settings import ControllerSettings
from kube import informer
from kube.client import ApiError
from kube.kinds import AVATAR_AGENT, DEPLOYMENT, NETWORK_POLICY
from tests.unit.controller.builders import KEY, SPEC
from tests.unit.fakes.apiserver import FakeApiServer
from tests.unit.fakes.virtualtime import VirtualLoop, use_loop_clock

BOOKMARK_SECONDS = 60.0


class HeldLeadership:
    """A leadership that is held."""

    held = True
    error = ""


class Scene:
    """A controller with running watches, and a fake API server."""

    def __init__(self) -> None:
        self.server, self.leadership, self.metrics = FakeApiServer(FIELD_MANAGER), HeldLeadership(), Metrics()
        session = cast(aiohttp.ClientSession, None)  # never used
        leadership = cast(Leadership, self.leadership)
        self.controller = Controller(
            ControllerSettings(worker_image="worker:1", lease_namespace="system", watch_namespace="shop"),
            self.server,
            session,
            leadership,
            self.metrics,
        )
        self.informers = self.controller._children.informers
        self.quiet = ""
        """The kind whose watch receives no bookmarks."""
        self.versions = 0

    @property
    def stalled(self) -> str:
        return self.controller._stalled_watch()

    async def bookmarks(self) -> None:
        while True:
            await asyncio.sleep(BOOKMARK_SECONDS)
            for one in self.informers:
                if one.kind.kind != self.quiet:
                    self.server.bookmark(one.kind)

    def change(self, *, watched: bool) -> None:
        """Write an AvatarAgent. `watched`: kopf's watch delivers the event."""
        self.versions += 1
        metadata = {"namespace": "shop", "name": "ava", "creationTimestamp": "2026-01-01T00:00:00Z"}
        spec = {**SPEC, "persona": {"greeting": f"Hello {self.versions}"}}
        written = self.server.put(AVATAR_AGENT, {"metadata": metadata, "spec": spec})
        if watched:
            self.controller._watch_updated(written)


@pytest.fixture
async def loop_clock(virtual_time: VirtualLoop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the controller's modules read virtual time."""
    use_loop_clock(monkeypatch, app, informer, resync)


@pytest.fixture
async def scene(loop_clock: None) -> AsyncIterator[Scene]:
    """A controller with running watches, in virtual time."""
    made = Scene()
    parts = (made.bookmarks(), made.controller._resync.run(), *(one.run() for one in made.informers))
    tasks = [asyncio.create_task(part) for part in parts]
    yield made
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


async def test_controller_that_receives_bookmarks_is_live(scene: Scene) -> None:
    assert scene.stalled == "", "nothing was listed yet"
    for _ in range(20):
        await asyncio.sleep(BOOKMARK_SECONDS)
        assert scene.stalled == ""


async def test_silent_watch_is_reported(scene: Scene) -> None:
    scene.quiet = DEPLOYMENT.kind
    await asyncio.sleep(STALLED_SECONDS - 1)
    assert scene.stalled == ""
    await asyncio.sleep(2)
    assert scene.stalled == "the watch of Deployment has received nothing for 181 s"
    scene.leadership.held = False
    assert scene.stalled == "", "a standby has no watches"


async def test_agent_watch_that_stays_behind_is_reported(scene: Scene) -> None:
    for _ in range(2):
        scene.change(watched=False)
        await asyncio.sleep(PERIOD_SECONDS)
    assert scene.stalled == ""
    for _ in range(4):
        scene.change(watched=False)
        await asyncio.sleep(PERIOD_SECONDS + 5)
    assert scene.stalled.startswith("the watch of AvatarAgents has been behind for ")
    scene.change(watched=True)
    assert scene.stalled == ""


async def test_leader_is_not_ready_until_synced_and_standby_is_ready(scene: Scene) -> None:
    assert scene.controller._unready_reason().startswith("not synced yet: AvatarAgent, Pod, ")
    scene.leadership.held = False
    assert scene.controller._unready_reason() == ""
    scene.leadership.held = True
    await scene.controller._resync.list_all()
    await scene.controller._children.wait_synced()
    assert scene.controller._unready_reason() == ""


@pytest.mark.usefixtures("loop_clock")
async def test_new_leader_has_the_supply_before_the_first_reconcile(monkeypatch: pytest.MonkeyPatch) -> None:
    scene = Scene()
    controller, forever = scene.controller, asyncio.Event()
    monkeypatch.setattr(controller, "_watch", lambda tasks: forever.wait())
    monkeypatch.setattr(controller._reconciler, "reconcile", lambda key: forever.wait())
    scene.change(watched=False)
    scene.server.failures["list", DEPLOYMENT.kind] = ApiError(500, "InternalError", "GET", "not now")
    working = asyncio.create_task(controller._work())
    await asyncio.sleep(BOOKMARK_SECONDS)
    assert controller._server._is_leader(), "demand is accepted"
    assert not controller._server._has_synced(), "workers are not known yet"
    scene.server.failures.clear()
    await asyncio.sleep(BOOKMARK_SECONDS)
    assert controller._server._has_synced()
    assert set(controller._fleet.supply(0.0)) == {"shop/ava"}
    working.cancel()
    await asyncio.wait([working])


async def test_unsynced_kind_is_reported(scene: Scene) -> None:
    scene.server.failures["list", NETWORK_POLICY.kind] = ApiError(403, "Forbidden", "GET", "not allowed to list")
    await scene.controller._resync.list_all()
    await asyncio.sleep(STALLED_SECONDS)
    message = "not synced yet: NetworkPolicy (if this persists, check the log)"
    assert scene.controller._unready_reason() == message
    del scene.server.failures["list", NETWORK_POLICY.kind]
    await scene.controller._children.wait_synced()
    assert scene.controller._unready_reason() == ""


@pytest.mark.usefixtures("loop_clock")
class TestOutcomes:
    """Each reconcile is counted once, by its outcome; those that a shutdown cancels are not."""

    @pytest.mark.parametrize(
        ("result", "outcome"),
        [
            (Result(None), ReconcileOutcome.SUCCESS),
            (Result(None, rejected=True), ReconcileOutcome.REJECTED),
            (ApiError(422, "Invalid", "PATCH", "no"), ReconcileOutcome.REJECTED),
            (ApiError(503, "Unavailable", "PATCH", "no"), ReconcileOutcome.FAILED),
            (ApiError(0, "Unreachable", "PATCH", "no"), ReconcileOutcome.FAILED),
            (TimeoutError(), ReconcileOutcome.FAILED),
            (ValueError("a fault"), ReconcileOutcome.CRASHED),
        ],
        ids=["success", "children rejected", "request rejected", "server failed", "no answer", "own timeout", "crash"],
    )
    async def test_outcome_of_reconcile(
        self, monkeypatch: pytest.MonkeyPatch, result: Result | Exception, outcome: ReconcileOutcome
    ) -> None:
        scene = Scene()

        async def reconcile(_: Key) -> Result:
            if isinstance(result, Exception):
                raise result
            return result

        monkeypatch.setattr(scene.controller._reconciler, "reconcile", reconcile)
        with contextlib.suppress(type(result) if isinstance(result, Exception) else KeyError):
            await scene.controller._reconcile(KEY)
        assert outcomes(scene.metrics) == {outcome: 1}

    async def test_hanging_reconcile_times_out_and_is_retried(self, monkeypatch: pytest.MonkeyPatch) -> None:
        scene, times = Scene(), list[float]()

        async def reconcile(_: Key) -> Result:
            times.append(asyncio.get_running_loop().time())
            await asyncio.Event().wait()
            raise AssertionError("unreachable")

        monkeypatch.setattr(scene.controller._reconciler, "reconcile", reconcile)
        running = asyncio.create_task(scene.controller._queue.run())
        scene.controller._queue.add(KEY)
        await asyncio.sleep(RECONCILE_SECONDS + 1.5)
        assert times == [0, RECONCILE_SECONDS + 1]
        assert outcomes(scene.metrics) == {ReconcileOutcome.TIMEOUT: 1}
        assert scene.metrics.registry.get_sample_value("avatar_agent_controller_queue_retries_total") == 1
        running.cancel()
        await asyncio.wait([running])
        assert outcomes(scene.metrics) == {ReconcileOutcome.TIMEOUT: 1}, "the shutdown is no outcome"


def outcomes(metrics: Metrics) -> dict[str, float]:
    """The outcomes that were counted; the sum of durations has as many."""
    samples = [sample for family in metrics.registry.collect() for sample in family.samples]
    counts = {
        sample.labels["outcome"]: sample.value
        for sample in samples
        if sample.name == "avatar_agent_controller_reconciles_total" and sample.value
    }
    (durations,) = (
        sample.value for sample in samples if sample.name == "avatar_agent_controller_reconcile_duration_seconds_count"
    )
    assert durations == sum(counts.values())
    return counts


async def test_watch_contacts_name_every_watched_kind(scene: Scene) -> None:
    assert scene.controller._watch_contacts() == []
    await scene.controller._resync.list_all()
    await scene.controller._children.wait_synced()
    kinds = {kind for kind, _ in scene.controller._watch_contacts()}
    assert kinds == {one.kind.kind for one in scene.informers} | {AVATAR_AGENT.kind}


async def test_vanished_pod_ends_its_stream_before_the_reconcile(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reconcile waits for earlier ones and for the API server. Callers of a lost worker do not."""
    dropped: list[tuple[Key, list[ObservedPod]]] = []
    monkeypatch.setattr(scene.controller._streams, "drop", lambda key, pods: dropped.append((key, pods)))
    scene.controller._child_changed(KEY)
    scene.controller._child_changed(Key("shop", ""))
    assert dropped == [(KEY, [])]


async def kopf_run(
    monkeypatch: pytest.MonkeyPatch,
    part: Callable[..., Coroutine[Any, Any, None]],
    streams: Sequence[asyncio.Queue[bytes]] = (),
) -> None:
    """Run the controller's kopf with one part replaced.

    One task of the controller and one of a connection that stays open run beside it. `streams`: those of events.
    """
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    monkeypatch.setattr(
        kopf, "login_with_kubeconfig", lambda **_: kopf.ConnectionInfo(server="https://nowhere.example")
    )
    monkeypatch.setattr(observation, "resource_observer", part)
    monkeypatch.setattr(app, "KOPF_STOP_SECONDS", 0.01)
    ours = asyncio.create_task(asyncio.Event().wait())
    controller = Scene().controller
    controller._server.events._streams = dict.fromkeys(streams, "")
    watching = asyncio.create_task(controller._watch([cast("asyncio.Task[None]", ours)]))
    await asyncio.sleep(0)
    connection = asyncio.create_task(asyncio.Event().wait())  # newer than kopf, which would wait for its end
    try:
        await asyncio.wait_for(watching, 5)
    finally:
        connection.cancel()
        assert ours.cancelled() or ours.cancelling(), "the controller's own tasks end with kopf"


async def test_failure_of_kopf_ends_the_work_with_an_error(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def failing(**_: Any) -> None:
        raise ValueError("a fault of kopf's")

    with pytest.raises(RuntimeError, match="kopf ended by itself") as raised:
        await kopf_run(monkeypatch, failing)
    assert str(raised.value.__cause__) == "a fault of kopf's"
    assert [record.message for record in caplog.records if record.levelname == "ERROR"] == [
        "Resource observer has failed: a fault of kopf's"
    ]


async def test_removed_crd_ends_the_work_without_an_error(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def unserved(**_: Any) -> None:
        raise APINotFoundError("404 page not found", status=404, headers={})

    await kopf_run(monkeypatch, unserved)
    (record,) = (record for record in caplog.records if record.name == "controller.runtime.app")
    assert record.levelname == "WARNING"
    assert record.message == "AvatarAgents are no longer served, ending: the next start waits for their CRD"


class Started(asyncio.Event):
    """A part of kopf that never ends; the event is set when it has started."""

    async def __call__(self, **_: Any) -> None:
        self.set()
        await asyncio.Event().wait()


async def test_signal_ends_the_work_without_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    part, stream = Started(), asyncio.Queue[bytes]()
    running = asyncio.create_task(kopf_run(monkeypatch, part, [stream]))
    await part.wait()
    os.kill(os.getpid(), signal.SIGTERM)
    await running
    assert stream.get_nowait() == b"", "the streams of events are woken, so that they end"


async def test_cancelled_work_raises_cancelled_error(monkeypatch: pytest.MonkeyPatch) -> None:
    part = Started()
    running = asyncio.create_task(kopf_run(monkeypatch, part))
    await part.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
