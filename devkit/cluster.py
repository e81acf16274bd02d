"""Starts and stops an instance of the platform: the API for tests, demo and command line."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from devkit import binaries, dns, etcd, images, kubernetes, livekit, network, node, outage, system, teardown
from devkit import internet as internet_access
from devkit.binaries import Binaries
from devkit.errors import DevkitError
from devkit.images import Images
from devkit.instance import Layout, NodeLayout, Record, check_name, load, mark_ready, names, new_record
from devkit.locks import lock
from devkit.processes import is_alive
from devkit.progress import LogProgress, Progress
from devkit.tools import API_TOOLS, TOOLS
from devkit.traces import traces

_API_DAEMONS = {"etcd", "kube-apiserver", "kube-controller-manager"}
_NODE_DAEMONS = ("containerd", "kubelet", "kube-proxy")
_OTHER_DAEMONS = {"kube-scheduler", "coredns", "livekit-server"}
"""Daemons of an instance with nodes that run once."""
_ANSWER_SECONDS = 10.0
"""Time for a running API server to answer, because a busy machine may delay it."""


@dataclass(frozen=True)
class Cluster:
    """A running instance."""

    name: str
    kubeconfig: Path
    node_ip: str
    """Address that this machine and pods reach; the API server is at https://NODE_IP:6443."""
    livekit_url: str
    livekit_api_key: str
    livekit_api_secret: str = field(repr=False)
    kubectl: Path
    helm: Path
    progress: Progress = field(default_factory=LogProgress, repr=False, compare=False)

    def spawn(self, name: str, argv: Sequence[str], env: Mapping[str, str] | None = None) -> int:
        """Run a program in the instance's network until `down`, with the log `name`. Returns its pid."""
        table = Layout(self.name).processes
        return table.start(name, argv, netns=network.netns_name(self.name), env=env).pid

    @contextmanager
    def api_server_stopped(self, *options: str) -> Iterator[None]:
        """Stop the API server until the block ends, then start it again with these additional options."""
        with outage.api_server_stopped(Layout(self.name), self._record(), options):
            yield

    @contextmanager
    def node_lost(self, number: int) -> Iterator[None]:
        """Kill a node's kubelet and cut its network off until the block ends; not the first node's."""
        with outage.node_lost(Layout(self.name), self._record(), number):
            yield

    @contextmanager
    def livekit_cut(self, address: str, *, reset: bool) -> Iterator[None]:
        """Drop all packets between a pod and LiveKit's signal port until the block ends; `reset` informs LiveKit."""
        with outage.livekit_cut(self._record(), address, reset=reset):
            yield

    @contextmanager
    def pod_cut(self, address: str) -> Iterator[None]:
        """Drop all packets from and to a pod of the first node until the block ends."""
        with outage.pod_cut(self._record(), address):
            yield

    def restart_livekit(self, seconds: float) -> None:
        """Kill LiveKit's server, and start it again after so many seconds."""
        outage.restart_livekit(Layout(self.name), self._record(), seconds)

    @contextmanager
    def livekit_configured(self, settings: Mapping[str, object]) -> Iterator[None]:
        """Run LiveKit with more settings until the block ends. It loses all rooms at both ends of the block."""
        with outage.livekit_configured(Layout(self.name), self._record(), settings):
            yield

    def compact(self) -> None:
        """Remove all but the latest revisions from etcd, so that watches from an earlier one have to list again."""
        etcd.compact(self._record())

    def _record(self) -> Record:
        record = load(self.name)
        if record is None:
            raise DevkitError(f"instance {self.name} does not exist: run `python -m devkit up --name {self.name}`")
        return record

    def load_images(self) -> Images:
        """Build the images of controller and worker if necessary, and load them into the node."""
        built = images.build_all(self.progress)
        load_images(self.name, [built.controller, built.worker], self.progress)
        return built

    def load_example(self, folder: Path, worker: str) -> str:
        """Build an example's image on the worker image, load it into the node, and return its reference."""
        image = images.build_example(folder, worker, self.progress)
        load_images(self.name, [image], self.progress)
        return image


