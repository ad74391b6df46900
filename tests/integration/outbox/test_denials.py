"""Denied calls reach the outbox once each, whatever happens between counting and writing."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncConnection

from seed.rows import Connection
from shared.clock import system_clock
from shared.db.engine import Database
from shared.errors import CredentialsMissing, RoleRequired
from shared.identity.actor import Actor, Call
from shared.outbox import denials as module
from shared.outbox.denials import DENIED, KINDS, LOST, Denials
from tests.integration.outbox.working import PRODUCER
from tests.support.polling import eventually

METHOD = "/release_manager.catalog.v1.CatalogService/CreateTeam"
ROLE = RoleRequired(required="lead", role="admin")


def call(
    actor: Actor | None = None, address: str | None = "192.0.2.1", method: str = METHOD
) -> Call:
    return Call(method, "request-1", address, "a program", actor)


async def told(owner: Connection) -> list[dict[str, Any]]:
    """Return the events about denied calls, oldest first."""
    rows = await owner.fetch(
        "SELECT event FROM outbox WHERE event->>'action' = 'call_denied' ORDER BY id"
    )
    return [json.loads(row["event"]) for row in rows]


async def counted(owner: Connection) -> int:
    return sum(event["details"]["count"] for event in await told(owner))


async def soon(owner: Connection, number: int) -> list[dict[str, Any]]:
    """Wait until there are so many events."""

    async def there() -> bool:
        return len(await told(owner)) >= number

    await eventually(there)
    return await told(owner)


class Wakes:
    """How often the relay was woken."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self) -> None:
        self.count += 1


class HandedClock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.now = datetime.now(UTC)

    def __call__(self) -> datetime:
        return self.now


class LosesAnswers(Database):
    """A database whose answers to the next commits get lost on their way, like its connections."""

    lost = 0

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncConnection]:
        async with super().transaction() as tx:
            yield tx
        if self.lost:
            self.lost -= 1
            raise ConnectionError


async def test_a_denied_call_is_one_event_with_all_that_is_known(
    db: Database, owner: Connection, admin: Actor
) -> None:
    denials, wakes = Denials(db, PRODUCER, system_clock), Wakes()
    async with denials.written(wakes):
        await denials.denied(call(admin), ROLE)
        [event] = await soon(owner, 1)
    assert wakes.count == 1
    assert event["category"] == "AUDIT_CATEGORY_SECURITY"
    assert (event["resourceType"], event["resourceId"]) == ("rpc", METHOD)
    assert event["user"] == str(admin.user_id)
    assert (event["ipAddress"], event["userAgent"]) == ("192.0.2.1", "a program")
    assert event["details"] == {
        "caller": "admin",
        "role": "admin",
        "reason": "ROLE_REQUIRED",
        "request_id": "request-1",
        "count": 1,
    }
    assert len(await told(owner)) == 1


async def test_what_the_database_never_takes_holds_up_nothing_else(
    db: Database, owner: Connection, admin: Actor
) -> None:
    denials, lost = Denials(db, PRODUCER, system_clock), LOST.labels(PRODUCER)
    before = lost._value.get()  # noqa: SLF001  (a counter has no other way to be read)
    unfit = replace(call(), user_agent="a\0b")
    async with denials.written(Wakes()):
        await denials.denied(unfit, CredentialsMissing())
        await denials.denied(call(admin), ROLE)
        [event] = await soon(owner, 1)
        await denials.denied(call(admin, method=METHOD + "s"), ROLE)
        await soon(owner, 2)
    assert event["user"] == str(admin.user_id)
    assert lost._value.get() - before == 1  # noqa: SLF001  (as above)


async def test_of_a_stranger_no_user_is_named(db: Database, owner: Connection) -> None:
    denials = Denials(db, PRODUCER, system_clock)
    async with denials.written(Wakes()):
        await denials.denied(call(), CredentialsMissing())
        [event] = await soon(owner, 1)
    assert "user" not in event
    assert event["details"]["caller"] == "unknown"
    assert "role" not in event["details"]


async def test_a_flood_is_one_event_a_minute_and_not_one_is_missing(
    db: Database, owner: Connection, admin: Actor
) -> None:
    clock = HandedClock()
    denials = Denials(db, PRODUCER, clock)
    async with denials.written(Wakes()):
        for minute in range(3):
            for _ in range(500):
                await denials.denied(call(admin), ROLE)
                await denials.denied(call(), CredentialsMissing())
            await soon(owner, 2 * (minute + 1))
            clock.now += timedelta(seconds=61)
    events = await told(owner)
    assert len(events) == 2 * 3
    assert await counted(owner) == 3_000
    for event in events:
        assert event["details"]["first_at"] <= event["details"]["last_at"]
        assert event["occurredAt"] == event["details"]["first_at"]


