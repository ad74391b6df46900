"""Nobody changes what is in the ledger: each forbidden thing is tried as each role of the database.

What is tried comes from the catalog of the database, what is allowed from `rights`.
"""

import io
import os
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Final

import asyncpg
import pytest
import pytest_asyncio
from sqlalchemy import make_url

from services.audit.rules.events import Event
from services.audit.store.appending import APPEND, Driver, arrays
from shared.ids import new_id
from shared.setting_values import driver_url
from tests.integration.audit.conftest import running_world
from tests.integration.audit.rights import (
    CALLS,
    MAY,
    ROLES,
    STRANGER,
    TABLES,
    WRITER,
    Attempt,
    attempts,
    column_allowed,
    general_attempts,
)
from tests.integration.audit.test_group_commit import sealed
from tests.support.database import Databases

pytestmark = pytest.mark.asyncio(loop_scope="module")

PASSWORD: Final = "wall"
FORBIDDEN: Final = asyncpg.InsufficientPrivilegeError

RELATIONS: Final = """
    SELECT c.relname, p.relname AS parent, array_agg(a.attname::text ORDER BY a.attnum) AS columns
    FROM pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0
    LEFT JOIN pg_inherits AS i ON i.inhrelid = c.oid LEFT JOIN pg_class AS p ON p.oid = i.inhparent
    WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
        AND c.relname ~ '^(audit|merkle|ledger|legal|witness)|redact|retire|epoch'
        AND NOT a.attisdropped
    GROUP BY c.oid, p.oid ORDER BY 2 NULLS FIRST, 1
"""
FUNCTIONS: Final = """
    SELECT proname, prosecdef, proconfig, oid::regprocedure::text AS signature,
        array(SELECT format_type(t, NULL) FROM unnest(proargtypes) AS t) AS types
    FROM pg_proc WHERE pronamespace = 'public'::regnamespace ORDER BY 1
"""
# Everything that an attempt could have left behind.
STATE: Final = """
    SELECT jsonb_build_array(
        (SELECT jsonb_agg(to_jsonb(c) - 'relpages' - 'reltuples' - 'relallvisible'
            - 'relallfrozen' - 'relfrozenxid' - 'relminmxid' - 'relhasindex' ORDER BY oid)
         FROM pg_class AS c WHERE relnamespace = 'public'::regnamespace),
        (SELECT jsonb_agg(t ORDER BY oid) FROM pg_trigger AS t),
        (SELECT jsonb_agg(p ORDER BY oid) FROM pg_proc AS p
         WHERE pronamespace = 'public'::regnamespace),
        (SELECT jsonb_agg(a ORDER BY attrelid, attnum) FROM pg_attribute AS a
         JOIN pg_class AS c ON c.oid = attrelid AND relnamespace = 'public'::regnamespace),
        (SELECT jsonb_agg(n ORDER BY oid) FROM pg_namespace AS n WHERE nspname !~ '^pg_'),
        (SELECT jsonb_agg(i ORDER BY inhrelid) FROM pg_inherits AS i),
        (SELECT jsonb_agg(m ORDER BY oid) FROM pg_auth_members AS m)
    )::text
"""


