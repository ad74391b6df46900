"""The owner of the tables: refused by triggers, and what he can do in spite of them is found."""

import os
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest
import pytest_asyncio
from sqlalchemy import make_url

from services.audit.rules.events import Event
from services.audit.store.appending import Driver
from shared.db.engine import Database
from shared.setting_values import driver_url
from tests.integration.audit.conftest import World
from tests.integration.audit.test_verify import Verified

CHANGES = (
    "UPDATE {table} SET action = 'nothing'",
    "DELETE FROM {table}",
    "TRUNCATE {table}",
    "TRUNCATE ONLY {table}",
    "MERGE INTO {table} USING (SELECT 1) AS s ON true WHEN MATCHED THEN DELETE",
    "INSERT INTO {table} SELECT * FROM audit_logs ON CONFLICT (id) DO UPDATE SET action = 'x'",
)
PARTITIONS = (
    "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'audit_logs'::regclass"
)
MINE = """
    SELECT format('ALTER %s %s OWNER TO {owner}',
        CASE relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END, oid::regclass)
    FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p')
    UNION ALL SELECT format('ALTER FUNCTION %s OWNER TO {owner}', oid::regprocedure)
    FROM pg_proc WHERE pronamespace = 'public'::regnamespace
    UNION ALL SELECT format('GRANT CREATE ON SCHEMA public TO {owner}')
"""
# Of the first entry, as a month may end while there are more to come.
MONTH = "SELECT tableoid::regclass::text FROM audit_logs ORDER BY leaf_index LIMIT 1"
THIS_MONTH = """SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', '"audit_logs_y"YYYY"m"MM')"""
ENTRIES = 20


@pytest.mark.parametrize("mode", ["origin", "replica"])
async def test_even_a_superuser_is_refused_everywhere(world: World, mode: str) -> None:
    await world.ledger.log(world.producer, Event("create", "team", "1"))
    await world.owner.execute("SELECT audit_ensure_partitions('2020-01-01', 2)")
    await world.owner.execute(f"SET session_replication_role = {mode}")
    filled = await world.owner.fetchval("SELECT tableoid::regclass::text FROM audit_logs")
    partitions = [row[0] for row in await world.owner.fetch(PARTITIONS)]
    assert len(partitions) > 4
    for change in CHANGES:
        tables = [filled] if "ONLY" in change else ["audit_logs", filled]
        if change.startswith("TRUNCATE"):  # a row trigger has nothing to refuse in an empty table
            tables += partitions
        for table in tables:
            with pytest.raises(asyncpg.InsufficientPrivilegeError, match="append-only"):
                await world.owner.execute(change.format(table=table))
    assert len(await world.rows()) == 1


