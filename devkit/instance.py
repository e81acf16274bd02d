"""One instance's folders and its record: what was made under this name, so that `down` can unmake it."""

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


def check_name(name: str) -> str:
    """The name when it can be one, else an error that says what can."""
    if not _NAME.fullmatch(name):
        raise DevkitError(f"{name!r} cannot be an instance's name: up to 10 of a-z, 0-9 and -, a letter first")
    return name


@dataclass(frozen=True)
class Layout:
    """Where an instance's files are."""

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
        """What operators wrote, one JSON event a line: audit.k8s.io/v1 Event, at level Metadata."""
        return self.logs / "audit.log"

    @property
    def pod_logs(self) -> Path:
        return self.root / "pods"

    @property
    def etcd(self) -> Path:
        return self.root / "etcd"

    @property
    def kubelet(self) -> Path:
        return self.root / "kubelet"

    @property
    def cni(self) -> Path:
        return self.root / "cni"

    @property
    def kubeconfig(self) -> Path:
        return self.root / "kubeconfig"

    @property
    def containerd_content(self) -> Path:
        """Kept by `down`: an image imported once need not be imported again."""
        return cache_dir() / "containerd" / self.name

    @property
    def run(self) -> Path:
        return run_dir(self.name)

    @property
    def containerd_socket(self) -> Path:
        return self.run / "containerd.sock"

    @property
    def processes(self) -> ProcessTable:
        return ProcessTable(self.root / "processes", self.logs)


@dataclass(frozen=True)
class Record:
    """What `up` decided for an instance."""

    name: str
    subnet: str
    api_only: bool
    internet: bool
    livekit_api_key: str
    livekit_api_secret: str
    ready: bool = False
    """False until `up` has come to its end: an instance found so was interrupted."""

    @property
    def subnets(self) -> Subnets:
        return Subnets(ipaddress.IPv4Network(self.subnet))


def new_record(name: str, *, api_only: bool, internet: bool) -> Record:
    """Choose a free subnet and fresh LiveKit keys for an instance, and write both down.

    Subnets are chosen under a lock, with the other instances' records beside the machine's routes: an instance that
    is just coming up has no route yet.
    """
    with lock("subnets"):
        others = [record.subnets.whole for record in records() if record.name != name]
        record = Record(
            name=name,
            subnet=str(choose_subnets([*host_routes(), *others]).whole),
            api_only=api_only,
            internet=internet,
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
    """Note that `up` came to its end."""
    done = replace(record, ready=True)
    save(done)
    return done


def load(name: str) -> Record | None:
    """The record of an instance, or None when there is none (or only the beginnings of one)."""
    try:
        return Record(**json.loads(Layout(name).record.read_text()))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError):
        return None  # Written by another version of the devkit: `up` replaces the instance, as after an interruption.


def names() -> list[str]:
    """Every instance with a state folder."""
    if not state_dir().exists():
        return []
    return sorted(path.name for path in state_dir().iterdir() if path.is_dir())


def records() -> list[Record]:
    """The readable records of all instances."""
    return [record for name in names() if (record := load(name)) is not None]
