"""The outbox on a real database, before a ledger that misbehaves."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from uuid import UUID

import pytest
from sqlalchemy import select
from sqlalchemy.pool import QueuePool

from shared.db.engine import Database
from shared.db.models.identity import User
from shared.identity.actor import Actor, Call, Role, current_call
from shared.outbox.backlog import OutboxBacklog, OutboxLimits
from shared.outbox.change import Changes
from shared.outbox.relay import Relay
from tests.integration.outbox.ledger_double import LedgerDouble
from tests.integration.outbox.working import CREATE_TEAM, PRODUCER


@pytest.fixture
def ledger() -> LedgerDouble:
    return LedgerDouble()


@pytest.fixture
def relay(db: Database, ledger: LedgerDouble) -> Relay:
    return Relay(db, PRODUCER, ledger.send)


@pytest.fixture
async def running(relay: Relay) -> AsyncIterator[Relay]:
    async with runs(relay):
        yield relay


@pytest.fixture
def backlog(db: Database) -> OutboxBacklog:
    return OutboxBacklog(db, PRODUCER, OutboxLimits())


@pytest.fixture
def changes(db: Database, relay: Relay, backlog: OutboxBacklog) -> Changes:
    return Changes(db, relay, PRODUCER, backlog)


@pytest.fixture
async def admin(db: Database) -> Actor:
    return await actor_named(db, "admin")


@pytest.fixture
def call(admin: Actor) -> Iterator[Call]:
    made = Call(CREATE_TEAM, "test", actor=admin)
    token = current_call.set(made)
    yield made
    current_call.reset(token)


@contextlib.asynccontextmanager
async def runs(relay: Relay) -> AsyncIterator[None]:
    task = asyncio.create_task(relay.run())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def lent(db: Database) -> int:
    """Return how many connections of the pool are in use."""
    pool = db.engine.pool
    assert isinstance(pool, QueuePool)
    return pool.checkedout()


async def actor_named(db: Database, username: str) -> Actor:
    async with db.snapshot() as tx:
        found = await tx.scalar(select(User.id).where(User.username == username))
    assert isinstance(found, UUID)
    return Actor(found, username, Role.ADMIN)
