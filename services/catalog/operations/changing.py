"""Changing a resource: its row in its next version, and the one entry that tells of it."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

from sqlalchemy import inspect

from services.catalog.operations.recording import aggregate, changes_between, content_of
from services.catalog.rules.resources import Archivable, Resource
from services.catalog.store.versions import AGGREGATES
from services.catalog.store.writing import delete_row, raise_version, refused_as
from shared.domain_error import DomainError
from shared.errors import EtagMismatch, ResourceArchived, ResourceReferenced
from shared.outbox.change import Change
from shared.outbox.events import Category, Event

R = TypeVar("R", bound=Resource)
A = TypeVar("A", bound=Archivable)


@dataclass(frozen=True, slots=True)
class Update:
    """What to change of a resource: new values by field; `etag` as it was read, or empty."""

    reference: str
    values: Mapping[str, Any]
    etag: str = ""


def check_etag(kind: str, resource: Resource, etag: str) -> None:
    """Return when `etag` is empty or that of the resource; raises EtagMismatch."""
    if etag and etag != str(resource.row_version):
        raise EtagMismatch(resource_type=kind.replace("_", " "), current=resource.row_version)


def check_in_use(kind: str, resource: Archivable, name: str) -> None:
    """Return when a resource is not archived; raises ResourceArchived."""
    if resource.archived_at is not None:
        raise ResourceArchived(resource_type=kind.replace("_", " "), resource=name)


async def store(  # noqa: PLR0913  (what an entry says besides the change itself)
    change: Change,
    kind: str,
    action: str,
    before: R,
    after: R,
    *,
    taken: Mapping[str, DomainError] | None = None,
    category: Category = Category.CHANGE,
    details: Mapping[str, Any] | None = None,
    unsaid: Mapping[str, Any] | None = None,
) -> R:
    """Write what differs between two states of a locked resource, and record it.

    Returns `after` with its new version, or `before` when nothing differs, which changes nothing.
    `unsaid` are further columns, which the entry keeps silent about: hashes of passwords. Raises
    what `taken` says for a broken constraint, by its name.
    """
    table = AGGREGATES[kind]
    columns = inspect(table).columns.keys()
    names = [field.name for field in fields(after) if field.name in columns]
    values = {
        name: _stored(getattr(after, name))
        for name in names
        if getattr(after, name) != getattr(before, name)
    }
    values |= unsaid or {}
    differences = changes_between(before, after)
    if not values and not differences["after"]:
        return before
    with refused_as(taken or {}):
        version, changed_at = await raise_version(change.tx, table, before.id, **values)
    change.record(
        Event(
            action=action,
            aggregate=aggregate(kind, before.id),
            aggregate_seq=version,
            resource_type=kind,
            resource_id=str(before.id),
            details={**(details or {}), **differences},
            category=category,
        )
    )
    return replace(after, row_version=version, updated_at=changed_at)


async def archive(change: Change, kind: str, resource: A) -> A:
    """Archive a locked resource; one that is archived already stays as it is."""
    if resource.archived_at is not None:
        return resource
    archived = replace(resource, archived_at=change.now)
    return await store(change, kind, "archive", resource, archived)


async def unarchive(change: Change, kind: str, resource: A) -> A:
    """Take a locked resource out of the archive; one that is not in it stays as it is."""
    return await store(change, kind, "unarchive", resource, replace(resource, archived_at=None))


async def delete(
    change: Change,
    kind: str,
    resource: Resource,
    used: Mapping[str, DomainError],
    category: Category = Category.CHANGE,
) -> None:
    """Delete a locked resource, and record what it was.

    Raises what `used` says when something refers to it, by the name of the foreign key.
    """
    with refused_as(used):
        await delete_row(change.tx, AGGREGATES[kind], resource.id)
    change.record(
        Event(
            action="delete",
            aggregate=aggregate(kind, resource.id),
            aggregate_seq=resource.row_version + 1,
            resource_type=kind,
            resource_id=str(resource.id),
            details={"before": content_of(resource)},
            category=category,
        )
    )


def referenced(kind: str, name: str, used: Mapping[str, str]) -> dict[str, DomainError]:
    """Return what `delete` raises for each foreign key; `used` says what it comes from."""
    what = kind.replace("_", " ")
    return {
        key: ResourceReferenced(resource_type=what, resource=name, used_by=who)
        for key, who in used.items()
    }


def _stored(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value
