"""Every fenced block of README, docs and the other pages is covered by a test, which this table names.

A block that no test can run or compare with the code does not belong into a page.
"""

import ast
import dataclasses
import importlib
import inspect
import itertools
import json
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from livekit.agents import llm

import avatar_agent
from agentspec import API_GROUP, API_VERSION, KIND, AvatarAgentSpec
from agentspec.signing import KEY_HINT, decode_key
from agentspec.wire import DispatchMetadata, read_dispatch_metadata
from avatar_agent import CONTRACT_VERSION, CallContext, serve
from avatar_agent.local.cli import main
from devkit.paths import REPOSITORY
from gateway.api.keys import ApiKeys
from gateway.api.openapi import document
from gateway.api.routes import ROUTES
from gateway.api.views import OpenedCallView
from gateway.calls.call import CallState
from gateway.calls.foreign import DispatchRequest
from gateway.calls.request import CallRequest, parse_body, parse_request
from gateway.calls.tokens import TokenRequest
from gateway.settings import WEB_DIR
from tests.fences import PAGES, fence, fences, http_request, parse
from tests.unit.worker.builders import make_config
from worker import own_code
from worker.call.call_agent import call_context

HERE = "tests/unit/docs/test_fences.py"
START = "tests/e2e/test_docs.py::test_start_page_installs_declares_calls_and_uninstalls"
UPGRADE = "tests/e2e/test_docs.py::test_documented_upgrade_keeps_the_values"
CALLS = "tests/e2e/test_docs.py::test_documented_requests_open_follow_and_end_a_call"
RULES = "tests/chart/test_rules.py"
DASHBOARDS = "tests/unit/docs/test_dashboards.py"
VALUES = "tests/chart/test_docs.py::test_documented_values_create_the_dashboards"
OIDC = "tests/chart/test_docs.py::test_documented_issuer_is_accepted_by_the_gateway"
WEBHOOKS = "tests/e2e/test_rooms.py::test_documented_webhook_reports_the_room_of_another_program"
COVERAGE = {
    "README.md": [
        ("yaml", "apiVersion: avataragents.io/v1alpha1", f"{HERE}::test_readme_manifest_is_valid"),
        ("sh", "make demo", f"{HERE}::test_make_demo_runs_the_command_of_the_end_to_end_tests"),
        ("sh", "make test", f"{HERE}::test_make_test_runs_every_test_folder"),
    ],
    "CONTRIBUTING.md": [("sh", "make setup", f"{HERE}::test_set_up_commands_exist")],
    "docs/architecture.md": [
        ("mermaid", "flowchart LR", f"{HERE}::test_system_diagram_shows_every_process"),
        ("mermaid", "flowchart TB", f"{HERE}::test_import_diagram_equals_the_import_contracts"),
    ],
    "docs/guides/avatars.md": [("yaml", "spec:", f"{HERE}::test_documented_avatar_plugin_is_valid")],
    "docs/guides/calls.md": [
        ("text", "POST /v1/calls", CALLS),
        ("text", "201 {", CALLS),
        ("text", "GET    /v1/calls/<callId>", CALLS),
        ("json", '{\n  "room_name"', f"{HERE}::test_documented_token_request_has_every_field"),
        ("json", '{"room"', f"{HERE}::test_documented_dispatch_request_has_every_field"),
        ("sh", "kubectl -n avatar-agent-system create secret", f"{HERE}::test_documented_command_creates_an_api_key"),
        ("yaml", "gateway:", OIDC),
        ("yaml", "webhook:", WEBHOOKS),
    ],
    "docs/guides/dashboards.md": [
        ("yaml", "monitoring:", VALUES),
        ("yaml", "monitoring:", VALUES),
        ("sh", "for file in", f"{DASHBOARDS}::test_documented_command_imports_every_dashboard"),
        ("yaml", "customResourceState:", f"{DASHBOARDS}::test_kube_state_metrics_reads_fields_that_exist"),
    ],
    "docs/guides/knowledge.md": [
        (
            "sh",
            "kubectl -n agents create configmap",
            "tests/cluster/test_knowledge.py::test_documented_command_creates_a_large_config_map",
        )
    ],
    "docs/guides/develop.md": [
        ("sh", "python3 -m venv", f"{HERE}::test_command_line_is_installed_into_a_virtual_environment"),
        ("sh", "pip install -e", f"{HERE}::test_command_line_is_installed_with_what_it_imports"),
        ("sh", "export OPENAI_API_KEY", f"{HERE}::test_documented_commands_of_the_laptop_exist"),
        ("sh", "avatar-agent check", f"{HERE}::test_documented_commands_of_the_laptop_exist"),
    ],
    "docs/guides/migrate.md": [
        ("dockerfile", "FROM avatar-agent-worker:0.1.0", f"{HERE}::test_starter_images_add_to_the_worker_image"),
        ("diff", " from dotenv", f"{HERE}::test_starter_program_is_served"),
        ("dockerfile", "FROM avatar-agent-worker:0.1.0", f"{HERE}::test_starter_images_add_to_the_worker_image"),
        ("yaml", "spec:", f"{HERE}::test_partial_manifest_is_valid"),
    ],
    "docs/guides/realtime.md": [("yaml", "voice:", f"{HERE}::test_documented_realtime_model_is_that_of_the_example")],
    "docs/guides/own-code.md": [
        ("python", "from avatar_agent import CallContext", f"{HERE}::test_documented_agent_class_is_usable"),
        ("dockerfile", "ARG WORKER_IMAGE", f"{HERE}::test_documented_dockerfile_is_that_of_the_example"),
        ("yaml", "spec:", f"{HERE}::test_documented_own_code_is_valid"),
    ],
    "docs/guides/report.md": [("sh", "echo", f"{HERE}::test_documented_command_creates_a_signing_key")],
    "docs/guides/upgrade.md": [("sh", "helm upgrade avatar-agent", UPGRADE)],
    "docs/reference/observe.md": [
        ("sh", "helm template", f"{RULES}::test_documented_command_makes_a_file_of_rules"),
    ],
    **{
        str(page.relative_to(REPOSITORY)): [
            ("promql", "", f"{RULES}::test_queries_of_runbooks_are_valid"),
            ("sh", "kubectl", f"{RULES}::test_commands_of_runbooks_are_valid"),
        ]
        for page in sorted((REPOSITORY / "docs/runbooks").glob("AvatarAgent*.md"))
    },
    "docs/start.md": [
        ("sh", "docker build", f"{HERE}::test_image_builds_name_the_dockerfiles"),
        ("sh", "helm upgrade --install", START),
        ("sh", "kubectl create namespace", START),
        ("sh", "kubectl -n avatar-agent-system port-forward", START),
        ("sh", "kubectl -n agents delete", START),
    ],
}
"""Language, first words and test of each block, by page and in order."""


