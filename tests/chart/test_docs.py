"""Helm commands and names in the docs, as far as a test without a cluster can check them."""

import shlex
import subprocess
from pathlib import Path

from devkit import binaries
from devkit.paths import REPOSITORY
from devkit.progress import LogProgress
from devkit.tools import HELM
from gateway.settings import GatewaySettings
from process.settings import load
from tests.chart.rendering import RELEASE, Renderer, pick
from tests.fences import fence, fences


def test_documented_port_forward_reaches_gateway_service(render: Renderer) -> None:
    words = shlex.split(fence("docs/start.md", "kubectl -n avatar-agent-system port-forward").text)
    release = fence("docs/start.md", "helm upgrade --install").text.split()[3]
    service = next(word for word in words if word.startswith("service/")).removeprefix(f"service/{release}")
    port = int(words[-1].split(":")[1])
    ports = pick(render(), "Service", f"{RELEASE}{service}")["spec"]["ports"]
    assert [entry["port"] for entry in ports] == [port]


def test_documented_upgrade_is_accepted_by_helm(tmp_path: Path) -> None:
    helm, upgrade, *arguments = shlex.split(fence("docs/guides/upgrade.md", "helm upgrade").text)
    assert (helm, upgrade) == ("helm", "upgrade")
    program = binaries.ensure(LogProgress(), [HELM])["helm"]
    values = arguments[arguments.index("--values") + 1]
    (tmp_path / values).write_text("controller: {replicas: 3}\n")
    (tmp_path / "charts").symlink_to(REPOSITORY / "charts")
    argv = [program, "template", *arguments]
    rendered = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True).stdout
    assert "replicas: 3" in rendered
    known = subprocess.run([program, upgrade, "--help"], capture_output=True, text=True, timeout=60, check=True).stdout
    assert [flag for flag in arguments if flag.startswith("--") and flag not in known] == []


def test_documented_values_create_the_dashboards(render: Renderer, tmp_path: Path) -> None:
    kinds: list[set[str]] = []
    for block in fences("docs/guides/dashboards.md"):
        if block.text.startswith("monitoring:"):
            (values := tmp_path / "values.yaml").write_text(block.text)
            documents = render(f"--values={values}")
            kinds.append({document["kind"] for document in documents} & {"ConfigMap", "GrafanaDashboard"})
    assert kinds == [{"ConfigMap"}, {"ConfigMap", "GrafanaDashboard"}]


def test_documented_issuer_is_accepted_by_the_gateway(render: Renderer, tmp_path: Path) -> None:
    (values := tmp_path / "values.yaml").write_text(fence("docs/guides/calls.md", "gateway:").text)
    (container,) = pick(render(f"--values={values}"), "Deployment", f"{RELEASE}-gateway")["spec"]["template"]["spec"][
        "containers"
    ]
    env = {entry["name"]: entry.get("value", "") for entry in container["env"]}
    (issuer,) = load(GatewaySettings, env).oidc_issuers
    assert (issuer.issuer, issuer.namespaces) == ("https://login.example.com", ("shop",))
