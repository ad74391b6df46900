"""Nobody changes what is in the ledger: not by role, not by trigger, not through a partition."""

import asyncpg
import pytest

from services.audit.rules.events import Event
from services.audit.store.appending import driver_connection
from shared.db.engine import Database
from tests.integration.audit.conftest import World

CHANGES = (
    "UPDATE {table} SET action = 'nothing'",
    "DELETE FROM {table}",
    "TRUNCATE {table}",
)
PARTITIONS = (
    "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'audit_logs'::regclass"
)


@pytest.mark.parametrize("replica", [False, True])
@pytest.mark.parametrize("change", CHANGES)
async def test_even_the_owner_is_refused_everywhere(
    world: World,
    change: str,
    replica: bool,  # noqa: FBT001  (a parameter)
) -> None:
    await world.ledger.log(world.producer, Event("create", "team", "1"))
    await world.owner.execute("SELECT audit_ensure_partitions('2020-01-01', 2)")
    if replica:
        await world.owner.execute("SET session_replication_role = replica")
    filled = await world.owner.fetchval("SELECT tableoid::regclass::text FROM audit_logs")
    tables = ["audit_logs", filled]
    if change.startswith("TRUNCATE"):  # a row trigger has nothing to refuse in an empty table
        tables += [row[0] for row in await world.owner.fetch(PARTITIONS)]
    for table in tables:
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="append-only"):
            await world.owner.execute(change.format(table=table))
    assert len(await world.rows()) == 1


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT * FROM audit_logs",
        "INSERT INTO audit_logs SELECT * FROM audit_logs",
        "UPDATE audit_logs SET action = 'x'",
        "DELETE FROM audit_logs",
        "TRUNCATE audit_logs",
        "SELECT * FROM audit_log_head",
        "UPDATE audit_log_head SET next_index = 0",
        "DELETE FROM audit_log_head",
        "SELECT * FROM audit_event_keys",
        "DELETE FROM audit_event_keys",
        "SELECT password_hash FROM users",
        "CREATE TABLE mine (id int)",
    ],
)
async def test_the_writer_can_append_and_nothing_else(world: World, statement: str) -> None:
    await refused(world.writer, statement)


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO audit_logs SELECT * FROM audit_logs",
        "UPDATE audit_logs SET action = 'x'",
        "DELETE FROM audit_logs",
        "UPDATE audit_log_head SET next_index = 0",
        "SELECT request_mac FROM audit_event_keys",
        "SELECT audit_ensure_partitions('2020-01-01', 1)",
    ],
)
async def test_the_reader_can_read_and_nothing_else(world: World, statement: str) -> None:
    await refused(world.reader, statement)


async def test_only_the_writer_may_call_the_functions(world: World) -> None:
    granted = """
        SELECT p.proname, r.rolname FROM pg_proc p, pg_roles r
        WHERE p.proname LIKE 'audit\\_%' AND r.rolname LIKE 'rm\\_%'
          AND has_function_privilege(r.oid, p.oid, 'EXECUTE')
        ORDER BY 1, 2
    """
    found = {(row[0], row[1]) for row in await world.owner.fetch(granted)}
    assert found == {
        ("audit_append", "rm_audit_writer"),
        ("audit_ensure_partitions", "rm_audit_writer"),
    }


@pytest.mark.parametrize("role", ["rm_catalog", "rm_deployment"])
async def test_other_services_do_not_reach_the_ledger(world: World, role: str) -> None:
    database = Database(world.url, role=role, application_name="test")
    for table in ("audit_logs", "audit_log_head", "audit_event_keys"):
        await refused(database, f"SELECT * FROM {table}")
        await refused(database, f"DELETE FROM {table}")
    await database.close()


async def refused(database: Database, statement: str) -> None:
    async with driver_connection(database.engine) as driver:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await driver.execute(statement)


async def test_a_month_without_a_partition_fails_loudly(world: World) -> None:
    month = await world.owner.fetchval('SELECT to_char(now(), \'"audit_logs_y"YYYY"m"MM\')')
    await world.owner.execute(f"DROP TABLE {month}")
    with pytest.raises(asyncpg.CheckViolationError):
        await world.ledger.log(world.producer, Event("create", "team", "1"))
    assert await world.owner.fetchval("SELECT next_index FROM audit_log_head") == 0


async def test_partitions_are_made_once_and_within_reason(world: World) -> None:
    ensure = "SELECT audit_ensure_partitions($1::text::date, $2)"
    assert await world.owner.fetchval(ensure, "2021-05-17", 3) == 3
    assert await world.owner.fetchval(ensure, "2021-05-01", 4) == 1
    names = {row[0] for row in await world.owner.fetch(PARTITIONS)}
    assert {"audit_logs_y2021m05", "audit_logs_y2021m08"} <= names
    for first, months in (("2021-01-01", 0), ("1999-01-01", 1), ("2100-01-01", 1)):
        with pytest.raises(asyncpg.InvalidParameterValueError):
            await world.owner.fetchval(ensure, first, months)
