"""How far the ledger may lag: what is refused beyond which limit, and that it opens again."""

import contextlib
from datetime import timedelta

import pytest

from seed.rows import Connection
from shared.db.engine import Database
from shared.errors import AuditBacklog
from shared.outbox.backlog import OutboxBacklog, OutboxLimits
from shared.outbox.change import Changes
from shared.outbox.relay import Relay
from tests.integration.outbox.ledger_double import LedgerDouble
from tests.integration.outbox.working import (
    CREATE_TEAM,
    PRODUCER,
    aggregates,
    commit,
    create_team,
    version,
)

REVOKE = "/release_manager.identity.v1.IdentityService/RevokeApiToken"
LOGIN = "/release_manager.identity.v1.IdentityService/Login"
RECONCILE = "/release_manager.catalog.v1.CatalogService/ReconcileAudit"
ALL = (CREATE_TEAM, REVOKE, LOGIN, RECONCILE)
LIMITS = OutboxLimits(2, timedelta(minutes=30), 4, timedelta(hours=2))


@pytest.fixture
def backlog(db: Database) -> OutboxBacklog:
    return OutboxBacklog(db, PRODUCER, LIMITS)


def admitted(backlog: OutboxBacklog) -> set[str]:
    passed = set()
    for method in ALL:
        with contextlib.suppress(AuditBacklog):
            backlog.admit(method)
            passed.add(method)
    return passed


@pytest.mark.parametrize(
    ("rows", "open_to"),
    [
        (2, {CREATE_TEAM, REVOKE, LOGIN, RECONCILE}),
        (3, {REVOKE, LOGIN, RECONCILE}),
        (4, {REVOKE, LOGIN, RECONCILE}),
        (5, {LOGIN, RECONCILE}),
        (9, {LOGIN, RECONCILE}),
    ],
)
async def test_rows_close_the_doors_and_delivery_opens_them(
    db: Database, backlog: OutboxBacklog, ledger: LedgerDouble, rows: int, open_to: set[str]
) -> None:
    await commit(db, [version(team, 1) for team in aggregates(rows)])
    await backlog.look()
    assert admitted(backlog) == open_to
    while await Relay(db, PRODUCER, ledger.send).deliver_once():
        pass
    await backlog.look()
    assert admitted(backlog) == set(ALL)


@pytest.mark.parametrize(
    ("age", "open_to"),
    [
        ("29 minutes", {CREATE_TEAM, REVOKE, LOGIN, RECONCILE}),
        ("31 minutes", {REVOKE, LOGIN, RECONCILE}),
        ("119 minutes", {REVOKE, LOGIN, RECONCILE}),
        ("121 minutes", {LOGIN, RECONCILE}),
    ],
)
async def test_age_closes_the_doors(
    db: Database, backlog: OutboxBacklog, owner: Connection, age: str, open_to: set[str]
) -> None:
    await commit(db, [version(team, 1) for team in aggregates(1)])
    await owner.execute(f"UPDATE outbox SET created_at = created_at - interval '{age}'")
    await backlog.look()
    assert admitted(backlog) == open_to


async def test_what_is_parked_or_another_producers_closes_nothing(
    db: Database, backlog: OutboxBacklog, owner: Connection
) -> None:
    await commit(db, [version(team, 1) for team in aggregates(20)])
    await owner.execute("UPDATE outbox SET parked_at = now() WHERE id % 2 = 0")
    await owner.execute("UPDATE outbox SET producer = 'deployment' WHERE parked_at IS NULL")
    await backlog.look()
    assert admitted(backlog) == set(ALL)


async def test_only_beyond_the_hard_limit_nothing_happens_by_itself(
    db: Database, backlog: OutboxBacklog
) -> None:
    teams = aggregates(5)
    await commit(db, [version(team, 1) for team in teams[:4]])
    await backlog.look()
    backlog.admit_by_itself()
    await commit(db, [version(teams[4], 1)])
    await backlog.look()
    with pytest.raises(AuditBacklog):
        backlog.admit_by_itself()


@pytest.mark.usefixtures("call")
async def test_a_refused_change_stores_nothing(
    db: Database, relay: Relay, backlog: OutboxBacklog, owner: Connection
) -> None:
    await commit(db, [version(team, 1) for team in aggregates(3)])
    await backlog.look()
    with pytest.raises(AuditBacklog) as refused:
        await create_team(Changes(db, relay, PRODUCER, backlog), "blue")
    assert refused.value.retry_after is not None
    assert await owner.fetchval("SELECT count(*) FROM teams WHERE name = 'blue'") == 0
