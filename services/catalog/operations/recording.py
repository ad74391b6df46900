"""The audit events of the catalog: what a resource was and became, never a secret."""

from collections.abc import Mapping
from dataclasses import asdict
from hashlib import sha256
from typing import Any
from uuid import UUID

from services.catalog.rules.resources import Resource
from shared.outbox.change import Change
from shared.outbox.events import Category, Event

LONGEST_TEXT = 4_096
"""Bytes of a text that an entry repeats; of a longer one it keeps the beginning and the digest."""
BEGINNING = 1_000

_NOT_CONTENT = frozenset({"id", "row_version", "created_at", "updated_at"})


def content_of(resource: Resource) -> dict[str, Any]:
    """Return what an entry tells of a resource: everything but its id, version and times."""
    fields = asdict(resource).items()
    return {name: bounded_text(value) for name, value in fields if name not in _NOT_CONTENT}


def record_creation(
    change: Change,
    kind: str,
    resource: Resource,
    category: Category = Category.CHANGE,
) -> None:
    """Record that `resource`, an aggregate of this kind, was made."""
    change.record(
        Event(
            action="create",
            aggregate=aggregate(kind, resource.id),
            aggregate_seq=resource.row_version,
            resource_type=kind,
            resource_id=str(resource.id),
            details={"after": content_of(resource)},
            category=category,
        )
    )


def aggregate(kind: str, resource_id: UUID) -> str:
    """Return the name under which the ledger counts the versions of a resource."""
    return f"{kind}:{resource_id}"


def changes_between(before: Resource, after: Resource) -> Mapping[str, Mapping[str, Any]]:
    """Return the details of a change: the fields that differ, before and after."""
    old, new = content_of(before), content_of(after)
    changed = [name for name in new if new[name] != old[name]]
    return {
        "before": {name: old[name] for name in changed},
        "after": {name: new[name] for name in changed},
    }


def bounded_text(value: object) -> object:
    """Return a value as an entry repeats it: the beginning and the digest of a long text."""
    if not isinstance(value, str) or len(raw := value.encode()) <= LONGEST_TEXT:
        return value
    return {"beginning": value[:BEGINNING], "bytes": len(raw), "sha256": sha256(raw).hexdigest()}
