"""Runbooks: changed as drafts, published as versions."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from services.catalog.operations import changing, creating, resolving
from services.catalog.operations.changing import Update
from services.catalog.operations.creating import first_version
from services.catalog.operations.recording import aggregate, bounded_text
from services.catalog.rules.resources import Runbook, RunbookVersion
from services.catalog.store import runbooks
from services.catalog.store.reading import Listing
from services.catalog.store.runbooks import DRAFT, RunbookFilter
from services.catalog.store.writing import raise_version
from shared.db.engine import Database
from shared.db.keyset import Page, PageRequest
from shared.db.models import catalog as tables
from shared.errors import ResourceExists, RunbookLacks
from shared.outbox.change import Change
from shared.outbox.events import Event

KIND = "runbook"
_USED = {"fk_runbook_executions_runbook_id": "an execution"}
# What a version says; the rest is whose it is and when it was made.
_CONTENT = ("environment", "title", "content", "tags")


@dataclass(frozen=True, slots=True)
class NewRunbook:
    """A runbook to be made; an empty environment means all of them."""

    service: str
    environment: str
    title: str
    content: str
    tags: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RunbookChoice:
    """Which runbooks are asked for, by names or ids; empty asks for all."""

    service: str = ""
    environment: str = ""
    tag: str = ""


async def create(change: Change, new: NewRunbook) -> Runbook:
    """Make a runbook, as a draft.

    Raises ResourceNotFound and ResourceArchived for service or environment, ResourceExists when
    the service has a runbook of this title already.
    """
    service = await resolving.service_to_use(change.tx, new.service)
    environment = None
    if new.environment:
        environment = await resolving.environment_to_use(change.tx, new.environment)
    runbook = Runbook(
        **first_version(change),
        service_id=service.id,
        service=service.name,
        environment_id=environment.id if environment else None,
        environment=environment.name if environment else None,
        title=new.title,
        content=new.content,
        tags=new.tags,
        created_by=change.actor.user_id,
        author=change.actor.username,
    )
    await creating.create(change, KIND, runbook, _taken(new.title))
    await runbooks.put_version(change.tx, _version_of(change, runbook))
    return runbook


async def update(change: Change, wanted: Update) -> Runbook:
    """Change the draft of a runbook, which begins as the published version.

    `environment` among the values is a reference, empty for all. Raises ResourceNotFound,
    EtagMismatch, ResourceArchived, and ResourceExists for its title.
    """
    values = dict(wanted.values)
    if "environment" in values:  # locked before the runbook, as everybody does
        reference = values["environment"]
        place = await resolving.environment_to_use(change.tx, reference) if reference else None
        values["environment_id"] = place.id if place else None
        values["environment"] = place.name if place else None
    runbook = await _to_change(change, wanted.reference, wanted.etag)
    changing.check_in_use(KIND, runbook, runbook.title)
    before = await runbooks.version(change.tx, runbook.id, DRAFT)
    base = before or _version_of(change, runbook)
    mine: dict[str, Any] = {
        "created_by": change.actor.user_id,
        "author": change.actor.username,
    }
    after = replace(base, **values, version=DRAFT, published_at=None, **mine)
    if _said(after) == _said(base):
        return runbook
    await _check_title(change, runbook, after.title)
    await runbooks.put_version(change.tx, replace(after, created_at=change.now))
    if runbook.version == DRAFT:  # what was never published is shown as it is drafted
        shown = replace(runbook, **values)
        return await changing.store(
            change, KIND, "update", runbook, shown, taken=_taken(after.title)
        )
    return await _record(change, runbook, "update", _differences(base, after), has_draft=True)


async def publish(change: Change, reference: str, etag: str) -> Runbook:
    """Publish the draft as the next version.

    Raises ResourceNotFound, EtagMismatch, ResourceArchived, RunbookLacks without a draft, and
    ResourceExists for its title.
    """
    runbook = await _to_change(change, reference, etag)
    changing.check_in_use(KIND, runbook, runbook.title)
    draft = await runbooks.version(change.tx, runbook.id, DRAFT)
    if draft is None:
        raise RunbookLacks(
            runbook=runbook.title, what="draft", remedy="Change it with UpdateRunbook first."
        )
    await _check_title(change, runbook, draft.title)
    published = replace(
        runbook,
        environment_id=draft.environment_id,
        environment=draft.environment,
        title=draft.title,
        content=draft.content,
        tags=draft.tags,
        version=runbook.version + 1,
        published_at=change.now,
        has_draft=False,
    )
    await runbooks.drop_draft(change.tx, runbook.id)
    await runbooks.put_version(
        change.tx, replace(draft, version=published.version, published_at=change.now)
    )
    taken = _taken(draft.title)
    return await changing.store(change, KIND, "publish", runbook, published, taken=taken)


async def archive(change: Change, reference: str, etag: str) -> Runbook:
    """Archive a runbook; raises ResourceNotFound and EtagMismatch."""
    return await changing.archive(change, KIND, await _to_change(change, reference, etag))


async def unarchive(change: Change, reference: str, etag: str) -> Runbook:
    """Take a runbook out of the archive; raises ResourceNotFound and EtagMismatch."""
    return await changing.unarchive(change, KIND, await _to_change(change, reference, etag))


async def delete(change: Change, reference: str, etag: str) -> None:
    """Delete a runbook that was never published.

    Raises ResourceNotFound, EtagMismatch, and ResourceReferenced.
    """
    runbook = await _to_change(change, reference, etag)
    if runbook.version != DRAFT:
        used = changing.referenced(KIND, runbook.title, {"version": "its published versions"})
        raise used["version"]
    used = changing.referenced(KIND, runbook.title, _USED)
    await changing.delete(change, KIND, runbook, used)


async def get(db: Database, reference: str, version: int = 0, *, draft: bool = False) -> Runbook:
    """Return a runbook by id, as published, as of a version, or as its draft.

    Raises ResourceNotFound, and RunbookLacks for the version or draft.
    """
    async with db.snapshot() as tx:
        runbook = await resolving.runbook(tx, reference)
        if not version and not draft:
            return runbook
        found = await runbooks.version(tx, runbook.id, DRAFT if draft else version)
    if found is None:
        what = "draft" if draft else f"version {version}"
        remedy = "List its versions with ListRunbookVersions."
        raise RunbookLacks(runbook=runbook.title, what=what, remedy=remedy)
    fields = (*_CONTENT, "environment_id", "published_at", "created_by", "author", "version")
    said: dict[str, Any] = {name: getattr(found, name) for name in fields}
    return replace(runbook, **said)


async def page(
    db: Database, choice: RunbookChoice, wanted: Listing, at: PageRequest
) -> Page[Runbook]:
    """Return a page of the runbooks asked for.

    Raises ResourceNotFound for the places named, and ExpressionInvalid.
    """
    async with db.snapshot() as tx:
        service = await resolving.service(tx, choice.service) if choice.service else None
        place = choice.environment and await resolving.environment(tx, choice.environment)
        chosen = RunbookFilter(
            service_id=service.id if service else None,
            environment_id=place.id if place else None,
            tag=choice.tag,
        )
        return await runbooks.listed(tx, chosen, wanted, at)


async def versions(db: Database, reference: str, at: PageRequest) -> Page[RunbookVersion]:
    """Return a page of the versions of a runbook; raises ResourceNotFound."""
    async with db.snapshot() as tx:
        runbook = await resolving.runbook(tx, reference)
        return await runbooks.versions(tx, runbook.id, at)


async def _to_change(change: Change, reference: str, etag: str) -> Runbook:
    runbook = await resolving.runbook_to_change(change.tx, reference)
    changing.check_etag(KIND, runbook, etag)
    return runbook


async def _check_title(change: Change, runbook: Runbook, title: str) -> None:
    if await runbooks.title_is_taken(change.tx, runbook, title):
        raise ResourceExists(resource_type=KIND, resource=title)


async def _record(
    change: Change,
    runbook: Runbook,
    action: str,
    details: Mapping[str, Any],
    *,
    has_draft: bool,
) -> Runbook:
    """Count and record a change that what is shown does not tell."""
    version, changed_at = await raise_version(change.tx, tables.Runbook, runbook.id)
    change.record(
        Event(
            action=action,
            aggregate=aggregate(KIND, runbook.id),
            aggregate_seq=version,
            resource_type=KIND,
            resource_id=str(runbook.id),
            details=details,
        )
    )
    return replace(runbook, row_version=version, updated_at=changed_at, has_draft=has_draft)


def _version_of(change: Change, runbook: Runbook) -> RunbookVersion:
    """Return what a runbook shows as a version of its own number."""
    return RunbookVersion(
        runbook_id=runbook.id,
        version=runbook.version,
        environment_id=runbook.environment_id,
        environment=runbook.environment,
        title=runbook.title,
        content=runbook.content,
        tags=runbook.tags,
        created_by=runbook.created_by,
        author=runbook.author,
        created_at=change.now,
        published_at=runbook.published_at,
    )


def _said(version: RunbookVersion) -> dict[str, Any]:
    fields = asdict(version)
    return {name: fields[name] for name in _CONTENT}


def _differences(before: RunbookVersion, after: RunbookVersion) -> dict[str, Any]:
    old, new = _said(before), _said(after)
    changed = [name for name in new if new[name] != old[name]]
    return {
        "draft": True,
        "before": {name: bounded_text(old[name]) for name in changed},
        "after": {name: bounded_text(new[name]) for name in changed},
    }


def _taken(title: str) -> dict[str, ResourceExists]:
    return {"uq_runbooks_service_id_title": ResourceExists(resource_type=KIND, resource=title)}
