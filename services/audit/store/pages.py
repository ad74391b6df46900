"""Statements that find the entries of a page, each bounded whatever the filter and the size.

A filter is answered by walking one index in the order of the ledger: that of an equality, which
ends in `leaf_index`, or that of `leaf_index` itself. Which one is decided here and not by the
planner, whose estimates know nothing of what is where: PLANS leaves it indexes in order and nothing
else, and an order by the column of the equality, compared with ANY, is one that only its own index
has. So a plan depends on nothing but the statement and is made once for a connection; months that
cannot matter are left out when it runs. Containment in `details` has no order of its own:
`details_matches` says what is done about that.

A statement is made once for each form of filter, and comes with the parameters of this one.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, TypeAlias
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Integer,
    Select,
    Uuid,
    and_,
    any_,
    bindparam,
    func,
    or_,
    select,
    true,
    union_all,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from services.audit.store.queries import EQUALITIES, Filter, Leaves
from shared.db.models.audit import AuditLog

# For the connections that read pages.
PLANS: Final = {
    "plan_cache_mode": "force_generic_plan",
    "enable_seqscan": "off",
    "enable_bitmapscan": "off",
    "enable_sort": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
}
# Forms of filters: any of six equalities, with details or not, by seven drivers, in two orders.
FORMS: Final = 2_048

Parameters: TypeAlias = dict[str, Any]
Asked: TypeAlias = tuple[Select[Any], Parameters]
_ENTRIES = AuditLog.__table__
_DETAILS = "details"


@dataclass(frozen=True, slots=True)
class Driver:
    """A condition whose index leads through the matching entries; without a name, through all.

    Only entries of one value are in order, so there is a way for each.
    """

    name: str | None = None
    values: tuple[Any, ...] = ()

    @property
    def ways(self) -> int:
        """How many ways there are."""
        return max(len(self.values), 1)


EVERYTHING: Final = Driver()


def drivers(wanted: Filter) -> list[Driver]:
    """Return the drivers of a filter, the one that mostly narrows most first."""
    found = [
        Driver(name, (value,))
        for name in EQUALITIES
        if (value := getattr(wanted, name)) is not None
    ]
    if wanted.narrows_category:
        found.append(Driver("category", wanted.categories))
    return found


def walk(  # noqa: PLR0913  (what bounds it)
    wanted: Filter, driver: Driver, leaves: Leaves, *, examine: int, size: int, oldest_first: bool
) -> Asked:
    """Return the statement for the first `size` matching entries, `examine` looked at each way.

    The last one that may be looked at of a way comes too, whether or not it `matches`; its `number`
    is `examine`. Where the walk ended must be told by the walk itself: another statement would
    count what was appended, or left the ledger, since.
    """
    parameters = _values(wanted) | _given(driver, leaves) | {"examine": examine, "size": size}
    return _walk(driver.name, driver.ways, _conditions(wanted), oldest_first), parameters


@lru_cache(FORMS)
def _walk(
    driver: str | None,
    ways: int,
    conditions: tuple[str, ...],
    oldest_first: bool,  # noqa: FBT001
) -> Select[Any]:
    found = []
    number = func.row_number().over(order_by=_order(AuditLog, driver, oldest_first))
    for way in range(ways):
        numbered = select(_ENTRIES, number.label("number"))
        met = _along(numbered, driver, oldest_first, way=way).limit(_count("examine"))
        one = met.subquery(f"met_{way}")
        rest = (_condition(one.c, name) for name in conditions if name != driver)
        matches = and_(true(), *rest)
        found.append(
            select(one, matches.label("matches"))
            .where(or_(matches, one.c.number == _count("examine")))
            .order_by(*_order(one.c, driver, oldest_first))
            .limit(_count("size"))
        )
    if len(found) == 1:
        return found[0]
    # At most `size` of each way are left to be put in order.
    either = union_all(*(select(one.subquery()) for one in found)).subquery("either")
    return select(either).order_by(*_order(either.c, None, oldest_first)).limit(_count("size"))


def outlook(choices: Sequence[Driver], leaves: Leaves, *, at_most: int) -> Asked:
    """Return the statement for what a range has: the ids at its ends, and how many of each driver.

    Counts go as far as `at_most` and have the names of the drivers.
    """
    parameters: Parameters = _given(EVERYTHING, leaves) | {"at_most": at_most}
    for driver in choices:
        parameters[f"choice_{driver.name}"] = list(driver.values)
    return _outlook(tuple(str(driver.name) for driver in choices)), parameters


@lru_cache(FORMS)
def _outlook(names: tuple[str, ...]) -> Select[Any]:
    ends = [
        _along(select(AuditLog.id), None, oldest_first).limit(1).scalar_subquery()
        for oldest_first in (True, False)
    ]
    columns = [ends[0].label("oldest"), ends[1].label("newest")]
    for name in names:
        some = _along(select(AuditLog.leaf_index), name, oldest_first=True, prefix="choice")
        counted = select(func.count()).select_from(some.limit(_count("at_most")).subquery())
        columns.append(counted.scalar_subquery().label(name))
    return select(*columns)


def first_leaf(entry_id: UUID) -> Asked:
    """Return the statement for the first leaf whose id is not below `entry_id`."""
    return _FIRST_LEAF, {"id": entry_id}


_FIRST_LEAF = (
    select(AuditLog.leaf_index)
    .where(AuditLog.id >= bindparam("id", type_=Uuid()))
    .order_by(AuditLog.id)
    .limit(1)
)


def details_matches(details: str, ids: tuple[UUID, UUID], leaves: Leaves, *, at_most: int) -> Asked:
    """Return the statement for ids of entries that contain `details`: all, or `at_most` of them.

    Looks at the months of a range of ids, in no order, through the inverted index alone; the
    database's function brings the settings for that.
    """
    parameters = _given(EVERYTHING, leaves) | {"at_most": at_most, _DETAILS: json.loads(details)}
    return _DETAILS_MATCHES, parameters | {"first_id": ids[0], "end_id": ids[1]}


def among(wanted: Filter, ids: Sequence[UUID], *, size: int, oldest_first: bool) -> Asked:
    """Return the statement for the first `size` matching entries of those with the given ids."""
    parameters = {"ids": ids, "lowest": min(ids), "highest": max(ids), "size": size}
    return _among(_conditions(wanted), oldest_first), parameters | _values(wanted)


@lru_cache(FORMS)
def _among(conditions: tuple[str, ...], oldest_first: bool) -> Select[Any]:  # noqa: FBT001
    return (
        select(_ENTRIES)
        .where(
            AuditLog.id == any_(bindparam("ids", type_=ARRAY(Uuid()))),
            AuditLog.id >= bindparam("lowest", type_=Uuid()),
            AuditLog.id <= bindparam("highest", type_=Uuid()),
            *(_condition(AuditLog, name) for name in conditions),
        )
        .order_by(AuditLog.id if oldest_first else AuditLog.id.desc())
        .limit(_count("size"))
    )


def _conditions(wanted: Filter) -> tuple[str, ...]:
    names = tuple(str(driver.name) for driver in drivers(wanted))
    return names if wanted.details is None else (*names, _DETAILS)


def _values(wanted: Filter) -> Parameters:
    values: Parameters = {f"wanted_{one.name}": list(one.values) for one in drivers(wanted)}
    return values if wanted.details is None else values | {_DETAILS: json.loads(wanted.details)}


def _given(driver: Driver, leaves: Leaves) -> Parameters:
    place: Parameters = {"first": leaves.first, "end": leaves.end}
    ways = {f"way_{way}_{driver.name}": [one] for way, one in enumerate(driver.values)}
    return place | ways


def _along(
    columns: Select[Any],
    driver: str | None,
    oldest_first: bool,  # noqa: FBT001
    *,
    way: int = 0,
    prefix: str = "",
) -> Select[Any]:
    """Return a selection of columns from a range, in the order of a driver's index."""
    driven = [] if driver is None else [_equals(AuditLog, driver, prefix or f"way_{way}")]
    return columns.where(
        *driven,
        AuditLog.leaf_index >= bindparam("first", type_=BigInteger()),
        AuditLog.leaf_index < bindparam("end", type_=BigInteger()),
    ).order_by(*_order(AuditLog, driver, oldest_first))


