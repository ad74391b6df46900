"""Releases, read with the names of their services and authors."""

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from services.catalog.rules.resources import Release
from services.catalog.store.reading import Filters, Query, one, page
from shared.db.keyset import Page, PageRequest, sorted_by
from shared.db.models import catalog as tables
from shared.db.models.identity import User
from shared.ids import parse_id

_QUERY = (
    select(
        tables.Release.id,
        tables.Release.service_id,
        tables.Service.name.label("service"),
        tables.Release.version,
        tables.Release.status,
        tables.Release.commit_sha,
        tables.Release.artifact_digest,
        tables.Release.notes,
        tables.Release.irreversible,
        tables.Release.created_by,
        User.username.label("author"),
        tables.Release.authors,
        tables.Release.published_at,
        tables.Release.archived_at,
        tables.Release.row_version,
        tables.Release.created_at,
        tables.Release.updated_at,
    )
    .join(tables.Service, tables.Service.id == tables.Release.service_id)
    .join(User, User.id == tables.Release.created_by)
)
_NEWEST_FIRST = sorted_by(tables.Release.created_at, tables.Release.id, descending=True)


async def find(tx: AsyncConnection, reference: str) -> Release | None:
    """Return the release with this id, or of this `service@version`."""
    return await one(tx, Release, _named(reference))


async def find_locked(tx: AsyncConnection, reference: str) -> Release | None:
    """Return the release like `find`, and keep everybody else from changing it."""
    return await one(tx, Release, _named(reference).with_for_update(of=tables.Release))


async def listed(tx: AsyncConnection, filters: Filters, wanted: PageRequest) -> Page[Release]:
    """Return a page of the releases that pass all `filters`, newest first."""
    return await page(tx, Release, _QUERY.where(*filters), _NEWEST_FIRST, wanted)


def _named(reference: str) -> Query:
    release_id = parse_id(reference)
    if release_id is not None:
        return _QUERY.where(tables.Release.id == release_id)
    service, _, version = reference.partition("@")
    return _QUERY.where(
        func.lower(tables.Service.name) == func.lower(service), tables.Release.version == version
    )