@dataclass
class Walls:
    """A ledger with entries, tiles and a checkpoint, its owner, and a login for each role."""

    owner: Driver
    database: str
    relations: list[asyncpg.Record]
    functions: list[asyncpg.Record]
    logins: dict[str, Driver] = field(default_factory=dict)

    async def state(self) -> list[str]:
        """Return all that is in the ledger and around it."""
        found = [await self.owner.fetchval(STATE)]
        for relation in (*TABLES, "users"):
            rows = f"SELECT coalesce(jsonb_agg(t ORDER BY t::text), '[]')::text FROM {relation} t"
            found.append(await self.owner.fetchval(rows))
        return found


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def walls(databases: Databases) -> AsyncIterator[Walls]:
    """Fill a ledger, and let one login for each role connect."""
    with databases.fresh() as url:
        async with running_world(url) as world:
            owner = world.owner
            events = [Event("deploy", "deployment", f"d-{n}", event_id=new_id()) for n in range(3)]
            await world.ledger.log_all(world.producer, events)
            await owner.execute("SELECT audit_ensure_partitions('2020-01-01', 1)")
            await owner.execute("INSERT INTO merkle_tiles VALUES (0, 0, sha256('1'))")
            await owner.execute("INSERT INTO audit_checkpoints VALUES (1, sha256('1'), 'note')")
            made = Walls(
                owner,
                make_url(url).database or "",
                await owner.fetch(RELATIONS),
                await owner.fetch(FUNCTIONS),
            )
            logins = {role: f"wall_{os.getpid()}_{role}" for role in ROLES}
            try:
                for role, login in logins.items():
                    made.logins[role] = await connected(owner, url, role, login)
                yield made
            finally:
                for connection in made.logins.values():
                    await connection.close()
                for login in logins.values():
                    await owner.execute(f"DROP ROLE IF EXISTS {login}")


async def connected(owner: Driver, url: str, role: str, login: str) -> Driver:
    """Make a login without any right but those of a role, and connect as it."""
    member = "" if role == STRANGER else f"IN ROLE {role}"
    await owner.execute(f"CREATE ROLE {login} LOGIN PASSWORD '{PASSWORD}' {member}")
    address = make_url(url).set(username=login, password=PASSWORD)
    return await asyncpg.connect(driver_url(address.render_as_string(hide_password=False)))


async def problem_of(connection: Driver, attempt: Attempt) -> str | None:
    """Try something, taking it back where it is allowed; return what was not as expected."""
    transaction = connection.transaction()
    await transaction.start()
    try:
        await do(connection, attempt.statement)
    except FORBIDDEN as error:
        # A trigger of the table, which speaks of it, refuses what a right alone would allow.
        if not attempt.allowed or "append-only" in str(error) or "only gets longer" in str(error):
            return None
        return f"refused: {attempt.statement}: {error}"
    except asyncpg.PostgresError as error:
        if attempt.allowed and not isinstance(error, asyncpg.PostgresSyntaxError):
            return None  # it may, but not with these values
        return f"neither refused nor done: {attempt.statement}: {error!r}"
    else:
        return None if attempt.allowed else f"went through: {attempt.statement}"
    finally:
        await transaction.rollback()


async def do(connection: Driver, statement: str) -> None:
    """Execute a statement, or copy nothing to, or everything from, a column of a table."""
    copying = re.fullmatch(r"COPY (\w+) \((\w+)\) (FROM STDIN|TO STDOUT)", statement)
    if copying is None:
        await connection.execute(statement)
    elif copying[3] == "FROM STDIN":
        await connection.copy_to_table(copying[1], source=io.BytesIO(), columns=[copying[2]])
    else:
        await connection.copy_from_table(copying[1], output=io.BytesIO(), columns=[copying[2]])


@pytest.mark.parametrize("role", ROLES)
async def test_a_role_can_do_what_it_must_and_nothing_else(walls: Walls, role: str) -> None:
    before = await walls.state()
    connection = walls.logins[role]
    tried = [
        attempt
        for relation in walls.relations
        for attempt in attempts(role, relation["relname"], relation["columns"], relation["parent"])
    ]
    tried += general_attempts(role, walls.database)
    problems = [
        problem
        for attempt in tried
        if (problem := await problem_of(connection, attempt)) is not None
    ]
    assert len(tried) > 500
    assert not problems, "\n".join(problems)
    assert await walls.state() == before