async def test_a_crowd_of_strangers_fills_nothing_and_hides_no_account(
    db: Database, owner: Connection, admin: Actor
) -> None:
    denials = Denials(db, PRODUCER, system_clock)
    crowd = 5_000
    async with denials.written(Wakes()):
        for number in range(crowd):
            stranger = call(None, str(IPv4Address(number)))
            await denials.denied(stranger, CredentialsMissing())
        await denials.denied(call(admin), ROLE)
        await soon(owner, 2)
    events = await told(owner)
    assert len(events) <= 2 * (KINDS + 1)
    assert await counted(owner) == crowd + 1
    [mine] = [event for event in events if event.get("user")]
    assert mine["details"]["count"] == 1
    [rest] = [event for event in events if event["details"].get("of_many_kinds")]
    assert rest["details"]["count"] == crowd - KINDS
    assert "ipAddress" not in rest


@pytest.mark.parametrize("lost", [1, 2])
async def test_a_commit_whose_answer_was_lost_is_not_made_twice(
    seeded_database_url: str, owner: Connection, monkeypatch: pytest.MonkeyPatch, lost: int
) -> None:
    monkeypatch.setattr(module, "AGAIN_S", 0.1)  # it tries again within the test's patience
    db = LosesAnswers(seeded_database_url, role="rm_catalog", application_name="test")
    denials, wakes = Denials(db, PRODUCER, system_clock), Wakes()
    db.lost = lost
    async with denials.written(wakes):
        for _ in range(5):
            await denials.denied(call(), CredentialsMissing())
        await soon(owner, 1)
        for _ in range(5):
            await denials.denied(call(), CredentialsMissing())
    assert await counted(owner) == 10
    assert wakes.count == 2
    await db.close()


async def test_nobody_waits_while_the_outbox_takes_nothing(
    db: Database, owner: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    # So that a write fails and is tried again while the outbox is locked for half a second.
    monkeypatch.setattr(module, "WRITE_TIMEOUT_S", 0.2)
    monkeypatch.setattr(module, "AGAIN_S", 0.1)
    denials = Denials(db, PRODUCER, system_clock)
    async with denials.written(Wakes()):
        async with owner.transaction():
            await owner.execute("LOCK TABLE outbox IN ACCESS EXCLUSIVE MODE")
            async with asyncio.timeout(30):  # the outbox is free only after that
                for _ in range(1_000):
                    await denials.denied(call(), CredentialsMissing())
                    await asyncio.sleep(0)
            await asyncio.sleep(0.5)
        await soon(owner, 1)
    assert await counted(owner) == 1_000


def lost_and_denied() -> tuple[float, float]:
    """Read two counters, which have no other way to be read."""
    lost, denied = LOST.labels(PRODUCER), DENIED.labels(PRODUCER)
    return lost._value.get(), denied._value.get()  # noqa: SLF001  (see above)


async def test_what_cannot_be_written_at_the_end_is_in_the_log_and_the_end_is_not_held_up(
    owner: Connection, db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    # So that giving up takes far less than the time after which the end counts as held up.
    monkeypatch.setattr(module, "WRITE_TIMEOUT_S", 0.2)
    monkeypatch.setattr(module, "LAST_WRITE_S", 0.5)
    before = lost_and_denied()
    denials = Denials(db, PRODUCER, system_clock)
    async with owner.transaction():
        await owner.execute("LOCK TABLE outbox IN ACCESS EXCLUSIVE MODE")
        started = time.monotonic()
        async with denials.written(Wakes()):
            for number in range(20):
                await denials.denied(call(None, f"192.0.2.{number % 4}"), CredentialsMissing())
            await asyncio.sleep(0.1)
        assert time.monotonic() - started < 20
    after = lost_and_denied()
    assert (after[0] - before[0], after[1] - before[1]) == (20, 20)
    assert await told(owner) == []


@pytest.mark.parametrize(
    ("producer", "role"), [("catalog", "rm_catalog"), ("deployment", "rm_deployment")]
)
async def test_both_services_have_the_rights_for_it(
    seeded_database_url: str, owner: Connection, producer: str, role: str
) -> None:
    db = Database(seeded_database_url, role=role, application_name="test")
    denials = Denials(db, producer, system_clock)
    async with denials.written(Wakes()):
        await denials.denied(call(), CredentialsMissing())
        await soon(owner, 1)
    assert await owner.fetchval("SELECT producer FROM outbox") == producer
    await db.close()
