"""The Merkle tree as RFC 6962 defines it, by plain recursion, to hold the product's against."""

from collections.abc import Sequence
from hashlib import sha256


def leaves(count: int) -> list[bytes]:
    """Return the hashes of that many different leaves."""
    return [sha256(b"\x00%d" % number).digest() for number in range(count)]


def root(hashes: Sequence[bytes]) -> bytes:
    """Return MTH of leaves given by their hashes."""
    if not hashes:
        return sha256(b"").digest()
    if len(hashes) == 1:
        return hashes[0]
    middle = _split(len(hashes))
    return sha256(b"\x01" + root(hashes[:middle]) + root(hashes[middle:])).digest()


def path(index: int, hashes: Sequence[bytes]) -> list[bytes]:
    """Return PATH(index, D[n])."""
    if len(hashes) == 1:
        return []
    middle = _split(len(hashes))
    if index < middle:
        return [*path(index, hashes[:middle]), root(hashes[middle:])]
    return [*path(index - middle, hashes[middle:]), root(hashes[:middle])]


def proof(old: int, hashes: Sequence[bytes], *, whole: bool = True) -> list[bytes]:
    """Return SUBPROOF(m, D[n], b)."""
    if old == len(hashes):
        return [] if whole else [root(hashes)]
    middle = _split(len(hashes))
    if old <= middle:
        return [*proof(old, hashes[:middle], whole=whole), root(hashes[middle:])]
    return [*proof(old - middle, hashes[middle:], whole=False), root(hashes[:middle])]


def _split(count: int) -> int:
    return 1 << ((count - 1).bit_length() - 1)
