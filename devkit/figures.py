"""Renders the measured figures into README and docs: ``python -m devkit.figures``; ``--check`` only compares.

A page shows a figure between `<!-- figure:NAME -->` and `<!-- /figure -->`; the names are the keys of FIGURES.
"""

import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from devkit import benchmarks
from devkit.benchmarks import Benchmarks, Cost, CurvePoint, Pair, Run, VoiceTurns
from devkit.errors import DevkitError
from devkit.paths import REPOSITORY

_FIGURE = re.compile(r"(<!-- figure:(?P<name>[a-z-]+) -->)(?P<text>.*?)(<!-- /figure -->)", re.DOTALL)
_MARKER = re.compile(r"<!-- *(figure\b|/ *figure).*?-->")
_SMALLEST_PEER = 0.1
"""A ratio to less than this says nothing: an idle kopf handler uses next to no processor time."""


def _first_call(measured: Benchmarks) -> str:
    call = measured.first_call
    return (
        f"\nOver {call.calls} calls each ({_machine(call.run)}), the agent joined "
        f"{_compared(call.joined)}.\nThe first audible word came {_compared(call.first_word)}.\n"
    )


def _compared(pair: Pair) -> str:
    return f"{pair.product:.2f} s after the request (peer {pair.peer:.2f} s, ratio {pair.ratio:.2f})"


def _first_call_table(measured: Benchmarks) -> str:
    call = measured.first_call
    limit = f"first audible word (limit: ratio {call.first_word_ratio_limit:g})"
    rows = [
        [what, f"{pair.product:.2f}", f"{pair.peer:.2f}", f"{pair.ratio:.2f}"]
        for what, pair in (("agent joined", call.joined), (limit, call.first_word))
    ]
    return _table(["seconds from the request", "product", "bare worker", "ratio"], rows)


def _worker_start_table(measured: Benchmarks) -> str:
    start = measured.worker_start
    shown = (
        ("alone, seconds until registered", "alone", start.alone, 2),
        ("three at once, seconds until the last is registered", "together", start.together, 2),
        ("processor, seconds each", "processor", start.processor, 2),
        ("memory when idle, MiB", "memory_mib", start.memory_mib, 0),
    )
    return _table(["", "product", "bare worker", "ratio"], _limited_ratios(shown, start.limits))


def _limited_ratios(shown: Iterable[tuple[str, str, Pair, int]], limits: Mapping[str, float]) -> Iterator[list[str]]:
    """Yield a row for each figure: its text, its name in the limits, both values, and how many digits they have."""
    for what, name, pair, digits in shown:
        values = [f"{value:.{digits}f}" for value in (pair.product, pair.peer)]
        yield [f"{what} (limit: ratio {limits[name]:g})", *values, f"{pair.ratio:.2f}"]


def _held_call_table(measured: Benchmarks) -> str:
    held = measured.held_call
    shown = (("cores in silence", "silence", held.silence, 3), ("cores while both talk", "talk", held.talk, 3))
    rows = list(_limited_ratios(shown, held.ratio_limits))
    for what, name, mib in (("when idle", "idle_mib", held.idle_mib), ("of each call", "call_mib", held.call_mib)):
        rows.append([f"memory {what}, MiB (limit: {held.memory_limits[name]:g})", f"{mib:.0f}", "", ""])
    return _table(["", "product", "bare worker", "ratio"], rows)


def _stock_agent_table(measured: Benchmarks) -> str:
    stock = measured.stock_agent
    shown = (
        ("first audible word, seconds after the request", "first_word", stock.first_word, 2),
        ("answer, seconds after the question", "answer", stock.answer, 2),
        ("memory when idle, MiB", "idle_mib", stock.idle_mib, 0),
        ("memory of each call, MiB", "call_mib", stock.call_mib, 0),
    )
    return _table(["", "product", "previous release", "ratio"], _limited_ratios(shown, stock.limits))