@pytest.mark.parametrize("page", PAGES)
def test_every_block_of_a_page_is_in_the_table(page: str) -> None:
    found, rows = fences(page), COVERAGE.get(page, [])
    for block, (language, words, _) in zip(found, rows, strict=False):
        assert (block.language, block.text[: len(words)]) == (language, words)
    assert [block.first_line for block in found[len(rows) :]] == [], "no test covers these blocks"
    assert [words for _, words, _ in rows[len(found) :]] == [], "the page has no such blocks"


def test_every_test_that_the_table_names_exists() -> None:
    assert COVERAGE.keys() <= set(PAGES)
    for test in sorted({test for rows in COVERAGE.values() for _, _, test in rows}):
        file, name = test.split("::")
        module = ast.parse((REPOSITORY / file).read_text())
        functions = [node for node in module.body if isinstance(node, ast.FunctionDef) and node.name == name]
        assert len(functions) == 1, f"{file} has no test {name}"
        marks = [ast.unparse(decorator) for decorator in functions[0].decorator_list]
        assert not [mark for mark in marks if "skip" in mark or "xfail" in mark], f"{name} does not run"


def test_blocks_are_found_however_they_are_written() -> None:
    markdown = "```sh\na\n```\n\n- item\n\n  ~~~text\n  b\n  ~~~\n\npara\n\n    c\n\n````\n```d\n````\n"
    assert [(block.language, block.text) for block in parse(markdown)] == [
        ("sh", "a\n"),
        ("text", "b\n"),
        ("", "c\n"),
        ("", "```d\n"),
    ]


