"""Locks: nothing starts of a service, in an environment, of a pair, or at all."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from services.deployment.rules import locks as rules
from services.deployment.store import lock_rows, locks, references
from services.deployment.store.lock_rows import LockFilter, LockRow
from shared.db.engine import Database
from shared.db.keyset import Page, PageRequest
from shared.errors import ResourceNotFound
from shared.ids import new_id
from shared.outbox.change import Change
from shared.outbox.events import Event


@dataclass(frozen=True, slots=True)
class NewLock:
    """What to lock, things by name or id; empty is all of them, which `everything` confirms."""

    service: str
    environment: str
    reason: str
    everything: bool = False
    includes_rollbacks: bool = False
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class LocksQuery:
    """Which locks to list; empty is any."""

    page: PageRequest
    service: str = ""
    environment: str = ""
    also_ended: bool = False


async def create(change: Change, command: NewLock) -> LockRow:
    """Lock; what starts from now on minds it. Raises ValidationFailed and ResourceNotFound."""
    service = await references.service(change.tx, command.service) if command.service else None
    place = None
    if command.environment:
        place = await references.environment(change.tx, command.environment)
    change.now = await locks.hold_environments(change.tx, place.id if place else None)
    rules.check_new(
        anything_named=service is not None or place is not None,
        everything=command.everything,
        expires_at=command.expires_at,
        now=change.now,
    )
    lock_id = new_id()
    await lock_rows.add(
        change.tx,
        change.now,
        id=lock_id,
        service_id=service.id if service else None,
        environment_id=place.id if place else None,
        reason=command.reason,
        includes_rollbacks=command.includes_rollbacks,
        locked_by=change.actor.user_id,
        expires_at=command.expires_at,
    )
    made = await _existing(change.tx, lock_id)
    after = {
        "locked": True,
        "includes_rollbacks": made.includes_rollbacks,
        "expires_at": None if made.expires_at is None else made.expires_at.isoformat(),
    }
    details = {"before": {"locked": False}, "after": after, "reason": made.reason}
    _record(change, "lock", made, details)
    return made


async def release(change: Change, lock_id: UUID, reason: str) -> LockRow:
    """Release a lock; one that was released stays as it is. Raises ResourceNotFound."""
    known = await _existing(change.tx, lock_id)
    now = await locks.hold_environments(change.tx, known.environment_id)
    known = await _existing(change.tx, lock_id)  # somebody else may have released it meanwhile
    if known.released_at is not None:
        return known
    change.now = max(now, known.created_at)
    await lock_rows.release(change.tx, lock_id, change.now, by=change.actor.user_id, because=reason)
    gone = await _existing(change.tx, lock_id)
    details = {
        "before": {"locked": True, "reason": known.reason, "locked_by": known.locked_by},
        "after": {"locked": False},
        "reason": reason,
    }
    _record(change, "unlock", gone, details)
    return gone


async def get(db: Database, lock_id: UUID) -> LockRow:
    """Return a lock; raises ResourceNotFound."""
    async with db.snapshot() as tx:
        return await _existing(tx, lock_id)


async def page(db: Database, query: LocksQuery) -> Page[LockRow]:
    """List locks, the newest first; raises ResourceNotFound for what a filter names."""
    async with db.snapshot() as tx:
        service = await references.service(tx, query.service) if query.service else None
        place = await references.environment(tx, query.environment) if query.environment else None
        chosen = LockFilter(
            service_id=service.id if service else None,
            environment_id=place.id if place else None,
            also_ended=query.also_ended,
        )
        return await lock_rows.newest_first(tx, query.page, chosen)


async def _existing(tx: AsyncConnection, lock_id: UUID) -> LockRow:
    found = await lock_rows.find(tx, lock_id)
    if found is None:
        raise ResourceNotFound(resource_type="lock", resource=lock_id)
    return found


def _record(change: Change, action: str, made: LockRow, details: Mapping[str, Any]) -> None:
    """Record the present version of a lock."""
    names = {"place": rules.place(made.service, made.environment)}
    change.record(
        Event(
            action=action,
            aggregate=f"lock:{made.id}",
            aggregate_seq=made.row_version,
            resource_type="lock",
            resource_id=str(made.id),
            details={**names, **details},
        )
    )
