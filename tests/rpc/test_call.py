"""Addresses: of peers as gRPC spells them, and of clients behind proxies."""

from ipaddress import ip_network

import pytest

from shared.rpc.call import client_address, text_metadata

PROXIES = (ip_network("10.0.0.0/8"), ip_network("fd00::/8"))


@pytest.mark.parametrize(
    ("peer", "address"),
    [
        ("ipv4:192.0.2.1:5000", "192.0.2.1"),
        ("ipv6:%5B::1%5D:5000", "::1"),
        ("ipv6:[2001:db8::1]:5000", "2001:db8::1"),
        ("ipv6:%5Bfe80::1%25eth0%5D:5000", "fe80::1"),
        ("ipv6:%5B::ffff:192.0.2.1%5D:5000", "192.0.2.1"),
        ("unix:/tmp/socket", None),
        ("unix:", None),
        ("", None),
        ("ipv4:nonsense:1", None),
    ],
)
def test_peers(peer: str, address: str | None) -> None:
    assert client_address(peer, "", ()) == address


@pytest.mark.parametrize(
    ("peer", "forwarded", "address"),
    [
        ("ipv4:10.0.0.1:1", "203.0.113.7", "203.0.113.7"),
        ("ipv4:10.0.0.1:1", "1.1.1.1, 203.0.113.7, 10.9.9.9", "203.0.113.7"),
        ("ipv4:10.0.0.1:1", "", "10.0.0.1"),
        ("ipv4:10.0.0.1:1", "10.2.2.2", "10.2.2.2"),
        ("ipv4:10.0.0.1:1", "'; DROP TABLE users", "10.0.0.1"),
        ("ipv4:192.0.2.1:1", "203.0.113.7", "192.0.2.1"),
        ("ipv6:%5Bfd00::1%5D:1", "[2001:db8::7]", "2001:db8::7"),
        ("unix:/tmp/s", "203.0.113.7", None),
    ],
)
def test_forwarded_addresses(peer: str, forwarded: str, address: str | None) -> None:
    assert client_address(peer, forwarded, PROXIES) == address


def test_repeated_keys_are_joined_and_binary_ones_left_out() -> None:
    pairs: list[tuple[str, str | bytes]] = [("a", "1"), ("b-bin", b"\x00"), ("a", "2")]
    assert text_metadata(pairs) == {"a": "1,2"}
