"""How rows become values, and lists become pages by keyset: stable, and as fast at the end."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar
from uuid import UUID

from sqlalchemy import ColumnElement, Row, Select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from services.catalog.rules.pages import Page, PageRequest

T = TypeVar("T")
Filters = Sequence[ColumnElement[bool]]
Query = Select[*tuple[Any, ...]]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


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
    """Return the page of `query` that was asked for."""
    key = tuple_(*order.columns)
    if wanted.after is not None:
        bound = tuple(map(_read, order.columns, wanted.after))
        query = query.where(key < bound if order.descending else key > bound)
    # Unique labels, so that a sort key never shadows a field of the same name.
    labels = [column.label(f"key_{n}") for n, column in enumerate(order.columns)]
    sorting = [column.desc() if order.descending else column for column in order.columns]
    query = query.add_columns(*labels).order_by(*sorting).limit(wanted.size + 1)
    rows = (await tx.execute(query)).all()
    shown = rows[: wanted.size]
    last = None
    if len(rows) > len(shown):
        last = [_written(value) for value in shown[-1][-len(labels) :]]
    return Page(tuple(value_of(kind, row) for row in shown), last)


def _written(value: object) -> int | str:
    """Return a sort key as it stands in a page token: times as microseconds, ids as text."""
    if isinstance(value, datetime):
        return (value - _EPOCH) // _MICROSECOND
    return value if isinstance(value, int) else str(value)


def _read(column: Any, value: int | str) -> object:  # noqa: ANN401  (any column expression)
    reader: Callable[[Any], object] = _READERS.get(column.type.python_type, lambda same: same)
    return reader(value)


_READERS: dict[type, Callable[[Any], object]] = {
    datetime: lambda micros: _EPOCH + micros * _MICROSECOND,
    UUID: UUID,
}
