"""The network of an instance: its own namespace, a veth pair to the host, and a /16 that is divided into subnets.

Every daemon runs inside the namespace. So its ports conflict neither with the machine's nor with another instance's,
and deleting the namespace removes kube-proxy's firewall rules.
"""

import ipaddress
import json
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from devkit.commands import run, succeeds
from devkit.errors import DevkitError

POD_BRIDGE = "pods"
_UPLINK = "uplink"
_LINK_PREFIX = "ava-"
# 10.100.0.0/16 for the first instance, 10.101.0.0/16 for the second, ...
_FIRST, _COUNT = 100, 64
BRIDGE_FILTER = Path("/proc/sys/net/bridge")
"""Settings of the kernel module br_netfilter; the folder exists only while the module is loaded."""


@dataclass(frozen=True)
class Subnets:
    """All addresses of an instance, from its own /16."""

    whole: IPv4Network

    @property
    def pods(self) -> IPv4Network:
        return ipaddress.IPv4Network((self.whole.network_address, 20))

    @property
    def node(self) -> IPv4Address:
        """Address of the pod bridge: node IP, API server and LiveKit."""
        return self.pods[1]

    @property
    def first_pod(self) -> IPv4Address:
        return self.pods[16]

    @property
    def services(self) -> IPv4Network:
        return ipaddress.IPv4Network((self.whole[128 * 256], 20))

    @property
    def first_service(self) -> IPv4Address:
        """Address of the Service `kubernetes.default`."""
        return self.services[1]

    @property
    def dns(self) -> IPv4Address:
        return self.services[10]

    @property
    def internet(self) -> IPv4Network:
        """Subnet between the namespace and slirp4netns, for an instance with access to the internet."""
        return ipaddress.IPv4Network((self.whole[254 * 256], 24))

    @property
    def host_end(self) -> IPv4Address:
        return self.whole[255 * 256 + 1]

    @property
    def node_end(self) -> IPv4Address:
        return self.whole[255 * 256 + 2]


def choose_subnets(taken: Iterable[IPv4Network]) -> Subnets:
    """Return the first /16 that overlaps none in `taken`: the machine's routes and other instances."""
    used = list(taken)
    for second in range(_FIRST, _FIRST + _COUNT):
        candidate = IPv4Network(f"10.{second}.0.0/16")
        if not any(candidate.overlaps(other) for other in used):
            return Subnets(candidate)
    raise DevkitError(
        f"no free subnet between 10.{_FIRST}.0.0/16 and 10.{_FIRST + _COUNT - 1}.0.0/16: "
        "remove an instance with `python -m devkit down --name NAME`, or check `ip route`"
    )


def parse_routes(text: str) -> list[IPv4Network]:
    """Return the destinations in the output of `ip -json route show table all`, without the default route and IPv6."""
    found = []
    for route in json.loads(text or "[]"):
        destination = str(route["dst"])
        if destination != "default" and ":" not in destination:
            found.append(IPv4Network(destination, strict=False))
    return found


def host_routes() -> list[IPv4Network]:
    """Return every IPv4 destination that this machine routes."""
    return parse_routes(run(["ip", "-4", "-json", "route", "show", "table", "all"]))


def _host_addresses() -> list[str]:
    """Return this machine's IPv4 addresses, without loopback and the links to instances."""
    links = json.loads(run(["ip", "-4", "-json", "address", "show", "scope", "global"]))
    return [
        str(address["local"])
        for link in links
        if not str(link["ifname"]).startswith(_LINK_PREFIX)
        for address in link["addr_info"]
    ]


def netns_name(name: str) -> str:
    return f"avatar-agent-{name}"


def host_link(name: str) -> str:
    """Return the name of the host's end of the veth pair; the kernel allows 15 characters."""
    return f"{_LINK_PREFIX}{name}"


def create(name: str, subnets: Subnets, *, pods: bool) -> None:
    """Create the namespace, the veth pair, the bridge, and the host's route to it.

    With `pods`, traffic between pods on the bridge passes kube-proxy's rules as well.
    """
    netns, link = netns_name(name), host_link(name)
    if _link_exists(name):
        raise DevkitError(f"the network link {link} already exists: run `ip link delete {link}`")
    run(["ip", "netns", "add", netns])
    inside = ["ip", "-n", netns]
    run(["ip", "link", "add", link, "type", "veth", "peer", "name", _UPLINK, "netns", netns])
    run(["ip", "addr", "add", f"{subnets.host_end}/30", "dev", link])
    run(["ip", "link", "set", link, "up"])
    run([*inside, "link", "set", "lo", "up"])
    run([*inside, "addr", "add", f"{subnets.node_end}/30", "dev", _UPLINK])
    run([*inside, "link", "set", _UPLINK, "up"])
    # Route replies to every address of this machine. Anything else fails at once instead of after minutes.
    for address in _host_addresses():
        run([*inside, "route", "replace", address, "via", str(subnets.host_end)])
    run([*inside, "route", "add", "unreachable", "default"])
    # The kubelet and LiveKit listen at the bridge's address, so it must exist before they start.
    run([*inside, "link", "add", POD_BRIDGE, "type", "bridge"])
    run([*inside, "addr", "add", f"{subnets.node}/{subnets.pods.prefixlen}", "dev", POD_BRIDGE])
    run([*inside, "link", "set", POD_BRIDGE, "up"])
    if pods:
        _load_bridge_filter()
        for setting in ("net.ipv4.ip_forward=1", "net.bridge.bridge-nf-call-iptables=1"):
            run(["nsenter", f"--net=/run/netns/{netns}", "--", "sysctl", "-q", "-w", setting])
    run(["ip", "route", "add", str(subnets.whole), "via", str(subnets.node_end), "dev", link])


def _load_bridge_filter() -> None:
    """Load br_netfilter, which the kernel does not load by itself, unlike the modules of containerd and iptables."""
    if BRIDGE_FILTER.exists():
        return
    try:
        run(["modprobe", "br_netfilter"])
    except DevkitError as error:
        raise DevkitError(
            f"Services need the kernel module br_netfilter: run `modprobe br_netfilter` where this machine's "
            f"kernel is administered ({error})"
        ) from error


def delete(name: str) -> None:
    """Delete the link, with its route and its peer, and the namespace, if they exist."""
    if _link_exists(name):
        run(["ip", "link", "delete", host_link(name)])
    if exists(name):
        run(["ip", "netns", "delete", netns_name(name)])


def exists(name: str) -> bool:
    """Whether the instance's namespace exists."""
    return any(line.split()[:1] == [netns_name(name)] for line in run(["ip", "netns", "list"]).splitlines())


def _link_exists(name: str) -> bool:
    return succeeds(["ip", "link", "show", "dev", host_link(name)])


def traces(name: str) -> list[str]:
    """Return the instance's namespace and the host's link, if they exist."""
    found = [f"network namespace {netns_name(name)}"] if exists(name) else []
    return [*found, f"network link {host_link(name)}"] if _link_exists(name) else found
