"""Answers of the service as JSON: what grpcurl and buf print, read back without the protos."""

import re
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping
from typing import Any

from services.audit.rules.exported import MEMBERS
from services.audit.verify.evidence import camel, member_of
from services.audit.verify.verdict import CannotTell, NotGenuine

_TIME = re.compile(
    r"(?P<second>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(?P<part>\d{3}|\d{6}|\d{6}000))?Z", re.ASCII
)
_WHOLE = re.compile(r"0|[1-9][0-9]{0,18}")
_CATEGORIES = {
    f"AUDIT_CATEGORY_{category.upper()}": category for category in ("change", "access", "security")
}
_REDACTION = {"fields", "leafIndex", "commitments", "salts"}
_LEAF_VERSION = 1


def entry(found: Mapping[str, Any]) -> dict[str, Any]:
    """Return an AuditLog as the members of a line of NDJSON; raises NotGenuine and CannotTell.

    The answer that it came in may be around it.
    """
    inner = member_of(found, "audit_log")
    told = inner if isinstance(inner, dict) else found
    if tuple(told) == MEMBERS:  # a line of an export
        return dict(told)
    known = {spelled: name for name in _READ for spelled in (name, camel(name))}
    unknown = [name for name in told if name not in known]
    if unknown:
        raise NotGenuine(f"The entry has a member {unknown[0]!r}, which nothing proves.")
    read = {name: convert(member_of(told, name)) for name, convert in _READ.items()}
    redaction = read.pop("redaction")
    if redaction is None and read["salt"] is None:
        raise CannotTell("The entry has no salt, so its leaf cannot be computed.")
    erased = redaction["fields"] if redaction else {}
    if "resource_id" in erased:
        read["resource_id"] = read["resource_id"] or None
    if "details" in erased:
        read["details"] = read["details"] or None
    return read | {"leaf_version": _LEAF_VERSION, "redactions": redaction}


def whole(found: object) -> int:
    """Return an integer, which JSON may have as text; 0 when it is not there."""
    if found is None:
        return 0
    text = str(found) if type(found) is int else found
    if not isinstance(text, str) or not _WHOLE.fullmatch(text):
        raise NotGenuine(f"{found!r} is not a whole number.")
    return int(text)


def data(found: object) -> bytes:
    """Return bytes, which JSON has in base64; none when they are not there."""
    if found is None:
        return b""
    try:
        decoded = b64decode(str(found), validate=True)
    except ValueError as error:
        raise NotGenuine(f"{found!r} is not base64.") from error
    if b64encode(decoded).decode() != found:
        raise NotGenuine(f"{found!r} is not base64.")
    return decoded


def hashes(found: object) -> list[bytes]:
    """Return a list of bytes; empty when it is not there."""
    if not isinstance(found, list | None):
        raise NotGenuine("The hashes are not a list.")
    return [data(one) for one in found or ()]


def _hex(found: object) -> str | None:
    return data(found).hex() or None


def _text(found: object) -> str:
    if not isinstance(found, str | None):
        raise NotGenuine(f"{found!r} is not a text.")
    return found or ""


def _text_or_none(found: object) -> str | None:
    return _text(found) or None


def _time(found: object) -> str:
    matched = _TIME.fullmatch(_text(found))
    if matched is None:
        raise NotGenuine(f"{found!r} is not a time of the ledger.")
    return f"{matched['second']}.{(matched['part'] or '')[:6].ljust(6, '0')}Z"


def _category(found: object) -> str:
    return _CATEGORIES.get(_text(found), "")


def _details(found: object) -> object:
    return {} if found is None else found


def _redaction(found: object) -> dict[str, Any] | None:
    if found is None:
        return None
    commitments, salts = member_of(found, "commitments"), member_of(found, "salts")
    fields = member_of(found, "fields")
    if (
        not isinstance(found, dict)
        or not {*map(camel, found)} <= _REDACTION
        or not isinstance(commitments, dict)
        or not isinstance(salts, dict)
        or not isinstance(fields, list)
        or sorted(map(str, fields)) != sorted(commitments)
    ):
        raise NotGenuine("What it says of erased fields cannot be read.")
    return {
        "leaf": whole(member_of(found, "leaf_index")),
        "fields": {tag: _hex(value) for tag, value in commitments.items()},
        "salts": {tag: _hex(value) for tag, value in salts.items()},
    }


_READ: Mapping[str, Callable[[object], Any]] = {
    "leaf_index": whole,
    "id": _text,
    "event_id": _text,
    "occurred_at": _time,
    "created_at": _time,
    "user_id": _text_or_none,
    "action": _text,
    "resource_type": _text,
    "resource_id": _text,
    "details": _details,
    "ip_address": _text_or_none,
    "user_agent": _text_or_none,
    "category": _category,
    "producer": _text,
    "aggregate": _text_or_none,
    "aggregate_seq": lambda found: whole(found) or None,
    "leaf_hash": _hex,
    "salt": _hex,
    "redaction": _redaction,
}
