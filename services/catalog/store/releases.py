"""Releases, read with the names of their services and authors."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Row, and_, exists, func, literal_column, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.orm import aliased

from services.catalog.rules.resources import Release, ReleaseStatus
from services.catalog.store import reading
from services.catalog.store.deployments import COMPLETED, unfinished
from services.catalog.store.reading import Listing, one, one_locked, value_of
from shared.db.filtering import ChoiceField, Fields, FlagField, MomentField, NamedField, TextField
from shared.db.keyset import Page, PageRequest, sorted_by
from shared.db.models import catalog as tables
from shared.db.models.deployment import Deployment
from shared.db.models.identity import User
from shared.ids import parse_id

_release = tables.Release
_QUERY = (
    select(
        _release.id,
        _release.service_id,
        tables.Service.name.label("service"),
        _release.version,
        _release.status,
        _release.commit_sha,
        _release.commit_time,
        _release.artifact_digest,
        _release.notes,
        _release.irreversible,
        _release.created_by,
        User.username.label("author"),
        _release.authors,
        _release.published_at,
        _release.archived_at,
        _release.row_version,
        _release.created_at,
        _release.updated_at,
    )
    .join(tables.Service, tables.Service.id == _release.service_id)
    .join(User, User.id == _release.created_by)
)
# Drafts have no time of publication; in that order they come before everything published.
_PUBLISHED = func.coalesce(_release.published_at, literal_column(tables.EPOCH))
_FIELDS = Fields(
    filters={
        "service": NamedField(_release.service_id, tables.Service.name),
        "version": TextField(_release.version),
        "status": ChoiceField(_release.status, {one.name: one.value for one in ReleaseStatus}),
        "commit": TextField(_release.commit_sha),
        "commit_time": MomentField(_release.commit_time),
        "created_by": NamedField(_release.created_by, User.username),
        "irreversible": FlagField(_release.irreversible),
        "published_at": MomentField(_release.published_at),
        "created_at": MomentField(_release.created_at),
        "updated_at": MomentField(_release.updated_at),
    },
    orders={
        "version": _release.version_key,
        "published_at": _PUBLISHED,
        "created_at": _release.created_at,
        "updated_at": _release.updated_at,
    },
    unique=_release.id,
    default=sorted_by(_release.created_at, descending=True),
)


@dataclass(frozen=True, slots=True)
class ReleaseFilter:
    """Which releases are asked for; None asks for all."""

    service_id: UUID | None = None
    status: ReleaseStatus | None = None


async def find(tx: AsyncConnection, reference: str) -> Release | None:
    """Return the release with this id, or of this `service@version`."""
    return await one(tx, Release, _QUERY.where(_same(reference)))


async def find_locked(tx: AsyncConnection, reference: str) -> Release | None:
    """Return the release like `find`, and keep everybody else from changing it."""
    return await one_locked(tx, Release, _QUERY, _release, _same(reference))


async def find_each(tx: AsyncConnection, references: Sequence[str]) -> list[Release | None]:
    """Return the release of each id or `service@version`, with a statement for either kind."""
    ids = [given for reference in references if (given := parse_id(reference)) is not None]
    named = [_parts(reference) for reference in references if parse_id(reference) is None]
    rows: list[Row[*tuple[Any, ...]]] = []
    if ids:
        rows += await tx.execute(_QUERY.where(_release.id.in_(ids)))
    if named:
        pairs = [(service.lower(), version) for service, version in named]
        name = func.lower(tables.Service.name)
        of_them = name.in_({service for service, _version in pairs})
        rows += await tx.execute(_QUERY.where(of_them, tuple_(name, _release.version).in_(pairs)))
    found: dict[str, Release] = {}
    for row in rows:
        release = value_of(Release, row)
        found[str(release.id)] = found[_spelled(release.service, release.version)] = release
    return [found.get(_key(reference)) for reference in references]


async def listed(
    tx: AsyncConnection, chosen: ReleaseFilter, wanted: Listing, at: PageRequest
) -> Page[Release]:
    """Return a page of the releases asked for, newest first unless asked otherwise."""
    query = _QUERY if wanted.show_archived else _QUERY.where(_release.archived_at.is_(None))
    if chosen.service_id is not None:
        query = query.where(_release.service_id == chosen.service_id)
    if chosen.status is not None:
        query = query.where(_release.status == chosen.status)
    return await reading.listed(tx, Release, query, _FIELDS, wanted, at)


async def between(
    tx: AsyncConnection, older: Release, newer: Release, *, at_most: int
) -> tuple[list[Release], int, bool]:
    """Return the published releases after one up to another, the newest version first.

    At most `at_most` of them; then how many there are, and whether one of all is irreversible.
    """
    key = _release.version_key
    within = and_(
        _release.service_id == older.service_id,
        _release.published_at.is_not(None),
        key > func.version_key(older.version),
        key <= func.version_key(newer.version),
    )
    query = _QUERY.where(within).order_by(key.desc()).limit(at_most)
    found = [value_of(Release, row) for row in await tx.execute(query)]
    summary = select(
        func.count(), func.coalesce(func.bool_or(_release.irreversible), literal_column("false"))
    ).where(within)
    total, irreversible = (await tx.execute(summary)).one()
    return found, total, irreversible


async def is_older(tx: AsyncConnection, first: Release, second: Release) -> bool:
    """Say whether the version of the first release comes before that of the second."""
    collated = func.version_key(first.version).collate("C")
    return bool(await tx.scalar(select(collated < func.version_key(second.version))))


async def where_unfinished(tx: AsyncConnection, release: Release) -> str | None:
    """Return the environment of a deployment of the release that is not finished, if any."""
    query = (
        select(tables.Environment.name)
        .join(Deployment, Deployment.environment_id == tables.Environment.id)
        .where(Deployment.release_id == release.id, unfinished())
        .limit(1)
    )
    return await tx.scalar(query)


async def where_live(tx: AsyncConnection, release: Release) -> str | None:
    """Return an environment in which the release is the last that completed, if any."""
    later = aliased(Deployment)
    newer = exists().where(
        later.service_id == Deployment.service_id,
        later.environment_id == Deployment.environment_id,
        later.status == COMPLETED,
        later.completed_seq > Deployment.completed_seq,
    )
    query = (
        select(tables.Environment.name)
        .join(Deployment, Deployment.environment_id == tables.Environment.id)
        .where(Deployment.release_id == release.id, Deployment.status == COMPLETED, ~newer)
        .limit(1)
    )
    return await tx.scalar(query)


def _same(reference: str) -> ColumnElement[bool]:
    release_id = parse_id(reference)
    if release_id is not None:
        return _release.id == release_id
    service, version = _parts(reference)
    named = select(tables.Service.id).where(func.lower(tables.Service.name) == func.lower(service))
    return and_(_release.service_id == named.scalar_subquery(), _release.version == version)


def _parts(reference: str) -> tuple[str, str]:
    service, _, version = reference.partition("@")
    return service, version


def _key(reference: str) -> str:
    """Return the one spelling of an id, or of a name: versions may differ by case alone."""
    release_id = parse_id(reference)
    return str(release_id) if release_id is not None else _spelled(*_parts(reference))


def _spelled(service: str, version: str) -> str:
    return f"{service.lower()}@{version}"