def test_documented_request_may_have_two_headers_a_line() -> None:
    text = 'POST /v1/calls   Accept: a   Authorization: Bearer <key>   (a note)\nOrigin: <page>\n\n{"agent": "a"}\n'
    headers = {"Accept": "a", "Authorization": "Bearer <key> (a note)", "Origin": "<page>"}
    assert http_request(text) == ("POST", "/v1/calls", headers, '{"agent": "a"}\n')


def spec_of(manifest: str) -> dict[str, Any]:
    """Return the spec of a documented manifest; an ellipsis stands for the reader's own value."""
    filled = manifest.replace("wss://…", "wss://livekit.example").replace("…", "value")
    spec: dict[str, Any] = yaml.safe_load(filled)["spec"]
    return spec


def test_readme_manifest_is_valid() -> None:
    text = fence("README.md", "apiVersion").text
    document = yaml.safe_load(text)
    assert (document["apiVersion"], document["kind"]) == (f"{API_GROUP}/{API_VERSION}", KIND)
    assert AvatarAgentSpec.model_validate(spec_of(text)).agent_name == "ornina-avatar-agent"


def test_partial_manifest_is_valid() -> None:
    spec = spec_of(fence("README.md", "apiVersion").text) | spec_of(fence("docs/guides/migrate.md", "spec:").text)
    assert AvatarAgentSpec.model_validate(spec).dispatch.mode.value == "Automatic"


def test_documented_avatar_plugin_is_valid() -> None:
    spec = spec_of(fence("README.md", "apiVersion").text) | spec_of(fence("docs/guides/avatars.md", "spec:").text)
    plugin = AvatarAgentSpec.model_validate(spec).avatar.plugin
    assert plugin is not None and plugin.options["avatar_id"]


def test_documented_own_code_is_valid() -> None:
    declared = spec_of(fence("docs/guides/own-code.md", "spec:").text)
    spec = AvatarAgentSpec.model_validate(spec_of(fence("README.md", "apiVersion").text) | declared)
    example = yaml.safe_load_all((REPOSITORY / "examples/own-code/agent.yaml").read_text())
    (agent,) = [document for document in example if document["kind"] == KIND]
    assert spec.worker.agent == agent["spec"]["worker"]["agent"]
    assert spec.settings == agent["spec"]["settings"]


def test_documented_realtime_model_is_that_of_the_example() -> None:
    documented = yaml.safe_load(fence("docs/guides/realtime.md", "voice:").text)
    example = yaml.safe_load_all((REPOSITORY / "examples/realtime/agent.yaml").read_text())
    (agent,) = [document for document in example if document["kind"] == KIND]
    assert agent["spec"]["voice"] == documented["voice"]
    realtime = AvatarAgentSpec.model_validate(agent["spec"]).voice.realtime
    assert realtime is not None and realtime.voice == "cedar"


def test_documented_agent_class_is_usable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "documented.py").write_text(fence("docs/guides/own-code.md", "from avatar_agent").text)
    monkeypatch.syspath_prepend(tmp_path)
    call = call_context(make_config(settings={"menu": "tomato soup"}), DispatchMetadata())
    agent = own_code.load("documented:Receptionist")(call)
    assert agent.instructions == call.instructions
    assert [tool.info.name for tool in agent.tools if isinstance(tool, llm.FunctionTool)] == ["todays_menu"]


def test_documented_fields_are_those_of_the_contract() -> None:
    page = (REPOSITORY / "docs/guides/own-code.md").read_text()
    section = page.split("### What the code receives")[1].split("###")[0]
    rows = [row.split("|")[1] for row in section.splitlines() if row.startswith("| `")]
    documented = {name for cell in rows for name in re.findall(r"`([a-z_]+)`", cell)}
    assert documented == {field.name for field in dataclasses.fields(CallContext)}
    assert f"`avatar_agent.CONTRACT_VERSION`, which is {CONTRACT_VERSION}" in page


def test_documented_dockerfile_is_that_of_the_example() -> None:
    lines = (REPOSITORY / "examples/own-code/Dockerfile").read_text().splitlines()
    instructions = "".join(f"{line}\n" for line in lines if not line.startswith("#"))
    documented = fence("docs/guides/own-code.md", "ARG").text
    assert instructions.replace("registry.example.com/", "") == documented


