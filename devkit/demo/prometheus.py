"""The demo's Prometheus: it scrapes and evaluates what the chart declares for the Prometheus operator."""

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from devkit import debian, probe
from devkit.cluster import Cluster
from devkit.dashboards.prometheus import Prometheus
from devkit.demo import scraping
from devkit.demo.figures import SCRAPE_SECONDS, Figure, read_after_call, window
from devkit.demo.manifests import Document
from devkit.demo.product import Product
from devkit.errors import DevkitError
from devkit.instance import Layout
from devkit.paths import REPOSITORY
from devkit.progress import Progress

NAME: Final = "prometheus"
DISCOVERY: Final = "pod-discovery"
PORT: Final = 9090
DISCOVERY_PORT: Final = 9091
"""On loopback of the cluster's network."""
NAMESPACE: Final = "monitoring"
INTERVAL: Final = f"{SCRAPE_SECONDS:.0f}s"
SETTINGS: Final = (
    "monitoring.enabled=true",
    f"monitoring.namespace={NAMESPACE}",
    f"monitoring.interval={INTERVAL}",
    "monitoring.rules.enabled=true",
)
"""Values of the chart."""
KUBECONFIG: Final = "kubeconfig"
"""Name of the file with the credentials of the ServiceAccount."""
_START_SECONDS: Final = 60.0
_SCRAPED_SECONDS: Final = 60.0
_COUNTERS: Final = ("avatar_agent_gateway_calls_ended_total", "avatar_agent_worker_answer_duration_seconds_count")
_TOKEN_DURATION: Final = "720h"


@dataclass(frozen=True)
class Options:
    """What a Prometheus scrapes and evaluates. The defaults are those of the demo."""

    settings: Sequence[str] = ()
    """Values of the chart, beside SETTINGS."""
    change: Callable[[Sequence[Document]], list[Document]] = list
    """Returns what to use instead of the chart's objects."""
    interval: str = INTERVAL
    """Of evaluations, and of looking for pods. The PodMonitors have the interval of scrapes."""
    flags: Sequence[str] = ()
    """Further arguments of Prometheus."""


@dataclass(frozen=True)
class Server:
    """The running Prometheus of an instance."""

    instance: str
    client: Prometheus

    def wait_scraped(self, agent: str) -> None:
        """Wait until Prometheus has the agent's counters of gateway and workers, at 0 before a first call.

        Raises DevkitError after a minute: without the 0, the first call would be missing from the figures.
        """
        expression = " and ".join(f'count({name}{{agent="{agent}"}})' for name in _COUNTERS)

        def has_counters() -> bool:
            now = time.time()
            return bool(self.client.now(expression, window(now, now)))

        self._wait(f"scrape of {agent}", has_counters, _SCRAPED_SECONDS)

    def wait_ready(self) -> None:
        """Wait until Prometheus answers. Raises DevkitError with its log after a minute, or when it exits."""
        self._wait("answer from Prometheus", lambda: probe.answers(f"{self.client.url}/-/ready"), _START_SECONDS)

    def figures(self, called: float) -> list[Figure]:
        """Return the main figures after a call. Raises DevkitError that names the log if Prometheus does not answer."""
        try:
            return read_after_call(self.client, called)
        except DevkitError as error:
            raise DevkitError(f"{error}; see `python -m devkit logs --name {self.instance} {NAME}`") from error

    def _wait(self, what: str, check: Callable[[], bool], seconds: float) -> None:
        table = Layout(self.instance).processes
        process = table.get(NAME)
        assert process is not None
        table.wait(what, check, seconds, process)


def start(cluster: Cluster, product: Product, progress: Progress, options: Options = Options()) -> Server:
    """Start Prometheus in the cluster's network, in place of an earlier one. `down` stops it."""
    programs = debian.ensure(progress, debian.PROMETHEUS)
    layout = Layout(cluster.name)
    folder = layout.root / NAME
    server = Server(cluster.name, Prometheus(f"http://{cluster.node_ip}:{PORT}"))
    with progress.step("Start Prometheus"):
        folder.mkdir(mode=0o700, exist_ok=True)
        product.apply(account(), "")
        token = product.kubectl_run("-n", NAMESPACE, "create", "token", NAME, f"--duration={_TOKEN_DURATION}")
        chart = options.change(product.render(*SETTINGS, *options.settings))
        administrator = cluster.kubeconfig.read_text()
        config = write_files(folder, chart, administrator, token.strip(), interval=options.interval)
        layout.processes.stop_all([NAME, DISCOVERY])
        argv = [sys.executable, "-m", "devkit.demo.discovery", str(folder / KUBECONFIG), f"{DISCOVERY_PORT}"]
        cluster.spawn(DISCOVERY, argv, env={"PYTHONPATH": str(REPOSITORY)})
        arguments = [
            f"--config.file={config}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address={cluster.node_ip}:{PORT}",
            f"--web.local-assets={programs['web']}",
            *options.flags,
        ]
        cluster.spawn(NAME, [str(programs["prometheus"]), *arguments])
        server.wait_ready()
    return server


def account() -> list[Document]:
    """Return a ServiceAccount that may only list pods, in a namespace of its own."""
    role = f"avatar-agent-demo-{NAME}"
    group = "rbac.authorization.k8s.io"
    return [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}},
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": NAME, "namespace": NAMESPACE}},
        {
            "apiVersion": f"{group}/v1",
            "kind": "ClusterRole",
            "metadata": {"name": role},
            "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]}],
        },
        {
            "apiVersion": f"{group}/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": role},
            "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": role},
            "subjects": [{"kind": "ServiceAccount", "name": NAME, "namespace": NAMESPACE}],
        },
    ]


def write_files(
    folder: Path, chart: Sequence[Document], administrator: str, token: str, *, interval: str = INTERVAL
) -> Path:
    """Write configuration, rules and a kubeconfig with this token. Returns the path of the configuration.

    `administrator` is a kubeconfig of the same API server.
    """
    monitors = [document for document in chart if document["kind"] == "PodMonitor"]
    (rule,) = (document for document in chart if document["kind"] == "PrometheusRule")
    kubeconfig, rules, config = (folder / name for name in (KUBECONFIG, "rules.yaml", "prometheus.yaml"))
    credentials: dict[str, Any] = yaml.safe_load(administrator)
    credentials["users"][0]["user"] = {"token": token}
    kubeconfig.touch(mode=0o600)
    kubeconfig.write_text(yaml.safe_dump(credentials))
    rules.write_text(yaml.safe_dump(rule["spec"], sort_keys=False))
    configuration = scraping.configuration(monitors, discovery_port=DISCOVERY_PORT, rules=rules, interval=interval)
    config.write_text(yaml.safe_dump(configuration, sort_keys=False))
    return config
