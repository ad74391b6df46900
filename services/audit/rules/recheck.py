"""An entry computed anew from its stored fields, none of which may differ in a single byte."""

import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from services.audit.rules import redaction
from services.audit.rules.canonical import canonical
from services.audit.rules.events import leaf_values, microseconds
from services.audit.rules.leaf import LEAF_VERSION, digest_of, leaf_hash


class EntryDiffers(Exception):
    """A stored entry is not what its leaf says; the text says what differs."""


def recomputed_leaf(row: Mapping[str, Any]) -> bytes:
    """Return the leaf of a row of `audit_logs`, its `details` as text of jsonb.

    Raises EntryDiffers when it is not the stored one, or when a column outside of the leaf is not
    what follows from it. Of erased fields this proves only that they belong to the leaf; whether
    they might be erased, the entry says that `redactions` names (`redaction.is_ordered`).
    """
    try:
        missing = redaction.erased(row["redactions"])
    except ValueError as error:
        raise EntryDiffers("what it says of erased fields cannot be read") from error
    if missing is not None and (row["salt"] is not None or redaction.left_over(row, missing)):
        raise EntryDiffers("it has what is said to be erased")
    try:
        digest = digest_of(redaction.commitments_of(values_of(row), row["salt"], missing))
        created_at = microseconds(row["created_at"])
        leaf = leaf_hash(row["leaf_index"], created_at, digest)
        expected_id = entry_id(created_at, row["leaf_index"])
    except Exception as error:
        raise EntryDiffers("its fields cannot be encoded") from error
    if digest != row["event_digest"]:
        raise EntryDiffers("its fields do not match its digest")
    if leaf != row["leaf_hash"]:
        raise EntryDiffers("its place, time or digest do not match its leaf")
    if row["id"].int != expected_id:
        raise EntryDiffers("its id does not match its place and time")
    if row["updated_at"] != row["created_at"]:
        raise EntryDiffers("it says that it was updated")
    if row["leaf_version"] != LEAF_VERSION:
        raise EntryDiffers("it is marked as encoded in another way")
    return leaf


def values_of(row: Mapping[str, Any]) -> list[bytes | None]:
    """Return what the leaf of a row commits to; raises for what cannot be encoded."""
    address = row["ip_address"]
    return leaf_values(
        event_id=row["event_id"],
        occurred_at=row["occurred_at"],
        user_id=row["user_id"],
        action=row["action"],
        resource_type=row["resource_type"],
        resource_id=row["resource_id"],
        details=_details(row["details"]),
        # As it is stored: what would be written as another address must not pass for it.
        ip_address=None if address is None else address.compressed,
        user_agent=row["user_agent"],
        category=row["category"],
        producer=row["producer"],
        aggregate=row["aggregate"],
        aggregate_seq=row["aggregate_seq"],
    )


def _details(text: str) -> bytes:
    """Return the canonical bytes of details; raises ValueError for numbers that hide something.

    jsonb keeps digits that a double does not have, and zeros at the end; the canonical bytes do
    not.
    """
    return canonical(json.loads(text, parse_float=_exact))


def _exact(digits: str) -> float:
    number = float(digits)
    if format(Decimal(repr(number)), "f") != digits:
        raise ValueError(digits)
    return number


def entry_id(created_at_us: int, leaf_index: int) -> int:
    """Return the UUIDv7 that the ledger gives: milliseconds, microseconds times 4, leaf index."""
    milliseconds, rest = divmod(created_at_us, 1000)
    return milliseconds << 80 | (0x7000 + rest * 4) << 64 | 1 << 63 | leaf_index
