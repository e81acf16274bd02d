"""The chart's rules in compressed time, as the soak test uses them, are valid rules with every duration divided."""

import re
from pathlib import Path

import yaml

from devkit.demo import prometheus
from tests.chart.rendering import Renderer
from tests.chart.test_rules import all_rules, run
from tests.soak.compression import compress
from tests.soak.observation import FACTOR, SETTINGS

LONGEST_WINDOW = 30 * 86400
LONGEST_WAIT = 900
"""Seconds of the longest window, and of the longest `for`, of the chart's rules."""


def test_promtool_accepts_rules_in_compressed_time(render: Renderer, promtool: str, tmp_path: Path) -> None:
    chart = render(*prometheus.SETTINGS, *SETTINGS)
    (rules,) = [one for one in compress(chart, FACTOR) if one["kind"] == "PrometheusRule"]
    (original,) = [one for one in chart if one["kind"] == "PrometheusRule"]
    file = tmp_path / "rules.yaml"
    file.write_text(yaml.safe_dump(rules["spec"]))
    checked = run(promtool, "check", "rules", "--lint-fatal", file)
    assert checked.returncode == 0, checked.stdout
    divided, before = all_rules(rules["spec"]), all_rules(original["spec"])
    assert len(divided) == len(before)
    for rule, old in zip(divided, before, strict=True):
        windows, old_windows = (re.findall(r"\[(\d+)(\w)", one["expr"]) for one in (rule, old))
        assert len(windows) == len(old_windows)
        assert all(int(seconds) <= LONGEST_WINDOW / FACTOR and unit == "s" for seconds, unit in windows)
        assert ("for" in rule) == ("for" in old)
        assert int(rule.get("for", "1s").removesuffix("s")) <= LONGEST_WAIT / FACTOR
    assert {group["interval"] for group in rules["spec"]["groups"] if "interval" in group} == {"3s"}
    assert "<= 3\n" in next(rule["expr"] for rule in divided if rule.get("alert") == "AvatarAgentControllerStuck")
