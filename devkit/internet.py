"""Internet access for instances that use real providers.

slirp4netns carries the namespace's traffic through ordinary sockets of its process. The host needs no forwarding and no
firewall rule.
"""

from ipaddress import IPv4Address

from devkit.commands import run, succeeds
from devkit.instance import Layout, Record
from devkit.network import netns_name

_LINK = "internet"
_START_TIMEOUT = 15.0


def resolver(record: Record) -> IPv4Address:
    """Return the address of slirp4netns' DNS server, the third of its network; it uses the host's resolver."""
    return record.subnets.internet[3]


def start(layout: Layout, record: Record) -> None:
    """Start slirp4netns and make it the default route."""
    netns, subnet, table = netns_name(record.name), record.subnets.internet, layout.processes
    command = ["slirp4netns", "--netns-type=path", f"--cidr={subnet}", "--disable-host-loopback", "--mtu=1500"]
    process = table.start("internet", [*command, f"/run/netns/{netns}", _LINK])
    inside = ["ip", "-n", netns]
    table.wait("internet access", lambda: succeeds([*inside, "link", "show", _LINK]), _START_TIMEOUT, process)
    run([*inside, "address", "add", f"{subnet[100]}/{subnet.prefixlen}", "dev", _LINK])
    run([*inside, "link", "set", _LINK, "up"])
    run([*inside, "route", "delete", "unreachable", "default"])
    run([*inside, "route", "add", "default", "via", str(subnet[2]), "dev", _LINK])
    rule = ["-t", "nat", "-A", "POSTROUTING", "-o", _LINK, "-j", "MASQUERADE"]
    run(["nsenter", f"--net=/run/netns/{netns}", "--", "iptables", *rule])
