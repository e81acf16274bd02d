"""The network of an instance: a namespace for each node, and a /16 that is divided into subnets.

A veth pair connects the first node's namespace to the host; that node routes for the others. Every daemon runs inside a
namespace. So its ports conflict neither with the machine's nor with another instance's, and deleting the namespaces
removes kube-proxy's firewall rules.
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
        """The pods of all nodes."""
        return ipaddress.IPv4Network((self.whole.network_address, 17))

    @property
    def node(self) -> IPv4Address:
        """Address of the first node: API server and LiveKit."""
        return self.node_address(1)

    def node_pods(self, number: int) -> IPv4Network:
        """The pods of one node, and its own address."""
        return list(self.pods.subnets(new_prefix=20))[number - 1]

    def node_address(self, number: int) -> IPv4Address:
        """Node IP: the address of the node's pod bridge."""
        return self.node_pods(number)[1]

    def first_pod(self, number: int) -> IPv4Address:
        return self.node_pods(number)[16]

    def between_nodes(self, number: int) -> tuple[IPv4Address, IPv4Address]:
        """The ends of the link between the first node and another one, the first node's end first."""
        link = ipaddress.IPv4Network((self.whole[250 * 256 + 4 * number], 30))
        return link[1], link[2]

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
    """Create the first node's namespace, the veth pair, the bridge, and the host's route to it.

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
    _create_bridge(netns, subnets, 1)
    if pods:
        _forward_pods(netns)
    run(["ip", "route", "add", str(subnets.whole), "via", str(subnets.node_end), "dev", link])


def add_node(name: str, node: str, number: int, subnets: Subnets) -> None:
    """Create the namespace of another node, with a link to the first node, which routes between all others."""
    first, netns, link = netns_name(name), netns_name(node), node_link(number)
    near, far = subnets.between_nodes(number)
    outside, inside = ["ip", "-n", first], ["ip", "-n", netns]
    run(["ip", "netns", "add", netns])
    run([*outside, "link", "add", link, "type", "veth", "peer", "name", _UPLINK, "netns", netns])
    run([*outside, "addr", "add", f"{near}/30", "dev", link])
    run([*inside, "link", "set", "lo", "up"])
    run([*inside, "addr", "add", f"{far}/30", "dev", _UPLINK])
    run([*inside, "link", "set", _UPLINK, "up"])
    connect_node(name, number, subnets)
    run([*inside, "route", "add", "default", "via", str(near)])
    _create_bridge(netns, subnets, number)
    _forward_pods(netns)


def connect_node(name: str, number: int, subnets: Subnets) -> None:
    """Connect a node other than the first; the kernel deletes the route whenever the link goes down."""
    inside = ["ip", "-n", netns_name(name)]
    _, far = subnets.between_nodes(number)
    run([*inside, "link", "set", node_link(number), "up"])
    run([*inside, "route", "replace", str(subnets.node_pods(number)), "via", str(far)])


def disconnect_node(name: str, number: int) -> None:
    """Cut a node other than the first off from everything."""
    run(["ip", "-n", netns_name(name), "link", "set", node_link(number), "down"])


def cut_tcp(name: str, address: str, port: int, *, reset: bool) -> None:
    """Drop every TCP packet between a pod and a port of the first node, in both directions.

    With `reset`, the program at the port gets a reset when it sends something. The pod never learns of the cut.
    """
    for rule in _cut(address, port, reset=reset):
        run(_iptables(name, "--insert", rule))


def connect_tcp(name: str, address: str, port: int, *, reset: bool) -> None:
    """Forward again what `cut_tcp` drops, as far as it has begun to drop it."""
    for rule in _cut(address, port, reset=reset):
        if succeeds(_iptables(name, "--check", rule)):
            run(_iptables(name, "--delete", rule))


def _cut(address: str, port: int, *, reset: bool) -> list[list[str]]:
    """Return the rule of each direction, with its chain: a program of the first node serves the port.

    A reset has the pod's address and comes from the node itself, through `lo`, where nothing is dropped.
    """
    pod = ["!", "--in-interface", "lo", "--source", address]
    answer = ["--jump", "REJECT", "--reject-with", "tcp-reset"] if reset else ["--jump", "DROP"]
    return [
        ["INPUT", "--protocol", "tcp", *pod, "--dport", str(port), "--jump", "DROP"],
        ["OUTPUT", "--protocol", "tcp", "--destination", address, "--sport", str(port), *answer],
    ]


def cut_pod(name: str, address: str) -> None:
    """Drop every packet from and to a pod of the first node: the pod is cut off, and nothing learns of it."""
    for rule in _isolation(address):
        run(_iptables(name, "--insert", rule, "mangle"))


def connect_pod(name: str, address: str) -> None:
    """Forward again what `cut_pod` drops, as far as it has begun to drop it."""
    for rule in _isolation(address):
        if succeeds(_iptables(name, "--check", rule, "mangle")):
            run(_iptables(name, "--delete", rule, "mangle"))


def _isolation(address: str) -> list[list[str]]:
    """Return the rule of each direction, with its chain: every packet passes both, whoever sends or receives it."""
    return [
        ["PREROUTING", "--source", address, "--jump", "DROP"],
        ["POSTROUTING", "--destination", address, "--jump", "DROP"],
    ]


def _iptables(name: str, change: str, rule: list[str], table: str = "filter") -> list[str]:
    namespace = f"--net=/run/netns/{netns_name(name)}"
    return ["nsenter", namespace, "--", "iptables", "--wait", "--table", table, change, *rule]


def node_link(number: int) -> str:
    """Return the name of the first node's end of the link to another node."""
    return f"node-{number}"


def _create_bridge(netns: str, subnets: Subnets, number: int) -> None:
    """Create the pod bridge. The kubelet and LiveKit listen at its address, so it must exist before they start."""
    inside = ["ip", "-n", netns]
    address = f"{subnets.node_address(number)}/{subnets.node_pods(number).prefixlen}"
    run([*inside, "link", "add", POD_BRIDGE, "type", "bridge"])
    run([*inside, "addr", "add", address, "dev", POD_BRIDGE])
    run([*inside, "link", "set", POD_BRIDGE, "up"])


def _forward_pods(netns: str) -> None:
    """Forward packets of pods, and apply kube-proxy's rules to those between pods on the same bridge as well."""
    _load_bridge_filter()
    for setting in ("net.ipv4.ip_forward=1", "net.bridge.bridge-nf-call-iptables=1"):
        run(["nsenter", f"--net=/run/netns/{netns}", "--", "sysctl", "-q", "-w", setting])


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
    """Delete the link, with its route and its peer, and the namespaces, if they exist."""
    if _link_exists(name):
        run(["ip", "link", "delete", host_link(name)])
    for netns in _namespaces(name):
        run(["ip", "netns", "delete", netns])


def _namespaces(name: str) -> list[str]:
    """Return the namespaces of the instance's nodes: the first has its name, the others a dot and a number after it."""
    found = [line.split()[0] for line in run(["ip", "netns", "list"]).splitlines() if line]
    first = netns_name(name)
    return [netns for netns in found if netns == first or netns.startswith(f"{first}.")]


def _link_exists(name: str) -> bool:
    return succeeds(["ip", "link", "show", "dev", host_link(name)])


def traces(name: str) -> list[str]:
    """Return the instance's namespaces and the host's link, if they exist."""
    found = [f"network namespace {netns}" for netns in _namespaces(name)]
    return [*found, f"network link {host_link(name)}"] if _link_exists(name) else found