def up(
    name: str = "dev",
    progress: Progress | None = None,
    *,
    api_only: bool = False,
    internet: bool = False,
    nodes: int = 1,
) -> Cluster:
    """Return a running instance: the existing one if it is complete and has the requested parts, else a new one.

    `api_only` starts only an API server with its controllers, in a few seconds: no node, DNS or LiveKit. `internet`
    lets pods reach real providers; without it, connections to outside addresses fail at once. `nodes` is at most
    MAX_NODES. Remains of an earlier interrupted or broken run are removed first.
    """
    check_name(name)
    shown = progress or LogProgress()
    system.ensure(shown, api_only=api_only, internet=internet)
    programs = binaries.ensure(shown, API_TOOLS if api_only else TOOLS)
    with lock(f"instance-{name}", progress=shown):
        record = load(name)
        if (
            record is not None
            and is_complete(record)
            and _has(record, api_only=api_only, internet=internet, nodes=nodes)
        ):
            return _cluster(record, programs, shown)
        if traces(name):
            with shown.step(f"Remove the remains of instance {name}"):
                teardown.remove(name)
        record = new_record(name, api_only=api_only, internet=internet, nodes=nodes)
        return _cluster(_start(record, programs, shown), programs, shown)


def down(name: str = "dev", progress: Progress | None = None) -> None:
    """Stop an instance and remove everything that `up` created for it, if it exists."""
    check_name(name)
    shown = progress or LogProgress()
    with lock(f"instance-{name}", progress=shown), shown.step(f"Stop instance {name}"):
        teardown.remove(name)
    if not names():
        images.remove_run_root()
        teardown.remove_shared()


def load_images(name: str, built: Sequence[str], progress: Progress) -> None:
    """Load built images into every node of a running instance."""
    with lock(f"instance-{name}", progress=progress):
        record = load(name)
        if record is None or record.api_only or not is_complete(record):
            raise DevkitError(f"instance {name} has no running node: run `python -m devkit up --name {name}`")
        for one in running_nodes(record):
            images.load(one, built, progress)


def is_complete(record: Record) -> bool:
    """Whether an instance is complete: `up` finished, and all its daemons run and answer."""
    layout = Layout(record.name)
    needed = _API_DAEMONS | ({"internet"} if record.internet else set())
    if not record.api_only:
        needed |= _OTHER_DAEMONS
        needed |= {one.suffixed(daemon) for one in running_nodes(record) for daemon in _NODE_DAEMONS}
    running = {process.name for process in layout.processes.all() if is_alive(process)}
    return record.ready and needed <= running and _answers(layout, record)


def _answers(layout: Layout, record: Record) -> bool:
    deadline = time.monotonic() + _ANSWER_SECONDS
    while not kubernetes.answers(layout, record):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.2)
    return True


def running_nodes(record: Record) -> list[NodeLayout]:
    """Return the nodes of an instance that is not `api_only`."""
    return list(Layout(record.name).nodes[: record.nodes])


def _has(record: Record, *, api_only: bool, internet: bool, nodes: int) -> bool:
    """Whether an instance has the requested parts; it may have more."""
    return (api_only or (not record.api_only and record.nodes >= nodes)) and (record.internet or not internet)


def _start(record: Record, programs: Binaries, progress: Progress) -> Record:
    layout = Layout(record.name)
    for folder in (layout.pki, layout.config, layout.logs):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    network.create(record.name, record.subnets, pods=not record.api_only)
    if record.internet:
        internet_access.start(layout, record)
    if record.api_only:
        with progress.step("Start the API server"):
            kubernetes.start(layout, record, programs)
        return mark_ready(record)
    nodes = running_nodes(record)
    for other in nodes[1:]:
        network.add_node(record.name, other.name, other.number, record.subnets)
    images.ensure_pause(progress)
    with progress.step("Start the control plane"):
        for one in nodes:
            node.start_containerd(one, record)
        plane = kubernetes.start(layout, record, programs)
    for one in nodes:
        images.load(one, [node.PAUSE_IMAGE], progress)
        images.remove_outdated(one)
    with progress.step("Start LiveKit"):
        livekit.start(layout, record, programs)
    with progress.step("Start the nodes" if nodes[1:] else "Start the node"):
        dns.start(layout, record, programs, plane)
        for one in nodes:
            node.start(one, record, programs, plane)
    return mark_ready(record)


def _cluster(record: Record, programs: Binaries, progress: Progress) -> Cluster:
    layout = Layout(record.name)
    return Cluster(
        name=record.name,
        kubeconfig=layout.kubeconfig,
        node_ip=str(record.subnets.node),
        livekit_url=livekit.url(record),
        livekit_api_key=record.livekit_api_key,
        livekit_api_secret=record.livekit_api_secret,
        kubectl=kubernetes.kubectl_path(),
        helm=Path(programs["helm"]),
        progress=progress,
    )
