"""The measured benchmark figures, in one file that README and docs are rendered from (`devkit.figures`).

Each benchmark records its own section when it passes; a run of one benchmark leaves the other's section as it is.
"""

import os
import subprocess
import tempfile
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from devkit.paths import REPOSITORY

FILE = REPOSITORY / "docs/reference/benchmarks.json"


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Run(_Model):
    """When, from which commit and on how large a machine a benchmark was measured."""

    date: str
    """Day of the run, UTC, as YYYY-MM-DD."""
    commit: str
    """Abbreviated commit hash; `+` at its end: with uncommitted changes."""
    cores: int
    memory_gib: int | None = None
    """Memory of the machine in GiB; none: the run did not record it."""


class Pair(_Model):
    """What the product and its peer took, as medians: seconds, unless the field says otherwise."""

    product: float
    peer: float

    @property
    def ratio(self) -> float:
        """The product's share for one of the peer's."""
        return self.product / self.peer

    def rounded(self, digits: int) -> "Pair":
        """Return both values rounded, so that the ratio is that of the values a page shows."""
        return Pair(product=round(self.product, digits), peer=round(self.peer, digits))


class FirstCall(_Model):
    """Section of `tests/bench/test_first_call.py`."""

    run: Run
    calls: int
    """Calls to each of the two."""
    joined: Pair
    """From the request until the agent is in the room."""
    first_word: Pair
    """From the request until the first audible word."""
    first_word_ratio_limit: float


class WorkerStart(_Model):
    """Section of `tests/bench/test_start.py`."""

    run: Run
    starts: int
    """Starts of one worker of each of the two; the figures are medians."""
    alone: Pair
    """Until one worker is registered."""
    together: Pair
    """Until the last of three workers is registered, that start at the same time."""
    processor: Pair
    """Processor time of one start, all processes together."""
    memory_mib: Pair
    """Memory of one idle worker in MiB, all processes together; shared pages count once."""
    limits: dict[str, float]
    """Limits of the ratios, by the name of the figure."""


class HeldCall(_Model):
    """Section of `tests/bench/test_held_call.py`."""

    run: Run
    silence: Pair
    """Cores that a call takes while neither side talks, above those of the idle worker."""
    talk: Pair
    """Cores that a call takes while caller and agent talk in turn, above those of the idle worker."""
    ratio_limits: dict[str, float]
    """Limits of the ratios, by the name of the figure."""
    calls: int
    """Calls that each worker held at once."""
    idle_mib: float
    """Memory of the product's idle worker in MiB, from the cgroup of its pod."""
    call_mib: float
    """How much that memory grows with each call."""
    memory_limits: dict[str, float]
    """Limits of the two in MiB, by the name of the figure."""


class StockAgent(_Model):
    """Section of `tests/bench/test_previous_release.py`; the peer of each pair is the previous release's worker."""

    run: Run
    calls: int
    """Calls to each of the two; the first two figures are medians."""
    first_word: Pair
    """From the request until the first audible word."""
    answer: Pair
    """From the end of a question until its answer is heard."""
    held_calls: int
    """Calls that each worker held at once, for the memory."""
    idle_mib: Pair
    """Memory of the idle worker in MiB, from the cgroup of its pod."""
    call_mib: Pair
    """How much that memory grows with each call."""
    limits: dict[str, float]
    """Limits of the ratios, by the name of the figure."""


class GatewayOpening(_Model):
    """First section of `tests/bench/test_gateway.py`: opening calls beside raw CreateRoom."""

    run: Run
    calls: int
    """Calls opened, and rooms created."""
    parallel: int
    """Requests at a time."""
    per_second: Pair
    """Calls opened a second, and rooms created a second."""
    min_ratio: float
    """Limit of the ratio of the two."""
    processor_ms: float
    """Processor time of the gateway for each call, in milliseconds."""


class GatewayLatency(_Model):
    """Second section: how much longer than a raw CreateRoom an open call takes, as medians in milliseconds."""

    run: Run
    requests: int
    """Requests of each kind, made in turn."""
    idle_ms: float
    """Without other calls."""
    busy_ms: float
    """With `busy_calls` joined calls, and as many waiting ones."""
    busy_calls: int


class GatewayHolding(_Model):
    """Third section: the gateway while it follows thousands of calls of an earlier gateway."""

    run: Run
    joined: int
    waiting: int
    adopted_seconds: float
    """From the start of the process until it has adopted all calls."""
    core_percent: float
    """Share of one core while nothing changes."""
    requests_per_second: float
    """Requests to LiveKit."""
    memory_mib: float
    """Resident memory."""
    limits: dict[str, float]
    """Limits of the last two, by the name of the figure."""


