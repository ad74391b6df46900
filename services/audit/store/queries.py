"""What readers ask of the ledger, as statements: filters, pages, windows and counts.

`leaf_index` orders everything. A date is translated into leaf indexes first, because both rise
together; then a filter is a range of leaves and some equalities.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Select,
    Text,
    any_,
    cast,
    func,
    literal,
    literal_column,
    select,
    true,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, asyncpg

from services.audit.rules.events import microseconds
from shared.db.models.audit import AuditEventKey, AuditLog, AuditLogHead

DEFAULT_CATEGORIES = ("change", "security")
ALL_CATEGORIES = ("access", "change", "security")
EQUALITIES = ("resource_id", "user_id", "action", "resource_type", "producer")
# What pages are read with would make counting read more than it must.
COUNTING = dict.fromkeys(("enable_seqscan", "enable_bitmapscan", "enable_sort"), "on") | {
    "plan_cache_mode": "force_custom_plan"
}
_DRIVER = asyncpg.dialect()  # type: ignore[no-untyped-call]

Row = tuple[Any, ...]
Statement = Select[Any]


@dataclass(frozen=True, slots=True)
class Filter:
    """What entries must match; None matches all. `user_id` is resolved, `end` is exclusive.

    `details` is a JSON object in its canonical spelling.
    """

    user_id: UUID | None = None
    action: str | None = None
    resource_type: str | None = None
    resource_id: str | None = None
    start: datetime | None = None
    end: datetime | None = None
    producer: str | None = None
    categories: tuple[str, ...] = DEFAULT_CATEGORIES
    details: str | None = None

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
                self.details,
            )
        ).encode()

    @property
    def narrows_category(self) -> bool:
        """Whether entries of some category do not match."""
        return not set(self.categories).issuperset(ALL_CATEGORIES)


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


def matches(wanted: Filter, leaves: Leaves) -> list[ColumnElement[bool]]:
    """Return all conditions of a filter within a range."""
    conditions = list(within(leaves))
    conditions += [
        getattr(AuditLog, name) == value
        for name in EQUALITIES
        if (value := getattr(wanted, name)) is not None
    ]
    if wanted.narrows_category:
        conditions.append(AuditLog.category.in_(wanted.categories))
    if wanted.details is not None:
        conditions.append(contains(AuditLog.details, wanted.details))
    return conditions


def within(leaves: Leaves) -> tuple[ColumnElement[bool], ...]:
    """Return the conditions of a range."""
    return (AuditLog.leaf_index >= leaves.first, AuditLog.leaf_index < leaves.end)


def contains(column: Any, details: str) -> ColumnElement[bool]:  # noqa: ANN401  (details, of a model or subquery)
    """Return the condition that a column holds all of a JSON object."""
    holds: ColumnElement[bool] = column.op("@>", is_comparison=True)(
        cast(literal(details, Text), JSONB)
    )
    return holds


def count(wanted: Filter, leaves: Leaves, *, at_most: int) -> Statement:
    """Return the statement that counts matching entries, stopping at `at_most`."""
    some: Statement = select(literal_column("1")).where(*matches(wanted, leaves)).limit(at_most)
    return select(func.count()).select_from(some.select_from(AuditLog).subquery())


def position_in(audit_log_id: UUID) -> int:
    """Return the position that an id was made from, if the ledger made it."""
    return audit_log_id.int & (1 << 62) - 1


def counting(*, milliseconds: int) -> Statement:
    """Return the statement that lets a transaction count in any way, and only for so long."""
    settings = COUNTING | {"statement_timeout": str(milliseconds)}
    local = true()
    return select(*(func.set_config(name, value, local) for name, value in settings.items()))


def all_matches(wanted: Filter, leaves: Leaves) -> tuple[str, list[Any]]:
    """Return the query of all matching entries, for the driver: text with $n, and parameters."""
    statement = select(AuditLog.leaf_index).where(*matches(wanted, leaves))
    compiled = statement.compile(dialect=_DRIVER, compile_kwargs={"render_postcompile": True})
    return str(compiled), [compiled.params[name] for name in compiled.positiontup or ()]


def entry(*, audit_log_id: UUID | None = None, leaf_index: int | None = None) -> Statement:
    """Return the statement for one entry by either of its keys."""
    columns = AuditLog.__table__
    if audit_log_id is not None:
        return select(columns).where(AuditLog.id == audit_log_id)
    # In this order, only the index of places will do; with = others seem as good, while a month is
    # empty, and the plan is kept.
    place = any_(literal([leaf_index], ARRAY(BigInteger())))
    return select(columns).where(AuditLog.leaf_index == place).order_by(AuditLog.leaf_index)


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
