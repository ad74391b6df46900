"""An audit event as the code that makes a change states it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from enum import Enum, StrEnum
from types import NoneType
from typing import Any
from uuid import UUID


class Category(StrEnum):
    """Why an entry is in the ledger, in the spelling of the database."""

    CHANGE = "change"
    SECURITY = "security"


@dataclass(frozen=True, slots=True)
class Event:
    """What happened to one version of one aggregate.

    `aggregate` is `kind:id` and `aggregate_seq` the version that the change made; together they
    are in the ledger exactly once. `user_id` is for acts that are not the caller's own, such as a
    log-in; `details` may hold anything that `jsonable` understands, secrets excepted.
    """

    action: str
    aggregate: str
    aggregate_seq: int
    resource_type: str
    resource_id: str
    details: Mapping[str, Any] = field(default_factory=dict)
    user_id: UUID | None = None
    category: Category = Category.CHANGE


def jsonable(value: Any) -> Any:  # noqa: ANN401  (JSON values have no better type)
    """Return `value` as JSON types: ids and enums as strings, times in RFC 3339 with microseconds.

    Raises TypeError for what has no obvious form, so that nothing is stored by accident.
    """
    for kinds, form in _FORMS:
        if isinstance(value, kinds):
            return form(value)
    message = f"{type(value).__name__} has no form in an audit event"
    raise TypeError(message)


def _time(moment: datetime) -> str:
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


# The first that fits: an enum may be a string as well, and every datetime is a date.
_FORMS: tuple[tuple[Any, Callable[[Any], Any]], ...] = (
    (Enum, lambda value: jsonable(value.value)),
    ((NoneType, bool, int, float, str), lambda value: value),
    (UUID, str),
    (datetime, _time),
    (date, date.isoformat),
    (Mapping, lambda value: {str(key): jsonable(item) for key, item in value.items()}),
    ((list, tuple), lambda value: [jsonable(item) for item in value]),
    ((set, frozenset), lambda value: sorted(jsonable(item) for item in value)),
)
