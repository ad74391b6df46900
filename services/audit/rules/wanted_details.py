"""Details that a reader asks for: an object that the details of an entry must contain."""

import json
from typing import Any

from services.audit.rules.canonical import canonical
from shared.domain_error import FieldViolation
from shared.errors import ValidationFailed

MAX_BYTES = 4_096
FIELD = "filter.details"


def wanted_details(details: dict[str, Any]) -> str | None:
    """Return the canonical spelling of wanted details, None when they narrow nothing.

    They keep the rules of details that are stored, and are shorter. Raises ValidationFailed, which
    names `filter.details`.
    """
    if not details:
        return None
    try:
        spelled = canonical(details)
    except ValidationFailed as error:
        raise _wrong(error.fields[0].description) from None
    if len(spelled) > MAX_BYTES:
        raise _wrong(f"must not be longer than {MAX_BYTES} bytes")
    return spelled.decode()


def has_values(spelled: str) -> bool:
    """Tell whether there is anything but empty objects and arrays, which no index holds."""
    left: list[object] = [json.loads(spelled)]
    while left:
        item = left.pop()
        if isinstance(item, dict):
            left += item.values()
        elif isinstance(item, list):
            left += item
        else:
            return True
    return False


def _wrong(description: str) -> ValidationFailed:
    violation = FieldViolation(FIELD, description, "audit_log_filter.details")
    return ValidationFailed(count=1, first=f"{FIELD}: {description}", fields=(violation,))
