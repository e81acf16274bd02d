"""A way out for instances that talk to real providers: slirp4netns carries the namespace's traffic as ordinary sockets.

Nothing on the host changes for it, no forwarding and no firewall rule, and it ends with its process.
"""

from ipaddress import IPv4Address

from devkit.commands import run, succeeds
from devkit.instance import Layout, Record
from devkit.network import netns_name

_LINK = "internet"
_BOUND = 15.0


def resolver(record: Record) -> IPv4Address:
    """slirp4netns answers DNS at the third address of its network, with the host's own resolver."""
    return record.subnets.internet[3]


def start(layout: Layout, record: Record) -> None:
    """Open the way out and send everything through it that belongs to nothing else."""
    netns, subnet, table = netns_name(record.name), record.subnets.internet, layout.processes
    command = ["slirp4netns", "--netns-type=path", f"--cidr={subnet}", "--disable-host-loopback", "--mtu=1500"]
    process = table.start("internet", [*command, f"/run/netns/{netns}", _LINK])
    inside = ["ip", "-n", netns]
    table.wait("a way to the internet", lambda: succeeds([*inside, "link", "show", _LINK]), _BOUND, process)
    run([*inside, "address", "add", f"{subnet[100]}/{subnet.prefixlen}", "dev", _LINK])
    run([*inside, "link", "set", _LINK, "up"])
    run([*inside, "route", "delete", "unreachable", "default"])
    run([*inside, "route", "add", "default", "via", str(subnet[2]), "dev", _LINK])
    rule = ["-t", "nat", "-A", "POSTROUTING", "-o", _LINK, "-j", "MASQUERADE"]
    run(["nsenter", f"--net=/run/netns/{netns}", "--", "iptables", *rule])
