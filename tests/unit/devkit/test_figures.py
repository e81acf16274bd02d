"""Figures in README and docs: one source, rendered between markers, and a check that finds a stale one."""

import os
from pathlib import Path

import pytest

from devkit import benchmarks, figures
from devkit.benchmarks import Benchmarks, HeldCall, Pair, Run, StockAgent
from devkit.errors import DevkitError


@pytest.fixture
def measured() -> Benchmarks:
    return benchmarks.load()


def shown(name: str) -> str:
    return f"before <!-- figure:{name} -->old<!-- /figure --> after"


def test_committed_pages_show_the_recorded_figures(measured: Benchmarks) -> None:
    for page in figures.pages():
        assert figures.render(page.read_text(), measured) == page.read_text(), f"{page.name} is stale"


def test_every_figure_appears_on_some_page() -> None:
    text = "".join(page.read_text() for page in figures.pages())
    assert [name for name in figures.FIGURES if f"<!-- figure:{name} -->" not in text] == []


@pytest.mark.parametrize("name", figures.FIGURES)
def test_rendering_replaces_only_the_text_between_markers(measured: Benchmarks, name: str) -> None:
    page = figures.render(shown(name), measured)
    assert page.startswith(f"before <!-- figure:{name} -->") and page.endswith("<!-- /figure --> after")
    assert "-->old<!--" not in page
    assert figures.render(page, measured) == page


def test_readme_figure_states_measured_seconds_and_ratio(measured: Benchmarks) -> None:
    run = Run(date="2026-01-02", commit="abc1234", cores=8, memory_gib=16)
    call = measured.first_call.model_copy(
        update={"run": run, "joined": Pair(product=0.2, peer=0.4), "first_word": Pair(product=3.0, peer=1.5)}
    )
    text = figures.render(shown("first-call"), measured.model_copy(update={"first_call": call}))
    assert "8 cores and 16 GiB of memory, 2026-01-02, commit abc1234" in text
    assert "joined 0.20 s after the request (peer 0.40 s, ratio 0.50)" in text
    assert "word came 3.00 s after the request (peer 1.50 s, ratio 2.00)" in text


def test_table_shows_cost_ratio_and_limit_of_each_program(measured: Benchmarks) -> None:
    section = measured.thousand_agents
    controller = section.controller.model_copy(update={"applied_ms": 30.0, "object_writes": 7})
    bare = section.bare_kopf.model_copy(update={"applied_ms": 20.0, "idle_percent": 0.0})
    other = section.async_kopf.model_copy(update={"applied_ms": 10.0})
    kubernetes = section.kube_controller_manager.model_copy(update={"applied_ms": 16.9})
    programs = {"controller": controller, "bare_kopf": bare, "async_kopf": other, "kube_controller_manager": kubernetes}
    section = section.model_copy(update=programs)
    text = figures.render(shown("thousand-agents-table"), measured.model_copy(update={"thousand_agents": section}))
    assert "| applied, ms each | 30.0 | 20.0 | 10.0 | 16.9 | 1.5 (2.5) | 3.0 |" in text
    assert "| writes to each AvatarAgent | 7 | 2 | 2 | | (2) | |" in text


@pytest.mark.parametrize(
    ("page", "error"),
    [
        pytest.param(shown("no-such"), "no figure is named 'no-such'", id="unknown name"),
        pytest.param("<!-- figure:first-call -->old", "incomplete", id="no end marker"),
        pytest.param("old<!-- /figure -->", "incomplete", id="no start marker"),
        pytest.param("<!-- figure:first_call -->old<!-- /figure -->", "incomplete", id="misspelt name"),
        pytest.param("<!-- figure:first-call -->old" + shown("first-call"), "no end marker", id="nested"),
    ],
)
def test_broken_marker_is_an_error(measured: Benchmarks, page: str, error: str) -> None:
    with pytest.raises(DevkitError, match=error):
        figures.render(page, measured)


