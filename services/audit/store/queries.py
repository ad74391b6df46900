"""What readers ask of the ledger, as statements: filters, pages, windows and counts.

`leaf_index` orders everything. A date is translated into leaf indexes first, because both rise
together; then a filter is a range of leaves and some equalities.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Select, and_, case, func, literal_column, select, true
from sqlalchemy.dialects.postgresql import asyncpg

from services.audit.rules.events import microseconds
from shared.db.models.audit import AuditEventKey, AuditLog, AuditLogHead

EXAMINED = 50_000
TIMESTAMP = """'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'"""
DEFAULT_CATEGORIES = ("change", "security")
_DRIVER = asyncpg.dialect()  # type: ignore[no-untyped-call]
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")

Row = tuple[Any, ...]
Statement = Select[Any]


@dataclass(frozen=True, slots=True)
class Filter:
    """What entries must match; None matches all. `user_id` is resolved, `end` is exclusive."""

    user_id: UUID | None = None
    action: str | None = None
    resource_type: str | None = None
    resource_id: str | None = None
    start: datetime | None = None
    end: datetime | None = None
    producer: str | None = None
    categories: tuple[str, ...] = DEFAULT_CATEGORIES

    def encoded(self) -> bytes:
        """Return bytes that stand for this filter and no other, for tokens."""
        return repr(
            (
                self.user_id and self.user_id.hex,
                self.action,
                self.resource_type,
                self.resource_id,
                self.start and microseconds(self.start),
                self.end and microseconds(self.end),
                self.producer,
                self.categories,
            )
        ).encode()


@dataclass(frozen=True, slots=True)
class Leaves:
    """A range of leaf indexes, `first` included and `end` not."""

    first: int
    end: int


def head() -> Statement:
    """Return the statement for the number of entries."""
    return select(AuditLogHead.next_index)


def first_at_or_after(moment: datetime) -> Statement:
    """Return the statement for the first leaf stored at or after `moment`.

    Ids rise with time, so the primary key and the partition bounds answer it.
    """
    return (
        select(AuditLog.leaf_index)
        .where(AuditLog.id >= id_floor(moment))
        .order_by(AuditLog.id)
        .limit(1)
    )


def id_floor(moment: datetime) -> UUID:
    """Return the lowest id that an entry stored at `moment` can have; ids begin in 1970."""
    milliseconds, rest = divmod(max(microseconds(moment), 0), 1000)
    return UUID(int=milliseconds << 80 | (0x7000 | rest * 4) << 64)


def page(wanted: Filter, leaves: Leaves, *, size: int, oldest_first: bool) -> Statement:
    """Return the statement for the first `size` matching entries of a range.

    At most EXAMINED entries are looked at: the inner statement walks one index, by the equality
    that narrows most, and stops there. Without such an equality the caller bounds the range.
    """
    driver, rest = _split(wanted)
    inner = (
        select(AuditLog)
        .where(driver, *_within(leaves))
        .order_by(AuditLog.leaf_index if oldest_first else AuditLog.leaf_index.desc())
        .limit(EXAMINED)
        .subquery()
    )
    matching = [_on(inner, condition) for condition in rest]
    order = inner.c.leaf_index if oldest_first else inner.c.leaf_index.desc()
    return select(inner).where(*matching).order_by(order).limit(size)


def last_examined(wanted: Filter, leaves: Leaves, *, oldest_first: bool) -> Statement:
    """Return the statement for the leaf at which `page` stopped looking, if it did."""
    driver, _rest = _split(wanted)
    return (
        select(AuditLog.leaf_index)
        .where(driver, *_within(leaves))
        .order_by(AuditLog.leaf_index if oldest_first else AuditLog.leaf_index.desc())
        .offset(EXAMINED - 1)
        .limit(1)
    )


def is_driven(wanted: Filter) -> bool:
    """Tell whether an index leads to the matching entries in order."""
    return _split(wanted)[0] is not _ALL


def matches(wanted: Filter, leaves: Leaves) -> list[ColumnElement[bool]]:
    """Return all conditions of a filter within a range."""
    driver, rest = _split(wanted)
    return [*_within(leaves), driver, *(getattr(AuditLog, name).in_(among) for name, among in rest)]


def count(wanted: Filter, leaves: Leaves, *, at_most: int) -> Statement:
    """Return the statement that counts matching entries, stopping at `at_most`."""
    some: Statement = select(literal_column("1")).where(*matches(wanted, leaves)).limit(at_most)
    return select(func.count()).select_from(some.select_from(AuditLog).subquery())


def entry(*, audit_log_id: UUID | None = None, leaf_index: int | None = None) -> Statement:
    """Return the statement for one entry by either of its keys."""
    columns = AuditLog.__table__
    if audit_log_id is not None:
        return select(columns).where(AuditLog.id == audit_log_id)
    return select(columns).where(AuditLog.leaf_index == leaf_index)


def sequences(producer: str, aggregates: Sequence[str]) -> Statement:
    """Return the statement for the dense sequence of each aggregate: n when 1 to n are there.

    In a dense sequence the number of a row is its sequence; after the first gap it never is again.
    """
    numbered = (
        select(
            AuditEventKey.aggregate,
            AuditEventKey.aggregate_seq,
            func.row_number()
            .over(partition_by=AuditEventKey.aggregate, order_by=AuditEventKey.aggregate_seq)
            .label("number"),
        )
        .where(
            AuditEventKey.producer == producer,
            AuditEventKey.aggregate.in_(aggregates),
            AuditEventKey.aggregate_seq >= 1,
        )
        .subquery()
    )
    return (
        select(numbered.c.aggregate, func.max(numbered.c.number).label("dense"))
        .where(numbered.c.number == numbered.c.aggregate_seq)
        .group_by(numbered.c.aggregate)
    )


def export_window(wanted: Filter, leaves: Leaves, *, spreadsheet: bool) -> tuple[str, list[Any]]:
    """Return the query of one window of an export, for the driver: text with $n, and parameters.

    `details` are the text of jsonb: JSON with a space after each colon and comma.
    """
    cell = _spreadsheet_cell if spreadsheet else _exact_cell
    statement = (
        select(
            AuditLog.id,
            AuditLog.user_id,
            cell(AuditLog.action),
            cell(AuditLog.resource_type),
            cell(AuditLog.resource_id),
            AuditLog.details,
            AuditLog.ip_address,
            cell(AuditLog.user_agent),
            func.to_char(AuditLog.created_at, literal_column(TIMESTAMP)),
        )
        .where(*matches(wanted, leaves))
        .order_by(AuditLog.leaf_index)
    )
    compiled = statement.compile(dialect=_DRIVER, compile_kwargs={"render_postcompile": True})
    return str(compiled), [compiled.params[name] for name in compiled.positiontup or ()]


def _exact_cell(column: Any) -> Any:  # noqa: ANN401  (a column of the model)
    return column


def _spreadsheet_cell(column: Any) -> Any:  # noqa: ANN401
    """Return a cell that no spreadsheet runs: formulas get a single quote before them."""
    return case(
        (func.left(column, 1).in_(FORMULA_STARTS), literal_column("''''") + column), else_=column
    )


_ALL: ColumnElement[bool] = true()
_Rest = list[tuple[str, tuple[Any, ...]]]


def _split(wanted: Filter) -> tuple[ColumnElement[bool], _Rest]:
    """Return the condition that an index ordered by leaf answers, and all the others."""
    rest: _Rest = [
        (name, (value,))
        for name in ("user_id", "action", "resource_type", "resource_id", "producer")
        if (value := getattr(wanted, name)) is not None
    ]
    rest.append(("category", wanted.categories))
    names = {name for name, _value in rest}
    for leading in (("resource_type", "resource_id"), ("user_id",), ("action",)):
        if names.issuperset(leading):
            driver = and_(*(getattr(AuditLog, name) == getattr(wanted, name) for name in leading))
            return driver, [(name, among) for name, among in rest if name not in leading]
    return _ALL, rest


def _within(leaves: Leaves) -> tuple[ColumnElement[bool], ...]:
    return (AuditLog.leaf_index >= leaves.first, AuditLog.leaf_index < leaves.end)


def _on(inner: Any, condition: tuple[str, tuple[Any, ...]]) -> ColumnElement[bool]:  # noqa: ANN401
    name, among = condition
    matching: ColumnElement[bool] = inner.c[name].in_(among)
    return matching
