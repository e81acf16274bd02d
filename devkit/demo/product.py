"""Installs the product on a cluster as a user would: the chart with helm, the manifests with kubectl."""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from devkit.commands import run
from devkit.errors import DevkitError
from devkit.paths import REPOSITORY

SYSTEM_NAMESPACE = "avatar-agent-system"
AGENTS_NAMESPACE = "agents"
RELEASE = "avatar-agent"
CHART = REPOSITORY / "charts" / "avatar-agent"
_INSTALL_SECONDS = 180


@dataclass(frozen=True)
class Product:
    """The product on a cluster, with the tools and images to install it."""

    kubeconfig: Path
    kubectl: Path
    helm: Path
    controller_image: str
    worker_image: str
    chart: Path = CHART

    def kubectl_run(self, *arguments: str, stdin: str | None = None, seconds: float = 60) -> str:
        """Run kubectl and return its standard output."""
        argv = [str(self.kubectl), f"--kubeconfig={self.kubeconfig}", *arguments]
        return run(argv, stdin=stdin, seconds=seconds)

    def get(self, kind: str, name: str, namespace: str = AGENTS_NAMESPACE) -> dict[str, Any]:
        """Return an object as a document."""
        document: dict[str, Any] = json.loads(self.kubectl_run("-n", namespace, "get", kind, name, "-o", "json"))
        return document

    def items(self, kind: str, selector: str = "", namespace: str = AGENTS_NAMESPACE) -> list[dict[str, Any]]:
        """Return every object of a kind that a label selector matches."""
        answer = self.kubectl_run("-n", namespace, "get", kind, "-l", selector, "-o", "json")
        found: list[dict[str, Any]] = json.loads(answer)["items"]
        return found

    def install(self, *settings: str) -> None:
        """Run `helm upgrade --install` and wait until controller and gateway are ready; `settings` are `key=value`."""
        options = ["--install", "--create-namespace", "--wait", f"--timeout={_INSTALL_SECONDS}s"]
        self._helm_run("upgrade", *options, settings=settings, seconds=_INSTALL_SECONDS + 20)

    def render(self, *settings: str) -> list[dict[str, Any]]:
        """Return the objects that `install` would create with these settings as well."""
        return [document for document in yaml.safe_load_all(self._helm_run("template", settings=settings)) if document]

    def _helm_run(self, command: str, *options: str, settings: Sequence[str], seconds: float = 60) -> str:
        values = [
            f"images.controller={self.controller_image}",
            f"images.worker={self.worker_image}",
            f"gateway.defaultNamespace={AGENTS_NAMESPACE}",
            *settings,
        ]
        argv = [str(self.helm), f"--kubeconfig={self.kubeconfig}", command, RELEASE, str(self.chart)]
        argv += ["-n", SYSTEM_NAMESPACE, *options, *(part for value in values for part in ("--set", value))]
        return run(argv, seconds=seconds)

    def make_namespace(self, namespace: str = AGENTS_NAMESPACE) -> None:
        """Create a namespace that admits only pods of the profile `restricted`."""
        labels = {"pod-security.kubernetes.io/enforce": "restricted"}
        self.apply([{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace, "labels": labels}}], "")

    def apply(self, documents: list[dict[str, Any]], namespace: str = AGENTS_NAMESPACE) -> None:
        """Run `kubectl apply` in a namespace; with an empty one, the documents name theirs."""
        where = ["-n", namespace] if namespace else []
        self.kubectl_run(*where, "apply", "-f", "-", stdin=yaml.safe_dump_all(documents, allow_unicode=True))

    def wait_ready(self, agent: str, seconds: float, namespace: str = AGENTS_NAMESPACE) -> None:
        """Wait until an AvatarAgent is Ready. Raises DevkitError with its conditions after `seconds`."""
        deadline = time.monotonic() + seconds
        conditions: list[dict[str, Any]] = []
        while time.monotonic() < deadline:
            agent_now = self.get("avataragent", agent, namespace)
            status = agent_now.get("status", {})
            conditions = status.get("conditions", [])
            current = status.get("observedGeneration") == agent_now["metadata"]["generation"]
            if current and any(c["type"] == "Ready" and c["status"] == "True" for c in conditions):
                return
            time.sleep(0.3)
        reported = "\n".join(f"  {c['type']}={c['status']} {c['reason']}: {c['message']}" for c in conditions)
        raise DevkitError(
            f"AvatarAgent {agent} is not Ready after {seconds:.0f} s:\n{reported or '  no conditions yet'}"
        )

    def forward_gateway(self, port: int) -> list[str]:
        """Return the command that forwards a port of localhost to the gateway; it ends with the gateway's pod."""
        argv = [str(self.kubectl), f"--kubeconfig={self.kubeconfig}", "-n", SYSTEM_NAMESPACE, "port-forward"]
        return [*argv, "--address=127.0.0.1", f"service/{RELEASE}-gateway", f"{port}:80"]

    def gateway_address(self) -> str:
        """Return the URL of the gateway's Service, for clients in the cluster's service network."""
        service = self.get("service", f"{RELEASE}-gateway", SYSTEM_NAMESPACE)
        return f"http://{service['spec']['clusterIP']}"