def test_check_names_a_stale_page_and_rendering_updates_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(figures, "REPOSITORY", tmp_path)
    (tmp_path / "docs").mkdir()
    (tmp_path / "README.md").write_text("No figure here.\n")
    page = tmp_path / "docs" / "page.md"
    page.write_text(shown("first-call-table"))
    assert figures.main(["--check"]) == 1
    assert capsys.readouterr().err == "docs/page.md is stale: run `make generate` and commit the result\n"
    assert page.read_text() == shown("first-call-table"), "--check changes nothing"
    assert figures.main([]) == 0
    assert figures.main(["--check"]) == 0
    assert "| agent joined |" in page.read_text()


def test_recording_replaces_one_section_and_keeps_the_other(tmp_path: Path, measured: Benchmarks) -> None:
    file = tmp_path / "benchmarks.json"
    file.write_text(measured.model_dump_json())
    call = measured.first_call.model_copy(update={"joined": Pair(product=1.0, peer=2.0), "run": benchmarks.this_run()})
    benchmarks.record(call, file)
    after = benchmarks.load(file)
    assert (after.first_call, after.thousand_agents) == (call, measured.thousand_agents)
    benchmarks.record(measured.thousand_agents.model_copy(update={"agents": 7}), file)
    assert (benchmarks.load(file).first_call, benchmarks.load(file).thousand_agents.agents) == (call, 7)
    assert [path.name for path in tmp_path.iterdir()] == [file.name], "no temporary file is left"


def test_failed_recording_leaves_the_file_as_it_was(
    tmp_path: Path, measured: Benchmarks, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError("no space left on device")

    file = tmp_path / "benchmarks.json"
    file.write_text(measured.model_dump_json())
    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="no space"):
        benchmarks.record(measured.first_call.model_copy(update={"calls": 1}), file)
    assert benchmarks.load(file) == measured
    assert [path.name for path in tmp_path.iterdir()] == [file.name], "no temporary file is left"


def test_run_is_described_by_day_commit_and_machine_size() -> None:
    run = benchmarks.this_run()
    assert len(run.date) == len("2026-01-02")
    assert len(run.commit.removesuffix("+")) >= 7
    assert run.cores > 0
    assert run.memory_gib is not None
    assert set(type(run).model_fields) == {"date", "commit", "cores", "memory_gib"}, "no name of the machine"


def test_held_call_table_compares_cores_and_limits_memory(measured: Benchmarks) -> None:
    section = HeldCall(
        run=Run(date="2026-01-02", commit="abc1234", cores=8),
        silence=Pair(product=0.05, peer=0.2),
        talk=Pair(product=0.1, peer=0.16),
        ratio_limits={"silence": 0.5, "talk": 0.8},
        calls=4,
        idle_mib=401.4,
        call_mib=38.0,
        memory_limits={"idle_mib": 450.0, "call_mib": 41.0},
    )
    changed = measured.model_copy(update={"held_call": section})
    text = figures.render(shown("held-call-table"), changed)
    assert "| cores in silence (limit: ratio 0.5) | 0.050 | 0.200 | 0.25 |" in text
    assert "| cores while both talk (limit: ratio 0.8) | 0.100 | 0.160 | 0.62 |" in text
    assert "| memory when idle, MiB (limit: 450) | 401 | | |" in text
    assert "| memory of each call, MiB (limit: 41) | 38 | | |" in text
    assert "8 cores, 2026-01-02, commit abc1234" in figures.render(shown("held-call-machine"), changed)