def _gateway_table(measured: Benchmarks) -> str:
    opening, latency, holding = measured.gateway_opening, measured.gateway_latency, measured.gateway_holding
    rate = opening.per_second
    busy = f"{latency.busy_calls:,} joined and {latency.busy_calls:,} waiting calls"
    held = f"{holding.joined:,} joined and {holding.waiting:,} waiting calls"
    rates = [f"{rate.product:,.0f}", f"{rate.peer:,.0f}", f"{rate.ratio:.2f}"]
    alone = (
        ("processor for each call, ms", f"{opening.processor_ms:.2f}"),
        ("longer than CreateRoom when idle, ms", f"{latency.idle_ms:.1f}"),
        (f"longer than CreateRoom with {busy}, ms", f"{latency.busy_ms:.1f}"),
        (f"adoption of {holding.joined + holding.waiting:,} calls, s", f"{holding.adopted_seconds:.1f}"),
        (f"with {held}: share of a core, %", f"{holding.core_percent:.1f}"),
        (
            f"with {held}: LiveKit requests a second (limit: {holding.limits['requests_per_second']:g})",
            f"{holding.requests_per_second:.1f}",
        ),
        (f"with {held}: memory, MiB (limit: {holding.limits['memory_mib']:g})", f"{holding.memory_mib:.0f}"),
    )
    rows = [
        [f"opened a second, {opening.parallel} at a time (limit: ratio {opening.min_ratio:g})", *rates],
        *([what, value, "", ""] for what, value in alone),
    ]
    return _table(["", "POST /v1/calls", "CreateRoom", "ratio"], rows)


def _gateway_machine(measured: Benchmarks) -> str:
    sections = (measured.gateway_opening, measured.gateway_latency, measured.gateway_holding)
    return "; ".join(dict.fromkeys(_machine(section.run) for section in sections))


def _thousand_agents_table(measured: Benchmarks) -> str:
    section = measured.thousand_agents
    limits = section.limits
    programs = (section.controller, section.bare_kopf, section.async_kopf, section.kube_controller_manager)
    head = ["", "controller", "bare kopf", "async kopf", "kube-c-m", "to bare (limit)", "to async"]

    def compared(what: str, cost: Callable[[Cost], float]) -> list[str]:
        mine, bare, other, manager = (cost(program) for program in programs)
        ratios = [f"{_ratio(mine, bare)} ({limits.ratio:g})", _ratio(mine, other)]
        return [what, *(f"{value:.1f}" for value in (mine, bare, other, manager)), *ratios]

    def limited(what: str, cost: Callable[[Cost], float | None], digits: int, limit: float) -> list[str]:
        shown = ["" if (value := cost(program)) is None else f"{value:.{digits}f}" for program in programs]
        return [what, *shown, f"({limit:g})", ""]

    rows = [
        compared("applied, ms each", lambda cost: cost.applied_ms),
        compared("serving, ms each", lambda cost: cost.serving_ms),
        compared("processor, ms each", lambda cost: cost.processor_ms),
        limited("peak memory, MB", lambda cost: cost.peak_memory_mb, 0, limits.peak_memory_mb),
        limited("idle, % of a core", lambda cost: cost.idle_percent, 1, limits.idle_percent),
        limited("longest scrape, ms", lambda cost: cost.scrape_ms, 0, limits.scrape_ms),
        limited("writes to each AvatarAgent", lambda cost: cost.object_writes, 0, limits.object_writes),
        limited("writes to each child", lambda cost: cost.child_writes, 0, limits.child_writes),
    ]
    return _table(head, rows)


def _turn_taking_voices(measured: Benchmarks) -> str:
    section = measured.turn_taking
    head = ["voice", "turns", "waiting, SDK", "waiting, product", "cut-ins, SDK", "cut-ins, product"]
    rows = [
        [after.voice, f"{after.complete} + {after.unfinished}", _waiting(before), _waiting(after)]
        + [f"{voice.cut_ins:.0%}" for voice in (before, after)]
        for before, after in zip(section.before, section.after, strict=True)
    ]
    return _table(head, rows)


