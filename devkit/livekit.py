"""LiveKit's server on the node's address, which pods and this machine's programs and browsers reach."""

from collections.abc import Mapping
from pathlib import Path

import yaml

from devkit import probe
from devkit.binaries import Binaries
from devkit.instance import Layout, Record
from devkit.network import POD_BRIDGE, netns_name

PORT = 7880
_TCP_PORT, _UDP_PORT, _METRICS_PORT = 7881, 7882, 6789
_START_TIMEOUT = 30.0


def url(record: Record) -> str:
    return f"ws://{record.subnets.node}:{PORT}"


def configuration(record: Record) -> dict[str, object]:
    """Return livekit-server's configuration: one UDP port for all media, and candidates on the pod bridge only."""
    return {
        "port": PORT,
        "bind_addresses": [str(record.subnets.node)],
        "prometheus": {"port": _METRICS_PORT},
        "rtc": {
            "tcp_port": _TCP_PORT,
            "udp_port": _UDP_PORT,
            "use_external_ip": False,
            "node_ip": str(record.subnets.node),
            "interfaces": {"includes": [POD_BRIDGE]},
        },
        "keys": {record.livekit_api_key: record.livekit_api_secret},
        "logging": {"level": "info", "json": True},
    }


def configure(layout: Layout, record: Record, more: Mapping[str, object]) -> Path:
    """Write the configuration, with more settings. The server reads it when it starts. Returns its path."""
    path = layout.config / "livekit.yaml"
    path.touch(mode=0o600)
    path.write_text(yaml.safe_dump({**configuration(record), **more}))
    return path


def start(layout: Layout, record: Record, binaries: Binaries) -> None:
    """Start the server and return when it answers."""
    path = configure(layout, record, {})
    table = layout.processes
    process = table.start(
        "livekit-server", [binaries["livekit-server"], "--config", str(path)], netns=netns_name(record.name)
    )
    table.wait("a LiveKit server", lambda: answers(record), _START_TIMEOUT, process)


def answers(record: Record) -> bool:
    """Whether LiveKit answers `GET /` with OK, as it does once it serves."""
    return probe.answers(f"http://{record.subnets.node}:{PORT}/")