def test_documented_command_creates_a_signing_key() -> None:
    command = fence("docs/guides/report.md", "echo").text
    created = [subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True) for _ in range(2)]
    first, second = (decode_key(run.stdout) for run in created)
    assert first != second
    hint = KEY_HINT.partition("create one: ")[2]
    assert hint == command.strip().replace('"', "")
    secrets = yaml.safe_load_all((REPOSITORY / "examples/report/support.yaml").read_text())
    (example,) = [
        secret["stringData"]["signingKey"] for secret in secrets if "signingKey" in secret.get("stringData", {})
    ]
    assert decode_key(example)


def test_documented_command_creates_an_api_key(tmp_path: Path) -> None:
    """The gateway accepts entry and key, and the Secret is the one that the installation names."""
    page = (REPOSITORY / "docs/guides/calls.md").read_text()
    command = fence("docs/guides/calls.md", "kubectl -n avatar-agent-system create secret").text
    script = f'kubectl() {{ printf "%s\\n" "$@"; }}\n{command}'
    shown = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert shown[:6] == ["-n", "avatar-agent-system", "create", "secret", "generic", "avatar-agent-api-keys"]
    entry, _, key = shown[6].removeprefix("--from-literal=").partition("=")
    (tmp_path / entry).write_text(key)
    identity = ApiKeys(tmp_path).identify(key)
    assert identity is not None and identity.key_id == "shop.website"
    assert "`--set gateway.apiKeysSecret=avatar-agent-api-keys`" in page


def test_starter_images_add_to_the_worker_image() -> None:
    """The plugins' version is that of livekit-agents in the image, and the program starts under its init process."""
    images = [block.text for block in fences("docs/guides/migrate.md") if block.language == "dockerfile"]
    pinned = "livekit-agents==1.8.9"
    assert pinned in (REPOSITORY / "pyproject.toml").read_text()
    assert [set(re.findall(r"livekit-plugins-[-a-z]+==([\d.]+)", image)) for image in images] == [{"1.8.9"}] * 2
    init = re.search(
        r"^ENTRYPOINT (.*\"--\"), \"python\"", (REPOSITORY / "Dockerfile.worker").read_text(), re.MULTILINE
    )
    assert init is not None and images[1].endswith(f'ENTRYPOINT {init[1]}, "python", "agent.py"]\n')
    counted = (REPOSITORY / "docs/guides/migrate.md").read_text()
    assert f"{len(images[0].splitlines())} lines in place of 29 | {len(images[1].splitlines())} lines" in counted


def test_starter_program_is_served() -> None:
    text = fence("docs/guides/migrate.md", " from dotenv").text
    added = [line[1:].strip() for line in text.splitlines() if line.startswith("+")]
    removed = [line for line in text.splitlines() if line.startswith("-")]
    assert (len(added), len(removed)) == (2, 1), "one line added, one changed"
    call = ast.parse(added[1], mode="eval").body
    assert isinstance(call, ast.Call)
    inspect.signature(serve).bind(*call.args, **{str(word.arg): word.value for word in call.keywords})
    assert added[0] == f"from {avatar_agent.__name__} import {serve.__name__}"


