"""References: each object is read once for all agents that refer to it, and changes reconcile exactly those."""

import asyncio
import base64
from collections import Counter
from collections.abc import AsyncIterator

import pytest

from controller.inputs.references import (
    CONCURRENT_READS,
    FRESH_SECONDS,
    REFRESH_SOON_SECONDS,
    RETRY_SECONDS,
    SPREAD_SECONDS,
    Contents,
    References,
)
from controller.observation import Key
from kube.client import ApiError, Document
from kube.kinds import CONFIG_MAP, SECRET, Kind
from tests.unit.controller.builders import KEY, OTHER, config_map, secret
from tests.unit.fakes.apiserver import UNREACHABLE, FakeApiServer
from tests.unit.fakes.virtualtime import VirtualLoop

FORBIDDEN = ApiError(403, "Forbidden", "GET /api/v1/…", 'secrets "livekit" is forbidden')


class Cluster(FakeApiServer):
    """An API server whose reads take 0.1 s, or fail, or hang for some objects. Counts the reads."""

    def __init__(self) -> None:
        super().__init__()
        self.failure: ApiError | None = None
        self.hanging: set[str] = set()
        """Names of objects whose reads hang until the request times out."""
        self.reads: Counter[tuple[str, str, str]] = Counter()

    async def get(self, kind: Kind, namespace: str, name: str) -> Document | None:
        self.reads[kind.kind, namespace, name] += 1
        await asyncio.sleep(0.1)
        if name in self.hanging:
            await asyncio.sleep(30)
            raise UNREACHABLE
        if self.failure is not None:
            raise self.failure
        return self.find(kind, namespace, name)

    def put_secret(self, name: str, **values: str | bytes | None) -> None:
        """Create or replace a Secret."""
        self.put(SECRET, secret(name, **values))


@pytest.fixture
def cluster(virtual_time: VirtualLoop) -> Cluster:
    """An API server in virtual time, with one Secret and one ConfigMap."""
    made = Cluster()
    made.put_secret("livekit", apiKey="key", apiSecret="secret")
    made.put(CONFIG_MAP, config_map("texts", greeting="Welcome."))
    return made


@pytest.fixture
def changed() -> list[Key]:
    """The agents that were notified of a change."""
    return []


@pytest.fixture
async def references(cluster: Cluster, changed: list[Key]) -> AsyncIterator[References]:
    """References that are refreshed."""
    made = References(cluster, changed.append)
    refreshing = asyncio.create_task(made.run())
    yield made
    refreshing.cancel()
    await asyncio.wait([refreshing])


async def within_30_seconds() -> None:
    await asyncio.sleep(30)


async def test_values_are_decoded_and_stripped(cluster: Cluster, references: References) -> None:
    odd = secret("odd", apiKey=" key\n", blank=" ", picture=b"\x89PNG", null=None)
    odd["data"]["broken"] = "%"
    cluster.put(SECRET, odd)
    found = await references.secret(KEY, "odd")
    assert found == {"apiKey": "key", "blank": "", "picture": "\ufffdPNG", "null": "", "broken": "\ufffd"}
    assert await references.config_map(KEY, "texts") == Contents({"greeting": "Welcome."})
    assert await references.secret(KEY, "nowhere") is None
    assert await references.config_map(KEY, "nowhere") is None


async def test_files_that_are_not_utf8_are_read_or_named(cluster: Cluster, references: References) -> None:
    files = {"hours.txt": "التاسعة".encode("utf-16"), "prices.txt": "الأسعار".encode("cp1256")}
    binary = {key: base64.b64encode(content).decode() for key, content in files.items()}
    cluster.put(CONFIG_MAP, config_map("files", **{"fees.md": "\ufeff## Fees\r\nfifty\r\n"}) | {"binaryData": binary})
    found = await references.config_map(KEY, "files")
    assert found == Contents({"fees.md": "## Fees\nfifty\n", "hours.txt": "التاسعة"}, {"prices.txt": "not UTF-8"})


async def test_a_thousand_agents_share_three_reads(
    cluster: Cluster, references: References, changed: list[Key]
) -> None:
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


async def test_same_name_in_another_namespace_is_another_object(cluster: Cluster, references: References) -> None:
    await references.secret(KEY, "livekit")
    await references.secret(Key("office", "ava"), "livekit")
    assert cluster.reads["Secret", "office", "livekit"] == cluster.reads["Secret", "shop", "livekit"] == 1


async def test_change_notifies_the_referring_agents_within_30_seconds(
    cluster: Cluster, references: References, changed: list[Key]
) -> None:
    await references.secret(KEY, "livekit")
    await references.config_map(OTHER, "texts")
    cluster.put_secret("livekit", apiKey="key", apiSecret="rotated")
    await within_30_seconds()
    assert changed == [KEY]
    assert await references.secret(KEY, "livekit") == {"apiKey": "key", "apiSecret": "rotated"}
    cluster.put(CONFIG_MAP, config_map("texts", greeting="Good evening."))
    await within_30_seconds()
    assert changed == [KEY, OTHER]


async def test_new_version_with_equal_values_is_no_change(
    cluster: Cluster, references: References, changed: list[Key]
) -> None:
    await references.secret(KEY, "livekit")
    cluster.put_secret("livekit", apiKey="key\n", apiSecret="secret")
    await within_30_seconds()
    assert changed == []


async def test_created_and_deleted_objects_are_detected(
    cluster: Cluster, references: References, changed: list[Key]
) -> None:
    assert await references.secret(KEY, "late") is None
    cluster.put_secret("late", apiKey="key")
    await asyncio.sleep(RETRY_SECONDS + 1.5)
    assert changed == [KEY]
    assert await references.secret(KEY, "late") == {"apiKey": "key"}
    cluster.remove(SECRET, "shop", "late")
    await within_30_seconds()
    assert changed == [KEY, KEY]
    assert await references.secret(KEY, "late") is None


async def test_refresh_soon_reads_at_most_once_per_second(
    cluster: Cluster, references: References, changed: list[Key]
) -> None:
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


async def test_rejected_read_and_its_recovery_notify_once(
    cluster: Cluster, references: References, changed: list[Key]
) -> None:
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


async def test_unreachable_api_server_leaves_cached_values_valid(
    cluster: Cluster, references: References, changed: list[Key]
) -> None:
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


@pytest.mark.parametrize("hanging", [1, 2 * CONCURRENT_READS])
async def test_hanging_reads_do_not_delay_other_objects(
    cluster: Cluster, references: References, changed: list[Key], hanging: int
) -> None:
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


async def test_cancelled_caller_does_not_cancel_the_read(cluster: Cluster, references: References) -> None:
    impatient = asyncio.create_task(references.secret(KEY, "livekit"))
    patient = asyncio.create_task(references.secret(OTHER, "livekit"))
    await asyncio.sleep(0.05)
    impatient.cancel()
    assert await patient is not None
    assert cluster.reads.total() == 1


async def test_object_without_references_is_dropped(
    cluster: Cluster, references: References, changed: list[Key]
) -> None:
    for key in (KEY, OTHER):
        await references.secret(key, "livekit")
        await references.config_map(key, "texts")
    references.retain(KEY, ["livekit"], [])
    references.forget(OTHER)
    cluster.reads.clear()
    cluster.put(CONFIG_MAP, config_map("texts"))
    cluster.put_secret("livekit", apiKey="another")
    await within_30_seconds()
    assert set(cluster.reads) == {("Secret", "shop", "livekit")}
    assert changed == [KEY]
    references.forget(KEY)
    references.forget(KEY)
    cluster.reads.clear()
    await asyncio.sleep(600)
    assert not cluster.reads
