"""Appending: dense, ordered, exactly once, and every leaf recomputable from what is stored."""

import asyncio
import json
import os
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from services.audit.appending.group_commit import GroupCommit
from services.audit.appending.ledger import Ledger, Logged, Refused
from services.audit.rules.canonical import canonical
from services.audit.rules.events import Event, address_text, leaf_values, microseconds, seal
from services.audit.rules.leaf import event_digest, leaf_hash
from services.audit.store.appending import append_past, ensure_partitions
from services.audit.store.people import People
from shared.clock import system_clock
from shared.db.engine import Database
from shared.errors import EventIdReused, ResourceNotFound, ScopeRequired
from shared.ids import new_id, new_id_at
from tests.integration.audit.conftest import World


def event(number: int = 0, **fields: object) -> Event:
    made = Event("deploy", "deployment", f"d-{number}", event_id=new_id(), details={"n": number})
    return replace(made, **fields)  # type: ignore[arg-type]


def logged(outcomes: Sequence[Logged | Refused]) -> list[Logged]:
    assert all(isinstance(outcome, Logged) for outcome in outcomes), outcomes
    return [outcome for outcome in outcomes if isinstance(outcome, Logged)]


async def test_a_batch_is_appended_in_order_from_zero(world: World) -> None:
    outcomes = logged(await world.ledger.log_all(world.producer, [event(n) for n in range(50)]))
    assert [outcome.place.leaf_index for outcome in outcomes] == list(range(50))
    rows = await world.rows()
    assert [row["resource_id"] for row in rows] == [f"d-{n}" for n in range(50)]
    assert [row["id"] for row in rows] == sorted(row["id"] for row in rows)
    assert {row["id"].version for row in rows} == {7}
    assert [row["id"] for row in rows] == [outcome.place.audit_log_id for outcome in outcomes]
    assert [row["leaf_hash"] for row in rows] == [outcome.leaf_hash for outcome in outcomes]


async def test_the_same_event_again_is_the_same_entry_and_writes_to_its_key(world: World) -> None:
    one = event(aggregate="deployment:1", aggregate_seq=1)
    first = await world.ledger.log(world.producer, one)
    seen = "SELECT seen_at FROM audit_event_keys"
    before = await world.owner.fetchval(seen)
    again = await world.ledger.log(world.producer, one)
    assert again.duplicate
    assert not first.duplicate
    assert again.place.leaf_index == first.place.leaf_index
    assert again.place.audit_log_id == first.place.audit_log_id
    assert again.place.created_at == first.place.created_at
    assert await world.owner.fetchval(seen) > before
    assert len(await world.rows()) == 1


async def test_the_same_id_for_another_event_is_refused(world: World) -> None:
    one = event(1)
    await world.ledger.log(world.producer, one)
    with pytest.raises(EventIdReused) as refused:
        await world.ledger.log(world.producer, replace(one, action="rollback"))
    assert refused.value.facts["leaf_index"] == "0"


async def test_keys_within_one_batch_are_judged_in_order(world: World) -> None:
    one = event(1, aggregate="deployment:1", aggregate_seq=1)
    batch = [
        one,
        one,
        replace(one, action="promote", aggregate_seq=2),
        event(2, aggregate="deployment:1", aggregate_seq=2),
        event(3, aggregate="deployment:1", aggregate_seq=2),
        event(4, user="nobody"),
        event(5),
    ]
    outcomes = await world.ledger.log_all(world.producer, batch)
    told = [
        outcome.error.reason if isinstance(outcome, Refused) else outcome.place.outcome
        for outcome in outcomes
    ]
    assert told == [
        "appended",
        "duplicate",
        "EVENT_ID_REUSED",
        "appended",
        "AGGREGATE_SEQUENCE_REUSED",
        "RESOURCE_NOT_FOUND",
        "appended",
    ]
    assert [row["resource_id"] for row in await world.rows()] == ["d-1", "d-2", "d-5"]
    assert isinstance(outcomes[4], Refused)
    assert outcomes[4].error.facts["event_id"] == str(batch[3].event_id)


async def test_producers_count_their_aggregates_apart(world: World) -> None:
    other = replace(world.producer, username="catalog")
    for producer in (world.producer, other):
        await world.ledger.log(producer, event(aggregate="team:1", aggregate_seq=1))
    assert [row["producer"] for row in await world.rows()] == ["deployment", "catalog"]


async def test_every_leaf_can_be_computed_again_from_its_row(world: World) -> None:
    details = {"n": 1.5, "big": 2**53 - 1, "tiny": 1e-9, "ü😀": ["\u2028", None, {"\ufb33": True}]}
    batch = [
        event(1, details=details, ip_address="::ffff:10.0.0.1", user="somebody"),
        event(2, occurred_at=datetime(2001, 2, 3, 4, 5, 6, 7, tzinfo=UTC), user_agent=""),
        event(3, ip_address="2001:DB8::1", aggregate="team:1", aggregate_seq=1),
        event(4, ip_address="::1.2.3.4", category="security", details={"password": "x"}),
        event(5, event_id=None, user=str(world.user_id)),
    ]
    logged(await world.ledger.log_all(world.producer, batch))
    for row in await world.rows():
        stored = json.loads(row["details"])
        encoded = canonical(stored)
        assert json.loads(encoded) == stored
        values = leaf_values(
            event_id=row["event_id"],
            occurred_at=row["occurred_at"],
            user_id=row["user_id"],
            action=row["action"],
            resource_type=row["resource_type"],
            resource_id=row["resource_id"],
            details=encoded,
            ip_address=row["ip_address"] and address_text(row["ip_address"]),
            user_agent=row["user_agent"],
            category=row["category"],
            producer=row["producer"],
            aggregate=row["aggregate"],
            aggregate_seq=row["aggregate_seq"],
        )
        assert event_digest(values, row["salt"]) == row["event_digest"]
        created_at = microseconds(row["created_at"])
        assert leaf_hash(row["leaf_index"], created_at, row["event_digest"]) == row["leaf_hash"]
        assert row["id"].int >> 80 == created_at // 1000
        assert (row["id"].int >> 64) & 0xFFF == created_at % 1000 * 4
        assert row["id"].int & (2**62 - 1) == row["leaf_index"]


