"""Addresses of an instance."""

from ipaddress import IPv4Address, IPv4Network

import pytest

from devkit.errors import DevkitError
from devkit.instance import MAX_NODES
from devkit.network import Subnets, choose_subnets, host_link, parse_routes


def test_first_instance_gets_first_subnet() -> None:
    assert choose_subnets([]).whole == IPv4Network("10.100.0.0/16")


@pytest.mark.parametrize(
    ("taken", "chosen"),
    [
        pytest.param(["10.100.0.0/16"], "10.101.0.0/16", id="another instance has the first"),
        pytest.param(["10.100.255.0/30"], "10.101.0.0/16", id="a link inside the first is enough"),
        pytest.param(["10.96.0.0/13"], "10.104.0.0/16", id="a wide route of the machine covers several"),
        pytest.param(["192.0.2.0/24"], "10.100.0.0/16", id="routes elsewhere do not matter"),
    ],
)
def test_used_subnet_is_skipped(taken: list[str], chosen: str) -> None:
    assert choose_subnets(IPv4Network(text) for text in taken).whole == IPv4Network(chosen)


def test_error_without_free_subnet_says_what_to_do() -> None:
    with pytest.raises(DevkitError, match="devkit down --name"):
        choose_subnets([IPv4Network("10.0.0.0/8")])


def test_parts_of_a_subnet_do_not_overlap() -> None:
    subnets = Subnets(IPv4Network("10.103.0.0/16"))
    link = IPv4Network(f"{subnets.host_end}/30", strict=False)
    pods = [subnets.node_pods(number) for number in range(1, MAX_NODES + 1)]
    assert all(part.subnet_of(subnets.pods) for part in pods)
    between = IPv4Network(f"{subnets.between_nodes(2)[0]}/30", strict=False)
    assert subnets.between_nodes(2)[1] in between
    parts = [*pods, between, subnets.services, subnets.internet, link]
    assert all(part.subnet_of(subnets.whole) for part in parts)
    assert not any(one.overlaps(other) for one in parts for other in parts if one is not other)
    assert subnets.node_end in link


def test_special_addresses_are_where_kubernetes_expects_them() -> None:
    subnets = Subnets(IPv4Network("10.100.0.0/16"))
    assert subnets.node == IPv4Address("10.100.0.1")
    assert subnets.first_pod(1) > subnets.node
    assert subnets.node_address(2) in subnets.node_pods(2)
    assert subnets.first_service == subnets.services[1]
    assert subnets.dns in subnets.services


def test_machine_routes_exclude_default_and_ipv6() -> None:
    text = '[{"dst":"default"},{"dst":"192.0.2.0/24"},{"dst":"127.0.0.1"},{"dst":"fe80::/64"}]'
    assert parse_routes(text) == [IPv4Network("192.0.2.0/24"), IPv4Network("127.0.0.1/32")]


def test_longest_instance_name_fits_into_link_name() -> None:
    assert len(host_link("a" * 10)) <= 15
