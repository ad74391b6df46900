"""The migrations make what the models say, can be undone, and leave nothing behind."""

import asyncio
import io
import re
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from shared.db.models import metadata
from shared.setting_values import normal_database_url
from tests.support.database import Databases

ROOT = Path(__file__).resolve().parents[2]
release_order = import_module("migrations.versions.012_release_order")
# Kept by alembic itself.
WITHOUT_MODEL = {"alembic_version"}
# Indexes that each table needs at least, that of the primary key not counted.
LEAST_INDEXES = {
    "teams": 2,
    "users": 3,
    "services": 4,
    "environments": 2,
    "releases": 4,
    "deployments": 5,
    "approvals": 3,
    "audit_logs": 4,
    "rollbacks": 4,
    "runbooks": 4,
    "deployment_metrics": 2,
    "pipeline_stages": 2,
}
LEAST_INDEXES_IN_ALL = 35

# Tables of our own; partitions are made and dropped by a function while the service runs.
TABLES = """
    SELECT oid, relname FROM pg_class
    WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition
"""
COLUMNS = f"""
    SELECT t.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull,
        a.attidentity, a.attgenerated, pg_get_expr(d.adbin, d.adrelid)
    FROM ({TABLES}) AS t
    JOIN pg_attribute AS a ON a.attrelid = t.oid AND a.attnum > 0 AND NOT a.attisdropped
    LEFT JOIN pg_attrdef AS d ON d.adrelid = t.oid AND d.adnum = a.attnum
"""
# PostgreSQL 18 lists NOT NULL here too, under names of its own; the columns have it already.
CONSTRAINTS = f"""
    SELECT t.relname, c.conname, pg_get_constraintdef(c.oid)
    FROM ({TABLES}) AS t JOIN pg_constraint AS c ON c.conrelid = t.oid WHERE c.contype <> 'n'
"""
INDEXES = f"""
    SELECT t.relname, i.indexrelid::regclass::text, pg_get_indexdef(i.indexrelid)
    FROM ({TABLES}) AS t JOIN pg_index AS i ON i.indrelid = t.oid
"""
PLACEMENT = f"""
    SELECT t.relname, c.reloptions, pg_get_partkeydef(c.oid)
    FROM ({TABLES}) AS t JOIN pg_class AS c ON c.oid = t.oid
"""
# Everything a migration could leave behind. Roles belong to the cluster, and other databases of it
# may need them.
EVERYTHING = """
    SELECT 'relation', relname::text FROM pg_class WHERE relnamespace = 'public'::regnamespace
        AND relname NOT LIKE 'alembic_version%'
    UNION ALL SELECT 'function', oid::regprocedure::text FROM pg_proc
        WHERE pronamespace = 'public'::regnamespace
    UNION ALL SELECT 'type', typname::text FROM pg_type WHERE typnamespace = 'public'::regnamespace
        AND typname NOT IN ('alembic_version', '_alembic_version')
    UNION ALL SELECT 'schema', nspname || coalesce(nspacl::text, '') FROM pg_namespace
        WHERE nspname NOT LIKE 'pg\\_%'
    UNION ALL SELECT 'extension', extname::text FROM pg_extension
    UNION ALL SELECT 'event trigger', evtname::text FROM pg_event_trigger
    UNION ALL SELECT 'default rights', defaclacl::text FROM pg_default_acl
    UNION ALL SELECT 'setting', setconfig::text FROM pg_db_role_setting
        WHERE setdatabase = (SELECT oid FROM pg_database WHERE datname = current_database())
"""

# Partitions are named by the months around the moment at which they are made.
MONTH = re.compile(r"_y\d{4}m\d{2}")

Rows = set[tuple[Any, ...]]


def _on(url: str, work: Callable[[Connection], Any]) -> Any:
    """Return what `work` makes of a connection to the database."""

    async def run() -> Any:
        engine = create_async_engine(normal_database_url(url), poolclass=NullPool)
        try:
            async with engine.begin() as connection:
                return await connection.run_sync(work)
        finally:
            await engine.dispose()

    return asyncio.run(run())


def _rows(url: str, query: str) -> Rows:
    def read(connection: Connection) -> Rows:
        return {
            tuple(str(value) if isinstance(value, list) else value for value in row)
            for row in connection.execute(text(query))
        }

    found: Rows = _on(url, read)
    return found


def _of_any_month(rows: Rows) -> list[tuple[str, str]]:
    """Return rows of EVERYTHING as those of another month would be."""
    return sorted((kind, MONTH.sub("_y____m__", name)) for kind, name in rows)


def _alembic(url: str) -> Config:
    config = Config(toml_file=ROOT / "pyproject.toml", stdout=io.StringIO())
    config.attributes["database_url"] = normal_database_url(url)
    return config


