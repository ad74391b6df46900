"""How rows become values."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import partial
from typing import Any, Final, TypeVar

from sqlalchemy import ColumnElement, Row, Select, func, literal_column, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from shared.db import keyset
from shared.db.filtering import Fields
from shared.db.keyset import Page, PageRequest, SortKey
from shared.ids import parse_id

T = TypeVar("T")
Filters = Sequence[ColumnElement[bool]]
Query = Select[*tuple[Any, ...]]

# For the connections of this service. What no index knows, such as a part of a name, is looked for
# along the index of the order, which ends with the page; the planner would rather read and sort
# whole tables as long as they are small, and change its mind as they grow. And a plan is made for
# what is asked: one for any value takes a status that few have for one that most have.
PLANS: Final = {"enable_seqscan": "off", "plan_cache_mode": "force_custom_plan"}


@dataclass(frozen=True, slots=True)
class Listing:
    """Which resources a list is asked for, and in which order, as the request says it."""

    filter: str = ""
    order_by: str = ""
    show_archived: bool = False
    query: str = ""


def searched(words: str) -> ColumnElement[Any]:
    """Return what a search for words looks for, written as for a search on the web."""
    return func.websearch_to_tsquery(literal_column("'simple'::regconfig"), words)


def value_of(kind: type[T], row: Row[*tuple[Any, ...]]) -> T:
    """Return the row as a dataclass whose fields are named as the columns; arrays as tuples.

    A field without a column keeps its default.
    """
    found = row._mapping  # noqa: SLF001  (the documented way to read a row by names)
    names = [field.name for field in fields(kind) if field.name in found]  # type: ignore[arg-type]
    given = {name: found[name] for name in names}
    frozen = {name: tuple(v) if isinstance(v, list) else v for name, v in given.items()}
    return kind(**frozen)


async def one(tx: AsyncConnection, kind: type[T], query: Query) -> T | None:
    """Return the only row of `query` as a value, None when there is none."""
    row = (await tx.execute(query)).one_or_none()
    return value_of(kind, row) if row is not None else None


async def one_locked(  # noqa: PLR0913  (what is locked, how, and what is read of it)
    tx: AsyncConnection,
    kind: type[T],
    query: Query,
    table: Any,  # noqa: ANN401  (a table with an id)
    same: ColumnElement[bool],
    *,
    shared: bool = False,
    keeps_key: bool = False,
) -> T | None:
    """Return the row of `query` whose row of `table` is the `same`, which is locked first.

    With `shared` others may share the lock; with `keeps_key` it stays possible to refer to the row.
    `same` is about `table` alone. In two statements: one that has waited for the lock would see the
    row as it is by then, but what it joins as it was before, such as another team, and with that
    no row at all.
    """
    held = select(table.id).where(same).with_for_update(read=shared, key_share=keeps_key, of=table)
    found = await tx.scalar(held)
    return None if found is None else await one(tx, kind, query.where(table.id == found))


async def page(
    tx: AsyncConnection, kind: type[T], query: Query, order: Sequence[SortKey], wanted: PageRequest
) -> Page[T]:
    """Return the page of `query` that was asked for, as values."""
    rows = await keyset.page(tx, query, order, wanted)
    return rows.map(partial(value_of, kind))


async def listed(  # noqa: PLR0913, PLR0917  (what a list is made of)
    tx: AsyncConnection,
    kind: type[T],
    query: Query,
    of: Fields,
    wanted: Listing,
    at: PageRequest,
) -> Page[T]:
    """Return a page of what passes the filter, in the order asked for; raises ExpressionInvalid."""
    return await page(tx, kind, query.where(of.where(wanted.filter)), of.order(wanted.order_by), at)


async def each_named(  # noqa: PLR0913  (how a name is found)
    tx: AsyncConnection,
    kind: type[T],
    query: Query,
    table: Any,  # noqa: ANN401  (a table with id and name)
    references: Sequence[str],
    *,
    name: str = "name",
) -> list[T | None]:
    """Return, for each id or name, the value that has it; one statement for all of them."""
    column = getattr(table, name)
    ids = [given for reference in references if (given := parse_id(reference)) is not None]
    names = [reference.lower() for reference in references if parse_id(reference) is None]
    rows = await tx.execute(query.where(or_(table.id.in_(ids), func.lower(column).in_(names))))
    found: dict[str, T] = {}
    for row in rows:
        value = value_of(kind, row)
        found[str(row.id)] = found[getattr(row, name).lower()] = value
    return [found.get(reference.lower()) for reference in references]
