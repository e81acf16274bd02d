"""The folders of an instance, and its record: everything that `down` has to remove."""

import ipaddress
import json
import re
import secrets
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from devkit.errors import DevkitError
from devkit.locks import lock
from devkit.network import Subnets, choose_subnets, host_routes
from devkit.paths import cache_dir, run_dir, state_dir
from devkit.processes import ProcessTable

# The name becomes part of a network link's name, which the kernel limits to 15 characters.
_NAME = re.compile(r"[a-z][a-z0-9-]{0,9}")
MAX_NODES = 2


def check_name(name: str) -> str:
    """Return the name if it is valid. Raises DevkitError otherwise."""
    if not _NAME.fullmatch(name):
        raise DevkitError(
            f"{name!r} is not a valid instance name: use up to 10 characters of a-z, 0-9 and -, and begin with a letter"
        )
    return name


@dataclass(frozen=True)
class Layout:
    """Paths of an instance's files."""

    name: str

    @property
    def root(self) -> Path:
        return state_dir() / self.name

    @property
    def record(self) -> Path:
        return self.root / "instance.json"

    @property
    def pki(self) -> Path:
        return self.root / "pki"

    @property
    def config(self) -> Path:
        return self.root / "config"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def audit(self) -> Path:
        """The operators' write requests, one JSON event a line: audit.k8s.io/v1 Event, at level Metadata."""
        return self.logs / "audit.log"

    @property
    def etcd(self) -> Path:
        return self.root / "etcd"

    @property
    def kubeconfig(self) -> Path:
        return self.root / "kubeconfig"

    @property
    def processes(self) -> ProcessTable:
        return ProcessTable(self.root / "processes", self.logs)

    @property
    def nodes(self) -> tuple["NodeLayout", ...]:
        """Every node that the instance may have."""
        return tuple(NodeLayout(self, number) for number in range(1, MAX_NODES + 1))


@dataclass(frozen=True)
class NodeLayout:
    """Names and paths of one node of an instance."""

    instance: Layout
    number: int
    """1 for the node with the control plane."""

    @property
    def name(self) -> str:
        """The name of the Node object and of the network namespace's end. A dot cannot be in an instance's name."""
        return self.suffixed(self.instance.name)

    def suffixed(self, name: str) -> str:
        """Return a name that no other node of the instance uses, for a program or a file."""
        return name if self.number == 1 else f"{name}.{self.number}"

    @property
    def root(self) -> Path:
        return self.instance.root / self.suffixed("node")

    @property
    def pod_logs(self) -> Path:
        return self.root / "pods"

    @property
    def kubelet(self) -> Path:
        return self.root / "kubelet"

    @property
    def cni(self) -> Path:
        return self.root / "cni"

    @property
    def containerd_content(self) -> Path:
        """Content that survives `down`, so that images are imported only once."""
        return cache_dir() / "containerd" / self.name

    @property
    def run(self) -> Path:
        return run_dir(self.name)

    @property
    def containerd_socket(self) -> Path:
        return self.run / "containerd.sock"


@dataclass(frozen=True)
class Record:
    """The settings that `up` chose for an instance."""

    name: str
    subnet: str
    api_only: bool
    internet: bool
    nodes: int
    livekit_api_key: str
    livekit_api_secret: str
    ready: bool = False
    """Whether `up` has finished; false also after an interruption."""

    @property
    def subnets(self) -> Subnets:
        return Subnets(ipaddress.IPv4Network(self.subnet))


def new_record(name: str, *, api_only: bool, internet: bool, nodes: int) -> Record:
    """Choose a free subnet and new LiveKit keys for an instance, and save its record.

    The choice is made under a lock, and considers the records of other instances beside the machine's routes: an
    instance that is starting has no route yet.
    """
    with lock("subnets"):
        others = [record.subnets.whole for record in records() if record.name != name]
        record = Record(
            name=name,
            subnet=str(choose_subnets([*host_routes(), *others]).whole),
            api_only=api_only,
            internet=internet,
            nodes=nodes,
            livekit_api_key=f"devkit-{name}",
            livekit_api_secret=secrets.token_urlsafe(32),
        )
        save(record)
    return record


def save(record: Record) -> None:
    layout = Layout(record.name)
    layout.root.mkdir(parents=True, exist_ok=True, mode=0o700)
    partial = layout.record.with_suffix(".partial")
    partial.write_text(json.dumps(asdict(record), indent=2))
    partial.rename(layout.record)


def mark_ready(record: Record) -> Record:
    """Record that `up` has finished."""
    done = replace(record, ready=True)
    save(done)
    return done


def load(name: str) -> Record | None:
    """Return the record of an instance; None when it does not exist or is incomplete."""
    try:
        return Record(**json.loads(Layout(name).record.read_text()))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError):
        return None  # written by another version of the devkit: `up` replaces the instance, as after an interruption


def names() -> list[str]:
    """Return the names of all instances that have a state folder."""
    if not state_dir().exists():
        return []
    return sorted(path.name for path in state_dir().iterdir() if path.is_dir())


def records() -> list[Record]:
    """Return the readable records of all instances."""
    return [record for name in names() if (record := load(name)) is not None]