def _without_partitions(_object: Any, name: str | None, kind: str, *_rest: Any) -> bool:
    return not (kind == "table" and (name or "").startswith("audit_logs_y"))


@pytest.fixture
def modelled_database_url(databases: Databases) -> Iterator[str]:
    """The URL of a database that the models made, without any migration."""
    with databases.empty() as url:
        _on(url, _make_functions_of_columns)
        _on(url, metadata.create_all)
        yield url


def _make_functions_of_columns(connection: Connection) -> None:
    """Make the functions that generated columns are computed by; models have no functions."""
    for statement in (release_order.NUMBER_KEY, release_order.VERSION_KEY):
        connection.execute(text(statement))


@pytest.mark.parametrize(
    "query",
    [COLUMNS, CONSTRAINTS, INDEXES, PLACEMENT],
    ids=["columns", "constraints", "indexes", "placement"],
)
def test_migrations_make_what_the_models_say(
    database_url: str, modelled_database_url: str, query: str
) -> None:
    migrated = {row for row in _rows(database_url, query) if row[0] not in WITHOUT_MODEL}

    modelled = _rows(modelled_database_url, query)

    assert migrated - modelled == set()
    assert modelled - migrated == set()


def test_alembic_sees_no_difference(database_url: str) -> None:
    def differences(connection: Connection) -> Any:
        options = {"compare_server_default": True, "include_object": _without_partitions}
        return compare_metadata(MigrationContext.configure(connection, opts=options), metadata)

    found = _on(database_url, differences)

    assert [one for one in found if getattr(one[1], "name", "") not in WITHOUT_MODEL] == []


def test_all_migrations_can_be_undone_and_done_again(databases: Databases) -> None:
    with databases.empty() as url:
        empty = _rows(url, EVERYTHING)
        command.upgrade(_alembic(url), "head")
        full = _rows(url, EVERYTHING)
        command.downgrade(_alembic(url), "base")

        assert _rows(url, EVERYTHING) == empty

        command.upgrade(_alembic(url), "head")

        assert _of_any_month(_rows(url, EVERYTHING)) == _of_any_month(full)


def test_each_migration_leaves_what_it_found(databases: Databases) -> None:
    with databases.empty() as url:
        scripts = ScriptDirectory.from_config(_alembic(url)).walk_revisions()
        for revision in reversed([script.revision for script in scripts]):
            before = _rows(url, EVERYTHING)
            command.upgrade(_alembic(url), revision)
            command.downgrade(_alembic(url), "-1")

            assert _rows(url, EVERYTHING) == before

            command.upgrade(_alembic(url), revision)


def test_a_seeded_database_can_go_back_and_forth(
    databases: Databases, seeded_database_url: str
) -> None:
    with databases.empty() as url:
        empty = _rows(url, EVERYTHING)

    command.downgrade(_alembic(seeded_database_url), "base")

    assert _rows(seeded_database_url, EVERYTHING) == empty

    command.upgrade(_alembic(seeded_database_url), "head")


def test_upgrading_twice_changes_nothing(database_url: str) -> None:
    before = _rows(database_url, EVERYTHING)

    command.upgrade(_alembic(database_url), "head")

    assert _rows(database_url, EVERYTHING) == before


def test_the_first_migration_makes_the_twelve_tables(databases: Databases) -> None:
    with databases.empty() as url:
        command.upgrade(_alembic(url), "001")
        tables = {name for _oid, name in _rows(url, TABLES)}

    assert tables - WITHOUT_MODEL == set(LEAST_INDEXES)


def test_every_table_has_the_indexes_it_needs(database_url: str) -> None:
    listed = [
        (table, definition.partition(" USING ")[2])
        for table, name, definition in _rows(database_url, INDEXES)
        if not name.startswith("pk_")
    ]
    counts = {name: sum(table == name for table, _columns in listed) for name in LEAST_INDEXES}

    assert {name for name, least in LEAST_INDEXES.items() if counts[name] < least} == set()
    assert sum(counts.values()) >= LEAST_INDEXES_IN_ALL
    assert ("deployments", "btree (release_id, environment_id)") in listed
    assert any(
        table == "audit_logs" and "(resource_type, resource_id" in columns
        for table, columns in listed
    )


def test_every_foreign_key_says_what_a_delete_does(database_url: str) -> None:
    keys = [
        (table, name, definition)
        for table, name, definition in _rows(database_url, CONSTRAINTS)
        if definition.startswith("FOREIGN KEY")
    ]

    undecided = {
        name
        for _table, name, definition in keys
        if "ON DELETE RESTRICT" not in definition and "ON DELETE CASCADE" not in definition
    }

    assert keys
    assert undecided == set()
