"""Making a resource: its row, and the entry that tells of it."""

from collections.abc import Mapping
from typing import Any

from services.catalog.operations.recording import record_creation
from services.catalog.rules.resources import Resource
from services.catalog.store.versions import AGGREGATES
from services.catalog.store.writing import add_resource, refused_as
from shared.domain_error import DomainError
from shared.ids import new_id
from shared.outbox.change import Change
from shared.outbox.events import Category


def first_version(change: Change) -> dict[str, Any]:
    """Return what every resource has, as it is for one that the change makes."""
    times = {"created_at": change.now, "updated_at": change.now}
    return {"id": new_id(), "row_version": 1, **times}


async def create(  # noqa: PLR0913, PLR0917  (what a row and an entry are made of)
    change: Change,
    kind: str,
    resource: Resource,
    taken: Mapping[str, DomainError],
    category: Category = Category.CHANGE,
    unsaid: Mapping[str, Any] | None = None,
) -> None:
    """Insert a resource, an aggregate of this kind, and record its creation.

    `unsaid` are further columns, which the entry keeps silent about. Raises what `taken` says for a
    broken constraint, by its name.
    """
    with refused_as(taken):
        await add_resource(change.tx, AGGREGATES[kind], resource, **(unsaid or {}))
    record_creation(change, kind, resource, category)
