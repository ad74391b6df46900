"""Inserts and updates that every table has in common."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import delete, insert, inspect, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from services.catalog.rules.resources import Resource
from shared.db.schema import Row, Versioned
from shared.db.violations import constraint_name
from shared.domain_error import DomainError


@contextmanager
def refused_as(errors: Mapping[str, DomainError]) -> Iterator[None]:
    """Raise the error that stands for a broken constraint, by the constraint's name."""
    try:
        yield
    except IntegrityError as broken:
        error = errors.get(constraint_name(broken) or "")
        if error is None:
            raise
        raise error from broken


async def add(tx: AsyncConnection, table: type[Row], now: datetime, **values: Any) -> None:  # noqa: ANN401
    """Insert a row made at `now`, an aggregate in its first version."""
    if issubclass(table, Versioned):
        values["row_version"] = 1
    await tx.execute(insert(table).values(created_at=now, updated_at=now, **values))


async def add_resource(
    tx: AsyncConnection,
    table: type[Versioned],
    resource: Resource,
    **more: Any,  # noqa: ANN401
) -> None:
    """Insert a resource: the fields that the table has a column for, and `more` columns.

    The others are names of what it refers to.
    """
    columns = inspect(table).columns.keys()
    values = {
        field.name: getattr(resource, field.name)
        for field in fields(resource)
        if field.name in columns
    }
    stored = {name: list(v) if isinstance(v, tuple) else v for name, v in values.items()}
    await tx.execute(insert(table).values(**stored, **more))


async def raise_version(
    tx: AsyncConnection,
    table: type[Versioned],
    row_id: UUID,
    **values: Any,  # noqa: ANN401
) -> tuple[int, datetime]:
    """Change a row that the transaction has locked; return its new version and its time."""
    statement = (
        update(table)
        .where(table.id == row_id)
        .values(row_version=table.row_version + 1, **values)
        .returning(table.row_version, table.updated_at)
    )
    version, changed_at = (await tx.execute(statement)).one()
    return version, changed_at


async def change_row(tx: AsyncConnection, table: type[Row], row_id: UUID, **values: Any) -> None:  # noqa: ANN401
    """Change a row that is part of a locked aggregate."""
    await tx.execute(update(table).where(table.id == row_id).values(**values))


async def delete_row(tx: AsyncConnection, table: type[Row], row_id: UUID) -> None:
    """Delete a row that the transaction has locked."""
    await tx.execute(delete(table).where(table.id == row_id))
