"""`make demo`: cluster, chart, agent, an answered call, and a page to call from."""

import asyncio
import os
import socket
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from devkit import binaries, probe, system
from devkit import cluster as clusters
from devkit.demo import conversation, manifests, prometheus, targets
from devkit.demo.product import AGENTS_NAMESPACE, CHART, RELEASE, Product
from devkit.errors import DevkitError
from devkit.instance import Layout, check_name
from devkit.kubernetes import kubectl_path
from devkit.paths import REPOSITORY
from devkit.progress import Progress
from devkit.providers.speech import Recogniser
from devkit.tools import HELM

EXAMPLES = REPOSITORY / "examples"
AGENT = "ornina"
QUESTION = 2
"""Index of the entry in the Arabic knowledge that the caller asks about: where the office is."""
PAGE_PORT = 8088


@dataclass(frozen=True)
class OwnCluster:
    """The user's own cluster: its kubeconfig, and images that it can pull."""

    kubeconfig: Path
    controller_image: str
    worker_image: str


def run_demo(name: str, own: OwnCluster | None, console: Console, progress: Progress) -> None:
    """Run every step. Raises DevkitError or CallError that names the first failed step."""
    started = time.monotonic()
    monitoring: prometheus.Server | None = None
    check_name(name)
    examples = manifests.load(EXAMPLES)
    targets.check(os.environ, examples, own_cluster=own is not None)
    if own is None:
        cluster = clusters.up(name, progress=progress, internet=targets.needs_internet(os.environ))
        images = cluster.load_images()
        product = Product(cluster.kubeconfig, cluster.kubectl, cluster.helm, images.controller, images.worker)
        with progress.step("Start the simulated providers"):
            endpoints = targets.local_targets(cluster, os.environ)
        monitoring = prometheus.start(cluster, product, progress)
    else:
        system.install(system.SPEECH, progress)
        endpoints = targets.external_targets(os.environ)
        helm = Path(binaries.ensure(progress, [HELM])["helm"])
        product = Product(own.kubeconfig, kubectl_path(), helm, own.controller_image, own.worker_image)
    with progress.step(f"Install the chart {CHART.relative_to(REPOSITORY)} as {RELEASE}"):
        product.install()
    documents, changes = manifests.retarget(examples, endpoints)
    with progress.step(f"Apply {EXAMPLES.relative_to(REPOSITORY)}/ with these values"):
        product.make_namespace()
        product.apply(documents)
    for change in changes:
        _print(console, f"     {change.where} = {change.value}")
    with progress.step(f"Wait until AvatarAgent {AGENT} is Ready"):
        product.wait_ready(AGENT, 180)
    _print(console, product.kubectl_run("-n", AGENTS_NAMESPACE, "get", "ava"))
    with progress.step("Forward a port to the call page"):
        page = forward_page(name, product)
    if monitoring is not None:
        with progress.step(f"Wait until Prometheus has scraped {AGENT}"):
            monitoring.wait_scraped(AGENT)
    called = time.time()
    make_call(page, documents, console, progress)
    console.print(f"\nThe call was answered {time.monotonic() - started:.0f} s after the start.")
    console.print("You can call the agent yourself until `make down`:")
    _print(console, f"  {page}/?agent={AGENT}")
    _print(console, f"  KUBECONFIG={product.kubeconfig} {product.kubectl} get ava -A")
    if monitoring is not None:
        console.print("Prometheus scrapes and evaluates what the chart declares:")
        _print(console, f"  {monitoring.client.url}")
        show_figures(monitoring, called, console, progress)


def _print(console: Console, text: str) -> None:
    """Print text without markup or line breaks, so that it can be copied."""
    console.print(text, highlight=False, markup=False, soft_wrap=True)


def make_call(page: str, documents: list[dict[str, Any]], console: Console, progress: Progress) -> None:
    """Call the agent, check the conversation and print the timeline."""
    spec = next(d["spec"] for d in documents if d["kind"] == "AvatarAgent" and d["metadata"]["name"] == AGENT)
    knowledge = next(d["data"] for d in documents if d["kind"] == "ConfigMap")
    facts = conversation.entries(knowledge["ar.md"])
    recogniser = Recogniser()
    with progress.step(f"Call {spec['agentName']}") as step:
        talk = conversation.converse(
            page, AGENT, facts[QUESTION].heading, recogniser, video="tavus" in spec["avatar"], note=step.update
        )
        result = asyncio.run(talk)
        conversation.check_greeting(result.greeting, spec["persona"]["greeting"], facts)
        conversation.check_answer(result.answer, facts[QUESTION], facts)
        conversation.check_video(result.video_frames)
    _print(console, f"  greeting heard as  {result.greeting.heard.text}")
    _print(console, f"  asked              {facts[QUESTION].heading}")
    _print(console, f"  answered           {result.answer.caption}")
    _print(console, f"  answer heard as    {result.answer.heard.text}")
    table = Table("seconds", "event", box=None, padding=(0, 2))
    for step_name, seconds in conversation.timeline(result):
        table.add_row(f"{seconds:7.2f}", step_name)
    console.print(table)


def show_figures(server: prometheus.Server, called: float, console: Console, progress: Progress) -> None:
    """Print the main figures of the dashboard Calls, once Prometheus has counted the call."""
    with progress.step("Wait until Prometheus has counted the call"):
        found = server.figures(called)
    table = Table("dashboard Calls", "since the call", box=None, padding=(0, 2))
    for figure in found:
        table.add_row(figure.title, figure.text)
    console.print(table)


def forward_page(name: str, product: Product) -> str:
    """Forward a port of localhost, where browsers allow a microphone, to the gateway. Returns the address."""
    processes = Layout(name).processes
    if (earlier := processes.get("call-page")) is not None:
        processes.stop(earlier)
    port = _free_port(PAGE_PORT)
    argv = [sys.executable, "-m", "devkit.demo.forward", *product.forward_gateway(port)]
    process = processes.start("call-page", argv, env={"PYTHONPATH": str(REPOSITORY)})
    address = f"http://localhost:{port}"
    processes.wait("call page", lambda: probe.answers(f"{address}/readyz"), 30, process)
    return address


def _free_port(wanted: int) -> int:
    for port in range(wanted, wanted + 20):
        with socket.socket() as attempt:
            if attempt.connect_ex(("127.0.0.1", port)) != 0:
                return port
    raise DevkitError(
        f"no free port on localhost between {wanted} and {wanted + 19}: stop a program that listens there"
    )