class Cost(_Model):
    """Cost of one program, for each of the declared objects unless the name says otherwise."""

    applied_ms: float
    """Milliseconds until its children are applied and its status is first written."""
    serving_ms: float
    """Milliseconds until its pod runs."""
    processor_ms: float
    """Processor time in milliseconds."""
    peak_memory_mb: float
    """Peak resident memory of the program."""
    idle_percent: float
    """Share of one core while nothing changes; the controller is scraped meanwhile."""
    scrape_ms: float | None = None
    """Longest request for its metrics in milliseconds; none: it is not scraped."""
    object_writes: int | None = None
    """Most writes to one declared object; none: not counted for this program."""
    child_writes: int | None = None
    """Most writes to one child."""


class Limits(_Model):
    """Limits on the controller's cost that the benchmark asserts."""

    ratio: float
    """To the bare kopf handler, for time and processor time."""
    peak_memory_mb: float
    idle_percent: float
    scrape_ms: float
    object_writes: int
    child_writes: int


class ThousandAgents(_Model):
    """Section of `tests/bench/test_thousand.py`."""

    run: Run
    agents: int
    controller: Cost
    bare_kopf: Cost
    async_kopf: Cost
    kube_controller_manager: Cost
    limits: Limits


class VoiceTurns(_Model):
    """Turns of one voice with one setting of the turn detection."""

    voice: str
    complete: int
    """Complete turns that were measured."""
    unfinished: int
    """Unfinished turns that were measured."""
    waiting_p50: float
    """Seconds from the last word of a complete turn to its end, as a median."""
    waiting_p95: float
    cut_ins: float
    """Share of unfinished turns that the agent answers before the caller continues."""
    answered_in_short_pause: float
    """The same share, if every pause were 0.8 s long."""
    answered_in_long_pause: float
    """The same share, if every pause were 1.5 s long."""


class CurvePoint(_Model):
    """One setting of the turn detection, over all voices."""

    threshold_scale: float
    """Times the end-of-turn model's own threshold."""
    min_delay: float
    max_delay: float
    waiting_p50: float
    """Median of the voices' medians."""
    waiting_p95: float
    """That of the voice that waits longest."""
    cut_ins_people: float
    cut_ins_synthetic: float
    answered_in_short_pause: float
    answered_in_long_pause: float


class TurnTaking(_Model):
    """Section of `tests/bench/test_turn_taking.py`."""

    run: Run
    before: list[VoiceTurns]
    """With the defaults of livekit-agents."""
    after: list[VoiceTurns]
    """With the product's settings."""
    curve: list[CurvePoint]


Section = (
    FirstCall
    | WorkerStart
    | HeldCall
    | StockAgent
    | GatewayOpening
    | GatewayLatency
    | GatewayHolding
    | ThousandAgents
    | TurnTaking
)


class Benchmarks(_Model):
    """The whole file."""

    first_call: FirstCall
    worker_start: WorkerStart
    held_call: HeldCall
    stock_agent: StockAgent
    gateway_opening: GatewayOpening
    gateway_latency: GatewayLatency
    gateway_holding: GatewayHolding
    thousand_agents: ThousandAgents
    turn_taking: TurnTaking


_NAMES: Mapping[type[Section], str] = {
    FirstCall: "first_call",
    WorkerStart: "worker_start",
    HeldCall: "held_call",
    StockAgent: "stock_agent",
    GatewayOpening: "gateway_opening",
    GatewayLatency: "gateway_latency",
    GatewayHolding: "gateway_holding",
    ThousandAgents: "thousand_agents",
    TurnTaking: "turn_taking",
}
"""The field of each section in the file."""


def load(file: Path = FILE) -> Benchmarks:
    """Read and validate the file."""
    return Benchmarks.model_validate_json(file.read_text())


def record(section: Section, file: Path = FILE) -> None:
    """Replace one section of the file, atomically: a reader sees the old file or the new one."""
    name = _NAMES[type(section)]
    text = load(file).model_copy(update={name: section}).model_dump_json(indent=2) + "\n"
    with tempfile.NamedTemporaryFile("w", dir=file.parent, prefix=f".{file.name}.", delete=False) as temporary:
        try:
            temporary.write(text)
            temporary.flush()
            os.fchmod(temporary.fileno(), 0o644)
            os.replace(temporary.name, file)
        except BaseException:
            os.unlink(temporary.name)
            raise


def this_run() -> Run:
    """Describe a run that happens now, on this machine, from the checked-out commit."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return Run(
        date=datetime.now(UTC).date().isoformat(),
        commit=_git("rev-parse", "--short=7", "HEAD") + ("+" if _has_changes() else ""),
        cores=len(os.sched_getaffinity(0)),
        memory_gib=round(memory / 1024**3),
    )


def _has_changes() -> bool:
    """Uncommitted changes to tracked files, other than the figures themselves."""
    changes = _git("status", "--porcelain", "--untracked-files=no", "--", ".", f":!{FILE.relative_to(REPOSITORY)}")
    return bool(changes)


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(REPOSITORY), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout.strip()
