"""What the database and its driver raise, as errors of the product.

Mapped by SQLSTATE (PostgreSQL's appendix A) and, for broken constraints, by the constraint's name,
whose parts the naming convention fixes: `uq_teams_name`, `fk_services_team_id`. Operations that
can say more about a particular constraint catch it themselves; this is for the rest. The text of
the driver stays in the log.
"""

from collections.abc import Iterator
from datetime import timedelta

import asyncpg
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from shared.domain_error import DomainError, FieldViolation
from shared.errors import (
    ConcurrentChange,
    DatabaseFull,
    DatabaseUnavailable,
    DeadlineExceeded,
    ResourceExists,
    ResourceNotFound,
    ResourceReferenced,
    TooManyConnections,
    ValidationFailed,
)

SOON = timedelta(milliseconds=200)
LATER = timedelta(seconds=1)

_LOST = (
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.exceptions.TargetServerAttributeNotMatched,
)
_UNAVAILABLE = frozenset({"57P01", "57P02", "57P03", "57P05", "25006", "25P03"})
_CONFLICTS = frozenset({"40001", "40P01", "55P03"})
_FULL = frozenset({"53100", "53200", "53400"})
_TIMED_OUT = frozenset({"57014", "25P04"})


def translate(raised: BaseException) -> DomainError | None:
    """Return the error that `raised` amounts to, or None when it is not about the database.

    Connecting fails with bare exceptions of the operating system; those that name a file are
    about that file instead.
    """
    chain = list(_causes(raised))
    for link in chain:
        if isinstance(link, asyncpg.DataError):
            return _refused_value()
        state = sqlstate(link)
        if state is not None:
            return _by_state(state, chain)
    if isinstance(raised, PoolTimeout):
        return TooManyConnections(retry_after=LATER)
    if any(_is_loss(link) for link in chain):
        return DatabaseUnavailable(retry_after=LATER)
    return None


def _is_loss(link: BaseException) -> bool:
    """Say whether an exception without an SQLSTATE means that the connection is gone."""
    if isinstance(link, OSError):  # includes TimeoutError
        return link.filename is None
    invalidated = isinstance(link, DBAPIError) and link.connection_invalidated
    return invalidated or isinstance(link, _LOST)


def sqlstate(raised: BaseException) -> str | None:
    """Return the five characters of PostgreSQL's error code, if the exception has them."""
    state = getattr(raised, "sqlstate", None)
    return state if isinstance(state, str) else None


def constraint_name(raised: BaseException) -> str | None:
    """Return the name of the constraint that was broken, or None when it was not that."""
    for link in _causes(raised):
        name = getattr(link, "constraint_name", None)
        if isinstance(name, str) and name:
            return name
    return None


def _causes(raised: BaseException) -> Iterator[BaseException]:
    """Yield the exception and what it was made of: SQLAlchemy wraps its dialect wraps asyncpg."""
    link: BaseException | None = raised
    seen: set[int] = set()
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        yield link
        link = getattr(link, "orig", None) or link.__cause__


def _by_state(state: str, chain: list[BaseException]) -> DomainError | None:
    error: DomainError | None = None
    if state in _UNAVAILABLE or state.startswith("08"):
        error = DatabaseUnavailable(retry_after=LATER)
    elif state in _CONFLICTS or _is_stale_plan(chain):
        error = ConcurrentChange(retry_after=SOON)
    elif state == "53300":
        error = TooManyConnections(retry_after=LATER)
    elif state in _FULL:
        error = DatabaseFull()
    elif state in _TIMED_OUT:
        error = DeadlineExceeded()
    elif state == "23505":
        error = _exists(chain)
    elif state in {"23503", "23001"}:
        error = _reference(chain)
    elif state.startswith("22"):
        error = _refused_value()
    return error


def _is_stale_plan(chain: list[BaseException]) -> bool:
    """Say whether a prepared statement outlived a migration; preparing it anew helps."""
    stale = asyncpg.exceptions.InvalidCachedStatementError
    return any(isinstance(link, stale) for link in chain)


def _refused_value() -> DomainError:
    sentence = "contains a value that cannot be stored"
    violation = FieldViolation("", sentence, "stored.value")
    return ValidationFailed(count=1, first=f"the request {sentence}", fields=(violation,))


def _exists(chain: list[BaseException]) -> DomainError:
    table, columns = _named(chain)
    named = columns.replace("_", " ") if columns else "id"
    return ResourceExists(resource_type=_singular(table), resource=f"with this {named}")


def _reference(chain: list[BaseException]) -> DomainError:
    """Tell a row that is still in use from one that is not there; the detail alone knows which."""
    table, column = _named(chain)
    referenced = column.removesuffix("_id").replace("_", " ") or "entry"
    if any("still referenced" in str(getattr(link, "detail", "")) for link in chain):
        used_by = table.replace("_", " ") or "other entries"
        return ResourceReferenced(resource_type=referenced, resource="to delete", used_by=used_by)
    return ResourceNotFound(resource_type=referenced, resource="with the given id")


def _named(chain: list[BaseException]) -> tuple[str, str]:
    """Return the table and the columns of a broken constraint; empty when it has no plain name."""
    name = constraint_name(chain[0]) or ""
    tables = [table for link in chain if (table := getattr(link, "table_name", None))]
    table = str(tables[0]) if tables else ""
    _, _, columns = name.partition(f"_{table}_")
    return table, columns if table else ""


def _singular(table: str) -> str:
    """Return `service account` for `service_accounts` and `environment policy` likewise."""
    singular = table[:-3] + "y" if table.endswith("ies") else table.removesuffix("s")
    return singular.replace("_", " ") or "entry"
