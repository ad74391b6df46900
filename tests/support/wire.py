"""Protobuf by hand: bytes that no library would write."""

from typing import Final

VARINT: Final = 0
FIXED64: Final = 1
BYTES: Final = 2
GROUP: Final = 3
GROUP_END: Final = 4
FIXED32: Final = 5


def varint(value: int) -> bytes:
    """Return a base-128 varint of a number that is not negative."""
    out = bytearray()
    while True:
        value, low = value >> 7, value & 0x7F
        out.append(low | (0x80 if value else 0))
        if not value:
            return bytes(out)


def tag(number: int, kind: int) -> bytes:
    """Return what stands before a field."""
    return varint(number << 3 | kind)


def block(number: int, payload: bytes) -> bytes:
    """Return a field of text, bytes or a message."""
    return tag(number, BYTES) + varint(len(payload)) + payload


def struct(key: bytes, value: bytes) -> bytes:
    """Return the content of a Struct with one member, whose Value is given as bytes."""
    return block(1, block(1, key) + block(2, value))


def nested_structs(depth: int) -> bytes:
    """Return the content of a Struct that has `depth` levels of objects, itself included."""
    content = b""
    for _ in range(depth - 1):
        content = struct(b"a", block(5, content))
    return content


def nested_groups(depth: int) -> bytes:
    """Return an unknown field of groups within groups."""
    return tag(900, GROUP) * depth + tag(900, GROUP_END) * depth