# What an owner can do, which nothing in a database prevents, and where it is found. Each as one
# transaction, on a ledger of 20 entries that was signed; {month} is that of the first one.
OWNER_CAN = {
    "switch the trigger off": (
        (
            "ALTER TABLE audit_logs DISABLE TRIGGER USER;"
            "UPDATE audit_logs SET action = 'x' WHERE leaf_index = 7"
        ),
        7,
    ),
    "drop the trigger": (
        (
            "DROP TRIGGER audit_logs_refuse_rows ON audit_logs;"
            "DELETE FROM audit_logs WHERE leaf_index = 7"
        ),
        7,
    ),
    "let the trigger do nothing": (
        (
            "CREATE OR REPLACE FUNCTION audit_logs_redact_only() RETURNS trigger LANGUAGE plpgsql"
            " AS 'BEGIN RETURN NEW; END';"
            "UPDATE audit_logs SET leaf_index = 25 - leaf_index WHERE leaf_index IN (7, 18)"
        ),
        7,
    ),
    "truncate without the trigger": (
        "DROP TRIGGER audit_logs_refuse_truncate ON {month}; TRUNCATE {month}",
        0,
    ),
    "rewrite a column": (
        (
            "ALTER TABLE audit_logs ALTER COLUMN resource_id TYPE text"
            " USING CASE leaf_index WHEN 7 THEN 'x' ELSE resource_id END"
        ),
        7,
    ),
    "detach a month": ("ALTER TABLE audit_logs DETACH PARTITION {month}", 0),
    "drop a month": ("DROP TABLE {month}", 0),
    "hide a row": (
        (
            "ALTER TABLE audit_logs ENABLE ROW LEVEL SECURITY;"
            "CREATE POLICY hiding ON audit_logs FOR SELECT USING (leaf_index <> 7)"
        ),
        7,
    ),
    "show something else": (
        (
            "ALTER TABLE audit_logs RENAME TO genuine;"
            "CREATE VIEW audit_logs AS SELECT * FROM genuine WHERE leaf_index < 7;"
            "GRANT SELECT ON audit_logs TO rm_audit_reader, rm_audit_integrator"
        ),
        7,
    ),
    "insert without the function": (
        (
            "INSERT INTO audit_logs SELECT overlay(id::text PLACING '7fff' FROM 20 FOR 4)::uuid,"
            " 20, gen_random_uuid(), user_id, action, resource_type, resource_id, details,"
            " ip_address, user_agent, category, producer, NULL, NULL, occurred_at, created_at,"
            " updated_at, leaf_version, salt, event_digest, leaf_hash FROM audit_logs"
            " WHERE leaf_index = 7"
        ),
        20,
    ),
    "count back": ("UPDATE audit_log_head SET next_index = 7", 7),
    "change a tile": (
        (
            "DROP TRIGGER merkle_tiles_grow_only ON merkle_tiles;"
            "UPDATE merkle_tiles"
            " SET hashes = set_bit(hashes, 7 * 256, 1 - get_bit(hashes, 7 * 256))"
        ),
        7,
    ),
    "take checkpoints away and cut the tail": (
        (
            "DROP TRIGGER audit_checkpoints_refuse_rows ON audit_checkpoints;"
            "DELETE FROM audit_checkpoints WHERE tree_size > 7;"
            "ALTER TABLE audit_logs DISABLE TRIGGER audit_logs_refuse_rows;"
            "DELETE FROM audit_logs WHERE leaf_index >= 7;"
            "UPDATE audit_log_head SET next_index = 7"
        ),
        7,
    ),
}
OWNER_CANNOT = (
    "SET session_replication_role = replica",
    "ALTER TABLE audit_logs DISABLE TRIGGER ALL",  # those of foreign keys are the system's
    *(f"{change}" for change in CHANGES[:4]),
    "UPDATE merkle_tiles SET hashes = substring(hashes FOR 32)",
    "DELETE FROM merkle_tiles",
    "TRUNCATE merkle_tiles",
    "UPDATE audit_checkpoints SET note = 'x'",
    "DELETE FROM audit_checkpoints",
    "TRUNCATE audit_checkpoints",
    "COPY (SELECT 1) TO PROGRAM 'cat'",
    "SELECT pg_read_file('/etc/hostname')",
)


@pytest_asyncio.fixture
async def signed(world: World, tmp_path: Path) -> AsyncIterator[Verified]:
    """A ledger that was signed at 7 and at 20 entries."""
    tree = Database(world.url, role="rm_audit_integrator", application_name="test integrator")
    verified = Verified(world, tmp_path, tree)
    await verified.append(7)
    await verified.append(ENTRIES - 7)
    yield verified
    await tree.close()


@pytest_asyncio.fixture
async def plain_owner(signed: Verified) -> AsyncIterator[Driver]:
    """A login that owns every table and function, and is no superuser."""
    superuser, owner = signed.owner, f"owner_{os.getpid()}"
    await superuser.execute(f"CREATE ROLE {owner} LOGIN PASSWORD 'wall'")
    for row in await superuser.fetch(MINE.format(owner=owner)):
        await superuser.execute(row[0])
    address = make_url(signed.world.url).set(username=owner, password="wall")
    connection = await asyncpg.connect(driver_url(address.render_as_string(hide_password=False)))
    yield connection
    await connection.close()
    await superuser.execute(f"DROP OWNED BY {owner} CASCADE; DROP ROLE {owner}")


@pytest.mark.parametrize("what", OWNER_CAN)
async def test_what_an_owner_can_do_is_found(
    signed: Verified, plain_owner: Driver, what: str
) -> None:
    statements, place = OWNER_CAN[what]
    month = await signed.owner.fetchval(MONTH)
    async with plain_owner.transaction():
        await plain_owner.execute(statements.replace("{month}", month))
    found = (await signed.run()).mismatch
    assert found is not None
    assert found.first == place, found.problem


async def test_an_owner_without_more_is_refused(signed: Verified, plain_owner: Driver) -> None:
    month = await signed.owner.fetchval(MONTH)
    for statement in OWNER_CANNOT:
        for table in ("audit_logs", month) if "{table}" in statement else ("",):
            if (statement, table) == (CHANGES[3], "audit_logs"):
                continue  # a partitioned table has nothing of its own
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await plain_owner.execute(statement.format(table=table))
    assert (await signed.run()).mismatch is None


async def test_a_month_without_a_partition_fails_loudly(world: World) -> None:
    month = await world.owner.fetchval(THIS_MONTH)
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
