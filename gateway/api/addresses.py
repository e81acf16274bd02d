"""Addresses of clients: which address sent a request, and which addresses share one rate limit."""

from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address

from starlette.datastructures import Headers

_NAT64 = IPv6Network("64:ff9b::/96")
"""Prefix under which translators show IPv4 addresses to IPv6 servers (RFC 6052)."""
_IPV6_PREFIX = 64
"""An IPv6 customer gets a whole /64, so all addresses in it are one client."""


def client_address(headers: Headers, peer: str, proxy_hops: int) -> str:
    """Return the client's address: the entry that the outermost trusted proxy appended, or the peer's address.

    Some proxies append to the header line, others add another line. All lines together form one list, in their order
    (RFC 9110, 5.3). An entry that is not an address, such as ``unknown``, counts as the peer's.
    """
    lines = ",".join(headers.getlist("x-forwarded-for"))
    entries = [entry.strip() for entry in lines.split(",") if entry.strip()]
    forwarded = entries[-proxy_hops] if 0 < proxy_hops <= len(entries) else ""
    found = _parse(forwarded) or _parse(peer)
    return str(found) if found else peer


def rate_limit_key(address: str) -> str:
    """Return the text that all addresses of one client share: an IPv4 address, or the /64 of an IPv6 address."""
    found = _parse(address)
    if isinstance(found, IPv6Address):
        return str(IPv6Network((found, _IPV6_PREFIX), strict=False))
    return str(found) if found else address


def _parse(text: str) -> IPv4Address | IPv6Address | None:
    """Return the address in a text, which may have a port (Azure's gateway adds one), brackets or a zone."""
    text = text.strip('"')
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        found = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    if isinstance(found, IPv6Address):
        if found.ipv4_mapped:
            return found.ipv4_mapped
        if found in _NAT64:
            return IPv4Address(int(found) & 0xFFFFFFFF)
    return found
