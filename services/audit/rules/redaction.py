"""Redaction: fields of an entry erased for good, while its leaf and every proof of it stay valid.

The column `redactions` of such a row holds what its digest is computed from in their stead:

    {"leaf": n, "fields": {tag: commitment}, "salts": {tag: salt}}

`leaf` is the position of the entry that ordered the last erasure, `fields` has the commitment of
each erased field, `salts` the own salt of each field that is left, both in hexadecimal. The salt of
the entry is erased too, so nobody can try out which value fits a commitment. The erased columns
are NULL, or empty where they cannot be.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from services.audit.rules.leaf import (
    SALT_BYTES,
    TAGS,
    Value,
    commitment,
    commitments,
    digest_of,
)

ERASABLE = ("user_id", "resource_id", "details", "ip_address", "user_agent")
# What an erased column holds, `details` as text of jsonb.
BLANK: Mapping[str, str | None] = {
    "user_id": None,
    "resource_id": "",
    "details": "{}",
    "ip_address": None,
    "user_agent": None,
}
# Entries by which the ledger tells of changes to itself.
PRODUCER, CATEGORY = "audit", "change"
REDACT, RESOURCE = "redact", "audit_log"
_HASH_BYTES = 32
_HEX = re.compile(r"(?:[0-9a-f]{2})*")


@dataclass(frozen=True, slots=True)
class Erased:
    """What was erased from an entry; `leaf` is the position of the last entry that ordered it."""

    leaf: int
    commitments: Mapping[str, bytes]
    salts: Mapping[str, bytes]

    @property
    def fields(self) -> tuple[str, ...]:
        """The erased fields, in the order of the leaf."""
        return tuple(tag for tag in TAGS if tag in self.commitments)


def erased(redactions: object) -> Erased | None:
    """Return what the column `redactions` says, given as object or as its text; None for NULL.

    Raises ValueError for anything that a redaction would not have written.
    """
    if isinstance(redactions, str):
        redactions = json.loads(redactions)
    if redactions is None:
        return None
    if not isinstance(redactions, dict) or redactions.keys() != {"leaf", "fields", "salts"}:
        raise ValueError("not the three parts of a redaction")
    leaf = redactions["leaf"]
    if type(leaf) is not int or leaf < 0:
        raise ValueError("no position")
    found = Erased(
        leaf,
        _bytes(redactions["fields"], _HASH_BYTES),
        _bytes(redactions["salts"], SALT_BYTES),
    )
    if not found.commitments or not found.commitments.keys() <= set(ERASABLE):
        raise ValueError("not fields that can be erased")
    if found.salts.keys() != set(TAGS) - found.commitments.keys():
        raise ValueError("not the salts of the fields that are left")
    return found


def _bytes(part: object, length: int) -> dict[str, bytes]:
    found = {}
    for tag, text in (part if isinstance(part, dict) else {"": None}).items():
        if not isinstance(text, str) or len(text) != 2 * length or not _HEX.fullmatch(text):
            raise ValueError("not an object of hexadecimal texts as long as they must be")
        found[tag] = bytes.fromhex(text)
    return found


def commitments_of(
    values: Sequence[Value], salt: bytes | None, missing: Erased | None
) -> list[bytes]:
    """Return the commitment of each field, for values in the order of `leaf.TAGS`.

    `missing` is what was erased of the entry, whose `salt` is None then. Raises ValueError for
    an entry that has neither.
    """
    if missing is None:
        if salt is None:
            raise ValueError("no salt")
        return commitments(values, salt)
    return [
        missing.commitments[tag]
        if tag in missing.commitments
        else commitment(tag, value, missing.salts[tag])
        for tag, value in zip(TAGS, values, strict=True)
    ]


def digest(values: Sequence[Value], missing: Erased) -> bytes:
    """Return the digest of an entry with erased fields; what is in their places does not count."""
    return digest_of(commitments_of(values, None, missing))


def left_over(row: Mapping[str, Any], missing: Erased) -> list[str]:
    """Return the erased fields that have a value nevertheless, `details` as text of jsonb."""
    return [tag for tag in missing.fields if row[tag] != BLANK[tag]]


def is_about_the_ledger(producer: str, category: str) -> bool:
    """Tell whether an entry says how the ledger itself was changed; such are not redacted."""
    return producer == PRODUCER and category == CATEGORY


def redact_details(
    leaf_index: int, fields: Iterable[str], missing: Erased | None, reason: str
) -> dict[str, object]:
    """Return the details of the entry that orders the erasure of further fields.

    `erased` are all fields that are erased after it, so that the last such entry of a row speaks
    for all of them.
    """
    fields = set(fields)
    before = set(missing.fields) if missing else set()
    return {
        "leaf_index": leaf_index,
        "fields": [tag for tag in TAGS if tag in fields],
        "erased": [tag for tag in TAGS if tag in fields | before],
        "reason": reason,
    }


def orders(entry: Mapping[str, Any]) -> tuple[int, frozenset[str]] | None:
    """Return the position that an entry orders a redaction of, and all fields erased after it.

    None for any other entry. `details` may be an object or its text.
    """
    if not is_about_the_ledger(entry["producer"], entry["category"]) or (
        entry["action"],
        entry["resource_type"],
    ) != (REDACT, RESOURCE):
        return None
    details = entry["details"]
    if isinstance(details, str):
        details = json.loads(details)
    match details:
        case {"leaf_index": int(place), "erased": list(fields)}:
            return place, frozenset(map(str, fields))
        case _:
            return None


def is_ordered(row: Mapping[str, Any], missing: Erased, order: Mapping[str, Any]) -> bool:
    """Tell whether the entry `order` is the one that erased just these fields of a row."""
    return (
        order["leaf_index"] == missing.leaf > row["leaf_index"]
        and order["resource_id"] == str(row["id"])
        and orders(order) == (row["leaf_index"], frozenset(missing.fields))
    )