def _order(columns: Any, driver: str | None, oldest_first: bool) -> list[Any]:  # noqa: ANN401, FBT001
    names = ["leaf_index"] if driver is None else [driver, "leaf_index"]
    keys = [getattr(columns, name) for name in names]
    return keys if oldest_first else [key.desc() for key in keys]


def _condition(columns: Any, name: str) -> ColumnElement[bool]:  # noqa: ANN401
    if name != _DETAILS:
        return _equals(columns, name, "wanted")
    contains: ColumnElement[bool] = columns.details.op("@>", is_comparison=True)(_json())
    return contains


def _equals(columns: Any, name: str, prefix: str) -> ColumnElement[bool]:  # noqa: ANN401
    """Return a condition that is one parameter, however many values there are."""
    column = getattr(columns, name)
    values = bindparam(f"{prefix}_{name}", type_=ARRAY(column.type))
    condition: ColumnElement[bool] = column == any_(values)
    return condition


def _json() -> ColumnElement[Any]:
    # A parameter of this type, and not a text that would be read anew for each entry.
    return bindparam(_DETAILS, type_=JSONB())


def _count(name: str) -> Any:  # noqa: ANN401  (a parameter)
    return bindparam(name, type_=Integer())


_DETAILS_MATCHES = select(
    func.audit_details_matches(
        _json(),
        bindparam("first_id", type_=Uuid()),
        bindparam("end_id", type_=Uuid()),
        bindparam("first", type_=BigInteger()),
        bindparam("end", type_=BigInteger()),
        _count("at_most"),
    )
)
