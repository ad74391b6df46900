"""What a call says about itself before anybody has looked into it: id, address and program."""

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from urllib.parse import unquote

from shared.identity.actor import Call
from shared.ids import new_id

Network = IPv4Network | IPv6Network
Address = IPv4Address | IPv6Address

REQUEST_ID_HEADER = "x-request-id"
LONGEST_USER_AGENT = 512

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
# gRPC passes them on as they came; PostgreSQL stores no NUL, so that no entry could be written.
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def text_metadata(pairs: Iterable[tuple[str, str | bytes]] | None) -> dict[str, str]:
    """Return the metadata that is text; a repeated key is joined by commas, as in HTTP.

    Joining makes two `authorization` entries one credential that nothing accepts, instead of
    leaving it to chance which of them counts.
    """
    joined: dict[str, str] = {}
    for key, value in pairs or ():
        if isinstance(value, str):
            joined[key] = f"{joined[key]},{value}" if key in joined else value
    return joined


def describe_call(
    method: str, metadata: Mapping[str, str], peer: str, trusted: Sequence[Network]
) -> Call:
    """Return the call with the caller's request id, when it is a plain one, or else a new one."""
    given = metadata.get(REQUEST_ID_HEADER, "")
    user_agent = _CONTROLS.sub("\N{REPLACEMENT CHARACTER}", metadata.get("user-agent", ""))
    return Call(
        method=method,
        request_id=given if _REQUEST_ID.fullmatch(given) else str(new_id()),
        ip_address=client_address(peer, metadata.get("x-forwarded-for", ""), trusted),
        user_agent=user_agent[:LONGEST_USER_AGENT] or None,
    )


def client_address(peer: str, forwarded: str, trusted: Sequence[Network]) -> str | None:
    """Return the client's address: the peer's, or what trusted proxies say stands behind them.

    The forwarded addresses are read from the right: each proxy appends whom it saw, so the first
    one that is no trusted proxy is as far as anybody we trust can tell.
    """
    address = peer_address(peer)
    hops = [hop.strip() for hop in forwarded.split(",") if hop.strip()]
    while hops and address is not None and any(address in network for network in trusted):
        behind = _parse(hops.pop())
        if behind is None:
            break
        address = behind
    return str(address) if address is not None else None


@lru_cache(1_024)  # one connection makes many calls
def peer_address(peer: str) -> Address | None:
    """Return the address in gRPC's name of a peer, or None when it has none (a Unix socket).

    Peers are spelled `ipv4:10.0.0.1:443`, `ipv6:%5B::1%5D:443` (brackets escaped) or `unix:`.
    """
    scheme, _, rest = unquote(peer).partition(":")
    if scheme not in {"ipv4", "ipv6"}:
        return None
    host, _, _port = rest.rpartition(":")
    return _parse(host.strip("[]"))


def _parse(text: str) -> Address | None:
    """Read an address; an IPv4 one written as IPv6 is the IPv4 one, and a zone is dropped."""
    try:
        address = ip_address(text.partition("%")[0].strip("[]"))
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
