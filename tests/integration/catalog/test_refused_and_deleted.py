"""A refused log-in names nobody who was deleted meanwhile, and whom it names is not deleted."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from seed.rows import Connection
from services.catalog.operations import people, refusals
from services.catalog.operations.logins import Attempt, Refusal
from services.catalog.operations.sessions import Sessions
from services.catalog.rules.throttling import account_of
from services.catalog.store import login_throttles, users
from shared.db.engine import Database
from shared.errors import ResourceReferenced
from shared.identity.access_tokens import AccessTokens
from shared.identity.hashing import PasswordCheck
from shared.identity.keys import ensure_keys
from shared.ids import new_id
from shared.outbox.append import append_events
from shared.outbox.change import Change
from shared.outbox.delivery import BY_ITSELF
from tests.support.polling import eventually

NAME, SOURCE = "newcomer", "203.0.113.7"
WAITING = (
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
    " AND application_name = 'test' AND wait_event_type = 'Lock'"
)
TOLD = (
    "SELECT event->>'user' AS who, event->'details' AS details FROM outbox"
    " WHERE event->>'action' = 'login_refused'"
)


@asynccontextmanager
async def changing(db: Database) -> AsyncIterator[Change]:
    """Give a change, and store what it records."""
    async with db.transaction() as tx:
        now = (await tx.execute(select(func.clock_timestamp()))).scalar_one()
        change = Change(tx, BY_ITSELF, now)
        yield change
        await append_events(tx, producer="catalog", call=None, now=now, events=change.events)


async def attempted(db: Database, owner: Connection, *, right: bool) -> Attempt:
    """Return the log-in of a person who was there when the password was compared."""
    await owner.execute(
        "INSERT INTO users (id, username, email, role, password_hash)"
        " VALUES ($1, $2, $2 || '@example.com', 'viewer', 'a hash')",
        new_id(),
        NAME,
    )
    async with db.transaction() as tx:
        found = await users.credentials(tx, NAME)
        assert found is not None
        account = account_of(found.user_id, NAME)
        before, now = await login_throttles.locked(tx, account, SOURCE)
        await login_throttles.save(tx, account, SOURCE, before.failed(now, known=False))
    check = PasswordCheck(right=right, rehashed=None, seconds=0.1)
    return Attempt(NAME, found, account, SOURCE, compared=True, check=check, began=0.0)


async def delete(db: Database) -> None:
    async with changing(db) as change:
        await people.delete(change, NAME, "")


@pytest.mark.parametrize("right", [True, False])
async def test_a_log_in_of_a_user_who_is_deleted_meanwhile_is_that_of_nobody(
    db: Database, owner: Connection, tmp_path: Path, *, right: bool
) -> None:
    attempt = await attempted(db, owner, right=right)
    await delete(db)
    lifetime = timedelta(minutes=5)
    sessions = Sessions(AccessTokens(ensure_keys(tmp_path), lifetime), lifetime)
    async with changing(db) as change:
        assert await sessions.open(change, attempt) is None
    (told,) = await owner.fetch(TOLD)
    assert (told["who"], json.loads(told["details"])["username"]) == (None, "unknown")
    assert await owner.fetchval("SELECT count(*) FROM login_throttles") == 0


async def test_a_user_whose_failed_log_in_is_being_recorded_is_not_deleted(
    db: Database, owner: Connection
) -> None:
    attempt = await attempted(db, owner, right=False)

    async def somebody_waits() -> Any:
        return await owner.fetchval(WAITING)

    async with changing(db) as change:
        await refusals.record(change, attempt, Refusal.WRONG_PASSWORD)
        deleting = asyncio.create_task(delete(db))
        await eventually(somebody_waits)
    with pytest.raises(ResourceReferenced):
        await deleting
    (told,) = await owner.fetch(TOLD)
    assert json.loads(told["details"])["username"] == NAME


async def test_nor_one_whose_suppressed_log_ins_are(db: Database, owner: Connection) -> None:
    await attempted(db, owner, right=False)
    await owner.execute(
        "UPDATE login_throttles SET suppressed = 3, reported_at = now() - interval '1 hour'"
    )

    async def somebody_waits() -> Any:
        return await owner.fetchval(WAITING)

    async with changing(db) as change:
        await refusals.record_suppressed(change)
        deleting = asyncio.create_task(delete(db))
        await eventually(somebody_waits)
    with pytest.raises(ResourceReferenced):
        await deleting
