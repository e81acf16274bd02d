"""Recording rules and alerts of the chart: promtool checks them and evaluates them on the series of `rules_cases`."""

import itertools
import json
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from agentspec import names
from devkit import binaries
from devkit.kubernetes import kubectl_path
from devkit.paths import REPOSITORY
from devkit.progress import LogProgress
from devkit.tools import HELM
from process.metrics import CALL_START_BUCKETS
from tests.chart.rendering import CHART, Documents, Renderer, pick
from tests.chart.rules_cases import BURN_FAST, CASES, GATEWAY_DOWN, UNJOINED, Case, answers, worker
from tests.fences import fence, fences

pytestmark = pytest.mark.timeout(600)

RUNBOOKS = sorted((REPOSITORY / "docs" / "runbooks").glob("AvatarAgent*.md"))
ENABLED = "monitoring.rules.enabled=true"

Rule = dict[str, Any]


@pytest.fixture(scope="module")
def spec(render: Renderer) -> dict[str, Any]:
    """The rules with the chart's default values."""
    return rules_of(render(ENABLED))


def rules_of(documents: Documents) -> dict[str, Any]:
    """Return the groups of the PrometheusRule, as a file of Prometheus has them."""
    found: dict[str, Any] = pick(documents, "PrometheusRule", "test-rules")["spec"]
    return found


def all_rules(spec: dict[str, Any]) -> list[Rule]:
    return [rule for group in spec["groups"] for rule in group["rules"]]


def alerts(spec: dict[str, Any]) -> dict[str, Rule]:
    return {rule["alert"]: rule for rule in all_rules(spec) if "alert" in rule}


def run(promtool: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run promtool; its output is in the result."""
    argv = [promtool, *map(str, arguments)]
    return subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=300, check=False)


def test_rules_pass_promtools_linter(spec: dict[str, Any], promtool: str, tmp_path: Path) -> None:
    file = tmp_path / "rules.yaml"
    file.write_text(yaml.safe_dump(spec))
    checked = run(promtool, "check", "rules", "--lint-fatal", file)
    assert checked.returncode == 0, checked.stdout
    assert f"{len(all_rules(spec))} rules found" in checked.stdout


def expected(rule: Rule, case: Case) -> dict[str, Any]:
    """Return the alert that fires: labels, and annotations with labels and value in place of their templates."""
    labels = rule["labels"] | case.labels
    annotations = {}
    for name, text in rule["annotations"].items():
        filled = re.sub(r"{{ \$labels\.(\w+) }}", lambda match: labels[match[1]], text)
        annotations[name] = re.sub(r"{{ \$value.*?}}", case.value, filled)
    return {"exp_labels": labels, "exp_annotations": annotations}


def unit_test(rule: Rule, case: Case) -> dict[str, Any]:
    """Return promtool's test of one case."""
    if case.fires is None:
        checks = [(minute, False) for minute in range(0, case.until + 1, case.step)]
    else:
        checks = [(case.fires - case.step, False), (case.fires, True)] + [(case.clears, False)] * bool(case.clears)
    # Annotations show the value, which may change while the alert fires. So this check is without them.
    still_fires = {
        "expr": f'count(ALERTS{{alertname="{case.alert}",alertstate="firing"}})',
        "eval_time": f"{case.clears - 3 * case.step}m",
        "exp_samples": [{"labels": "{}", "value": 1}],
    }
    return {
        "interval": f"{case.step}m",
        "input_series": [{"series": series, "values": values} for series, values in case.series.items()],
        "alert_rule_test": [
            {"eval_time": f"{minute}m", "alertname": case.alert, "exp_alerts": [expected(rule, case)] if fires else []}
            for minute, fires in checks
        ],
        "promql_expr_test": [still_fires] * bool(case.clears),
    }


def check(promtool: str, folder: Path, spec: dict[str, Any], test: dict[str, Any], step: int = 1) -> str:
    """Run one test of promtool; return what failed."""
    (folder / "rules.yaml").write_text(yaml.safe_dump(spec))
    file = folder / "test.yaml"
    content = {"rule_files": ["rules.yaml"], "evaluation_interval": f"{step}m", "tests": [test]}
    # Names of groups are unique, so that their order in the file can be given: alerts use the recorded series.
    content["group_eval_order"] = [group["name"] for group in spec["groups"]]
    file.write_text(yaml.safe_dump(content))
    tested = run(promtool, "test", "rules", file)
    return "" if tested.returncode == 0 else tested.stdout


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.alert.removeprefix('AvatarAgent')}: {case.name}")
def test_alert_fires_stays_silent_and_clears(spec: dict[str, Any], promtool: str, tmp_path: Path, case: Case) -> None:
    assert check(promtool, tmp_path, spec, unit_test(alerts(spec)[case.alert], case), case.step) == ""


