"""A ledger in a database of its own, and what tests need around it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from uuid import UUID

import asyncpg
import pytest_asyncio

from services.audit.appending.group_commit import GroupCommit
from services.audit.appending.ledger import Ledger
from services.audit.store.appending import Driver
from services.audit.store.people import People
from shared.clock import system_clock
from shared.db.engine import Database
from shared.identity.actor import Actor, ActorKind, Role
from shared.ids import new_id
from shared.setting_values import driver_url

SECRET = b"s" * 32
ADD_USER = "INSERT INTO users (id, username, email, role, kind) VALUES ($1, $2, $3, $4, 'service')"


@dataclass
class World:
    """The owner's connection, the pools of the service, and a producer with every scope."""

    url: str
    owner: Driver
    writer: Database
    reader: Database
    producer: Actor
    user_id: UUID
    ledger: Ledger
    queue: GroupCommit

    async def rows(self) -> list[asyncpg.Record]:
        """Return every entry in the order of the ledger."""
        return await self.owner.fetch("SELECT * FROM audit_logs ORDER BY leaf_index")


async def add_user(owner: Driver, name: str) -> UUID:
    """Insert a user of kind service and return its id."""
    user_id = new_id()
    await owner.execute(ADD_USER, user_id, name, f"{name}@example.com", "viewer")
    return user_id


@pytest_asyncio.fixture
async def world(database_url: str) -> AsyncIterator[World]:
    """A running ledger."""
    async with running_world(database_url) as running:
        yield running


@asynccontextmanager
async def running_world(database_url: str) -> AsyncIterator[World]:
    """Provide a running ledger on a database without entries."""
    owner = await asyncpg.connect(driver_url(database_url))
    writer = Database(database_url, role="rm_audit_writer", application_name="test writer")
    reader = Database(database_url, role="rm_audit_reader", application_name="test reader")
    producer = Actor(
        await add_user(owner, "deployment"),
        "deployment",
        Role.VIEWER,
        ActorKind.SERVICE,
        frozenset({"audit.write", "on_behalf_of"}),
    )
    queue = GroupCommit(writer)
    queue.start()
    ledger = Ledger(queue, People(writer), secret=SECRET, clock=system_clock)
    user_id = await add_user(owner, "somebody")
    yield World(database_url, owner, writer, reader, producer, user_id, ledger, queue)
    await queue.stop()
    await writer.close()
    await reader.close()
    await owner.close()
