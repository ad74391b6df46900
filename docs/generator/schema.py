"""The schema as the database itself describes it; Alembic's own table and partitions left out."""

from dataclasses import dataclass, field
from typing import TypeAlias

import asyncpg

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

DELETIONS = {"r": "RESTRICT", "c": "CASCADE", "n": "SET NULL", "d": "SET DEFAULT", "a": "NO ACTION"}

_OURS = """
    c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition
    AND c.relname <> 'alembic_version'
"""
_COLUMNS = f"""
    SELECT c.relname, a.attname, format_type(a.atttypid, a.atttypmod) AS type, a.attnotnull,
        a.attidentity <> '' AS identity, pg_get_expr(d.adbin, d.adrelid) AS value
    FROM pg_class AS c
    JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
    LEFT JOIN pg_attrdef AS d ON d.adrelid = c.oid AND d.adnum = a.attnum
    WHERE {_OURS} ORDER BY c.relname, a.attnum
"""  # noqa: S608  (constants of this file)
_CONSTRAINTS = f"""
    SELECT c.relname, k.conname, k.contype::text AS kind,
        pg_get_constraintdef(k.oid, true) AS definition,
        k.confdeltype::text AS deletion, f.relname AS target, k.conkey[1] AS first
    FROM pg_class AS c JOIN pg_constraint AS k ON k.conrelid = c.oid
    LEFT JOIN pg_class AS f ON f.oid = k.confrelid
    WHERE {_OURS} AND k.contype IN ('f', 'c') ORDER BY c.relname, k.contype, first, k.conname
"""  # noqa: S608
_INDEXES = f"""
    SELECT c.relname, i.relname AS name, x.indisunique AS is_unique, x.indisprimary AS is_primary,
        pg_get_indexdef(i.oid, 0, true) AS definition
    FROM pg_class AS c JOIN pg_index AS x ON x.indrelid = c.oid
    JOIN pg_class AS i ON i.oid = x.indexrelid
    WHERE {_OURS} ORDER BY c.relname, NOT x.indisprimary, NOT x.indisunique, i.relname
"""  # noqa: S608
_TRIGGERS = f"""
    SELECT c.relname, t.tgname, p.proname, t.tgenabled = 'A' AS always, t.tgtype::integer AS bits
    FROM pg_class AS c JOIN pg_trigger AS t ON t.tgrelid = c.oid AND NOT t.tgisinternal
    JOIN pg_proc AS p ON p.oid = t.tgfoid
    WHERE {_OURS} ORDER BY c.relname, t.tgname
"""  # noqa: S608
_GRANTS = f"""
    SELECT c.relname, g.grantee::regrole::text AS role, g.privilege_type AS privilege,
        NULL AS attname
    FROM pg_class AS c CROSS JOIN aclexplode(c.relacl) AS g
    WHERE {_OURS} AND g.grantee <> c.relowner
    UNION ALL
    SELECT c.relname, g.grantee::regrole::text, g.privilege_type, a.attname
    FROM pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid
    CROSS JOIN aclexplode(a.attacl) AS g
    WHERE {_OURS} ORDER BY 1, 2, 3, 4
"""  # noqa: S608
_FUNCTIONS = """
    SELECT p.proname, p.prosecdef AS as_owner,
        array(
            SELECT coalesce(nullif(g.grantee, 0)::regrole::text, 'everybody')
            FROM aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) AS g
            WHERE g.grantee <> p.proowner ORDER BY 1
        ) AS callers
    FROM pg_proc AS p
    WHERE p.pronamespace = 'public'::regnamespace ORDER BY p.proname
"""
_TRIGGER_EVENTS = ((4, "INSERT"), (8, "DELETE"), (16, "UPDATE"), (32, "TRUNCATE"))
_BEFORE = 2


@dataclass(frozen=True, slots=True)
class Column:
    """A column; `default` is an expression, `identity`, or empty."""

    name: str
    type: str
    required: bool
    default: str


@dataclass(frozen=True, slots=True)
class ForeignKey:
    """A foreign key; `columns` and `target` as PostgreSQL spells them."""

    name: str
    columns: str
    target_table: str
    target: str
    deletion: str


@dataclass(frozen=True, slots=True)
class Check:
    """A check constraint and its condition."""

    name: str
    condition: str


@dataclass(frozen=True, slots=True)
class Index:
    """An index; `definition` is what follows USING, without the usual `btree`."""

    name: str
    unique: bool
    definition: str


@dataclass(frozen=True, slots=True)
class Trigger:
    """A trigger, when it fires, and whether also during replication."""

    name: str
    function: str
    events: str
    always: bool


@dataclass(frozen=True, slots=True)
class Grant:
    """A right of a role on a table, or on one column of it."""

    role: str
    privilege: str
    column: str | None


@dataclass(slots=True)
class Table:
    """A table with everything that belongs to it."""

    name: str
    columns: list[Column] = field(default_factory=list)
    foreign_keys: list[ForeignKey] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)
    indexes: list[Index] = field(default_factory=list)
    triggers: list[Trigger] = field(default_factory=list)
    grants: list[Grant] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Function:
    """A function, whether it runs with the rights of its owner, and who else may call it."""

    name: str
    as_owner: bool
    callers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Schema:
    """All tables by name, and the functions."""

    tables: dict[str, Table]
    functions: tuple[Function, ...]


async def read_schema(connection: Connection) -> Schema:
    """Read the schema of a migrated database."""
    tables: dict[str, Table] = {}
    for name, column, kind, required, identity, value in await connection.fetch(_COLUMNS):
        table = tables.setdefault(name, Table(name))
        default = "identity" if identity else value or ""
        table.columns.append(Column(column, kind, required, default))
    for row in await connection.fetch(_CONSTRAINTS):
        if row["kind"] == "c":
            condition = row["definition"].removeprefix("CHECK (").removesuffix(")")
            tables[row["relname"]].checks.append(Check(row["conname"], condition))
        else:
            tables[row["relname"]].foreign_keys.append(_foreign_key(row))
    for name, index, unique, _primary, definition in await connection.fetch(_INDEXES):
        shown = definition.split(" USING ")[1].removeprefix("btree ")
        tables[name].indexes.append(Index(index, unique, shown))
    for name, trigger, function, always, bits in await connection.fetch(_TRIGGERS):
        events = " OR ".join(word for bit, word in _TRIGGER_EVENTS if bits & bit)
        when = f"{'BEFORE' if bits & _BEFORE else 'AFTER'} {events}"
        tables[name].triggers.append(Trigger(trigger, function, when, always))
    for name, role, privilege, column in await connection.fetch(_GRANTS):
        tables[name].grants.append(Grant(role, privilege, column))
    functions = [Function(n, o, tuple(c)) for n, o, c in await connection.fetch(_FUNCTIONS)]
    return Schema(tables, tuple(functions))


def _foreign_key(row: asyncpg.Record) -> ForeignKey:
    columns, _, rest = row["definition"].removeprefix("FOREIGN KEY ").partition(" REFERENCES ")
    target = rest.partition(" ON ")[0]
    return ForeignKey(
        row["conname"], columns.strip("()"), row["target"], target, DELETIONS[row["deletion"]]
    )
