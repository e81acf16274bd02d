"""References: each object is read once for all agents that refer to it, and changes reconcile exactly those."""

import asyncio
import base64
from collections import Counter
from collections.abc import Awaitable, Callable

import pytest
from kubernetes.aio import client as kubernetes

from controller.inputs.references import (
    CONCURRENT_READS,
    FRESH_SECONDS,
    REFRESH_SOON_SECONDS,
    RETRY_SECONDS,
    SPREAD_SECONDS,
    References,
)
from controller.observation import Key
from kube.client import ApiError, Document, KubeClient
from kube.kinds import Kind
from tests.unit.fakes.virtualtime import run

KEY, OTHER = Key("shop", "ava"), Key("shop", "eve")
FORBIDDEN = ApiError(403, "Forbidden", "GET /api/v1/…", 'secrets "livekit" is forbidden')
UNREACHABLE = ApiError(0, "Unreachable", "GET /api/v1/…", "connection refused")


class Cluster(KubeClient):
    """Serves objects by kind and name, 0.1 s per read, and counts the reads. Some objects may hang."""

    def __init__(self) -> None:
        super().__init__(kubernetes.ApiClient(kubernetes.Configuration(host="https://nowhere.example")), "test")
        self.objects: dict[tuple[str, str], Document] = {}
        self.failure: ApiError | None = None
        self.hanging: set[str] = set()
        """Names of objects whose reads hang until the request times out."""
        self.reads: Counter[tuple[str, str, str]] = Counter()
        self._version = 0

    async def get(self, kind: Kind, namespace: str, name: str) -> Document | None:
        self.reads[kind.kind, namespace, name] += 1
        await asyncio.sleep(0.1)
        if name in self.hanging:
            await asyncio.sleep(30)
            raise UNREACHABLE
        if self.failure is not None:
            raise self.failure
        return self.objects.get((kind.kind, name))

    def put(self, kind: str, name: str, data: dict[str, str]) -> None:
        self._version += 1
        self.objects[kind, name] = {"metadata": {"resourceVersion": str(self._version)}, "data": data}

    def put_secret(self, name: str, **values: str | bytes) -> None:
        raw = {key: value.encode() if isinstance(value, str) else value for key, value in values.items()}
        self.put("Secret", name, {key: base64.b64encode(value).decode() for key, value in raw.items()})


Test = Callable[[Cluster, References, list[Key]], Awaitable[None]]


def with_references(test: Test) -> None:
    """Run a test while references are refreshed. `changed` lists the agents that were notified."""

    async def body() -> None:
        cluster, changed = Cluster(), list[Key]()
        references = References(cluster, changed.append)
        refreshing = asyncio.create_task(references.run())
        cluster.put_secret("livekit", apiKey="key", apiSecret="secret")
        cluster.put("ConfigMap", "texts", {"greeting": "Welcome."})
        await test(cluster, references, changed)
        refreshing.cancel()
        await asyncio.wait([refreshing])

    run(body())


async def within_30_seconds() -> None:
    await asyncio.sleep(30)


def test_values_are_decoded_and_stripped() -> None:
    async def test(cluster: Cluster, references: References, changed: list[Key]) -> None:
        cluster.put_secret("odd", apiKey=" key\n", blank=" ", picture=b"\x89PNG")
        cluster.objects["Secret", "odd"]["data"] |= {"null": None, "broken": "%"}
        found = await references.secret(KEY, "odd")
        assert found == {"apiKey": "key", "blank": "", "picture": "\ufffdPNG", "null": "", "broken": "\ufffd"}
        assert await references.config_map(KEY, "texts") == {"greeting": "Welcome."}
        assert await references.secret(KEY, "nowhere") is None
        assert await references.config_map(KEY, "nowhere") is None

    with_references(test)


def test_a_thousand_agents_share_three_reads() -> None:
    async def test(cluster: Cluster, references: References, changed: list[Key]) -> None:
        names = ("livekit", "openai", "tavus")
        for name in names:
            cluster.put_secret(name, apiKey="key")
        keys = [Key("shop", f"ava-{number}") for number in range(1000)]
        await asyncio.gather(*(references.secret(key, name) for key in keys for name in names))
        assert cluster.reads.total() == 3
        await asyncio.sleep(600)
        assert 3 * 600 / (FRESH_SECONDS + SPREAD_SECONDS + 2) < cluster.reads.total() <= 3 * (1 + 600 / FRESH_SECONDS)
        before = cluster.reads.total()
        await asyncio.gather(*(references.secret(key, name) for key in keys for name in names))
        assert cluster.reads.total() <= before + len(names), "at most one read for each stale object"
        assert changed == []

    with_references(test)


def test_same_name_in_another_namespace_is_another_object() -> None:
    async def test(cluster: Cluster, references: References, changed: list[Key]) -> None:
        await references.secret(KEY, "livekit")
        await references.secret(Key("office", "ava"), "livekit")
        assert cluster.reads["Secret", "office", "livekit"] == cluster.reads["Secret", "shop", "livekit"] == 1

    with_references(test)


def test_change_notifies_the_referring_agents_within_30_seconds() -> None:
    async def test(cluster: Cluster, references: References, changed: list[Key]) -> None:
        await references.secret(KEY, "livekit")
        await references.config_map(OTHER, "texts")
        cluster.put_secret("livekit", apiKey="key", apiSecret="rotated")
        await within_30_seconds()
        assert changed == [KEY]
        assert await references.secret(KEY, "livekit") == {"apiKey": "key", "apiSecret": "rotated"}
        cluster.put("ConfigMap", "texts", {"greeting": "Good evening."})
        await within_30_seconds()
        assert changed == [KEY, OTHER]

    with_references(test)