async def test_the_catalog_knows_no_other_table_right_function_or_role(walls: Walls) -> None:
    """Whoever adds one decides in `rights` who may do what with it."""
    tables = {row["relname"] for row in walls.relations if row["parent"] is None}
    assert tables == set(TABLES)
    parents = {row["parent"] for row in walls.relations if row["parent"] is not None}
    assert parents == {"audit_logs"}
    assert {role for role, _table, _action in MAY} < set(ROLES)
    assert {row["proname"] for row in walls.functions} == CALLS.keys()
    roles = await walls.owner.fetch("SELECT rolname FROM pg_roles WHERE rolname ~ '^rm_'")
    assert {row["rolname"] for row in roles} == set(ROLES) - {STRANGER}
    granted = await walls.owner.fetch(
        "SELECT grantee, table_name, column_name, privilege_type"
        " FROM information_schema.column_privileges WHERE table_schema = 'public'"
        " AND (grantee ~ '^rm_' OR grantee = 'PUBLIC')"
    )
    watched = {row["relname"] for row in walls.relations}
    for row in granted:
        if row["table_name"] in watched:
            assert column_allowed(
                row["grantee"], row["table_name"], row["privilege_type"], row["column_name"]
            ), row


@pytest.mark.parametrize("role", ROLES)
async def test_functions_are_called_by_whom_they_are_for(walls: Walls, role: str) -> None:
    before = await walls.state()
    for function in walls.functions:
        name, types = function["proname"], function["types"]
        callers, given = CALLS[name]
        arguments = given or ", ".join(f"NULL::{kind}" for kind in types)
        attempt = Attempt(f"SELECT {name}({arguments})", role in callers)
        assert await problem_of(walls.logins[role], attempt) is None
        may = "SELECT has_function_privilege($1::text::regprocedure, 'EXECUTE')"
        found = await walls.logins[role].fetchval(may, function["signature"])
        assert found is (role in callers), function["signature"]
    assert await walls.state() == before


async def test_functions_with_the_rights_of_the_owner_look_nowhere_else(walls: Walls) -> None:
    definers = [row for row in walls.functions if row["prosecdef"]]
    assert {row["proname"] for row in definers} >= {"audit_append", "audit_ensure_partitions"}
    for row in definers:
        assert "search_path=pg_catalog, public, pg_temp" in row["proconfig"], row["proname"]


async def test_tables_of_the_caller_do_not_take_the_place_of_the_ledger(walls: Walls) -> None:
    """Whatever a caller puts into its temporary schema, and wherever its session looks first."""
    connection = walls.logins[WRITER]
    async with connection.transaction():
        await connection.execute("SET LOCAL search_path = pg_temp, public")
        for table in ("audit_logs", "audit_log_head", "audit_event_keys"):
            columns = next(row["columns"] for row in walls.relations if row["relname"] == table)
            await connection.execute(
                f"CREATE TEMP TABLE {table} ({', '.join(f'{column} text' for column in columns)})"
                " ON COMMIT DROP"
            )
        await connection.execute(
            "CREATE FUNCTION pg_temp.sha256(bytea) RETURNS bytea LANGUAGE sql AS 'SELECT $1'"
        )
        await connection.execute(
            "CREATE FUNCTION pg_temp.audit_id_floor(timestamptz) RETURNS uuid LANGUAGE sql"
            " AS 'SELECT null::uuid'"
        )
        await connection.execute("SET LOCAL session_authorization TO DEFAULT")
        placed = await connection.fetch(
            APPEND.replace("audit_append", "public.audit_append"), *arrays(sealed())
        )
        assert [row["o_outcome"] for row in placed] == ["appended"]
        assert await connection.fetchval("SELECT count(*) FROM pg_temp.audit_logs") == 0
        await connection.execute("SELECT public.audit_ensure_partitions('2021-05-01', 1)")
    stored = "SELECT count(*), max(leaf_index) FROM audit_logs WHERE leaf_hash = sha256('\\x00'"
    stored += (
        " || convert_to(E'audit.leaf/v1\\n', 'UTF8') || int8send(leaf_index)"
        " || int8send((extract(epoch FROM created_at) * 1000000)::bigint) || event_digest)"
    )
    assert tuple(await walls.owner.fetchrow(stored) or ()) == (4, 3)
