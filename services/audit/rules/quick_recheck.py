"""What `recheck` does, at a third of its cost, for the plain entries that nearly all are.

It never decides against an entry. Where anything is unusual or does not match, it returns None, and
`recheck` has the word.
"""

import json
from collections.abc import Sequence
from typing import Any

from services.audit.rules.canonical import MAX_BYTES, MAX_DEPTH, MAX_KEYS
from services.audit.rules.leaf import Value, event_digest, leaf_hash
from services.audit.rules.recheck import entry_id

# From the epoch of PostgreSQL, 2000, to that of the leaf, 1970.
_EPOCH_US = 946_684_800_000_000
# The years 1 to 9999; infinite times are outside.
_FIRST_US = -62_135_596_800_000_000
_END_US = 253_402_300_800_000_000
_MOST_EXACT_DIGITS = 15
# Below it, the order of code points is the order of UTF-16 that RFC 8785 sorts keys by.
_SURROGATES = "\ud800"
_encoded = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode


def plain_leaf(row: Sequence[Any]) -> bytes | None:
    """Return the leaf of a plain row that matches it in every column, else None.

    The row has the columns of `store.plain_rows`, each in a spelling that no two stored values
    share.
    """
    leaf_index, own_id, created_at, is_plain, salt, digest, stored_leaf = row[:7]
    if not is_plain or salt is None:
        return None
    values = plain_values(row[7:])
    created_us = _microseconds(created_at)
    if values is None or not 0 <= created_us < _END_US or event_digest(values, salt) != digest:
        return None
    leaf = leaf_hash(leaf_index, created_us, digest)
    if leaf != stored_leaf or own_id != entry_id(created_us, leaf_index).to_bytes(16):
        return None
    return leaf


def plain_values(columns: Sequence[Any]) -> tuple[Value, ...] | None:
    """Return what the leaf commits to, of the last 13 columns; None for what is not plain."""
    event_id, occurred_at, user_id, action, resource_type, resource_id = columns[:6]
    details, ip_address, user_agent, category, producer, aggregate, aggregate_seq = columns[6:]
    occurred_us = _microseconds(occurred_at)
    canonical = _details(details)
    if canonical is None or not _FIRST_US <= occurred_us < _END_US:
        return None
    if ip_address is not None and ":" in ip_address and "." in ip_address:
        return None  # PostgreSQL spells the end of some addresses in dots
    return (
        event_id,
        b"%d" % occurred_us,
        None if user_id is None else user_id.encode(),
        action.encode(),
        resource_type.encode(),
        resource_id.encode(),
        canonical,
        None if ip_address is None else ip_address.encode(),
        None if user_agent is None else user_agent.encode(),
        category.encode(),
        producer.encode(),
        None if aggregate is None else aggregate.encode(),
        None if aggregate_seq is None else aggregate_seq.encode(),
    )


def _microseconds(sent: bytes) -> int:
    """Return microseconds since 1970 of a time as PostgreSQL sends it."""
    return int.from_bytes(sent, signed=True) + _EPOCH_US


def _details(text: str) -> bytes | None:
    """Return the canonical bytes of the text of a jsonb object, None where that is less than easy.

    Not easy are fractions, digits beyond what is exact, and what may be beyond a limit or sorted
    otherwise.
    """
    if (
        text.count("{") + text.count("[") > MAX_DEPTH
        or text.count('": ') > MAX_KEYS
        or not (text.isascii() or max(text) < _SURROGATES)
    ):
        return None
    try:
        encoded = _encoded(_read(text)).encode()
    except ValueError:
        return None
    return encoded if len(encoded) <= MAX_BYTES else None


def _fraction(digits: str) -> float:
    raise ValueError(digits)


def _whole(digits: str) -> int:
    if len(digits) > _MOST_EXACT_DIGITS:
        raise ValueError(digits)
    return int(digits)


_read = json.JSONDecoder(parse_float=_fraction, parse_int=_whole).decode
