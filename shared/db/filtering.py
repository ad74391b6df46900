"""Filter and order expressions as conditions on columns: what a list can be asked for.

A list names its fields once (`Fields`); whatever an expression says beyond them is refused with
the names that there are. Values reach the database as parameters, never as text.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NoReturn, Protocol

from sqlalchemy import ColumnElement, and_, false, func, not_, or_, select, true
from sqlalchemy.orm import aliased

from shared.db.keyset import SortKey
from shared.errors import ExpressionInvalid
from shared.filters import All, Comparison, Expression, Not, parse_filter, parse_order
from shared.ids import parse_id

Condition = ColumnElement[bool]

_ORDERING: Mapping[str, Callable[[Any, Any], Condition]] = {
    "=": lambda column, value: column == value,
    "!=": lambda column, value: column != value,
    "<": lambda column, value: column < value,
    "<=": lambda column, value: column <= value,
    ">": lambda column, value: column > value,
    ">=": lambda column, value: column >= value,
}
WILDCARD = "*"


class Field(Protocol):
    """Something that a filter can compare."""

    def condition(self, asked: Comparison, rest: tuple[str, ...]) -> Condition:
        """Return what `asked` means; `rest` is the path after the field's own name.

        Raises ExpressionInvalid.
        """


@dataclass(frozen=True, slots=True)
class TextField:
    """Text, compared without regard to case; `=` takes `*` for anything, `:` finds a part."""

    column: Any

    def condition(self, asked: Comparison, rest: tuple[str, ...]) -> Condition:
        """Return the condition; see Field."""
        _no_rest(asked, rest)
        lowered: Any = func.lower(self.column)
        value: Any = func.lower(asked.value)
        if asked.operator == ":":
            if asked.value == WILDCARD and not asked.quoted:
                return _known(self.column, self.column != "")
            return _known(self.column, func.strpos(lowered, value) > 0)
        if WILDCARD in asked.value and asked.operator in {"=", "!="}:
            alike = lowered.like(func.lower(_pattern(asked.value)), escape="\\")
            return _known(self.column, alike if asked.operator == "=" else not_(alike))
        return _known(self.column, _ORDERING[asked.operator](lowered, value))


@dataclass(frozen=True, slots=True)
class NamedField:
    """A reference to another resource, compared with its id or its name."""

    id_column: Any
    name_column: Any

    def condition(self, asked: Comparison, rest: tuple[str, ...]) -> Condition:
        """Return the condition; see Field."""
        _no_rest(asked, rest)
        reference = parse_id(asked.value)
        if reference is not None and asked.operator in {"=", "!="}:
            return _known(self.id_column, _ORDERING[asked.operator](self.id_column, reference))
        if asked.operator == "=" and WILDCARD not in asked.value:
            named = TextField(self.name_column).condition(asked, rest)
        else:
            # Names are compared once each, and not once for each entry that refers to one. As a
            # value and not as a condition, the planner does not make a join of it again.
            other = aliased(self.name_column.class_)
            alike = TextField(getattr(other, self.name_column.key)).condition(asked, rest)
            named = self.id_column.in_(select(other.id).where(alike)).is_(true())
        # Who refers to nothing has no name to compare, and NOT must mean what it says.
        return _known(self.id_column, named)


@dataclass(frozen=True, slots=True)
class IdField:
    """A reference to something without a name, compared with its id; `:*` asks for any."""

    column: Any

    def condition(self, asked: Comparison, rest: tuple[str, ...]) -> Condition:
        """Return the condition; see Field."""
        _no_rest(asked, rest)
        if _asks_for_any(asked):
            return _is_there(self.column)
        reference = parse_id(asked.value)
        if asked.operator not in {"=", "!="} or reference is None:
            asked.wrong(f"`{asked.path[0]}` is compared by = and != with a UUID")
        return _known(self.column, _ORDERING[asked.operator](self.column, reference))


@dataclass(frozen=True, slots=True)
class ChoiceField:
    """One of some names, without regard to case; `ordered` ones also by < and >."""

    column: Any
    stored: Mapping[str, str]
    ordered: bool = False

    def condition(self, asked: Comparison, rest: tuple[str, ...]) -> Condition:
        """Return the condition; see Field."""
        _no_rest(asked, rest)
        value = self.stored.get(asked.value.upper())
        if value is None:
            asked.wrong(f"`{_short(asked.value)}` is not one of {', '.join(self.stored)}")
        operator = "=" if asked.operator == ":" else asked.operator
        if not self.ordered and operator not in {"=", "!="}:
            asked.wrong(f"`{asked.path[0]}` is compared by = and != only")
        return _known(self.column, _ORDERING[operator](self.column, value))


@dataclass(frozen=True, slots=True)
class FlagField:
    """True or false."""

    column: Any

    def condition(self, asked: Comparison, rest: tuple[str, ...]) -> Condition:
        """Return the condition; see Field."""
        _no_rest(asked, rest)
        if asked.operator not in {"=", "!="} or asked.value not in {"true", "false"}:
            asked.wrong(f"`{asked.path[0]}` is compared by = and != with true or false")
        wanted = (asked.value == "true") == (asked.operator == "=")
        is_so: Condition = self.column.is_(true() if wanted else false())
        return is_so


@dataclass(frozen=True, slots=True)
class NumberField:
    """A whole number."""

    column: Any

    def condition(self, asked: Comparison, rest: tuple[str, ...]) -> Condition:
        """Return the condition; see Field."""
        _no_rest(asked, rest)
        digits = asked.value.removeprefix("-")
        compared = _ORDERING.get(asked.operator)
        if compared is None or not (digits.isascii() and digits.isdigit() and len(digits) <= 9):  # noqa: PLR2004
            asked.wrong(f"`{asked.path[0]}` is compared by = != < <= > >= with a whole number")
        return _known(self.column, compared(self.column, int(asked.value)))


@dataclass(frozen=True, slots=True)
class MomentField:
    """A time, compared with one of RFC 3339; `:*` asks whether there is one."""

    column: Any

    def condition(self, asked: Comparison, rest: tuple[str, ...]) -> Condition:
        """Return the condition; see Field."""
        _no_rest(asked, rest)
        if _asks_for_any(asked):
            return _is_there(self.column)
        compared = _ORDERING.get(asked.operator)
        moment = _moment(asked.value)
        if compared is None or moment is None:
            asked.wrong(
                f"`{asked.path[0]}` is compared by = != < <= > >= with a time of RFC 3339,"
                ' such as "2026-01-31T12:00:00Z"'
            )
        return _known(self.column, compared(self.column, moment))


@dataclass(frozen=True, slots=True)
class LabelsField:
    """Pairs of a jsonb object: `labels.lang = "go"`, `labels.lang:*`, `labels:lang`."""

    column: Any

    def condition(self, asked: Comparison, rest: tuple[str, ...]) -> Condition:
        """Return the condition; see Field."""
        key = ".".join(rest)
        has: Condition
        if not key and asked.operator == ":":
            has = self.column.has_key(asked.value)
            return has
        if not key or asked.operator not in {"=", "!=", ":"}:
            name = asked.path[0]
            asked.wrong(f'labels are asked for as `{name}.KEY = "VALUE"` or `{name}:KEY`')
        if _asks_for_any(asked):
            has = self.column.has_key(key)
            return has
        has = self.column.contains({key: asked.value})
        return not_(has) if asked.operator == "!=" else has


@dataclass(frozen=True, slots=True)
class TagsField:
    """Elements of a jsonb array of strings: `tags:"database"`."""

    column: Any

    def condition(self, asked: Comparison, rest: tuple[str, ...]) -> Condition:
        """Return the condition; see Field."""
        _no_rest(asked, rest)
        if asked.operator != ":":
            asked.wrong(f'`{asked.path[0]}` is asked for as `{asked.path[0]}:"TAG"`')
        has: Condition = self.column.contains([asked.value])
        return has


@dataclass(frozen=True, slots=True)
class Fields:
    """What a list can be filtered and sorted by; `unique` breaks ties, `default` is the order."""

    filters: Mapping[str, Field]
    orders: Mapping[str, Any]
    unique: Any
    default: tuple[SortKey, ...] = field(default=())

    def where(self, text: str) -> Condition:
        """Return the condition of a filter, which an empty one leaves true.

        Raises ExpressionInvalid.
        """
        expression = parse_filter(text)
        return true() if expression is None else self._condition(expression)

    def order(self, text: str) -> tuple[SortKey, ...]:
        """Return the columns to sort by, unique together; raises ExpressionInvalid."""
        keys: list[SortKey] = []
        seen: set[str] = set()
        for asked in parse_order(text):
            column = self.orders.get(asked.name)
            if column is None or asked.name in seen:
                known = f"is not one of {', '.join(self.orders)}"
                problem = "is there twice" if asked.name in seen else known
                raise ExpressionInvalid(
                    field="order_by",
                    position=asked.position,
                    problem=f"`{_short(asked.name)}` {problem}",
                )
            seen.add(asked.name)
            keys.append(SortKey(column, asked.descending))
        keys = keys or list(self.default)
        return (*keys, SortKey(self.unique, keys[-1].descending if keys else False))

    def _condition(self, expression: Expression) -> Condition:
        if isinstance(expression, Comparison):
            found = self.filters.get(expression.path[0])
            if found is None:
                _unknown(expression, self.filters)
            return found.condition(expression, expression.path[1:])
        if isinstance(expression, Not):
            return not_(self._condition(expression.part))
        parts = [self._condition(part) for part in expression.parts]
        return and_(*parts) if isinstance(expression, All) else or_(*parts)


def _known(column: Any, condition: Condition) -> Condition:  # noqa: ANN401  (any column)
    """Return the condition, false where the column is NULL, so that NOT means what it says."""
    can_lack = getattr(column, "nullable", False)
    return and_(_is_there(column), condition) if can_lack else condition


def _is_there(column: Any) -> Condition:  # noqa: ANN401  (any column)
    there: Condition = column.is_not(None)
    return there


def _asks_for_any(asked: Comparison) -> bool:
    return asked.operator == ":" and asked.value == WILDCARD


def _no_rest(asked: Comparison, rest: tuple[str, ...]) -> None:
    if rest:
        asked.wrong(f"`{asked.path[0]}` has no parts")


def _unknown(asked: Comparison, filters: Mapping[str, Field]) -> NoReturn:
    asked.wrong(f"`{_short(asked.path[0])}` is not one of {', '.join(filters)}")


def _short(text: str) -> str:
    return text if len(text) <= 40 else text[:40] + "…"  # noqa: PLR2004


def _pattern(text: str) -> str:
    """Return the pattern for LIKE in which only `*` stands for anything."""
    for special in ("\\", "%", "_"):
        text = text.replace(special, f"\\{special}")
    return text.replace(WILDCARD, "%")


def _moment(text: str) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    if "T" not in text.upper() or moment.tzinfo is None:
        return None
    try:
        return moment.astimezone(UTC)
    except OverflowError:  # in UTC it is before year 1 or after year 9999
        return None
