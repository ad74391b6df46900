"""Reconciliation: it finds what the ledger lacks, all of it, and nothing but that."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import timedelta

import pytest
from sqlalchemy import update
from sqlalchemy.ext.asyncio import AsyncConnection

from seed.rows import Connection
from services.catalog.store.versions import versions
from shared.db.engine import Database
from shared.db.models.catalog import Team
from shared.errors import AuditUnavailable
from shared.outbox import purge as purges
from shared.outbox.backlog import OutboxBacklog
from shared.outbox.change import Changes
from shared.outbox.purge import Purge
from shared.outbox.reconcile import Reconciler, Reconciliation, Versions
from shared.outbox.relay import Relay
from tests.integration.outbox.ledger_double import LedgerDouble
from tests.integration.outbox.working import (
    CREATE_TEAM,
    PRODUCER,
    aggregates,
    commit,
    create_team,
    drain,
    version,
    waiting,
)

NOTHING: tuple[int, int, list[str]] = (0, 0, [])


def of(known: Mapping[str, int]) -> Versions:
    """Return aggregates and their versions as a test states them."""

    async def stated(_tx: AsyncConnection) -> AsyncIterator[tuple[str, int]]:
        for pair in known.items():
            yield pair

    return stated


def found(said: Reconciliation) -> tuple[int, int, list[str]]:
    return said.missing, said.resent, said.missing_aggregates


@pytest.mark.usefixtures("call")
async def test_what_real_changes_made_is_complete_and_what_was_lost_comes_again(
    db: Database, changes: Changes, relay: Relay, ledger: LedgerDouble
) -> None:
    reconciler = Reconciler(db, PRODUCER, versions, ledger.sequences)
    for name in ("blue", "green", "red"):
        await create_team(changes, name)
    assert found(await reconciler.reconcile()) == NOTHING
    await drain(relay)
    said = await reconciler.reconcile()
    assert (said.aggregates, *found(said)) == (3, *NOTHING)
    lost = sorted(entry.aggregate for entry in ledger.entries[-2:])
    ledger.forget(2)
    assert found(await reconciler.reconcile()) == (2, 2, lost)
    assert found(await reconciler.reconcile()) == NOTHING
    await drain(relay)
    assert sorted(entry.aggregate for entry in ledger.entries[-2:]) == lost
    assert found(await reconciler.reconcile()) == NOTHING


async def test_a_version_without_an_event_is_missing_and_cannot_be_sent(
    db: Database, ledger: LedgerDouble, owner: Connection
) -> None:
    team = await owner.fetchval("SELECT id FROM teams LIMIT 1")
    async with db.transaction() as tx:
        await tx.execute(update(Team).where(Team.id == team).values(row_version=1))
    reconciler = Reconciler(db, PRODUCER, versions, ledger.sequences)
    assert found(await reconciler.reconcile()) == (1, 0, [f"team:{team}"])


async def test_what_arrives_while_the_ledger_is_asked_is_not_missing(
    db: Database, relay: Relay, ledger: LedgerDouble, owner: Connection
) -> None:
    teams = aggregates(3)

    async def asked(wanted: Sequence[str]) -> Mapping[str, int]:
        said = await ledger.sequences(wanted)
        await drain(relay)
        return said

    await commit(db, [version(team, sequence) for sequence in (1, 2) for team in teams])
    reconciler = Reconciler(db, PRODUCER, of(dict.fromkeys(teams, 2)), asked)
    assert found(await reconciler.reconcile()) == NOTHING
    assert await waiting(owner) == 0


async def test_versions_behind_one_that_waits_are_not_judged(
    db: Database, relay: Relay, ledger: LedgerDouble
) -> None:
    (team,) = aggregates(1)
    first, *_ = await commit(db, [version(team, sequence) for sequence in (1, 2, 3)])
    ledger.refuse = lambda event: "EVENT_TOO_OLD" if event.event_id == str(first) else ""
    await drain(relay)
    assert ledger.held()[team] == [2, 3]
    reconciler = Reconciler(db, PRODUCER, of({team: 3}), ledger.sequences)
    assert found(await reconciler.reconcile()) == NOTHING


async def test_an_empty_ledger_is_filled_again_however_much_that_is(
    db: Database, relay: Relay, ledger: LedgerDouble
) -> None:
    teams = aggregates(300)
    await commit(db, [version(team, sequence) for sequence in range(1, 61) for team in teams])
    await drain(relay)
    ledger.forget(len(ledger.entries))
    reconciler = Reconciler(db, PRODUCER, of(dict.fromkeys(teams, 60)), ledger.sequences)
    said = await reconciler.reconcile()
    assert (said.missing, said.resent, len(said.missing_aggregates)) == (18_000, 18_000, 100)
    await drain(relay)
    assert ledger.held() == {team: list(range(1, 61)) for team in teams}
    assert found(await reconciler.reconcile()) == NOTHING


async def test_old_events_that_are_sent_again_do_not_close_the_doors(
    db: Database, relay: Relay, ledger: LedgerDouble, backlog: OutboxBacklog, owner: Connection
) -> None:
    (team,) = aggregates(1)
    await commit(db, [version(team, 1)])
    await drain(relay)
    await owner.execute("UPDATE outbox SET created_at = created_at - interval '3 days'")
    ledger.forget(1)
    reconciler = Reconciler(db, PRODUCER, of({team: 1}), ledger.sequences)
    assert (await reconciler.reconcile()).resent == 1
    await backlog.look()
    backlog.admit(CREATE_TEAM)


async def test_a_ledger_that_is_down_is_an_error_and_marks_nothing(
    db: Database, relay: Relay, ledger: LedgerDouble, owner: Connection
) -> None:
    (team,) = aggregates(1)
    await commit(db, [version(team, 1)])
    await drain(relay)
    ledger.down = True
    with pytest.raises(AuditUnavailable):
        await Reconciler(db, PRODUCER, of({team: 1}), ledger.sequences).reconcile()
    assert await waiting(owner) == 0


async def test_only_what_was_delivered_long_ago_is_thrown_away(
    db: Database, relay: Relay, ledger: LedgerDouble, owner: Connection
) -> None:
    kinds = ("old", "new", "tombstone", "parked", "waiting")
    teams = dict(zip(kinds, aggregates(5), strict=True))
    names = {aggregate: kind for kind, aggregate in teams.items()}
    await commit(db, [version(teams[kind], 1) for kind in kinds[:4]])
    ledger.refuse = lambda event: (
        "EVENT_TOO_OLD"
        if names[event.aggregate] == "parked"
        or (names[event.aggregate] == "tombstone" and event.action != "tombstone")
        else ""
    )
    await drain(relay)
    await owner.execute(
        "UPDATE outbox SET sent_at = sent_at - interval '8 days' WHERE aggregate <> $1",
        teams["new"],
    )
    await commit(db, [version(teams["waiting"], 1)])
    await owner.execute("UPDATE outbox SET created_at = created_at - interval '30 days'")
    await Purge(db, PRODUCER).purge()
    left = {names[row[0]] for row in await owner.fetch("SELECT aggregate FROM outbox")}
    assert left == set(kinds) - {"old"}


async def test_what_is_no_longer_needed_goes_however_much_it_is(
    db: Database, owner: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(purges, "BATCH", 10)
    await owner.execute(
        "INSERT INTO outbox (event_id, producer, aggregate, aggregate_seq, partition, event,"
        " sent_at, leaf_index) SELECT gen_random_uuid(), p, 'team:' || n, 1, n % 8, '{}',"
        " now() - interval '8 days', n FROM generate_series(1, 35) AS n,"
        " unnest(ARRAY['catalog', 'deployment']) AS p"
    )
    for age in ("49 hours", "25 hours"):
        await owner.execute(
            "INSERT INTO idempotency_records (actor_id, method, request_id, fingerprint,"
            " created_at) SELECT (SELECT id FROM users LIMIT 1), '/x', gen_random_uuid(), '',"
            f" now() - interval '{age}' FROM generate_series(1, 35)"
        )
    both = [Purge(db, producer) for producer in ("catalog", "deployment")]
    await asyncio.gather(*(one.purge() for one in both))
    assert await owner.fetchval("SELECT count(*) FROM outbox") == 0
    assert await owner.fetchval("SELECT count(*) FROM idempotency_records") == 35
    assert timedelta(hours=24) < purges.KEEP_ANSWERS