def test_gateway_table_shows_rates_limits_and_each_machine(measured: Benchmarks) -> None:
    opening = measured.gateway_opening.model_copy(
        update={"per_second": Pair(product=500.0, peer=2000.0), "processor_ms": 1.5, "min_ratio": 0.25, "parallel": 8}
    )
    latency = measured.gateway_latency.model_copy(update={"idle_ms": 2.6, "busy_ms": 3.4, "busy_calls": 1000})
    holding = measured.gateway_holding.model_copy(
        update={"joined": 2000, "waiting": 500, "core_percent": 4.25, "memory_mib": 88.0}
        | {"requests_per_second": 4.0, "limits": {"requests_per_second": 5.0, "memory_mib": 200.0}}
        | {"run": Run(date="2026-01-02", commit="abc1234", cores=8)}
    )
    sections = {"gateway_opening": opening, "gateway_latency": latency, "gateway_holding": holding}
    changed = measured.model_copy(update=sections)
    text = figures.render(shown("gateway-table"), changed)
    assert "| opened a second, 8 at a time (limit: ratio 0.25) | 500 | 2,000 | 0.25 |" in text
    assert "| processor for each call, ms | 1.50 | | |" in text
    assert "| longer than CreateRoom with 1,000 joined and 1,000 waiting calls, ms | 3.4 | | |" in text
    assert "| with 2,000 joined and 500 waiting calls: memory, MiB (limit: 200) | 88 | | |" in text
    machines = figures.render(shown("gateway-machine"), changed)
    assert machines.count("; ") == 1, "equal machines are named once"
    assert "8 cores, 2026-01-02, commit abc1234" in machines


def test_stock_agent_table_compares_with_the_previous_release(measured: Benchmarks) -> None:
    section = StockAgent(
        run=Run(date="2026-01-02", commit="abc1234", cores=8),
        calls=10,
        first_word=Pair(product=0.5, peer=0.4),
        answer=Pair(product=1.2, peer=2.4),
        held_calls=4,
        idle_mib=Pair(product=400.4, peer=500.0),
        call_mib=Pair(product=32.0, peer=40.0),
        limits={"first_word": 1.3, "answer": 1.1, "idle_mib": 1.05, "call_mib": 1.1},
    )
    changed = measured.model_copy(update={"stock_agent": section})
    text = figures.render(shown("stock-agent-table"), changed)
    assert "| first audible word, seconds after the request (limit: ratio 1.3) | 0.50 | 0.40 | 1.25 |" in text
    assert "| answer, seconds after the question (limit: ratio 1.1) | 1.20 | 2.40 | 0.50 |" in text
    assert "| memory when idle, MiB (limit: ratio 1.05) | 400 | 500 | 0.80 |" in text
    assert "| memory of each call, MiB (limit: ratio 1.1) | 32 | 40 | 0.80 |" in text
    assert "8 cores, 2026-01-02, commit abc1234" in figures.render(shown("stock-agent-machine"), changed)


def test_turn_taking_tables_compare_the_settings(measured: Benchmarks) -> None:
    section = measured.turn_taking
    before = section.before[0].model_copy(
        update={"voice": "en, human", "complete": 60, "unfinished": 12, "cut_ins": 0.5}
    )
    before = before.model_copy(update={"waiting_p50": 0.3, "waiting_p95": 2.5})
    after = before.model_copy(update={"waiting_p50": 0.45, "waiting_p95": 0.9, "cut_ins": 0.083})
    point = section.curve[0].model_copy(
        update={"threshold_scale": 1.3, "min_delay": 0.4, "max_delay": 0.9, "waiting_p50": 0.4, "waiting_p95": 0.9}
        | {"cut_ins_people": 0.291, "cut_ins_synthetic": 0.0}
        | {"answered_in_short_pause": 0.4, "answered_in_long_pause": 1.0}
    )
    section = section.model_copy(update={"before": [before], "after": [after], "curve": [point]})
    changed = measured.model_copy(update={"turn_taking": section})
    voices = figures.render(shown("turn-taking-voices"), changed)
    assert "| en, human | 60 + 12 | 0.30 / 2.50 | 0.45 / 0.90 | 50% | 8% |" in voices
    curve = figures.render(shown("turn-taking-curve"), changed)
    assert "| 1.3 | 0.4 / 0.9 | 0.40 / 0.90 | 29% | 0% | 40% | 100% |" in curve