def _turn_taking_curve(measured: Benchmarks) -> str:
    head = [
        "threshold",
        "delays, s",
        "waiting, s",
        "cut-ins, people",
        "cut-ins, espeak-ng",
        "pause 0.8 s",
        "pause 1.5 s",
    ]
    rows = [
        [f"{point.threshold_scale:g}", f"{point.min_delay:g} / {point.max_delay:g}", _waiting(point)]
        + [f"{share:.0%}" for share in (point.cut_ins_people, point.cut_ins_synthetic)]
        + [f"{share:.0%}" for share in (point.answered_in_short_pause, point.answered_in_long_pause)]
        for point in measured.turn_taking.curve
    ]
    return _table(head, rows)


def _waiting(turns: VoiceTurns | CurvePoint) -> str:
    return f"{turns.waiting_p50:.2f} / {turns.waiting_p95:.2f}"


def _ratio(mine: float, peer: float) -> str:
    return f"{mine / peer:.1f}" if peer >= _SMALLEST_PEER else ""


def _machine(run: Run) -> str:
    memory = f" and {run.memory_gib} GiB of memory" if run.memory_gib else ""
    return f"{run.cores} cores{memory}, {run.date}, commit {run.commit}"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    rule = ["---", *["---:"] * (len(head) - 1)]
    lines = ["| " + " | ".join(row) + " |" for row in (head, rule, *rows)]
    return "\n" + "\n".join(line.replace("|  |", "| |").replace("|  |", "| |") for line in lines) + "\n"


FIGURES: Mapping[str, Callable[[Benchmarks], str]] = {
    "first-call": _first_call,
    "first-call-machine": lambda measured: _machine(measured.first_call.run),
    "first-call-table": _first_call_table,
    "gateway-machine": _gateway_machine,
    "gateway-table": _gateway_table,
    "held-call-machine": lambda measured: _machine(measured.held_call.run),
    "held-call-table": _held_call_table,
    "stock-agent-machine": lambda measured: _machine(measured.stock_agent.run),
    "stock-agent-table": _stock_agent_table,
    "worker-start-machine": lambda measured: _machine(measured.worker_start.run),
    "worker-start-table": _worker_start_table,
    "thousand-agents-machine": lambda measured: _machine(measured.thousand_agents.run),
    "thousand-agents-table": _thousand_agents_table,
    "turn-taking-curve": _turn_taking_curve,
    "turn-taking-machine": lambda measured: _machine(measured.turn_taking.run),
    "turn-taking-voices": _turn_taking_voices,
}
"""Text of each figure, by the name in its marker."""


def render(page: str, measured: Benchmarks) -> str:
    """Return a page with the text of every figure replaced. Raises DevkitError for an unknown or incomplete marker."""
    figures = list(_FIGURE.finditer(page))
    for figure in figures:
        if figure["name"] not in FIGURES:
            raise DevkitError(f"no figure is named {figure['name']!r}; the names are {', '.join(FIGURES)}")
        if _MARKER.search(figure["text"]):
            raise DevkitError(f"the figure {figure['name']!r} has no end marker")
    if len(_MARKER.findall(page)) != 2 * len(figures):
        raise DevkitError("a figure's marker is incomplete: it needs <!-- figure:NAME --> and <!-- /figure -->")
    return _FIGURE.sub(lambda found: found[1] + FIGURES[found["name"]](measured) + found[4], page)


def pages() -> Iterator[Path]:
    """README and every page of the docs."""
    yield REPOSITORY / "README.md"
    yield from sorted((REPOSITORY / "docs").rglob("*.md"))


def main(arguments: Sequence[str]) -> int:
    """Render every page, or with `--check` only compare."""
    measured, stale = benchmarks.load(), []
    for page in pages():
        before = page.read_text()
        try:
            after = render(before, measured)
        except DevkitError as error:
            print(f"{page.relative_to(REPOSITORY)}: {error}", file=sys.stderr)
            return 1
        if before != after:
            stale.append(page)
            if "--check" not in arguments:
                page.write_text(after)
    if "--check" not in arguments:
        return 0
    for page in stale:
        print(f"{page.relative_to(REPOSITORY)} is stale: run `make generate` and commit the result", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
