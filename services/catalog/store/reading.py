"""How rows become values."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import partial
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Row, Select
from sqlalchemy.ext.asyncio import AsyncConnection

from shared.db import keyset
from shared.db.keyset import Page, PageRequest

T = TypeVar("T")
Filters = Sequence[ColumnElement[bool]]
Query = Select[*tuple[Any, ...]]


@dataclass(frozen=True, slots=True)
class Order:
    """The columns a list is sorted by, unique together, all in one direction."""

    columns: tuple[Any, ...]
    descending: bool = False


def value_of(kind: type[T], row: Row[*tuple[Any, ...]]) -> T:
    """Return the row as a dataclass whose fields are named as the columns; arrays as tuples."""
    found = row._mapping  # noqa: SLF001  (the documented way to read a row by names)
    given = {field.name: found[field.name] for field in fields(kind)}  # type: ignore[arg-type]
    frozen = {name: tuple(v) if isinstance(v, list) else v for name, v in given.items()}
    return kind(**frozen)


async def one(tx: AsyncConnection, kind: type[T], query: Query) -> T | None:
    """Return the only row of `query` as a value, None when there is none."""
    row = (await tx.execute(query)).one_or_none()
    return value_of(kind, row) if row is not None else None


async def page(
    tx: AsyncConnection, kind: type[T], query: Query, order: Order, wanted: PageRequest
) -> Page[T]:
    """Return the page of `query` that was asked for, as values."""
    rows = await keyset.page(tx, query, order.columns, wanted, descending=order.descending)
    return rows.map(partial(value_of, kind))
