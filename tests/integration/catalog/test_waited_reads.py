"""What is locked after waiting for another change is there, with the names of what it has by then.

A statement that waits looks at the row again, but at what it joins as that was before the wait.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy.ext.asyncio import AsyncConnection

from seed.rows import Connection
from services.catalog.store import runbooks, service_accounts, services, users
from shared.db.engine import Database
from tests.support.polling import eventually
from tests.support.programs import add_program

Find = Callable[[AsyncConnection, str], Awaitable[Any]]

OWNER = "SET owner_id = (SELECT id FROM users WHERE username = 'dev3')"
TEAM = "SET team_id = (SELECT id FROM teams WHERE name = 'Frontend')"
WAITED_FOR = (
    "SELECT count(*) FROM pg_locks WHERE NOT granted AND transactionid = pg_current_xact_id()::xid"
)


async def found_after(db: Database, owner: Connection, change: str, find: Find, named: str) -> Any:
    """Return what is found under a lock that somebody's change is waited for."""

    async def find_it() -> Any:
        async with db.transaction() as tx:
            return await find(tx, named)

    async def is_waited_for() -> bool:
        return bool(await owner.fetchval(WAITED_FOR))

    async with owner.transaction():
        await owner.execute(change)
        finding = asyncio.create_task(find_it())
        await eventually(is_waited_for)
    return await finding


@pytest.mark.parametrize("find", [services.find_locked, services.find_shared])
async def test_a_service_has_its_new_owner_and_team(
    db: Database, owner: Connection, find: Find
) -> None:
    change = f"UPDATE services {OWNER} WHERE name = 'auth'"
    assert (await found_after(db, owner, change, find, "auth")).owner == "dev3"
    change = f"UPDATE services {TEAM} WHERE name = 'auth'"
    assert (await found_after(db, owner, change, find, "auth")).team == "Frontend"


async def test_a_service_account_has_its_new_owner(
    db: Database, owner: Connection, seeded_database_url: str
) -> None:
    await add_program(seeded_database_url, "bot", "viewer", [])
    find = service_accounts.find_locked
    found = await found_after(db, owner, f"UPDATE service_accounts {OWNER}", find, "bot")
    assert found.owner == "dev3"


@pytest.mark.parametrize("find", [users.find_locked, users.find_shared])
async def test_a_person_has_the_new_team(db: Database, owner: Connection, find: Find) -> None:
    change = f"UPDATE users {TEAM} WHERE username = 'dev1'"
    assert (await found_after(db, owner, change, find, "dev1")).team == "Frontend"


async def test_a_runbook_has_its_new_environment(db: Database, owner: Connection) -> None:
    runbook_id = await owner.fetchval("UPDATE runbooks SET environment_id = NULL RETURNING id")
    change = "UPDATE runbooks SET environment_id = (SELECT id FROM environments WHERE name = 'Dev')"

    async def find(tx: AsyncConnection, named: str) -> Any:
        return await runbooks.find_locked(tx, UUID(named))

    assert (await found_after(db, owner, change, find, str(runbook_id))).environment == "Dev"


async def test_what_got_another_name_meanwhile_is_not_there(
    db: Database, owner: Connection
) -> None:
    change = "UPDATE services SET name = 'other' WHERE name = 'auth'"
    assert await found_after(db, owner, change, services.find_locked, "auth") is None