async def test_many_writers_and_repetitions_give_one_dense_order(world: World) -> None:
    """Two processes' worth of queues, each event sent by both at about the same time."""
    other = await another_ledger(world)
    events = [event(n, aggregate="deployment:1", aggregate_seq=n + 1) for n in range(400)]

    async def send(ledger: object, part: list[Event]) -> None:
        for start in range(0, len(part), 7):
            logged(await ledger.log_all(world.producer, part[start : start + 7]))  # type: ignore[attr-defined]

    await asyncio.gather(
        *(send(ledger, events[n::4]) for n in range(4) for ledger in (world.ledger, other.ledger))
    )
    await other.queue.stop()
    await other.writer.close()
    rows = await world.rows()
    assert [row["leaf_index"] for row in rows] == list(range(400))
    assert len({row["event_id"] for row in rows}) == 400
    moments = [row["created_at"] for row in rows]
    assert moments == sorted(moments)
    assert await world.owner.fetchval("SELECT next_index FROM audit_log_head") == 400


async def another_ledger(world: World) -> World:

    writer = Database(world.url, role="rm_audit_writer", application_name="second writer")
    queue = GroupCommit(writer)
    queue.start()
    ledger = Ledger(queue, People(writer), secret=b"s" * 32, clock=system_clock)
    return replace(world, writer=writer, queue=queue, ledger=ledger)


async def test_a_cancelled_caller_leaves_no_damage(world: World) -> None:
    waiting = [
        asyncio.create_task(world.ledger.log_all(world.producer, [event(n)])) for n in range(40)
    ]
    await asyncio.sleep(0.005)
    for task in waiting[::3]:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    await world.ledger.log(world.producer, event(99))
    rows = await world.rows()
    assert [row["leaf_index"] for row in rows] == list(range(len(rows)))
    assert rows[-1]["resource_id"] == "d-99"


async def test_speaking_for_others_needs_a_scope(world: World) -> None:
    alone = replace(world.producer, scopes=frozenset({"audit.write"}))
    await world.ledger.log(alone, event(1, user="deployment"))
    await world.ledger.log(alone, event(2, user=str(world.producer.user_id)))
    await world.ledger.log(alone, event(3))
    with pytest.raises(ScopeRequired):
        await world.ledger.log(alone, event(4, user="somebody"))
    with pytest.raises(ResourceNotFound):
        await world.ledger.log(world.producer, event(5, user="nobody"))


async def test_a_user_who_is_gone_by_then_hinders_nobody_else(world: World) -> None:
    await world.ledger.log(world.producer, event(0, user="somebody"))  # now known to the cache
    await world.owner.execute("ALTER TABLE audit_logs DISABLE TRIGGER USER")
    await world.owner.execute("DELETE FROM audit_logs")
    await world.owner.execute("DELETE FROM users WHERE username = 'somebody'")
    batch = [event(n, user="somebody" if n == 3 else None) for n in range(1, 6)]
    outcomes = await world.ledger.log_all(world.producer, batch)
    assert [isinstance(outcome, Refused) for outcome in outcomes] == [n == 2 for n in range(5)]
    assert isinstance(outcomes[2], Refused)
    assert outcomes[2].error.reason == "RESOURCE_NOT_FOUND"


async def test_a_lost_connection_loses_and_doubles_nothing(world: World) -> None:
    await world.ledger.log(world.producer, event(0))
    await world.owner.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = $1",
        "test writer",
    )
    await world.ledger.log(world.producer, event(1))
    assert [row["resource_id"] for row in await world.rows()] == ["d-0", "d-1"]


async def test_past_entries_only_into_an_empty_ledger(world: World) -> None:

    now = datetime.now(UTC)
    past = [now - timedelta(days=100 - n) for n in range(3)]
    sealed = [
        seal(
            event(n, event_id=new_id_at(moment), occurred_at=moment),
            producer="seed",
            user_id=None,
            now=moment,
            mac_key=os.urandom(32),
        )
        for n, moment in enumerate(past)
    ]
    with pytest.raises(asyncpg.CheckViolationError, match="no partition"):
        await append_past(world.owner, sealed, past)
    await ensure_partitions(world.owner, past[0].date().replace(day=1), 4)
    with pytest.raises(asyncpg.InvalidParameterValueError):
        await append_past(world.owner, sealed, past[::-1])
    placed = await append_past(world.owner, sealed, past)
    assert [place.created_at for place in placed] == past
    with pytest.raises(asyncpg.ObjectNotInPrerequisiteStateError):
        await append_past(world.owner, sealed, past)
    after = await world.ledger.log(world.producer, event(9))
    assert after.place.leaf_index == 3
    assert after.place.created_at > past[-1]
