"""The leaf encoding must never change: these hashes are part of the product."""

import hmac
import struct
from datetime import UTC, datetime
from hashlib import sha256
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from services.audit.rules import leaf
from services.audit.rules.events import leaf_values

SALT = bytes(range(16))
FULL = leaf_values(
    event_id=UUID("018f4e6a-1111-7aaa-8bbb-0123456789ab"),
    occurred_at=datetime(2026, 11, 22, 10, 30, 0, 123456, tzinfo=UTC),
    user_id=UUID("018F4E6A-2222-7AAA-8BBB-0123456789AB"),
    action="deploy",
    resource_type="deployment",
    resource_id="Zürich 🚀",
    details=b'{"environment":"prod"}',
    ip_address="2001:db8::1",
    user_agent="",
    category="change",
    producer="deployment",
    aggregate="deployment:018f4e6a-3333-7aaa-8bbb-0123456789ab",
    aggregate_seq=3,
)
BARE = leaf_values(
    event_id=UUID(int=0),
    occurred_at=datetime(1970, 1, 1, tzinfo=UTC),
    user_id=None,
    action="create",
    resource_type="team",
    resource_id="1",
    details=b"{}",
    ip_address=None,
    user_agent=None,
    category="change",
    producer="seed",
    aggregate=None,
    aggregate_seq=None,
)


def by_the_book(values: list[bytes | None], salt: bytes, index: int, micros: int) -> bytes:
    """Compute a leaf from the text of the encoding, sharing nothing with the implementation."""

    def lv(value: bytes | None) -> bytes:
        return struct.pack(">BI", 1, len(value)) + value if value is not None else b"\0"

    digest = sha256(b"audit.event/v1\n")
    for tag, value in zip(leaf.TAGS, values, strict=True):
        field_salt = sha256(b"audit.salt/v1\n" + salt + tag.encode()).digest()[:16]
        field = b"audit.field/v1\n" + field_salt + lv(tag.encode()) + lv(value)
        digest.update(sha256(field).digest())
    data = b"audit.leaf/v1\n" + struct.pack(">qq", index, micros) + digest.digest()
    assert len(data) == 62
    return sha256(b"\0" + data).digest()


def test_a_full_entry_has_the_digest_it_always_had() -> None:
    digest = leaf.event_digest(FULL, SALT)
    assert digest.hex() == "4830268432b13e9c81368b775759c0086521715020c75a4a7c13d72fb8f07888"
    assert (
        leaf.leaf_hash(7, 1_795_343_400_123_456, digest).hex()
        == "77215e3d7fbed864646ec26f551c45f7300624c281ec5eb74f85b8de1ce5bb44"
    )


def test_a_bare_entry_has_the_digest_it_always_had() -> None:
    digest = leaf.event_digest(BARE, bytes(16))
    assert digest.hex() == "3f9f6ab7a5c77fd281055978daa011359712182e603cb950eedb324838288a8b"
    assert (
        leaf.leaf_hash(0, 0, digest).hex()
        == "fe93fc71ac40cfeb99707f9bd6d7dfac434eef6e2433ee6e575cd0bc0a30226c"
    )


def test_the_request_mac_is_what_it_always_was() -> None:
    key = leaf.request_key(b"\x01" * 32)
    assert key == hmac.digest(b"\x01" * 32, b"audit.request/v1", "sha256")
    assert (
        leaf.request_mac(key, BARE).hex()
        == "cd5a9e971f824bbe3296e24d6e88ae53deeff05eab30f1239361d9e347c6a379"
    )


def test_values_are_encoded_as_documented() -> None:
    encoded = dict(zip(leaf.TAGS, FULL, strict=True))
    assert encoded["event_id"] == bytes.fromhex("018f4e6a11117aaa8bbb0123456789ab")
    assert encoded["occurred_at"] == b"1795343400123456"
    assert encoded["user_id"] == b"018f4e6a-2222-7aaa-8bbb-0123456789ab"
    assert encoded["resource_id"] == "Zürich 🚀".encode()
    assert encoded["aggregate_seq"] == b"3"
    assert encoded["user_agent"] == b""


values = st.lists(st.none() | st.binary(max_size=40), min_size=13, max_size=13)


@given(values, st.binary(min_size=16, max_size=16), st.integers(0, 2**62), st.integers(0, 2**62))
def test_it_agrees_with_the_text(
    fields: list[bytes | None], salt: bytes, index: int, micros: int
) -> None:
    computed = leaf.leaf_hash(index, micros, leaf.event_digest(fields, salt))
    assert computed == by_the_book(fields, salt, index, micros)


@given(values, values)
def test_different_entries_never_share_a_mac_or_digest(
    one: list[bytes | None], other: list[bytes | None]
) -> None:
    same = one == other
    assert (leaf.event_digest(one, SALT) == leaf.event_digest(other, SALT)) is same
    assert (leaf.request_mac(SALT, one) == leaf.request_mac(SALT, other)) is same


def test_absent_and_empty_differ() -> None:
    assert leaf.length_value(None) != leaf.length_value(b"")


def test_a_value_of_any_length_has_its_length_before_it() -> None:
    for length in (0, 1, 255, 256, 1_023, 1_024, 1_025, 65_536):
        value = b"x" * length
        assert leaf.length_value(value) == b"\x01" + struct.pack(">I", length) + value