def test_command_line_is_installed_into_a_virtual_environment(tmp_path: Path) -> None:
    create, activate = fence("docs/guides/develop.md", "python3 -m venv").text.splitlines()
    script = f"{create} --without-pip\n{activate}\ncommand -v python3"
    done = subprocess.run(["sh", "-ec", script], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(tmp_path / ".venv/bin/python3")


def test_command_line_is_installed_with_what_it_imports() -> None:
    install, client = fence("docs/guides/develop.md", "pip install").text.splitlines()
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    (extras,) = re.findall(r"^pip install -e '\.\[([a-z,]+)\]'$", install)
    assert set(extras.split(",")) <= project["project"]["optional-dependencies"].keys()
    assert {"cli", "controller", "gateway", "worker"} == set(extras.split(",")), "the packages that the command runs"
    module, _, name = project["project"]["scripts"]["avatar-agent"].partition(":")
    assert getattr(importlib.import_module(module), name) is main
    packages = {pattern.rstrip("*") for pattern in project["tool"]["setuptools"]["packages"]["find"]["include"]}
    assert packages == set(project["tool"]["importlinter"]["root_packages"]) - {"dashboards", "devkit"}
    assert client == f"npm ci --prefix {WEB_DIR.relative_to(REPOSITORY)}"
    assert (WEB_DIR / "package-lock.json").is_file()


@pytest.mark.usefixtures("restored_logging")
def test_documented_commands_of_the_laptop_exist() -> None:
    """Both run on the documented file here, and end with the message about its placeholders."""
    export, *commands = [
        *fence("docs/guides/develop.md", "export").text.splitlines(),
        *fence("docs/guides/develop.md", "avatar-agent check").text.splitlines(),
    ]
    assert re.match(r"export OPENAI_API_KEY=", export)
    missing = {"PATH": "", "OPENAI_API_KEY": "", "LIVEKIT_API_KEY": "", "TAVUS_API_KEY": ""}
    for command, outcome in zip(commands, ("no LiveKit server", "is still 'replace-with-your-openai"), strict=True):
        program, name, file = command.split()
        result = CliRunner(env=missing).invoke(main, [name, str(REPOSITORY / file)], prog_name=program)
        assert (result.exit_code, outcome in result.output) == (1, True), result.output


def recipe(target: str) -> tuple[list[str], str]:
    """Return prerequisites and recipe of a target of the Makefile."""
    makefile = (REPOSITORY / "Makefile").read_text()
    (found,) = re.findall(rf"^{target}:([^#\n]*)(?:#[^\n]*)?\n((?:\t[^\n]*\n)*)", makefile, re.MULTILINE)
    return found[0].split(), found[1]


def test_make_demo_runs_the_command_of_the_end_to_end_tests() -> None:
    assert fence("README.md", "make demo").text == "make demo\n"
    assert "-m devkit demo --name $(NAME)" in recipe("demo")[1]
    assert '"-m", "devkit", "demo", "--name"' in (REPOSITORY / "tests/e2e/test_demo.py").read_text()


def test_make_test_runs_every_test_folder() -> None:
    assert fence("README.md", "make test").text == "make test\n"
    makes = re.findall(r"\$\(MAKE\) ([^\n]*)", recipe("test")[1])
    targets = [word for words in makes for word in words.split() if not word.startswith("--")]
    assert sorted(targets) == ["check", "cluster", "e2e", "helm", "node", "unit"]
    recipes = "".join(recipe(target)[1] for target in [*targets, *recipe("check")[0]])
    folders = {path.name for path in (REPOSITORY / "tests").iterdir() if any(path.glob("**/test_*.py"))}
    assert {folder for folder in folders if f"tests/{folder}" not in recipes} == {"bench", "soak"}
    assert [folder for folder in ("bench", "soak") if f"tests/{folder}" not in recipe(folder)[1]] == []


def test_set_up_commands_exist() -> None:
    commands = [line.split("#")[0].split() for line in fence("CONTRIBUTING.md", "make setup").text.splitlines()]
    assert commands == [["make", "setup"], [".venv/bin/pre-commit", "install"]]
    assert recipe("setup")[0] == [".venv/lock-installed"]
    assert "pre-commit==" in (REPOSITORY / "locks/dev.txt").read_text(), "make setup installs it"
    assert (REPOSITORY / commands[1][0]).is_file()
    assert yaml.safe_load((REPOSITORY / ".pre-commit-config.yaml").read_text())["repos"]


def test_image_builds_name_the_dockerfiles() -> None:
    """The devkit builds the same files without docker, and the end-to-end tests run these images."""
    commands = [line.split() for line in fence("docs/start.md", "docker build").text.splitlines()]
    builds, pushes = commands[:2], commands[2:]
    install = fence("docs/start.md", "helm upgrade --install").text
    for component, command, push in zip(("controller", "worker"), builds, pushes, strict=True):
        image = f"${component.upper()}_IMAGE"
        assert push == ["docker", "push", image]
        assert command == ["docker", "build", "-f", f"Dockerfile.{component}", "-t", image, "."]
        assert (REPOSITORY / f"Dockerfile.{component}").is_file()
        assert f"--set images.{component}={image}" in install


_ARROW = re.compile(r"""\s+<?(?:--|-\.)(?:\s+"[^"]*"\s+(?:--|\.-))?>\s+""")


def edges(diagram: str) -> set[tuple[str, str]]:
    """Return the arrows of a flowchart as pairs of names; `a & b --> c` are two."""
    found: set[tuple[str, str]] = set()
    for line in diagram.splitlines():
        sides = _ARROW.split(line.strip())
        ends = [[re.sub(r"[\[(].*", "", name).strip() for name in side.split(" & ")] for side in sides]
        for left, right in itertools.pairwise(ends):
            found |= set(itertools.product(left, right))
    return found


def test_system_diagram_shows_every_process() -> None:
    diagram = fence("docs/architecture.md", "flowchart LR").text
    assert diagram.count("\n  subgraph ") == diagram.count("\n  end\n")
    arrows = edges(diagram)
    assert [line for line in diagram.splitlines() if ">" in line and "<br/>" not in line and not edges(line)] == []
    declared = {"team", "caller", "backend", "api", "controller", "gateway", "worker", "livekit", "openai", "tavus"}
    assert {name for arrow in arrows for name in arrow} == declared
    flows = {("gateway", "controller"), ("controller", "gateway"), ("worker", "controller"), ("gateway", "livekit")}
    assert flows <= arrows


def test_import_diagram_equals_the_import_contracts() -> None:
    """An arrow means "may import", and so does a path of arrows."""
    settings = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]["importlinter"]
    packages = set(settings["root_packages"])
    (layers,) = [c["layers"] for c in settings["contracts"] if c["type"] == "layers" and "devkit" in c["layers"]]
    level = {package: number for number, layer in enumerate(layers) for package in layer.split(" | ")}
    assert level.keys() == packages
    allowed = {(a, b) for a, b in itertools.permutations(packages, 2) if level[a] < level[b]}
    for contract in settings["contracts"]:
        if contract["type"] == "forbidden":
            allowed -= set(itertools.product(contract["source_modules"], contract["forbidden_modules"]))
    reach = edges(fence("docs/architecture.md", "flowchart TB").text)
    while (further := {(a, d) for a, b in reach for c, d in reach if b == c} | reach) != reach:
        reach = further
    assert reach == allowed