def test_every_alert_has_cases_for_firing_clearing_and_silence(spec: dict[str, Any]) -> None:
    assert {case.alert for case in CASES if case.fires is not None and case.clears} == set(alerts(spec))
    assert {case.alert for case in CASES if case.fires is None} == set(alerts(spec))


def test_recorded_shares_count_each_call_once(spec: dict[str, Any], promtool: str, tmp_path: Path) -> None:
    """Two workers answer 10 calls a minute each, 3 of them late; one more call a minute fails in the gateway."""
    series = answers("0+10x60", "0+7x60") | {UNJOINED: "0+1x60"}
    for name, values in answers("0+10x60", "0+7x60").items():
        series[name.replace("ava-worker-1", "ava-worker-2")] = values
    series[worker("calls_lost_total")] = "0+1x60"
    series[UNJOINED.replace('joined="false"', 'joined="true"')] = "0+1x60"
    series[UNJOINED.replace('agent="ava"', 'agent="eva"')] = "0x60"
    records = {
        "errors:increase5m": 35.0,
        "requests:increase5m": 105.0,
        "errors:increase30m": 210.0,
        "errors:increase1h": 420.0,
        "errors:ratio_rate5m": 1 / 3,
        "errors:ratio_rate1h": 1 / 3,
        "errors:ratio_rate30m": 1 / 3,
        **{f"errors:ratio_rate{window}": 1 / 3 for window in ("2h", "6h", "1d", "3d", "30d")},
        "budget_left:ratio30d": 1 - (1 / 3) / 0.01,
    }
    test = {
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "promql_expr_test": [
            {
                "expr": f"round(agent:avatar_agent_answer_{name}, 0.001)",
                "eval_time": "60m",
                "exp_samples": [{"labels": '{agent_namespace="shop",agent="ava"}', "value": round(value, 3)}]
                + [{"labels": '{agent_namespace="shop",agent="eva"}', "value": 0}] * ("increase" in name),
            }
            for name, value in records.items()
        ],
    }
    assert check(promtool, tmp_path, spec, test) == ""


def test_wrong_expectation_is_found(spec: dict[str, Any], promtool: str, tmp_path: Path) -> None:
    case = next(case for case in CASES if case.alert == GATEWAY_DOWN and case.fires)
    rule = alerts(spec)[GATEWAY_DOWN]
    late = unit_test(rule, case)
    late["alert_rule_test"][1]["eval_time"] = f"{case.clears}m"
    assert "FAILED" in check(promtool, tmp_path, spec, late)
    other_text = unit_test(rule | {"annotations": rule["annotations"] | {"summary": "x"}}, case)
    assert "FAILED" in check(promtool, tmp_path, spec, other_text)


def test_every_alert_says_what_and_how_severe_and_where_to_read_on(spec: dict[str, Any]) -> None:
    for name, rule in alerts(spec).items():
        assert name.startswith("AvatarAgent")
        assert rule["labels"]["severity"] in ("critical", "warning")
        assert set(rule["annotations"]) == {"summary", "description", "runbook_url"}
        assert rule["annotations"]["runbook_url"] == f"docs/runbooks/{name}.md"
        for text in (rule["annotations"]["summary"], rule["annotations"]["description"]):
            assert text.strip().endswith((".", "}}")), name


def test_every_value_reaches_the_rules(spec: dict[str, Any]) -> None:
    assert "${" not in yaml.safe_dump(spec)


def test_rules_require_their_own_switch(render: Renderer) -> None:
    settings = ("monitoring.enabled=true", "monitoring.namespace=observe")
    assert [document for document in render(*settings) if document["kind"] == "PrometheusRule"] == []


def test_values_change_objective_and_its_limits(render: Renderer, promtool: str, tmp_path: Path) -> None:
    slo = {"targetPercent": 99.9, "answerSeconds": 1.5, "minFailedCalls": 7}
    spec = rules_of(render(f"--set-json=monitoring.rules.slo={json.dumps(slo)}", ENABLED))
    text = "\n".join(f"{rule['expr']} {rule.get('annotations')}" for rule in all_rules(spec))
    assert set(re.findall(r'le="([^"]+)"', text)) == {"1.5"}
    limits = {name: re.findall(r"ratio_rate\w+ > ([\d.]+)", rule["expr"]) for name, rule in alerts(spec).items()}
    assert limits[BURN_FAST] == ["0.0144", "0.0144", "0.006", "0.006"]
    assert limits[BURN_FAST.replace("Fast", "Slow")] == ["0.003", "0.003", "0.001", "0.001"]
    assert "within 1.5 seconds" in text
    assert text.count(">= 7") == 4
    series = answers("0+100x60", "0x60") | {worker("answer_duration_seconds_bucket", le="1.5"): "0+98x60"}
    case = Case("2 % slower than 1.5 s", BURN_FAST, series, fires=None)
    assert "2%" in check(promtool, tmp_path, spec, unit_test(alerts(spec)[BURN_FAST], case))


