"""Where webhooks may be sent: to https, and never into the network of this service.

Whoever may make a webhook could otherwise have this service ask machines that only it can reach. An
operator can name hosts that are inside and are meant.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import Final
from urllib.parse import SplitResult, urlsplit

# Addresses of IPv4 inside of ones of IPv6, which a translator on the way would take out.
_TRANSLATED: Final = (
    IPv6Network("64:ff9b::/96"),
    IPv6Network("64:ff9b:1::/48"),
    IPv6Network("2002::/16"),
    IPv6Network("2001::/32"),
    IPv6Network("::/96"),
)
_GLOBAL: Final = IPv6Network("2000::/3")
_PRINTABLE: Final = re.compile(r"[!-~]+")
DEFAULT_PORTS: Final = {"https": 443, "http": 80}


class TargetRefused(Exception):
    """Nothing is sent there; the text says why."""


@dataclass(frozen=True, slots=True)
class Targets:
    """What an operator allows: hosts that may be inside, in lower case, and http without TLS."""

    allowed_hosts: Collection[str] = ()
    plain_http: bool = False

    def check_url(self, url: str) -> None:
        """Raise TargetRefused for a URL that is refused whatever its host's addresses are."""
        parts = _split(url)
        if parts.scheme not in (DEFAULT_PORTS if self.plain_http else {"https"}):
            raise TargetRefused("must begin with https://")
        if parts.username is not None or parts.password is not None:
            raise TargetRefused("must not have a user name or a password")
        if parts.fragment or "#" in url:
            raise TargetRefused("must not have a fragment")
        host = parts.hostname
        if not host:
            raise TargetRefused("must name a host")
        try:
            address = ip_address(host)
        except ValueError:
            # Such as 127.1, which some take for an address; a name is checked when it is resolved.
            if not host.strip("0123456789.") or ":" in host:
                raise TargetRefused("must name a host") from None
            return
        self.check_address(host, address)

    def check_address(self, host: str, address: IPv4Address | IPv6Address) -> None:
        """Raise TargetRefused for an address that is not one of the public network."""
        if host.lower() not in self.allowed_hosts and not is_public(address):
            raise TargetRefused("leads to an address that is not public")


def is_public(address: IPv4Address | IPv6Address) -> bool:
    """Tell whether an address is one that anybody in the internet could reach."""
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return is_public(address.ipv4_mapped)
        if address not in _GLOBAL or any(address in network for network in _TRANSLATED):
            return False
    return address.is_global and not (address.is_multicast or address.is_reserved)


def _split(url: str) -> SplitResult:
    if not _PRINTABLE.fullmatch(url) or "\\" in url:
        raise TargetRefused("must be written in printable ASCII, without spaces")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise TargetRefused("must be a URL, such as https://example.com/hook") from error
    if port == 0:
        raise TargetRefused("must not have the port 0")
    return parts
