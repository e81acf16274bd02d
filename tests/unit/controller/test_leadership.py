"""Leader election against a Lease in memory, in virtual time."""

import asyncio
import logging
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from kubernetes.aio import client as kubernetes_client
from kubernetes.aio.leaderelection import leaderelection as library

from agentspec.names import LEADER, LEADER_LABEL
from controller.runtime import lease
from controller.runtime.leadership import ATTEMPT_SECONDS, CONNECTED_SECONDS, STOP_SECONDS, Leadership, OwnPod
from controller.runtime.lease import LEASE, LEASE_SECONDS, RENEW_DEADLINE_SECONDS, RETRY_SECONDS
from kube.client import ApiError, Document, KubeClient
from kube.kinds import POD, Kind
from tests.unit.fakes.apiserver import UNREACHABLE
from tests.unit.fakes.virtualtime import VirtualLoop, now, use_loop_clock

TOO_MANY = ApiError(429, "TooManyRequests", "GET", "slow down")


class Store:
    """The Lease and the pod labels in the API server."""

    def __init__(self) -> None:
        self.lease: Document | None = None
        self.version = 0
        self.labels: dict[str, list[str | None]] = {}

    def write(self, spec: Document) -> None:
        self.version += 1
        before = self.lease["spec"] if self.lease else {}
        self.lease = {"metadata": {"resourceVersion": str(self.version)}, "spec": {**before, **spec}}

    @property
    def holder(self) -> str:
        assert self.lease is not None
        return str(self.lease["spec"]["holderIdentity"])


class Api(KubeClient):
    """One candidate's client of the store, which tests let fail."""

    def __init__(self, store: Store) -> None:
        api = kubernetes_client.ApiClient(kubernetes_client.Configuration(host="https://nowhere.example"))
        super().__init__(api, "test")
        self.store = store
        self.failing: ApiError | None = None
        self.hanging = False
        self.writes = 0

    async def get(self, kind: Kind, namespace: str, name: str) -> Document | None:
        assert (kind, namespace, name) == (LEASE, "system", "the-lease")
        await self._answer()
        return self.store.lease

    async def create(self, kind: Kind, namespace: str | None, document: Document) -> Document:
        await self._answer()
        self.writes += 1
        if self.store.lease is not None:
            raise ApiError(409, "AlreadyExists", "POST", "there is one")
        self.store.write(document["spec"])
        return document

    async def merge_patch(self, kind: Kind, namespace: str, name: str, patch: Document) -> Document:
        await self._answer()
        self.writes += 1
        if kind == POD:
            self.store.labels.setdefault(name, []).append(patch["metadata"]["labels"][LEADER_LABEL])
            return patch
        if patch["metadata"]["resourceVersion"] != str(self.store.version):
            raise ApiError(409, "Conflict", "PATCH", "it has been changed")
        self.store.write(patch["spec"])
        return patch

    async def _answer(self) -> None:
        await asyncio.sleep(0.01)
        if self.hanging:
            await asyncio.Event().wait()
        if self.failing is not None:
            raise self.failing


class Work:
    """Work that records when it ran and ends when the test sets an event."""

    at_once = 0

    def __init__(self) -> None:
        self.started: float | None = None
        self.ended: float | None = None
        self.end = asyncio.Event()

    async def __call__(self) -> None:
        Work.at_once += 1
        assert Work.at_once == 1, "two work at once"
        self.started = now()
        try:
            await self.end.wait()
        finally:
            self.ended = now()
            Work.at_once -= 1


@pytest.fixture
async def store(virtual_time: VirtualLoop) -> Store:
    """An API server without a Lease, in virtual time."""
    return Store()


def candidate(store: Store, identity: str, pod: OwnPod | None = None) -> tuple[Api, Leadership]:
    api = Api(store)
    return api, Leadership(api, "system", "the-lease", identity, pod)


class WallClock:
    """A wall clock that a test can set."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def time(self) -> float:
        return 1_800_000_000 + now() + self.ahead


@pytest.fixture(autouse=True)
def wall_clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[WallClock]:
    """Let the wall clock and the monotonic clock follow virtual time."""
    clock = WallClock()
    monkeypatch.setattr(library, "time", clock)
    use_loop_clock(monkeypatch, lease)
    Work.at_once = 0
    yield clock
    assert Work.at_once == 0


@pytest.fixture(autouse=True)
def no_errors(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Fail a test that logs errors, unless it clears the log after it has checked them."""
    yield
    records = caplog.get_records("call")
    assert [record for record in records if record.levelno >= logging.ERROR or record.exc_info] == []