@pytest.mark.parametrize(
    ("value", "alert", "words"),
    [
        ("stuckSeconds=77", "ControllerStuck", "<= 77"),
        ("failedReconcilesPercent=77", "ReconcilesFail", "> 0.77"),
        ("lostWorkers=77", "WorkersLost", ">= 77"),
        ("notReadyMinutes=77", "NotReady", "77m"),
        ("noFreeSlotMinutes=77", "NoFreeSlot", "77m"),
        ("atMaxWorkersMinutes=77", "AtMaxWorkers", "77m"),
        ("notRegisteredMinutes=77", "WorkersNotRegistered", "77m"),
        ("brokenCalls=77", "CallsBreak", ">= 77"),
        ("providerErrors=77", "ProviderErrors", ">= 77"),
        ("replySeconds=7", "SlowReplies", "> 7"),
        ("minReplies=77", "SlowReplies", ">= 77"),
    ],
)
def test_threshold_changes_its_alert_only(
    render: Renderer, spec: dict[str, Any], value: str, alert: str, words: str
) -> None:
    changed = alerts(rules_of(render(ENABLED, f"monitoring.rules.thresholds.{value}")))
    assert [name for name, rule in alerts(spec).items() if rule != changed[name]] == [f"AvatarAgent{alert}"]
    rule = changed[f"AvatarAgent{alert}"]
    assert words in f"{rule['expr']} {rule.get('for')}"


def test_every_threshold_is_covered() -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text())["monitoring"]["rules"]["thresholds"]
    (marks,) = test_threshold_changes_its_alert_only.pytestmark
    assert {row[0].split("=")[0] for row in marks.args[1]} == set(values)


def test_labels_and_runbook_address_are_values(render: Renderer) -> None:
    documents = render(
        ENABLED,
        "monitoring.labels.release=prometheus",
        "monitoring.rules.labels.role=alerts",
        "monitoring.rules.alertLabels.team=voice",
        "monitoring.rules.alertLabels.severity=page",
        "monitoring.runbookBaseUrl=https://wiki.example/runbooks/",
    )
    metadata = pick(documents, "PrometheusRule", "test-rules")["metadata"]
    assert metadata["labels"].items() >= {"release": "prometheus", "role": "alerts"}.items()
    for name, rule in alerts(rules_of(documents)).items():
        assert rule["labels"]["team"] == "voice"
        assert rule["labels"]["severity"] in ("critical", "warning"), "the rule's own severity stays"
        assert rule["annotations"]["runbook_url"] == f"https://wiki.example/runbooks/{name}.md"


def test_disabled_alert_is_left_out(render: Renderer, spec: dict[str, Any]) -> None:
    kept = alerts(rules_of(render(ENABLED, f"monitoring.rules.disabled={{{GATEWAY_DOWN},{BURN_FAST}}}")))
    assert set(kept) == set(alerts(spec)) - {GATEWAY_DOWN, BURN_FAST}
    with pytest.raises(subprocess.CalledProcessError) as refused:
        render(ENABLED, "monitoring.rules.disabled={AvatarAgentGatewayDow}")
    assert "AvatarAgentGatewayDow, but there is no such alert" in refused.value.stderr


def test_installation_without_gateway_does_not_miss_it(render: Renderer, spec: dict[str, Any]) -> None:
    kept = alerts(rules_of(render(ENABLED, "gateway.replicas=0")))
    assert set(kept) == set(alerts(spec)) - {GATEWAY_DOWN}


def test_rules_cover_only_the_served_namespace(render: Renderer, promtool: str, tmp_path: Path) -> None:
    other = rules_of(render(ENABLED, "watchNamespace=agents"))
    silent = next(case for case in CASES if case.alert == BURN_FAST and case.fires)
    quiet = Case("other namespace", silent.alert, silent.series, fires=None, until=420)
    assert check(promtool, tmp_path, other, unit_test(alerts(other)[silent.alert], quiet)) == ""
    for rule in all_rules(other):
        for selector in re.findall(r"\bavatar_agent_\w+{([^}]*)}", rule["expr"]):
            assert selector.startswith(('agent_namespace=~"agents"', 'namespace="system"')), rule


