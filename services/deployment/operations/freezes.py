"""Freeze windows: when nothing may start, or only then."""

from collections.abc import AsyncIterator, Callable, Collection, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from services.deployment.operations.freeze_rows import (
    SELECTORS,
    columns_of,
    content_of,
    subjects_of,
    window_of,
)
from services.deployment.operations.scanning import chosen_page
from services.deployment.rules import freezes as rules
from services.deployment.rules.freeze_checks import check
from services.deployment.rules.freezes import Window
from services.deployment.rules.policy import EnvironmentType
from services.deployment.store import freezes, locks, references
from services.deployment.store.freezes import FreezeRow
from services.deployment.store.references import NamedThing, ThingKind
from shared.db.engine import Database
from shared.db.keyset import Page, PageRequest
from shared.errors import EtagMismatch, ResourceArchived, ResourceNotFound
from shared.ids import new_id
from shared.outbox.change import Change
from shared.outbox.events import Event

_RESOURCE: Final = "freeze window"
_CHOSEN_FROM: Final[Mapping[str, ThingKind]] = {
    "services": "service",
    "teams": "team",
    "environments": "environment",
    "exempt_services": "service",
}

Values = Mapping[str, Any]
"""Fields of a window by their names in the rules; the selectors are names or ids in a tuple."""


@dataclass(frozen=True, slots=True)
class SeenWindow:
    """A window as it is at the database's time of the query.

    `closes_at` is None unless it is open, `next_opens_at` when it never opens again.
    """

    row: FreezeRow
    window: Window
    closes_at: datetime | None
    next_opens_at: datetime | None

    @property
    def open(self) -> bool:
        """Whether it is open."""
        return self.closes_at is not None


@dataclass(frozen=True, slots=True)
class FreezesQuery:
    """Which windows to list; empty is any."""

    page: PageRequest
    service: str = ""
    environment: str = ""
    open_only: bool = False
    also_archived: bool = False


async def create(change: Change, values: Values) -> SeenWindow:
    """Make a window; what starts from now on minds it.

    Raises ValidationFailed for what no window can be, ResourceExists when its name is taken, and
    ResourceNotFound or ResourceArchived for what it is about.
    """
    window = Window(id=new_id(), **await _resolved(change.tx, values, {}))
    check(window)
    change.now = await locks.hold_environments(change.tx)
    await freezes.add(change.tx, change.now, window.id, subjects_of(window), columns_of(window))
    made = await _found(change.tx, str(window.id))
    _record(change, "create", made, {"after": content_of(made)})
    return _seen(made)


async def update(change: Change, reference: str, values: Values, etag: str) -> SeenWindow:
    """Change a window; what starts from now on minds it as it is then.

    Raises what `create` raises, EtagMismatch, and ResourceArchived for the window itself.
    """
    known = await _held(change, reference, etag)
    if known.archived_at is not None:
        raise ResourceArchived(resource_type=_RESOURCE, resource=known.name)
    before = window_of(known)
    after = replace(before, **await _resolved(change.tx, values, _chosen(before)))
    check(after)
    old, new = columns_of(before), columns_of(after)
    differing = {name: value for name, value in new.items() if value != old[name]}
    subjects = None if _chosen(after) == _chosen(before) else subjects_of(after)
    return await _store(change, "update", known, subjects, differing)


async def archive(change: Change, reference: str, etag: str) -> SeenWindow:
    """Archive a window; one that is archived stays so. Raises ResourceNotFound, EtagMismatch."""
    known = await _held(change, reference, etag)
    if known.archived_at is not None:
        return _seen(known)
    return await _store(change, "archive", known, None, {"archived_at": change.now})


async def unarchive(change: Change, reference: str, etag: str) -> SeenWindow:
    """Take a window out of the archive; raises ResourceNotFound and EtagMismatch."""
    known = await _held(change, reference, etag)
    if known.archived_at is None:
        return _seen(known)
    return await _store(change, "unarchive", known, None, {"archived_at": None})


async def get(db: Database, reference: str) -> SeenWindow:
    """Return a window by name or id; raises ResourceNotFound."""
    async with db.snapshot() as tx:
        return _seen(await _found(tx, reference))


