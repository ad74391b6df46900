"""Rows of the sample data, by table, and how they get into the database."""

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any, TypeAlias
from uuid import UUID

import asyncpg

Row: TypeAlias = dict[str, Any]
Rows: TypeAlias = dict[str, list[Row]]
Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

IN_ORDER = (
    "teams",
    "users",
    "services",
    "environments",
    "environment_policies",
    "releases",
    "deployments",
    "approvals",
    "rollbacks",
    "release_marks",
    "runbooks",
    "runbook_versions",
    "deployment_metrics",
    "pipeline_stages",
)
"""The tables with sample data, each after those it refers to."""


async def insert_all(connection: Connection, rows: Rows) -> None:
    """Insert all rows; those of one table name the same columns.

    One statement for a table, since deployments refer to one another.
    """
    for table in IN_ORDER:
        columns = ", ".join(rows[table][0])
        # Names of tables and columns are those of this package, never of a caller.
        statement = (
            f"INSERT INTO {table} ({columns}) SELECT {columns}"  # noqa: S608
            f" FROM jsonb_populate_recordset(NULL::{table}, $1)"
        )
        await connection.execute(statement, json.dumps(rows[table], default=_plain))


def named(rows: Rows, table: str, **values: object) -> Row:
    """Return the one row of a table with these values."""
    (found,) = (
        row for row in rows[table] if all(row[column] == value for column, value in values.items())
    )
    return found


def stamped(row: Mapping[str, Any], at: datetime) -> Row:
    """Return a row that was made and last changed at a moment."""
    return {**row, "created_at": at, "updated_at": at}


def _plain(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, UUID):
        return str(value)
    raise TypeError(value)