@pytest.mark.parametrize(
    ("values", "path"),
    [
        ({"slo": {"targetPercent": 100}}, "/slo/targetPercent"),
        ({"slo": {"targetPercent": 90}}, "/slo/targetPercent"),
        ({"slo": {"answerSeconds": 4}}, "/slo/answerSeconds"),
        ({"slo": {"minFailedCalls": 0}}, "/slo/minFailedCalls"),
        ({"thresholds": {"notReadyMinutes": 0}}, "/thresholds/notReadyMinutes"),
        ({"thresholds": {"failedReconcilesPercent": 100}}, "/thresholds/failedReconcilesPercent"),
        ({"disabled": ["NotReady"]}, "/disabled/0"),
    ],
    ids=["perfect", "target too low", "no bucket", "no failed call", "no minutes", "no alert possible", "short name"],
)
def test_wrong_value_of_rules_is_refused_by_name(render: Renderer, values: dict[str, Any], path: str) -> None:
    with pytest.raises(subprocess.CalledProcessError) as refused:
        render(f"--set-json=monitoring.rules={json.dumps(values)}", ENABLED)
    assert path in refused.value.stderr


def block(page: Path, language: str) -> str:
    """Return the only block of a runbook in this language."""
    (found,) = [one.text for one in fences(str(page.relative_to(REPOSITORY))) if one.language == language]
    return found


def test_queries_of_runbooks_are_valid(promtool: str, tmp_path: Path) -> None:
    queries = [query for page in RUNBOOKS for query in block(page, "promql").split("\n\n")]
    rules = [{"record": f"query:{number}", "expr": query} for number, query in enumerate(queries)]
    assert len(rules) > 40
    file = tmp_path / "queries.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": rules}]}))
    checked = run(promtool, "check", "rules", file)
    assert checked.returncode == 0, checked.stdout


def commands(page: Path) -> list[list[str]]:
    """Return the kubectl commands of a runbook, without the filter behind them."""
    lines = [line.split(" | ")[0] for line in block(page, "sh").splitlines()]
    return [shlex.split(line) for line in lines]


def test_commands_of_runbooks_are_valid(render: Renderer) -> None:
    """kubectl knows every subcommand and flag; the chart and the controller make the objects and labels."""
    made = {
        (document["kind"].lower(), document["metadata"]["name"].replace("test-", "avatar-agent-"))
        for document in render()
    }
    made.add(("lease", "avatar-agent-controller"))
    selectors = {
        f"{names.LEADER_LABEL}={names.LEADER}",
        f"{names.AGENT_LABEL}=AGENT",
        *(f"{names.COMPONENT_LABEL}={component}" for component in ("controller", "gateway")),
        "kubernetes.io/service-name=avatar-agent-controller",
    }
    for page in RUNBOOKS:
        for argv in commands(page):
            assert argv[0] == "kubectl"
            known = subprocess.run(
                [kubectl_path(), *argv[1:], "--help"], capture_output=True, text=True, timeout=60, check=False
            )
            assert known.returncode == 0, (page.name, argv, known.stderr)
            if "--selector" in argv:
                assert argv[argv.index("--selector") + 1] in selectors, argv
            for kind, name in itertools.pairwise(argv):
                if name.startswith("avatar-agent-") and not kind.startswith("-"):
                    assert (kind, name) in made, argv


def test_documented_command_makes_a_file_of_rules(render: Renderer, tmp_path: Path) -> None:
    text, _, filtered = fence("docs/reference/observe.md", "helm template").text.partition(" | ")
    assert filtered == "yq .spec > avatar-agent-rules.yaml\n"
    helm, *arguments = shlex.split(text.replace("\\\n", ""))
    assert helm == "helm"
    (tmp_path / "my-values.yaml").write_text("watchNamespace: agents\n")
    (tmp_path / "charts").symlink_to(REPOSITORY / "charts")
    program = binaries.ensure(LogProgress(), [HELM])["helm"]
    done = subprocess.run([program, *arguments], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True)
    settings = ("--namespace=avatar-agent-system", ENABLED, "watchNamespace=agents")
    assert yaml.safe_load(done.stdout)["spec"] == rules_of(render(*settings))


def test_answer_bound_of_the_objective_is_a_bucket_of_the_histogram() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    text = json.dumps(schema)
    (found,) = re.findall(r'"answerSeconds": {.*?"enum": (\[[^\]]*\])', text)
    assert json.loads(found) == list(CALL_START_BUCKETS)
