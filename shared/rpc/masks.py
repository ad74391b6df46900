"""Update masks (AIP-134, AIP-161): which fields of a request are to be changed."""

from collections.abc import Collection
from typing import Any

from google.protobuf.descriptor import FieldDescriptor

from shared.domain_error import FieldViolation
from shared.errors import ValidationFailed

EVERYTHING = "*"
STANDARD = frozenset({"update_mask", "etag", "request_id", "validate_only"})


def changed_fields(request: Any, *, required: Collection[str] = ()) -> dict[str, Any]:  # noqa: ANN401  (any Update request)
    """Return the fields of an Update request that are to be changed, with their new values.

    The first field names the resource; all others but the standard ones can be changed. Without a
    mask those that are not empty are; `*` means all. A field in `required` cannot be emptied.
    Raises ValidationFailed for a path that is none of them.
    """
    fields: list[FieldDescriptor] = list(request.DESCRIPTOR.fields)
    changeable = {field.name for field in fields[1:]} - STANDARD
    populated = {field.name for field, _value in request.ListFields()} & changeable
    paths = set(request.update_mask.paths)
    if not paths:
        return _values(request, populated)
    wanted = changeable if paths == {EVERYTHING} else paths
    unknown = sorted(wanted - changeable)
    if unknown:
        known = ", ".join(sorted(changeable))
        raise _wrong([("update_mask", f"{unknown[0]} is not one of {known}, or * alone")])
    emptied = sorted((wanted - populated) & set(required))
    if emptied:
        raise _wrong([(name, "is named by update_mask and must not be empty") for name in emptied])
    return _values(request, wanted)


def _values(request: Any, names: Collection[str]) -> dict[str, Any]:  # noqa: ANN401
    return {name: getattr(request, name) for name in sorted(names)}


def _wrong(found: list[tuple[str, str]]) -> ValidationFailed:
    violations = tuple(FieldViolation(name, description, "mask") for name, description in found)
    name, description = found[0]
    return ValidationFailed(count=len(found), first=f"{name}: {description}", fields=violations)