def test_new_version_with_equal_values_is_no_change() -> None:
    async def test(cluster: Cluster, references: References, changed: list[Key]) -> None:
        await references.secret(KEY, "livekit")
        cluster.put_secret("livekit", apiKey="key\n", apiSecret="secret")
        await within_30_seconds()
        assert changed == []

    with_references(test)


def test_created_and_deleted_objects_are_detected() -> None:
    async def test(cluster: Cluster, references: References, changed: list[Key]) -> None:
        assert await references.secret(KEY, "late") is None
        cluster.put_secret("late", apiKey="key")
        await asyncio.sleep(RETRY_SECONDS + 1.5)
        assert changed == [KEY]
        assert await references.secret(KEY, "late") == {"apiKey": "key"}
        del cluster.objects["Secret", "late"]
        await within_30_seconds()
        assert changed == [KEY, KEY]
        assert await references.secret(KEY, "late") is None

    with_references(test)


def test_refresh_soon_reads_at_most_once_per_second() -> None:
    async def test(cluster: Cluster, references: References, changed: list[Key]) -> None:
        await references.secret(KEY, "livekit")
        await references.secret(OTHER, "livekit")
        cluster.put_secret("livekit", apiKey="rotated")
        references.refresh_soon(KEY)
        await asyncio.sleep(REFRESH_SOON_SECONDS + 1)
        assert set(changed) == {KEY, OTHER}, "agents that share it are notified too"
        cluster.reads.clear()
        for _ in range(100):
            references.refresh_soon(KEY)
            await asyncio.sleep(0.1)
        assert cluster.reads.total() <= 100 * 0.1 / REFRESH_SOON_SECONDS

    with_references(test)


def test_rejected_read_and_its_recovery_notify_once() -> None:
    async def test(cluster: Cluster, references: References, changed: list[Key]) -> None:
        await references.secret(KEY, "livekit")
        cluster.failure = FORBIDDEN
        await within_30_seconds()
        assert changed == [KEY], "notified once"
        with pytest.raises(ApiError, match="forbidden"):
            await references.secret(KEY, "livekit")
        cluster.failure = None
        await asyncio.sleep(RETRY_SECONDS + 1.5)
        assert changed == [KEY, KEY]
        assert await references.secret(KEY, "livekit") == {"apiKey": "key", "apiSecret": "secret"}

    with_references(test)


def test_unreachable_api_server_leaves_cached_values_valid() -> None:
    async def test(cluster: Cluster, references: References, changed: list[Key]) -> None:
        await references.secret(KEY, "livekit")
        cluster.failure = UNREACHABLE
        await asyncio.sleep(120)
        assert await references.secret(KEY, "livekit") == {"apiKey": "key", "apiSecret": "secret"}
        assert cluster.reads.total() < 120 / RETRY_SECONDS
        with pytest.raises(ApiError, match="connection refused"):
            await references.secret(KEY, "never read")
        cluster.put_secret("livekit", apiKey="key", apiSecret="rotated meanwhile")
        cluster.failure = None
        await asyncio.sleep(RETRY_SECONDS + 1.5)
        assert changed == [KEY, KEY], "the one that was rotated, and the one that was never read"

    with_references(test)


@pytest.mark.parametrize("hanging", [1, 2 * CONCURRENT_READS])
def test_hanging_reads_do_not_delay_other_objects(hanging: int) -> None:
    async def test(cluster: Cluster, references: References, changed: list[Key]) -> None:
        names = [f"hanging-{number}" for number in range(hanging)]
        for name in names:
            cluster.put_secret(name, apiKey="key")
            await references.secret(OTHER, name)
        await references.secret(KEY, "livekit")
        cluster.hanging.update(names)
        for number in range(20):
            changed.clear()
            cluster.put_secret("livekit", apiKey=f"rotated-{number}")
            await within_30_seconds()
            assert changed == [KEY]
            await asyncio.sleep(number % 7)
        at_once = cluster.reads.total()
        await asyncio.sleep(300)
        assert cluster.reads.total() - at_once <= (hanging + 1) * (1 + 300 / FRESH_SECONDS)
        references.forget(OTHER)
        await asyncio.sleep(31)

    with_references(test)


def test_cancelled_caller_does_not_cancel_the_read() -> None:
    async def test(cluster: Cluster, references: References, changed: list[Key]) -> None:
        impatient = asyncio.create_task(references.secret(KEY, "livekit"))
        patient = asyncio.create_task(references.secret(OTHER, "livekit"))
        await asyncio.sleep(0.05)
        impatient.cancel()
        assert await patient is not None
        assert cluster.reads.total() == 1

    with_references(test)


def test_object_without_references_is_dropped() -> None:
    async def test(cluster: Cluster, references: References, changed: list[Key]) -> None:
        for key in (KEY, OTHER):
            await references.secret(key, "livekit")
            await references.config_map(key, "texts")
        references.retain(KEY, ["livekit"], [])
        references.forget(OTHER)
        cluster.reads.clear()
        cluster.put("ConfigMap", "texts", {})
        cluster.put_secret("livekit", apiKey="another")
        await within_30_seconds()
        assert set(cluster.reads) == {("Secret", "shop", "livekit")}
        assert changed == [KEY]
        references.forget(KEY)
        references.forget(KEY)
        cluster.reads.clear()
        await asyncio.sleep(600)
        assert not cluster.reads

    with_references(test)
