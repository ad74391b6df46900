"""Identifiers: UUID version 7 (RFC 9562), ordered by time of creation."""

import os
import time
from datetime import UTC, datetime
from uuid import UUID

_VERSION_7 = 0x7 << 76
_VARIANT = 0b10 << 62
_RANDOM_A = 0xFFF << 64
_RANDOM_B = (1 << 62) - 1


def new_id() -> UUID:
    """Return a new UUIDv7: 48 bits of Unix milliseconds, then 74 random bits."""
    return _version_7(time.time_ns() // 1_000_000)


def new_id_at(moment: datetime) -> UUID:
    """Return a UUIDv7 for a past or future moment, as seeded data needs."""
    return _version_7(int(moment.timestamp() * 1000))


def _version_7(milliseconds: int) -> UUID:
    random = int.from_bytes(os.urandom(10))
    return UUID(
        int=(milliseconds << 80)
        | _VERSION_7
        | (random & _RANDOM_A)
        | _VARIANT
        | (random & _RANDOM_B)
    )


def id_time(value: UUID) -> datetime | None:
    """Return the moment a UUIDv7 was made, or None for any other UUID."""
    if value.version != 7:  # noqa: PLR2004  (the version this module is about)
        return None
    return datetime.fromtimestamp((value.int >> 80) / 1000, UTC)


def parse_id(text: str) -> UUID | None:
    """Return the UUID that `text` spells in the canonical form of RFC 9562, else None.

    Braces, `urn:uuid:` and missing hyphens are other spellings that `UUID` would accept; names
    are looked up instead, so that one thing has one spelling.
    """
    try:
        value = UUID(text)
    except ValueError:
        return None
    return value if str(value) == text.lower() else None
