"""The relay before a ledger that fails in every way: nothing lost, nothing twice, all in order."""

import asyncio
import random
from collections.abc import Sequence

import pytest
from release_manager.audit.v1 import audit_pb2 as pb
from sqlalchemy.exc import DBAPIError

from seed.rows import Connection
from shared.db.engine import Database
from shared.errors import AuditUnavailable
from shared.outbox import relay as relays
from shared.outbox.relay import Relay
from shared.outbox.waiting import pending_in
from tests.integration.outbox.conftest import lent, runs
from tests.integration.outbox.ledger_double import Fault, LedgerDouble
from tests.integration.outbox.working import (
    PRODUCER,
    aggregates,
    commit,
    drain,
    row_of,
    version,
    waiting,
)
from tests.support.polling import eventually


async def test_what_was_executed_and_timed_out_is_not_appended_again(
    db: Database, relay: Relay, ledger: LedgerDouble, owner: Connection
) -> None:
    ledger.faults = [Fault.EXECUTED_AND_TIMED_OUT]
    (team,) = aggregates(1)
    events = await commit(db, [version(team, 1), version(team, 2)])
    with pytest.raises(TimeoutError):
        await relay.deliver_once()
    assert await waiting(owner) == 2
    await drain(relay)
    assert ledger.ids == [str(event) for event in events]
    assert [(await row_of(owner, event))["leaf_index"] for event in events] == [0, 1]


async def test_an_unreachable_ledger_costs_nothing_but_time(
    db: Database, relay: Relay, ledger: LedgerDouble, owner: Connection
) -> None:
    ledger.down = True
    (team,) = aggregates(1)
    (event,) = await commit(db, [version(team, 1)])
    for _ in range(3):
        with pytest.raises(AuditUnavailable):
            await relay.deliver_once()
    row = await row_of(owner, event)
    assert (row["sent_at"], row["attempts"], row["parked_at"]) == (None, 0, None)
    ledger.down = False
    await drain(relay)
    assert ledger.ids == [str(event)]


async def test_a_connection_lost_between_ledger_and_mark_repeats_and_changes_nothing(
    db: Database, ledger: LedgerDouble, owner: Connection
) -> None:
    async def cut(events: Sequence[pb.AuditEvent], seconds: float) -> Sequence[pb.AppendResult]:
        results = await ledger.send(events, seconds)
        await owner.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name = 'test' AND datname = current_database()"
        )
        return results

    (team,) = aggregates(1)
    (event,) = await commit(db, [version(team, 1)])
    with pytest.raises(DBAPIError):
        await Relay(db, PRODUCER, cut).deliver_once()
    assert await waiting(owner) == 1
    again = Relay(db, PRODUCER, ledger.send)

    async def delivered() -> bool:
        await drain(again)  # nothing as long as the lost connection still has its locks
        return await _nothing_waits(owner)

    await eventually(delivered)
    assert ledger.ids == [str(event)]