async def page(db: Database, query: FreezesQuery) -> Page[SeenWindow]:
    """List windows by name; raises ResourceNotFound for what a filter names."""
    async with db.snapshot() as tx:
        conditions = [condition async for condition in _conditions(tx, query)]

        def choose(row: FreezeRow) -> SeenWindow | None:
            seen = _seen(row)
            return seen if all(fits(seen) for fits in conditions) else None

        return await chosen_page(
            lambda after: freezes.by_name(tx, after, also_archived=query.also_archived),
            choose,
            lambda seen: freezes.position(seen.row),
            query.page,
        )


async def _conditions(
    tx: AsyncConnection, query: FreezesQuery
) -> AsyncIterator[Callable[[SeenWindow], bool]]:
    """Give what a window must meet to be listed."""
    if query.service:
        service_id = (await references.service(tx, query.service)).id
        team_id = await freezes.team_of(tx, service_id)
        yield lambda seen: rules.concerns_service(seen.window, service_id, team_id)
    if query.environment:
        place_id = (await references.environment(tx, query.environment)).id
        place_type = EnvironmentType(await freezes.type_of(tx, place_id))
        yield lambda seen: rules.concerns_environment(seen.window, place_id, place_type)
    if query.open_only:
        yield lambda seen: seen.open


async def _held(change: Change, reference: str, etag: str) -> FreezeRow:
    """Return a window for this change alone; nothing starts before its end."""
    known = await _found(change.tx, reference)
    change.now = await locks.hold_environments(change.tx)
    await freezes.hold(change.tx, known.id)
    known = await _found(change.tx, str(known.id))  # as it is after the wait
    if etag and etag != str(known.row_version):
        raise EtagMismatch(resource_type=_RESOURCE, current=known.row_version)
    return known


async def _found(tx: AsyncConnection, reference: str) -> FreezeRow:
    found = await freezes.find(tx, reference)
    if found is None:
        raise ResourceNotFound(resource_type=_RESOURCE, resource=reference)
    return found


async def _store(
    change: Change,
    action: str,
    known: FreezeRow,
    subjects: freezes.Subjects | None,
    values: Values,
) -> SeenWindow:
    """Write what differs, and record it; nothing when nothing does."""
    if subjects is None and not values:
        return _seen(known)
    await freezes.change(change.tx, change.now, known.id, subjects, values)
    changed = await _found(change.tx, str(known.id))
    old, new = content_of(known), content_of(changed)
    differing = [name for name in new if new[name] != old[name]]
    details = {
        "before": {name: old[name] for name in differing},
        "after": {name: new[name] for name in differing},
    }
    _record(change, action, changed, details)
    return _seen(changed)


async def _resolved(
    tx: AsyncConnection, values: Values, known: Mapping[str, Collection[UUID]]
) -> dict[str, Any]:
    """Return the values with ids for what the selectors name.

    What is archived may stay in a window, and is not taken into one.
    """
    ids = {}
    for field, kind in _CHOSEN_FROM.items():
        if field in values:
            things = await references.each(tx, kind, values[field])
            _check_in_use(kind, things, known.get(field, ()))
            ids[field] = frozenset(thing.id for thing in things)
    return {**values, **ids}


def _check_in_use(kind: ThingKind, things: Collection[NamedThing], known: Collection[UUID]) -> None:
    for thing in things:
        if thing.archived and thing.id not in known:
            raise ResourceArchived(resource_type=kind, resource=thing.name)


def _chosen(window: Window) -> dict[str, frozenset[UUID]]:
    return {field: getattr(window, field) for field in SELECTORS}


def _seen(row: FreezeRow) -> SeenWindow:
    window = window_of(row)
    now = rules.occurrence_at(window, row.moment)
    closes_at = None if now is None else now.end
    return SeenWindow(row, window, closes_at, rules.next_start(window, row.moment))


def _record(change: Change, action: str, made: FreezeRow, details: Mapping[str, Any]) -> None:
    """Record the present version of a window."""
    change.record(
        Event(
            action=action,
            aggregate=f"freeze_window:{made.id}",
            aggregate_seq=made.row_version,
            resource_type="freeze_window",
            resource_id=str(made.id),
            details=details,
        )
    )
