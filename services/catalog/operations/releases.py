"""Releases: made as drafts, published once, abandoned for good."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from services.catalog.operations import changing, creating, resolving
from services.catalog.operations.changing import Update
from services.catalog.operations.creating import first_version
from services.catalog.rules import releases as rules
from services.catalog.rules.resources import Release, ReleaseStatus
from services.catalog.store import releases
from services.catalog.store.reading import Listing
from services.catalog.store.releases import ReleaseFilter
from shared.db.engine import Database
from shared.db.keyset import Page, PageRequest
from shared.errors import ReleaseInUse, ResourceExists
from shared.outbox.change import Change

KIND = "release"
MOST_COMPARED = 200
_USED = {
    "fk_deployments_release_id": "a deployment",
    "fk_release_marks_release_id": "a mark",
    "fk_rollbacks_from_release_id": "a rollback",
    "fk_rollbacks_to_release_id": "a rollback",
}


@dataclass(frozen=True, slots=True)
class NewRelease:
    """A release to be made; commit, its time and digest may be given later."""

    service: str
    version: str
    commit_sha: str
    commit_time: datetime | None
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
class ReleaseChoice:
    """Which releases are asked for, by the name or id of the service; empty or None for all."""

    service: str = ""
    status: ReleaseStatus | None = None


@dataclass(frozen=True, slots=True)
class Comparison:
    """What lies between two releases, the newest version first.

    `backwards` says that the way leads to the older one. `total` counts also those beyond
    `releases`; `irreversible` says that one of all is.
    """

    backwards: bool
    releases: tuple[Release, ...]
    total: int
    irreversible: bool


async def create(change: Change, new: NewRelease) -> Release:
    """Make a draft whose authors are all people behind the call.

    Raises ResourceNotFound and ResourceArchived for the service, ResourceExists when it has this
    version already, and ValidationFailed for a commit of the future.
    """
    rules.check_commit_time(new.commit_time, change.now)
    service = await resolving.service_to_use(change.tx, new.service)
    release = Release(
        **first_version(change),
        service_id=service.id,
        service=service.name,
        version=new.version,
        status=ReleaseStatus.DRAFT,
        commit_sha=new.commit_sha,
        commit_time=new.commit_time,
        artifact_digest=new.artifact_digest,
        notes=new.notes,
        irreversible=new.irreversible,
        created_by=change.actor.user_id,
        author=change.actor.username,
        authors=tuple(sorted(change.actor.people)),
        published_at=None,
    )
    taken = ResourceExists(resource_type="release", resource=release.name)
    await creating.create(change, KIND, release, {"uq_releases_service_id_version": taken})
    return release


async def publish(change: Change, wanted: Publication) -> Release:
    """Publish a draft, or confirm that it is published with this content already.

    Raises ResourceNotFound, EtagMismatch, what `rules.publish` raises, and ValidationFailed for a
    commit of the future.
    """
    rules.check_commit_time(wanted.content.commit_time, change.now)
    draft = await _to_change(change, wanted.release, wanted.etag)
    changing.check_in_use(KIND, draft, draft.name)
    content = rules.publish(draft, wanted.content)
    if content is None:
        return draft
    published = replace(
        draft,
        status=ReleaseStatus.PUBLISHED,
        commit_sha=content.commit_sha,
        commit_time=content.commit_time,
        artifact_digest=content.artifact_digest,
        irreversible=bool(content.irreversible),
        authors=tuple(sorted({*draft.authors, *change.actor.people})),
        published_at=change.now,
    )
    named = {"release": draft.name}
    return await changing.store(change, KIND, "publish", draft, published, details=named)


async def update(change: Change, wanted: Update) -> Release:
    """Change a release: all of it while it is a draft, only the notes afterwards.

    Raises ResourceNotFound, EtagMismatch, ResourceArchived, ReleaseContentDiffers for what is
    frozen, and ValidationFailed for a commit of the future.
    """
    rules.check_commit_time(wanted.values.get("commit_time"), change.now)
    release = await _to_change(change, wanted.reference, wanted.etag)
    changing.check_in_use(KIND, release, release.name)
    changed = rules.update(release, wanted.values, change.actor.people)
    named = {"release": release.name}
    return await changing.store(change, KIND, "update", release, changed, details=named)


async def abandon(change: Change, reference: str, reason: str, etag: str) -> Release:
    """Abandon a release for good; one that is abandoned already stays as it is.

    Raises ResourceNotFound, EtagMismatch, and ReleaseInUse while a deployment of it is not
    finished, or while it is live somewhere.
    """
    release = await _to_change(change, reference, etag)
    if release.status == ReleaseStatus.ABANDONED:
        return release
    await _refuse_in_use(change, release, "abandoned")
    environment = await releases.where_live(change.tx, release)
    if environment is not None:
        raise ReleaseInUse(
            release=release.name,
            use="live",
            environment=environment,
            wish="abandoned",
            remedy="Deploy another release there first with PromoteRelease.",
        )
    abandoned = replace(release, status=ReleaseStatus.ABANDONED)
    details = {"release": release.name, "reason": reason}
    return await changing.store(change, KIND, "abandon", release, abandoned, details=details)


async def archive(change: Change, reference: str, etag: str) -> Release:
    """Archive a release.

    Raises ResourceNotFound, EtagMismatch, and ReleaseInUse while a deployment of it is not
    finished.
    """
    release = await _to_change(change, reference, etag)
    await _refuse_in_use(change, release, "archived")
    return await changing.archive(change, KIND, release)


async def unarchive(change: Change, reference: str, etag: str) -> Release:
    """Take a release out of the archive; raises ResourceNotFound and EtagMismatch."""
    return await changing.unarchive(change, KIND, await _to_change(change, reference, etag))


async def delete(change: Change, reference: str, etag: str) -> None:
    """Delete a draft.

    Raises ResourceNotFound, EtagMismatch, IllegalTransition for what is no draft, and
    ResourceReferenced.
    """
    release = await _to_change(change, reference, etag)
    rules.check_deletable(release)
    used = changing.referenced(KIND, release.name, _USED)
    await changing.delete(change, KIND, release, used)


async def compare(db: Database, from_reference: str, to_reference: str) -> Comparison:
    """Return what lies between two releases of one service.

    Raises ResourceNotFound, and ValidationFailed for releases of two services.
    """
    async with db.snapshot() as tx:
        start = await resolving.release(tx, from_reference)
        end = await resolving.release(tx, to_reference)
        rules.check_comparable(start, end)
        backwards = await releases.is_older(tx, end, start)
        older, newer = (end, start) if backwards else (start, end)
        found, total, irreversible = await releases.between(tx, older, newer, at_most=MOST_COMPARED)
    return Comparison(backwards, tuple(found), total, irreversible)


async def each(db: Database, references: Sequence[str]) -> list[Release]:
    """Return releases by `service@version` or ids, in that order; raises ResourceNotFound."""
    async with db.snapshot() as tx:
        return await resolving.each(KIND, releases.find_each, tx, references)


async def get(db: Database, reference: str) -> Release:
    """Return a release by `service@version` or id."""
    async with db.snapshot() as tx:
        return await resolving.release(tx, reference)


async def page(
    db: Database, choice: ReleaseChoice, wanted: Listing, at: PageRequest
) -> Page[Release]:
    """Return a page of the releases asked for.

    Raises ResourceNotFound for the service, and ExpressionInvalid.
    """
    async with db.snapshot() as tx:
        service = await resolving.service(tx, choice.service) if choice.service else None
        chosen = ReleaseFilter(service.id if service else None, choice.status)
        return await releases.listed(tx, chosen, wanted, at)


async def _to_change(change: Change, reference: str, etag: str) -> Release:
    release = await resolving.release_to_change(change.tx, reference)
    changing.check_etag(KIND, release, etag)
    return release


async def _refuse_in_use(change: Change, release: Release, wish: str) -> None:
    environment = await releases.where_unfinished(change.tx, release)
    if environment is not None:
        raise ReleaseInUse(
            release=release.name,
            use="being deployed, or about to be,",
            environment=environment,
            wish=wish,
            remedy="Let that come to its end, or stop it with CancelDeployment.",
        )