async def test_a_relay_that_ends_in_the_middle_leaves_its_partitions_to_the_next(
    db: Database, relay: Relay, ledger: LedgerDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrived = asyncio.Event()

    async def hang(_: Sequence[pb.AuditEvent], __: float) -> Sequence[pb.AppendResult]:
        arrived.set()
        await asyncio.sleep(60)
        return []

    await commit(db, [version(team, 1) for team in aggregates(20)])
    with monkeypatch.context() as patched:
        patched.setattr(relays, "SEND_TIMEOUT_S", 60)  # it ends by no time-out before
        async with runs(Relay(db, PRODUCER, hang)):
            await arrived.wait()
            await drain(relay)
            assert ledger.entries == []
    await drain(relay)
    assert len(ledger.entries) == 20


@pytest.mark.parametrize("turns", range(6))
async def test_a_relay_that_is_stopped_at_the_moment_it_is_woken_stops(
    relay: Relay, turns: int
) -> None:
    for _ in range(20):
        task = asyncio.create_task(relay.run())
        await asyncio.sleep(0.03)
        relay.wake()
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        done, _ = await asyncio.wait([task], timeout=30)
        assert done, "the cancellation was lost"


async def test_two_relays_keep_the_order_of_every_aggregate(
    db: Database, ledger: LedgerDouble, owner: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relays, "BATCH", 7)
    source = random.Random(11)
    teams = aggregates(12)

    async def jitter(events: Sequence[pb.AuditEvent], seconds: float) -> Sequence[pb.AppendResult]:
        await asyncio.sleep(source.random() * 0.01)
        return await ledger.send(events, seconds)

    async def write(team: str) -> None:
        for sequence in range(1, 16):
            await commit(db, [version(team, sequence)])
            first.wake()
            second.wake()

    first, second = Relay(db, PRODUCER, jitter), Relay(db, PRODUCER, jitter)
    async with runs(first), runs(second):
        await asyncio.gather(*map(write, teams))
        await eventually(lambda: _nothing_waits(owner))
    assert ledger.held() == {team: list(range(1, 16)) for team in teams}


async def _nothing_waits(owner: Connection) -> bool:
    return await waiting(owner) == 0


async def test_a_call_learns_at_once_of_what_another_replica_has_delivered(
    db: Database, ledger: LedgerDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def slowly(events: Sequence[pb.AuditEvent], seconds: float) -> Sequence[pb.AppendResult]:
        await asyncio.sleep(0.1)
        return await ledger.send(events, seconds)

    monkeypatch.setattr(relays, "POLL_S", 60)
    mine, other = Relay(db, PRODUCER, ledger.send), Relay(db, PRODUCER, slowly)
    (event,) = await commit(db, [version(team, 1) for team in aggregates(1)])
    delivery = asyncio.create_task(other.deliver_once())
    await eventually(lambda: _is_sending(db), every=0.02)
    async with runs(mine):
        mine.wake()
        assert await mine.acknowledged([event], 20) == {event: 0}
    await delivery


async def test_what_was_delivered_is_not_looked_for_again(
    db: Database, relay: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a call waits, the relay looks often; when it has told the call, it no longer does."""
    passes, deliver = [], relay.deliver_once

    async def counted() -> bool:
        passes.append(1)
        return await deliver()

    monkeypatch.setattr(relay, "deliver_once", counted)
    monkeypatch.setattr(relays, "POLL_S", 60)
    async with runs(relay):
        (event,) = await commit(db, [version(team, 1) for team in aggregates(1)])
        relay.wake()
        assert await relay.acknowledged([event], 20) == {event: 0}
        seen = len(passes)
        await asyncio.sleep(5 * relays.AWAITED_POLL_S)
        assert len(passes) == seen


async def _is_sending(db: Database) -> bool:
    return lent(db) > 0


async def test_the_work_list_is_read_from_its_beginning_only(
    db: Database, owner: Connection
) -> None:
    await owner.execute(
        "INSERT INTO outbox (event_id, producer, aggregate, aggregate_seq, partition, event)"
        " SELECT gen_random_uuid(), $1, 'team:' || n, 1, n % 8, '{}' FROM"
        " generate_series(1, 40000) AS n",
        PRODUCER,
    )
    await owner.execute("ANALYZE outbox")

    async def fetched() -> int:
        await owner.execute("SELECT pg_stat_clear_snapshot()")
        found: int = await owner.fetchval(
            "SELECT idx_tup_fetch + seq_tup_read FROM pg_stat_user_tables WHERE relname = 'outbox'"
        )
        return found

    async with db.transaction() as tx:
        await pending_in(tx, PRODUCER, list(range(8)), 500)
        (await tx.exec_driver_sql("SELECT pg_stat_force_next_flush()")).close()
    await asyncio.sleep(0.1)
    before = await fetched()
    async with db.transaction() as tx:
        rows = await pending_in(tx, PRODUCER, list(range(8)), 500)
        (await tx.exec_driver_sql("SELECT pg_stat_force_next_flush()")).close()
    await asyncio.sleep(0.1)
    assert [row.row_id for row in rows] == sorted(row.row_id for row in rows)
    assert len(rows) == 500
    assert await fetched() - before <= 8 * 500


@pytest.mark.parametrize("seed", range(12))
async def test_every_event_arrives_once_and_in_order_whatever_fails(
    db: Database,
    ledger: LedgerDouble,
    owner: Connection,
    seed: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(relays, "BATCH", 5)
    monkeypatch.setattr(relays, "LONGEST_PAUSE_S", 0.01)
    monkeypatch.setattr(relays, "SHORTEST_PAUSE_S", 0.001)
    source = random.Random(seed)
    teams = aggregates(source.randint(1, 6))
    length = source.randint(1, 12)

    async def fail(events: Sequence[pb.AuditEvent], seconds: float) -> Sequence[pb.AppendResult]:
        dice = source.random()
        if dice < 0.15:
            raise AuditUnavailable
        results = list(await ledger.send(events, seconds))
        await asyncio.sleep(source.random() * 0.005)
        if dice < 0.3:
            raise TimeoutError
        if dice < 0.35:
            return results[: source.randrange(len(results))]
        if dice < 0.4:
            raise asyncio.CancelledError
        return results

    async def write(team: str) -> None:
        for sequence in range(1, length + 1):
            await commit(db, [version(team, sequence)])
            source.choice(replicas).wake()

    replicas = [Relay(db, PRODUCER, fail) for _ in range(source.randint(1, 3))]
    tasks = [asyncio.create_task(_again(relay)) for relay in replicas]
    await asyncio.gather(*map(write, teams))
    await eventually(lambda: _nothing_waits(owner), 30)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert ledger.held() == {team: list(range(1, length + 1)) for team in teams}
    marked = await owner.fetch("SELECT event_id, leaf_index FROM outbox ORDER BY leaf_index")
    assert [str(row["event_id"]) for row in marked] == ledger.ids


async def _again(relay: Relay) -> None:
    """Run a relay that a stray cancellation ends, like a process that is started again."""
    while True:
        try:
            await relay.run()
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