@pytest.fixture(scope="module")
def openapi() -> dict[str, Any]:
    return document(ROUTES)


def test_documented_call_request_has_every_field(openapi: dict[str, Any]) -> None:
    method, path, headers, body = http_request(fence("docs/guides/calls.md", "POST").text)
    assert method.lower() in openapi["paths"][path]
    assert set(headers) == {"Authorization", "Content-Type", "Origin", "Idempotency-Key"}
    assert parse_request(body.encode()).model_fields_set == set(CallRequest.model_fields)


def test_documented_token_request_has_every_field() -> None:
    request = parse_body(TokenRequest, fence("docs/guides/calls.md", '{\n  "room_name"').text.encode())
    assert request.model_fields_set == set(TokenRequest.model_fields)
    assert json.loads(request.dispatch.metadata or "") == {"language": "ar"}


def test_documented_dispatch_request_has_every_field() -> None:
    request = parse_body(DispatchRequest, fence("docs/guides/calls.md", '{"room"').text.encode())
    assert request.model_fields_set == set(DispatchRequest.model_fields)
    facts, dropped = read_dispatch_metadata(request.dispatch_metadata)
    assert (facts.user_id, facts.language, facts.capabilities, dropped) == ("u-17", "ar", ["video"], 0)


def test_documented_answer_has_fields_and_states_of_the_api() -> None:
    text = fence("docs/guides/calls.md", "201 {").text
    fields = set(re.findall(r'"(\w+)":', text))
    assert fields <= {field.alias or name for name, field in OpenedCallView.model_fields.items()}
    assert {"callId", "room", "url", "token", "callToken", "state"} <= fields
    (states,) = re.findall(r'"state": ("\w+"(?: \| "\w+")*)', text)
    assert {state.strip('" ') for state in states.split("|")} == {CallState.DISPATCHED, CallState.WAITING}
