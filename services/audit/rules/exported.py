"""A line of an NDJSON export: an entry with everything that its leaf is computed from.

A JSON object with the members of MEMBERS in that order. Times are `YYYY-MM-DDTHH:MM:SS.ffffffZ`,
UUIDs in lower case with hyphens, bytes in hexadecimal; absent values are null. `details` are the
JSON object, whose numbers are written without an exponent and with all their digits. `redactions`
is null, or says what was erased: `fields` has the commitment of each erased field, which is null in
the line, `salts` the salt of each field that is left, and `leaf` the position of the entry that
says so; `salt` is null then.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from functools import lru_cache
from ipaddress import ip_address
from typing import Any, NoReturn

from services.audit.rules import leaf
from services.audit.rules.canonical import canonical
from services.audit.rules.events import address_text, microseconds
from services.audit.rules.leaf import Value
from services.audit.rules.recheck import entry_id
from services.audit.rules.redaction import Erased, commitments_of, erased
from shared.domain_error import DomainError

MEMBERS = (
    *("leaf_index", "id", "event_id", "occurred_at", "created_at", "user_id", "action"),
    *("resource_type", "resource_id", "details", "ip_address", "user_agent", "category"),
    *("producer", "aggregate", "aggregate_seq", "leaf_version", "salt", "redactions", "leaf_hash"),
)
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}").fullmatch
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", re.ASCII).fullmatch
_SALT = re.compile(rf"[0-9a-f]{{{2 * leaf.SALT_BYTES}}}").fullmatch
_RESOURCE_ID, _DETAILS = leaf.TAGS.index("resource_id"), leaf.TAGS.index("details")
_MAYBE = (str, type(None))
_TEXTS = ("action", "resource_type", "category", "producer")
_MAYBE_TEXTS = ("user_id", "resource_id", "user_agent", "aggregate", "ip_address")


class EntryNotGenuine(Exception):
    """An entry that is not what its leaf says, or no entry at all; the text says why."""


@dataclass(frozen=True, slots=True)
class Exported:
    """An entry that matches its own leaf, whatever the fields were that are `missing`."""

    leaf_index: int
    id: str
    created_at_us: int
    leaf: bytes
    missing: Erased | None


def read_line(line: bytes) -> dict[str, Any]:
    """Return the members of a line; raises EntryNotGenuine."""
    try:
        told = _read(line.decode())
    except UnicodeDecodeError:
        raise EntryNotGenuine("is not UTF-8") from None
    except (ValueError, RecursionError):
        raise EntryNotGenuine("is not JSON with each member once, as an export writes it") from None
    if type(told) is not dict or tuple(told) != MEMBERS:
        raise EntryNotGenuine("does not have the members of an entry in their order")
    return told


def recomputed(told: Mapping[str, Any]) -> Exported:
    """Return an entry whose leaf follows from its members; raises EntryNotGenuine otherwise."""
    version = told["leaf_version"]
    if type(version) is not int or version != leaf.LEAF_VERSION:
        raise EntryNotGenuine(f"has a leaf of version {version!r}, unknown here")
    try:
        index, created_us = _whole(told["leaf_index"]), _microseconds(told["created_at"])
        missing = erased(_parts(told["redactions"]))
        leaf_hash = leaf.leaf_hash(index, created_us, _digest(told, _values(told), missing))
        own_id = entry_id(created_us, index)
        is_own = _UUID(told["id"]) and told["id"].replace("-", "") == f"{own_id:032x}"
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError, DomainError) as error:
        raise EntryNotGenuine("has a member that no entry can have") from error
    if leaf_hash.hex() != told["leaf_hash"]:
        raise EntryNotGenuine("does not match its leaf: a member was changed")
    if not is_own:
        raise EntryNotGenuine("has an id that does not follow from its time and position")
    return Exported(index, told["id"], created_us, leaf_hash, missing)


def _values(told: Mapping[str, Any]) -> list[Value]:
    """Return what the leaf commits to; raises for what has another spelling than an export's."""
    if not _UUID(told["event_id"]) or not all(type(told[name]) is str for name in _TEXTS):
        raise ValueError(_TEXTS)
    if not all(isinstance(told[name], _MAYBE) for name in _MAYBE_TEXTS):
        raise TypeError(_MAYBE_TEXTS)
    details, address, sequence = told["details"], told["ip_address"], told["aggregate_seq"]
    return [
        bytes.fromhex(told["event_id"].replace("-", "")),
        b"%d" % _microseconds(told["occurred_at"]),
        _text(told["user_id"]),
        told["action"].encode(),
        told["resource_type"].encode(),
        _text(told["resource_id"]),
        None if details is None else canonical(_object(details)),
        None if address is None else _address(address),
        _text(told["user_agent"]),
        told["category"].encode(),
        told["producer"].encode(),
        _text(told["aggregate"]),
        None if sequence is None else b"%d" % _whole(sequence),
    ]


def _digest(told: Mapping[str, Any], values: Sequence[Value], missing: Erased | None) -> bytes:
    """Return the event digest; raises for what neither an entry nor a redaction leaves behind."""
    if missing is None:
        if values[_RESOURCE_ID] is None or values[_DETAILS] is None:
            raise EntryNotGenuine("lacks what only a redaction can take away")
        return leaf.event_digest(values, _salt(told["salt"]))
    if told["salt"] is not None or any(told[tag] is not None for tag in missing.fields):
        raise EntryNotGenuine("has what is said to be erased")
    return leaf.digest_of(commitments_of(values, None, missing))


@lru_cache(maxsize=4_096)
def _address(text: str) -> bytes:
    return address_text(ip_address(text)).encode()


def _text(text: str | None) -> Value:
    return None if text is None else text.encode()


def _object(details: object) -> dict[str, Any]:
    if type(details) is not dict:
        raise TypeError(details)
    return details


def _parts(redactions: object) -> dict[str, Any] | None:
    """Return what was erased as it is, which the column would also be read from as text."""
    return None if redactions is None else _object(redactions)


def _whole(number: object) -> int:
    if type(number) is not int:
        raise TypeError(number)
    return number


def _salt(text: str) -> bytes:
    if not _SALT(text):
        raise ValueError(text)
    return bytes.fromhex(text)


def _microseconds(text: str) -> int:
    if not _TIME(text):
        raise ValueError(text)
    return microseconds(datetime.fromisoformat(text))


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object; one that has a member twice would mean different things to its readers."""
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ValueError(pairs)
    return made


def _exact(digits: str) -> float:
    """Return the number unless it has digits that a double does not have."""
    number = float(digits)
    if format(Decimal(repr(number)), "f") != digits:
        raise ValueError(digits)
    return number


def _constant(name: str) -> NoReturn:
    raise ValueError(name)


_read = json.JSONDecoder(
    object_pairs_hook=_once, parse_float=_exact, parse_constant=_constant
).decode
