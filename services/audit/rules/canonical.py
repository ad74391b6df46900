"""Details of an event: what they may hold, and their one spelling as bytes (RFC 8785).

The spelling survives the database: read back from jsonb, the same object has the same bytes.
"""

import json
import math
from typing import Any

import rfc8785

from shared.domain_error import FieldViolation
from shared.errors import ValidationFailed

MAX_BYTES = 65_536
MAX_DEPTH = 20
MAX_KEYS = 1_000
MAX_EXACT = 2**53 - 1
_simple = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode
_NUL_ESCAPED = "\\u0000"
_TOO_MANY = MAX_KEYS + 1


def _plain_keys(items: dict[str, object] | list[object], depth: int) -> int:
    """Count the keys of an object that nothing is wrong with, its texts not looked at.

    Returns more than MAX_KEYS when something may be wrong, or when a number has a fraction.
    """
    if depth > MAX_DEPTH:
        return _TOO_MANY
    keys = 0
    if type(items) is dict:
        keys = len(items)
        items = items.values()  # type: ignore[assignment]
    for item in items:
        kind = type(item)
        if kind is str or item is None or kind is bool:
            continue
        if kind is int:
            if not -MAX_EXACT <= item <= MAX_EXACT:  # type: ignore[operator]
                return _TOO_MANY
        elif kind is dict or kind is list:
            keys += _plain_keys(item, depth + 1)  # type: ignore[arg-type]
        else:
            return _TOO_MANY
    return keys


def _plainly(details: dict[str, Any]) -> str | None:
    """Return the spelling of an ordinary object, None for one that needs a closer look.

    A text in ASCII has keys in ASCII, and its NUL would be escaped.
    """
    if type(details) is dict and _plain_keys(details, 1) <= MAX_KEYS:
        text = _simple(details)
        if text.isascii() and _NUL_ESCAPED not in text:
            return text
    return None


class _Walk:
    """One pass over an object that finds what is not allowed, and whether it is simple.

    In a simple object all keys are ASCII and no number has a fraction; there the spelling of the
    standard library is that of RFC 8785, and about ten times as fast.
    """

    def __init__(self) -> None:
        self.keys = 0
        self.simple = True

    def value(self, item: object, depth: int) -> None:
        """Check a value that lies inside `depth` objects and arrays."""
        if isinstance(item, str):
            self._text(item)
        elif isinstance(item, dict | list):
            if depth == MAX_DEPTH:
                raise wrong("must not be nested deeper than 20 levels")
            self._inside(item, depth + 1)
        elif item is not None and not isinstance(item, bool):
            self._number(item)

    def _inside(self, items: dict[str, object] | list[object], depth: int) -> None:
        if isinstance(items, list):
            for item in items:
                self.value(item, depth)
            return
        self.keys += len(items)
        if self.keys > MAX_KEYS:
            raise wrong("must not have more than 1000 keys")
        for key, item in items.items():
            self._text(key)
            self.simple = self.simple and key.isascii()
            self.value(item, depth)

    def _text(self, text: str) -> None:
        if "\x00" in text:
            raise wrong("must not contain the character U+0000")

    def _number(self, number: object) -> None:
        if isinstance(number, float):
            if not math.isfinite(number):
                raise wrong("must not contain a number that is infinite or not a number")
            self.simple = False
            if not number.is_integer():
                return
        elif not isinstance(number, int):
            raise wrong("must contain JSON values only")
        if abs(number) > MAX_EXACT:
            raise wrong("must not contain whole numbers beyond 2^53 - 1; send them as strings")


def canonical(details: dict[str, Any]) -> bytes:
    """Return the canonical bytes of a JSON object; raises ValidationFailed for what is not allowed.

    Whole numbers may be given as int or float and have the same spelling.
    """
    text = _plainly(details)
    if text is None:
        walk = _Walk()
        walk.value(details, 0)
        try:
            encoded = _simple(details).encode() if walk.simple else rfc8785.dumps(details)
        except (UnicodeEncodeError, rfc8785.CanonicalizationError):
            raise wrong("must be text that UTF-8 can encode") from None
    else:
        encoded = text.encode()
    if len(encoded) > MAX_BYTES:
        raise wrong("must not be longer than 65536 bytes")
    return encoded


def wrong(description: str) -> ValidationFailed:
    """Return the error for details that break a rule."""
    violation = FieldViolation("details", description, "audit_event.details")
    return ValidationFailed(count=1, first=f"details: {description}", fields=(violation,))
