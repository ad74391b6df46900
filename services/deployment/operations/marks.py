"""Marks: a release is bad in an environment or everywhere, and is so no longer."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from services.deployment.store import locks, marks, references, writing
from services.deployment.store.marks import MarkFilter, MarkRow
from services.deployment.store.references import NamedRelease
from shared.db.engine import Database
from shared.db.keyset import Page, PageRequest
from shared.errors import ResourceNotFound
from shared.ids import new_id
from shared.outbox.change import Change
from shared.outbox.events import Event

EVERYWHERE = "everywhere"


@dataclass(frozen=True, slots=True)
class Mark:
    """A release, the environment, which is empty for everywhere, and why."""

    release: str
    environment: str
    reason: str


@dataclass(frozen=True, slots=True)
class MarksQuery:
    """Which marks to list; empty is any."""

    page: PageRequest
    release: str = ""
    service: str = ""
    environment: str = ""
    also_cleared: bool = False


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a mark holds; everywhere when it has no environment."""

    release: NamedRelease
    environment_id: UUID | None
    name: str


async def mark(change: Change, command: Mark) -> MarkRow:
    """Mark a release; one that is marked there already stays as it is."""
    place = await _hold(change, command)
    for known in await marks.current(change.tx, place.release.id):
        if known.environment_id == place.environment_id:
            return known
    mark_id = new_id()
    await writing.mark_bad(
        change.tx,
        change.now,
        id=mark_id,
        release_id=place.release.id,
        environment_id=place.environment_id,
        reason=command.reason,
        marked_by=change.actor.user_id,
        row_version=1,
    )
    made = await marks.one(change.tx, mark_id)
    details = {"before": {"bad": False}, "after": {"bad": True}, "reason": made.reason}
    _record(change, "mark_bad", made, 1, details)
    return made


async def clear(change: Change, command: Mark) -> MarkRow:
    """Take the mark away that a release has there; raises ResourceNotFound when it has none."""
    place = await _hold(change, command)
    known = await marks.current(change.tx, place.release.id)
    found = next((one for one in known if one.environment_id == place.environment_id), None)
    if found is None:
        raise _no_mark(place, known)
    change.now = max(change.now, found.created_at)  # it may have been made while this waited
    version = await marks.clear(
        change.tx, found.id, change.now, by=change.actor.user_id, because=command.reason
    )
    details = {
        "before": {"bad": True, "reason": found.reason, "marked_by": found.marked_by},
        "after": {"bad": False},
        "reason": command.reason,
    }
    _record(change, "clear_bad", found, version, details)
    return await marks.one(change.tx, found.id)


async def page(db: Database, query: MarksQuery) -> Page[MarkRow]:
    """List marks, the newest first; raises ResourceNotFound for what a filter names."""
    async with db.snapshot() as tx:
        release = await references.release(tx, query.release) if query.release else None
        service = await references.service(tx, query.service) if query.service else None
        place = await references.environment(tx, query.environment) if query.environment else None
        chosen = MarkFilter(
            release_id=release.id if release else None,
            service_id=service.id if service else None,
            environment_id=place.id if place else None,
            also_cleared=query.also_cleared,
        )
        return await marks.newest_first(tx, query.page, chosen)


async def _hold(change: Change, command: Mark) -> _Place:
    """Hold the release, so that nothing of it starts meanwhile and nobody else marks it."""
    release = await references.release(change.tx, command.release)
    place = _Place(release, None, EVERYWHERE)
    if command.environment:
        named = await references.environment(change.tx, command.environment)
        place = _Place(release, named.id, named.name)
    await locks.hold_releases(change.tx, [release.id], to_change=True)
    return place


def _no_mark(place: _Place, known: list[MarkRow]) -> ResourceNotFound:
    """Return the refusal, which says where the release is marked instead."""
    name = f"{place.release.service}@{place.release.version}"
    here = EVERYWHERE if place.environment_id is None else f"in {place.name}"
    others = ", ".join(one.environment or EVERYWHERE for one in known)
    return ResourceNotFound(
        resource_type="mark of release",
        resource=f"{name} as bad {here}" + (f" (marked: {others})" if others else ""),
        marked=others,
    )


def _record(
    change: Change, action: str, made: MarkRow, version: int, details: Mapping[str, Any]
) -> None:
    """Record one version of a mark; the entry is found with those of the release."""
    names = {
        "release": f"{made.service}@{made.version}",
        "environment": made.environment or EVERYWHERE,
        "mark": made.id,
    }
    change.record(
        Event(
            action=action,
            aggregate=f"release_mark:{made.id}",
            aggregate_seq=version,
            resource_type="release",
            resource_id=str(made.release_id),
            details={**names, **details},
        )
    )
