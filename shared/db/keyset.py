"""Lists as pages by keyset: stable while rows are added, and as fast at the end as at the start."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Generic, TypeVar
from uuid import UUID

from sqlalchemy import Row, Select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

Entry = TypeVar("Entry")
Other = TypeVar("Other")
Position = Sequence[int | str]

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


async def page(
    tx: AsyncConnection,
    query: Select[*tuple[Any, ...]],
    key: Sequence[Any],
    wanted: PageRequest,
    *,
    descending: bool = False,
) -> Page[Row[*tuple[Any, ...]]]:
    """Return the page of `query` that was asked for, sorted by the columns `key`.

    Together they must be unique and never NULL; all are sorted in one direction.
    """
    if wanted.after is not None:
        bound = tuple(_read(column, value) for column, value in zip(key, wanted.after, strict=True))
        query = query.where(tuple_(*key) < bound if descending else tuple_(*key) > bound)
    labels = [column.label(f"key_{number}") for number, column in enumerate(key)]
    sorting = [column.desc() if descending else column for column in key]
    query = query.add_columns(*labels).order_by(*sorting).limit(wanted.size + 1)
    rows = (await tx.execute(query)).all()
    shown = tuple(rows[: wanted.size])
    if len(rows) == len(shown):
        return Page(shown)
    return Page(shown, [_written(value) for value in shown[-1][-len(labels) :]])


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
