"""An instance's network: a namespace of its own, one veth pair to the host, one /16 cut into subnets.

Every daemon runs inside the namespace, so ports never clash with the machine or with another instance, and the
firewall rules of kube-proxy go away with it.
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
"""Settings of the kernel module br_netfilter; there only while it is loaded."""


@dataclass(frozen=True)
class Subnets:
    """Every address of an instance, out of its own /16."""

    whole: IPv4Network

    @property
    def pods(self) -> IPv4Network:
        return ipaddress.IPv4Network((self.whole.network_address, 20))

    @property
    def node(self) -> IPv4Address:
        """The pod bridge's own address: node IP, API server, LiveKit."""
        return self.pods[1]

    @property
    def first_pod(self) -> IPv4Address:
        return self.pods[16]

    @property
    def services(self) -> IPv4Network:
        return ipaddress.IPv4Network((self.whole[128 * 256], 20))

    @property
    def first_service(self) -> IPv4Address:
        """Always given to `kubernetes.default`."""
        return self.services[1]

    @property
    def dns(self) -> IPv4Address:
        return self.services[10]

    @property
    def internet(self) -> IPv4Network:
        """Between the namespace and slirp4netns, only for an instance with a way out."""
        return ipaddress.IPv4Network((self.whole[254 * 256], 24))

    @property
    def host_end(self) -> IPv4Address:
        return self.whole[255 * 256 + 1]

    @property
    def node_end(self) -> IPv4Address:
        return self.whole[255 * 256 + 2]


def choose_subnets(taken: Iterable[IPv4Network]) -> Subnets:
    """The first /16 that overlaps nothing in `taken` (routes of the machine, other instances)."""
    used = list(taken)
    for second in range(_FIRST, _FIRST + _COUNT):
        candidate = IPv4Network(f"10.{second}.0.0/16")
        if not any(candidate.overlaps(other) for other in used):
            return Subnets(candidate)
    raise DevkitError(
        f"no free subnet between 10.{_FIRST}.0.0/16 and 10.{_FIRST + _COUNT - 1}.0.0/16: "
        "take instances down with `python -m devkit down --name NAME`, or look at `ip route`"
    )


def parse_routes(text: str) -> list[IPv4Network]:
    """Destinations out of `ip -json route show table all`; the default route and IPv6 are left out."""
    found = []
    for route in json.loads(text or "[]"):
        destination = str(route["dst"])
        if destination != "default" and ":" not in destination:
            found.append(IPv4Network(destination, strict=False))
    return found


def host_routes() -> list[IPv4Network]:
    """Every IPv4 destination this machine already routes."""
    return parse_routes(run(["ip", "-4", "-json", "route", "show", "table", "all"]))


def _host_addresses() -> list[str]:
    """This machine's own IPv4 addresses, apart from loopback and its ends of other instances' links."""
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
    """Name of the host's end of the veth pair; the kernel allows 15 characters."""
    return f"{_LINK_PREFIX}{name}"


def create(name: str, subnets: Subnets, *, pods: bool) -> None:
    """Make the namespace, the veth pair, the bridge and the host's route into it.

    `pods` says that pods will be on the bridge: what they send each other then passes kube-proxy's rules too.
    """
    netns, link = netns_name(name), host_link(name)
    if _link_exists(name):
        raise DevkitError(f"the network link {link} exists already and is not ours: `ip link delete {link}`")
    run(["ip", "netns", "add", netns])
    inside = ["ip", "-n", netns]
    run(["ip", "link", "add", link, "type", "veth", "peer", "name", _UPLINK, "netns", netns])
    run(["ip", "addr", "add", f"{subnets.host_end}/30", "dev", link])
    run(["ip", "link", "set", link, "up"])
    run([*inside, "link", "set", "lo", "up"])
    run([*inside, "addr", "add", f"{subnets.node_end}/30", "dev", _UPLINK])
    run([*inside, "link", "set", _UPLINK, "up"])
    # Replies to whichever of its addresses this machine speaks from; anything else fails at once, not after minutes.
    for address in _host_addresses():
        run([*inside, "route", "replace", address, "via", str(subnets.host_end)])
    run([*inside, "route", "add", "unreachable", "default"])
    # The bridge has to exist before the kubelet and LiveKit start: its address is theirs.
    run([*inside, "link", "add", POD_BRIDGE, "type", "bridge"])
    run([*inside, "addr", "add", f"{subnets.node}/{subnets.pods.prefixlen}", "dev", POD_BRIDGE])
    run([*inside, "link", "set", POD_BRIDGE, "up"])
    if pods:
        _load_bridge_filter()
        for setting in ("net.ipv4.ip_forward=1", "net.bridge.bridge-nf-call-iptables=1"):
            run(["nsenter", f"--net=/run/netns/{netns}", "--", "sysctl", "-q", "-w", setting])
    run(["ip", "route", "add", str(subnets.whole), "via", str(subnets.node_end), "dev", link])


def _load_bridge_filter() -> None:
    """Load the one kernel module that nothing loads by itself; those of containerd and iptables come when asked for."""
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
    """Remove the link (its route and its peer go with it) and the namespace; what is not there is no error."""
    if _link_exists(name):
        run(["ip", "link", "delete", host_link(name)])
    if exists(name):
        run(["ip", "netns", "delete", netns_name(name)])


def exists(name: str) -> bool:
    """Whether the namespace of that instance exists."""
    return any(line.split()[:1] == [netns_name(name)] for line in run(["ip", "netns", "list"]).splitlines())


def _link_exists(name: str) -> bool:
    return succeeds(["ip", "link", "show", "dev", host_link(name)])


def traces(name: str) -> list[str]:
    """The namespace and the host's link of an instance, those that exist."""
    found = [f"network namespace {netns_name(name)}"] if exists(name) else []
    return [*found, f"network link {host_link(name)}"] if _link_exists(name) else found
