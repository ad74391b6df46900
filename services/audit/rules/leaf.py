r"""The leaf encoding `audit.leaf/v1`: from the fields of an entry to its leaf in the Merkle tree.

Fixed for ever: a change is a new version beside this one, and `leaf_version` of a row says which
applies. Integers are big-endian, `||` joins bytes, quoted text is ASCII.

    LV(x)         = 0x00 when x is absent, else 0x01 || u32 length of x || x
    salt_i        = first 16 bytes of SHA-256("audit.salt/v1\n" || salt || tag_i)
    commitment_i  = SHA-256("audit.field/v1\n" || salt_i || LV(tag_i) || LV(value_i))
    event_digest  = SHA-256("audit.event/v1\n" || commitment_1 || … || commitment_13)
    leaf          = "audit.leaf/v1\n" || i64 leaf_index || i64 created_at || event_digest
    leaf_hash     = SHA-256(0x00 || leaf)                                   (RFC 6962, 2.1)

`salt` is 16 random bytes, another for each entry; `created_at` is in microseconds since 1970. The
tags are the names in TAGS, in that order. A value is the UTF-8 of the stored text, except:

    event_id        16 raw bytes
    occurred_at     microseconds since 1970 as decimal digits
    user_id         the UUID in lower case with hyphens
    details         the JSON object in the canonical form of RFC 8785
    ip_address      dotted for IPv4, RFC 5952 in hexadecimal for IPv6
    aggregate_seq   decimal digits

Absent and empty differ. Each field has its own salted commitment, so that one field can be blanked
later and the others still prove themselves: whoever has neither the entry's salt nor the field's
own salt cannot guess a blanked value from its commitment.
"""

import hmac
from collections.abc import Sequence
from hashlib import sha256

SALT_BYTES = 16
LEAF_VERSION = 1
TAGS = (
    "event_id",
    "occurred_at",
    "user_id",
    "action",
    "resource_type",
    "resource_id",
    "details",
    "ip_address",
    "user_agent",
    "category",
    "producer",
    "aggregate",
    "aggregate_seq",
)

Value = bytes | None

_FIELD_SALT = b"audit.salt/v1\n"
_FIELD = b"audit.field/v1\n"
_EVENT = b"audit.event/v1\n"
_LEAF = b"\x00audit.leaf/v1\n"
_REQUEST = b"audit.request/v1\n"


# The beginning of LV(x) for lengths as most values have them.
_LENGTHS = tuple(b"\x01" + length.to_bytes(4) for length in range(1_024))


def length_value(value: Value) -> bytes:
    """Return LV(value), which no other value shares."""
    if value is None:
        return b"\x00"
    length = len(value)
    return (_LENGTHS[length] if length < 1_024 else b"\x01" + length.to_bytes(4)) + value  # noqa: PLR2004


_TAGS = tuple((tag.encode(), length_value(tag.encode())) for tag in TAGS)


def commitments(values: Sequence[Value], salt: bytes) -> list[bytes]:
    """Return the commitment of each field, for values in the order of TAGS."""
    prefix = _FIELD_SALT + salt
    return [
        sha256(_FIELD + sha256(prefix + tag).digest()[:SALT_BYTES] + tag_lv + value_lv).digest()
        for (tag, tag_lv), value_lv in zip(_TAGS, map(length_value, values), strict=True)
    ]


def commitment(tag: str, value: Value, field_salt: bytes) -> bytes:
    """Return the commitment of one field under its own salt, salt_i."""
    message = _FIELD + field_salt + length_value(tag.encode()) + length_value(value)
    return sha256(message).digest()


def digest_of(committed: Sequence[bytes]) -> bytes:
    """Return the event digest, for commitments in the order of TAGS."""
    return sha256(_EVENT + b"".join(committed)).digest()


def field_salt(salt: bytes, tag: str) -> bytes:
    """Return the salt of one field; the entry's salt cannot be computed from it."""
    return sha256(_FIELD_SALT + salt + tag.encode()).digest()[:SALT_BYTES]


def event_digest(values: Sequence[Value], salt: bytes) -> bytes:
    """Return the 32 bytes that stand for all fields, for values in the order of TAGS."""
    return digest_of(commitments(values, salt))


def leaf_hash(leaf_index: int, created_at_us: int, digest: bytes) -> bytes:
    """Return the leaf of the entry at `leaf_index`, stored at `created_at_us` (µs since 1970)."""
    return sha256(
        _LEAF
        + leaf_index.to_bytes(8, signed=True)
        + created_at_us.to_bytes(8, signed=True)
        + digest
    ).digest()


def request_mac(key: bytes, values: Sequence[Value]) -> bytes:
    """Return the keyed digest that tells a repeated event from another one under the same id.

    `values` are what the producer sent, in the order of TAGS, absent where it sent nothing. The
    key keeps the stored digest from confirming a guess of a field that was blanked since.
    """
    message = _REQUEST + b"".join(map(length_value, values))
    return hmac.digest(key, message, "sha256")


def request_key(secret: bytes) -> bytes:
    """Derive the key of `request_mac` from the installation's secret."""
    return hmac.digest(secret, b"audit.request/v1", "sha256")
