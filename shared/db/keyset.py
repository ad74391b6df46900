"""Lists as pages by keyset: stable while rows are added, and as fast at the end as at the start."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Generic, TypeVar
from uuid import UUID

from sqlalchemy import ColumnElement, Row, Select, and_, or_, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

Entry = TypeVar("Entry")
Other = TypeVar("Other")
Position = Sequence[int | str]


@dataclass(frozen=True, slots=True)
class SortKey:
    """A column to sort by, never NULL, and in which direction."""

    column: Any
    descending: bool = False


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class PageRequest:
    """At most `size` entries after the position `after`; None is the beginning."""

    size: int
    after: Position | None = None


@dataclass(frozen=True, slots=True)
class Page(Generic[Entry]):
    """The entries, and the position of the last one if more follow."""

    entries: tuple[Entry, ...]
    last: Position | None = None

    def map(self, convert: Callable[[Entry], Other]) -> "Page[Other]":
        """Return the same page of converted entries."""
        return Page(tuple(convert(entry) for entry in self.entries), self.last)


def sorted_by(*columns: Any, descending: bool = False) -> tuple[SortKey, ...]:  # noqa: ANN401
    """Return the keys of a list that is sorted by columns, all in one direction."""
    return tuple(SortKey(column, descending) for column in columns)


def position_of(*values: object) -> Position:
    """Return the position of an entry whose sort keys have these values."""
    return [_written(value) for value in values]


async def page(
    tx: AsyncConnection,
    query: Select[*tuple[Any, ...]],
    key: Sequence[SortKey],
    wanted: PageRequest,
) -> Page[Row[*tuple[Any, ...]]]:
    """Return the page of `query` that was asked for, sorted by the columns of `key`.

    Together they must be unique and never NULL.
    """
    if wanted.after is not None:
        bound = [_read(one.column, at) for one, at in zip(key, wanted.after, strict=True)]
        query = query.where(_beyond(key, bound))
    labels = [one.column.label(f"key_{number}") for number, one in enumerate(key)]
    sorting = [one.column.desc() if one.descending else one.column for one in key]
    query = query.add_columns(*labels).order_by(*sorting).limit(wanted.size + 1)
    rows = (await tx.execute(query)).all()
    shown = tuple(rows[: wanted.size])
    if len(rows) == len(shown):
        return Page(shown)
    return Page(shown, position_of(*shown[-1][-len(labels) :]))


def _beyond(key: Sequence[SortKey], bound: Sequence[Any]) -> ColumnElement[bool]:
    """Return the condition for what comes after a position.

    In one direction a comparison of rows, which an index answers; else column by column.
    """
    directions = {one.descending for one in key}
    if len(directions) == 1:
        columns = tuple_(*(one.column for one in key))
        return columns < tuple(bound) if directions.pop() else columns > tuple(bound)
    beyond: list[ColumnElement[bool]] = []
    for number, (one, at) in enumerate(zip(key, bound, strict=True)):
        same = [before.column == bound[index] for index, before in enumerate(key[:number])]
        further = one.column < at if one.descending else one.column > at
        beyond.append(and_(*same, further))
    return or_(*beyond)


def _written(value: object) -> int | str:
    """Return a sort key as it stands in a page token: times as microseconds, ids as text."""
    if isinstance(value, datetime):
        return (value - _EPOCH) // _MICROSECOND
    return value if isinstance(value, int) else str(value)


def _read(column: Any, value: int | str) -> object:  # noqa: ANN401  (any column expression)
    kind = column.type.python_type
    if kind is datetime:
        return _EPOCH + int(value) * _MICROSECOND
    return UUID(str(value)) if kind is UUID else value