async def ended(*tasks: asyncio.Task[Any]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def begun(work: Work, within: float) -> float:
    """When the work began, which must be within so many seconds."""
    async with asyncio.timeout(within):
        while work.started is None:  # noqa: ASYNC110 - the clock is virtual
            await asyncio.sleep(0.05)
    return work.started


def test_holder_stops_before_its_lease_expires() -> None:
    assert RENEW_DEADLINE_SECONDS + STOP_SECONDS < LEASE_SECONDS


async def test_second_candidate_waits_without_writing(store: Store) -> None:
    _, first = candidate(store, "one")
    other, second = candidate(store, "two")
    work, waiting = Work(), Work()
    leading = asyncio.create_task(first.lead(work))
    await begun(work, 1)
    standby = asyncio.create_task(second.lead(waiting))
    await asyncio.sleep(3600)
    assert (first.held, second.held) == (True, False)
    assert (waiting.started, other.writes, store.holder) == (None, 0, "one")
    await ended(leading, standby)


async def test_standby_takes_over_at_once_when_the_work_ends(store: Store) -> None:
    (_, first), (_, second) = candidate(store, "one"), candidate(store, "two")
    work, following = Work(), Work()
    leading = asyncio.create_task(first.lead(work))
    await begun(work, 1)
    standby = asyncio.create_task(second.lead(following))
    await asyncio.sleep(100)
    work.end.set()
    assert await leading is True
    assert not first.held
    assert await begun(following, 5) - 100 <= RETRY_SECONDS + 0.5
    await ended(standby)


async def test_standby_takes_over_from_a_killed_leader_after_expiry(store: Store) -> None:
    stamp = datetime.now(UTC).isoformat()
    store.write({"holderIdentity": "dead", "leaseDurationSeconds": 15, "acquireTime": stamp, "renewTime": stamp})
    _, second = candidate(store, "two")
    work = Work()
    leading = asyncio.create_task(second.lead(work))
    assert LEASE_SECONDS <= await begun(work, 60) <= LEASE_SECONDS + RETRY_SECONDS + 1
    await ended(leading)


@pytest.mark.parametrize("seconds", [-3600.0, -20.0, 20.0, 3600.0])
async def test_setting_the_wall_clock_does_not_affect_the_lease(
    store: Store, wall_clock: WallClock, seconds: float
) -> None:
    (api, first), (_, second) = candidate(store, "one"), candidate(store, "two")
    work, following = Work(), Work()
    leading = asyncio.create_task(first.lead(work))
    await begun(work, 1)
    standby = asyncio.create_task(second.lead(following))
    for _ in range(20):  # at any time between two looks
        await asyncio.sleep(7.3)
        wall_clock.ahead += seconds
    assert (first.held, second.held, store.holder) == (True, False, "one")
    api.failing = UNREACHABLE
    failed, stands_since = now(), now() - RETRY_SECONDS
    await asyncio.sleep(5)
    wall_clock.ahead += seconds
    at = await begun(following, 60)
    assert stands_since + LEASE_SECONDS <= at <= failed + LEASE_SECONDS + 2 * RETRY_SECONDS
    assert await leading is False
    await ended(standby)


@pytest.mark.parametrize("fault", [UNREACHABLE, TOO_MANY, None], ids=["unreachable", "throttled", "no answer"])
async def test_leader_that_cannot_renew_stops_before_another_starts(store: Store, fault: ApiError | None) -> None:
    (api, first), (_, second) = candidate(store, "one"), candidate(store, "two")
    work, following = Work(), Work()
    leading = asyncio.create_task(first.lead(work))
    await begun(work, 1)
    standby = asyncio.create_task(second.lead(following))
    await asyncio.sleep(100)
    api.failing, api.hanging = fault, fault is None
    assert await leading is False
    assert work.ended is not None
    assert RENEW_DEADLINE_SECONDS - RETRY_SECONDS - 1 <= work.ended - 100 <= RENEW_DEADLINE_SECONDS + 0.1
    # The other saw the last renewal at most one look before it happened to fail.
    assert await begun(following, 60) >= work.ended + LEASE_SECONDS - RENEW_DEADLINE_SECONDS - RETRY_SECONDS
    assert first.error
    await ended(standby)


async def test_short_outage_is_logged_once_and_changes_nothing(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        api, first = candidate(store, "one")
        work = Work()
        leading = asyncio.create_task(first.lead(work))
        await begun(work, 1)
        api.failing = UNREACHABLE
        await asyncio.sleep(RENEW_DEADLINE_SECONDS - RETRY_SECONDS - 1)
        assert first.error
        api.failing = None
        await asyncio.sleep(100)
        assert (first.held, first.error, work.ended) == (True, "", None)
        await ended(leading)
    messages = [record.message for record in caplog.records if record.name == "controller.runtime.leadership"]
    assert messages == ["became leader", "could not reach the lease, retrying", "lease reached again"]


async def test_leader_is_connected_while_it_renews_in_time(store: Store) -> None:
    api, first = candidate(store, "one")
    work = Work()
    assert not first.is_connected, "a standby"
    leading = asyncio.create_task(first.lead(work))
    await begun(work, 1)
    for _ in range(100):
        await asyncio.sleep(0.1)
        assert first.is_connected
    api.hanging = True
    await asyncio.sleep(RETRY_SECONDS + CONNECTED_SECONDS)
    assert (first.is_connected, first.held) == (False, True)
    api.hanging = False
    await asyncio.sleep(ATTEMPT_SECONDS + RETRY_SECONDS)
    assert first.is_connected
    await ended(leading)


async def test_leader_survives_failures_of_half_the_requests(store: Store) -> None:
    class Failing(Api):
        attempts = 0

        async def _answer(self) -> None:
            self.attempts += 1
            self.failing = TOO_MANY if self.attempts % 4 in (1, 2) else None
            await super()._answer()

    first = Leadership(Failing(store), "system", "the-lease", "one")
    work = Work()
    leading = asyncio.create_task(first.lead(work))
    await begun(work, 2 * RETRY_SECONDS + 1)
    await asyncio.sleep(3600)
    assert (work.ended, first.held) == (None, True)
    await ended(leading)


async def test_standby_survives_an_outage(store: Store) -> None:
    api, first = candidate(store, "one")
    api.failing = UNREACHABLE
    work = Work()
    leading = asyncio.create_task(first.lead(work))
    await asyncio.sleep(120)
    assert (work.started, first.held) == (None, False)
    assert "connection refused" in first.error
    api.failing = None
    await begun(work, RETRY_SECONDS + 1)
    await ended(leading)


async def test_one_of_two_simultaneous_candidates_leads(store: Store) -> None:
    works = [Work() for _ in range(5)]
    tasks = [asyncio.create_task(candidate(store, f"c{number}")[1].lead(work)) for number, work in enumerate(works)]
    await asyncio.sleep(60)
    assert len([work for work in works if work.started is not None]) == 1
    await ended(*tasks)


async def test_foreign_edit_of_the_lease_does_not_end_the_work(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    class Contested(Api):
        conflicts = 0

        async def merge_patch(self, kind: Kind, namespace: str, name: str, patch: Document) -> Document:
            if self.writes % 2:
                self.conflicts += 1
                self.store.write({})
            return await super().merge_patch(kind, namespace, name, patch)

    api = Contested(store)
    first = Leadership(api, "system", "the-lease", "one")
    work = Work()
    leading = asyncio.create_task(first.lead(work))
    await begun(work, 1)
    await asyncio.sleep(60)
    assert (work.ended, first.held) == (None, True)
    assert api.conflicts > 10
    await ended(leading)
    assert api.store.holder == "", "it was released in spite of them"
    assert caplog.records == [], "a lost race is not logged"


async def test_deleted_lease_is_created_again(store: Store) -> None:
    _, first = candidate(store, "one")
    work = Work()
    leading = asyncio.create_task(first.lead(work))
    await begun(work, 1)
    store.lease = None
    await asyncio.sleep(RETRY_SECONDS + 1)
    assert (store.holder, work.ended) == ("one", None)
    await ended(leading)


async def test_leader_stops_when_another_holds_the_lease(store: Store) -> None:
    _, first = candidate(store, "one")
    work = Work()
    leading = asyncio.create_task(first.lead(work))
    await begun(work, 1)
    store.write({"holderIdentity": "two"})
    assert await leading is False
    assert work.ended is not None
    assert work.ended <= RETRY_SECONDS + 1
    assert store.holder == "two", "what is another's is not released"


async def test_resumed_process_stops_without_a_request(store: Store, virtual_time: VirtualLoop) -> None:
    api, first = candidate(store, "one")
    work = Work()
    leading = asyncio.create_task(first.lead(work))
    await begun(work, 1)
    await asyncio.sleep(100)
    writes = api.writes
    virtual_time.freeze(20)
    assert not first.held, "known before the next renewal"
    assert await leading is False
    assert api.writes == writes


async def test_client_sends_no_writes_without_the_lease() -> None:
    async with kubernetes_client.ApiClient(kubernetes_client.Configuration(host="http://127.0.0.1:1")) as api:
        client = KubeClient(api, "test")
        leading = True
        client.allow_writes_while(lambda: leading)
        with pytest.raises(ApiError, match="Unreachable"):
            await client.merge_patch(POD, "system", "pod", {})
        leading = False
        with pytest.raises(ApiError, match="no longer the leader"):
            await client.merge_patch(POD, "system", "pod", {})
        with pytest.raises(ApiError, match="Unreachable"):
            await client.get(POD, "system", "pod")


async def test_error_of_the_work_is_raised_and_the_lease_released(store: Store) -> None:
    _, first = candidate(store, "one")

    async def fail() -> None:
        raise RuntimeError("a part failed")

    with pytest.raises(RuntimeError, match="a part failed"):
        await first.lead(fail)
    assert store.holder == ""


async def test_cancelled_leader_ends_the_work_before_it_releases(store: Store) -> None:
    _, first = candidate(store, "one")
    holders = []

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(3)
            holders.append((store.holder, first.held))

    leading = asyncio.create_task(first.lead(work))
    await asyncio.sleep(10)
    leading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leading
    assert holders == [("one", True)]
    assert store.holder == ""


async def test_cancelled_standby_does_not_change_the_lease(store: Store) -> None:
    store.write({"holderIdentity": "one", "leaseDurationSeconds": 15, "acquireTime": "x", "renewTime": "y"})
    api, second = candidate(store, "two")
    standby = asyncio.create_task(second.lead(Work()))
    await asyncio.sleep(5)
    await ended(standby)
    assert (store.holder, api.writes) == ("one", 0)


async def test_uncancellable_work_does_not_delay_a_lost_leader(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    _, first = candidate(store, "one")
    end = asyncio.Event()

    async def stubborn() -> None:
        while not end.is_set():
            try:
                await end.wait()
            except asyncio.CancelledError:
                continue

    leading = asyncio.create_task(first.lead(stubborn))
    await asyncio.sleep(1)
    store.write({"holderIdentity": "two"})
    started = now()
    assert await leading is False
    assert now() - started <= RETRY_SECONDS + STOP_SECONDS + 1
    end.set()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert "work did not stop in time" in [
        record.message for record in caplog.records if record.levelno == logging.ERROR
    ]
    caplog.clear()  # this error is expected


async def test_leader_label_moves_from_a_killed_leader(store: Store) -> None:
    (_, first), (_, second) = (
        candidate(store, "one", OwnPod("system", "pod-1")),
        candidate(store, "two", OwnPod("system", "pod-2")),
    )
    work = Work()
    leading = asyncio.create_task(first.lead(work))
    await begun(work, 1)
    standby = asyncio.create_task(second.lead(Work()))
    await asyncio.sleep(60)
    assert store.labels == {"pod-1": [None, LEADER], "pod-2": [None]}
    await ended(leading, standby)


async def test_rejected_label_is_retried_and_does_not_block(store: Store) -> None:
    class NoLabels(Api):
        refusing = True

        async def merge_patch(self, kind: Kind, namespace: str, name: str, patch: Document) -> Document:
            if kind == POD and self.refusing:
                raise ApiError(403, "Forbidden", "PATCH", "pods is forbidden")
            return await super().merge_patch(kind, namespace, name, patch)

    api = NoLabels(store)
    work = Work()
    first = Leadership(api, "system", "the-lease", "one", OwnPod("system", "pod-1"))
    leading = asyncio.create_task(first.lead(work))
    await begun(work, 1)
    api.refusing = False
    await asyncio.sleep(RETRY_SECONDS + 1)
    assert store.labels == {"pod-1": [LEADER]}
    await ended(leading)


@pytest.fixture
def riyadh_time(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Set the process's time zone to Asia/Riyadh."""
    monkeypatch.setenv("TZ", "Asia/Riyadh")
    time.tzset()
    yield
    monkeypatch.delenv("TZ")
    time.tzset()


@pytest.mark.usefixtures("riyadh_time")
async def test_lease_times_are_utc_in_every_time_zone(store: Store) -> None:
    _, first = candidate(store, "one")
    work = Work()
    leading = asyncio.create_task(first.lead(work))
    await begun(work, 1)
    await asyncio.sleep(10)
    assert store.lease is not None
    spec = dict(store.lease["spec"])
    await ended(leading)
    acquired, renewed = (
        datetime.strptime(spec[field], "%Y-%m-%dT%H:%M:%S.%f%z").timestamp() - 1_800_000_000
        for field in ("acquireTime", "renewTime")
    )
    assert 0 <= acquired < 1
    assert 8 <= renewed < 11
