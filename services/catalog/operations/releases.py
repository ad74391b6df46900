"""Releases: made as drafts, published once."""

from dataclasses import dataclass, replace

from services.catalog.operations import creating, resolving
from services.catalog.operations.creating import first_version
from services.catalog.operations.recording import aggregate, changes_between
from services.catalog.rules import releases as rules
from services.catalog.rules.resources import Release, ReleaseStatus
from services.catalog.store import releases
from services.catalog.store.writing import raise_version
from shared.db.engine import Database
from shared.db.keyset import Page, PageRequest
from shared.db.models import catalog as tables
from shared.errors import EtagMismatch, ResourceExists
from shared.outbox.change import Change
from shared.outbox.events import Event


@dataclass(frozen=True, slots=True)
class NewRelease:
    """A release to be made; commit and digest may be given later."""

    service: str
    version: str
    commit_sha: str
    artifact_digest: str
    notes: str
    irreversible: bool


@dataclass(frozen=True, slots=True)
class Publication:
    """A release to be published, with what the draft may lack; `etag` as it was read, or empty."""

    release: str
    content: rules.Content
    etag: str


@dataclass(frozen=True, slots=True)
class ReleaseFilter:
    """Which releases are asked for; empty or None asks for all."""

    service: str = ""
    status: ReleaseStatus | None = None


async def create(change: Change, new: NewRelease) -> Release:
    """Make a draft whose authors are all people behind the call.

    Raises ResourceNotFound for the service, ResourceExists when it has this version already.
    """
    service = await resolving.service(change.tx, new.service)
    release = Release(
        **first_version(change),
        service_id=service.id,
        service=service.name,
        version=new.version,
        status=ReleaseStatus.DRAFT,
        commit_sha=new.commit_sha,
        artifact_digest=new.artifact_digest,
        notes=new.notes,
        irreversible=new.irreversible,
        created_by=change.actor.user_id,
        author=change.actor.username,
        authors=tuple(sorted(change.actor.people)),
        published_at=None,
    )
    taken = ResourceExists(resource_type="release", resource=release.name)
    await creating.create(change, "release", release, {"uq_releases_service_id_version": taken})
    return release


async def publish(change: Change, wanted: Publication) -> Release:
    """Publish a draft, or confirm that it is published with this content already.

    Raises ResourceNotFound, EtagMismatch, and what `rules.publish` raises.
    """
    draft = await resolving.release_to_change(change.tx, wanted.release)
    if wanted.etag and wanted.etag != str(draft.row_version):
        raise EtagMismatch(resource_type="release", current=draft.row_version)
    content = rules.publish(draft, wanted.content)
    if content is None:
        return draft
    published = replace(
        draft,
        status=ReleaseStatus.PUBLISHED,
        commit_sha=content.commit_sha,
        artifact_digest=content.artifact_digest,
        irreversible=bool(content.irreversible),
        authors=tuple(sorted({*draft.authors, *change.actor.people})),
        published_at=change.now,
    )
    version, changed_at = await raise_version(
        change.tx,
        tables.Release,
        draft.id,
        status=published.status,
        commit_sha=published.commit_sha,
        artifact_digest=published.artifact_digest,
        irreversible=published.irreversible,
        authors=list(published.authors),
        published_at=published.published_at,
    )
    change.record(
        Event(
            action="publish",
            aggregate=aggregate("release", draft.id),
            aggregate_seq=version,
            resource_type="release",
            resource_id=str(draft.id),
            details={"release": draft.name, **changes_between(draft, published)},
        )
    )
    return replace(published, row_version=version, updated_at=changed_at)


async def get(db: Database, reference: str) -> Release:
    """Return a release by `service@version` or id."""
    async with db.snapshot() as tx:
        return await resolving.release(tx, reference)


async def page(db: Database, wanted: ReleaseFilter, at: PageRequest) -> Page[Release]:
    """Return a page of the releases asked for; raises ResourceNotFound for the service."""
    filters = []
    async with db.snapshot() as tx:
        if wanted.service:
            service = await resolving.service(tx, wanted.service)
            filters.append(tables.Release.service_id == service.id)
        if wanted.status is not None:
            filters.append(tables.Release.status == wanted.status)
        return await releases.listed(tx, filters, at)
