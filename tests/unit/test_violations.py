"""What the database raises, as errors of the product."""

import socket
from typing import Any

import asyncpg
import pytest
from sqlalchemy.dialects.postgresql.asyncpg import AsyncAdapt_asyncpg_dbapi
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from shared.db.violations import constraint_name, translate


def postgres(state: str, **fields: str) -> Exception:
    """Return the driver's exception for a code, as the server would have caused it."""
    postgres_error: Any = asyncpg.PostgresError
    error = postgres_error.get_message_class_for_sqlstate(state)("the text of the driver")
    error.sqlstate = state
    for name, value in fields.items():
        setattr(error, name, value)
    assert isinstance(error, asyncpg.PostgresError)
    return error


def wrapped(raised: Exception, kind: type[DBAPIError] = DBAPIError) -> DBAPIError:
    """Return `raised` as SQLAlchemy wraps it: its dialect's exception, then its own."""
    dialect_error: Any = AsyncAdapt_asyncpg_dbapi.Error
    inner = dialect_error(str(raised), raised)
    inner.__cause__ = raised
    outer = kind("INSERT INTO secrets", {}, inner)
    outer.__cause__ = inner
    return outer


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        ("08006", "DATABASE_UNAVAILABLE"),
        ("57P01", "DATABASE_UNAVAILABLE"),
        ("57P03", "DATABASE_UNAVAILABLE"),
        ("25006", "DATABASE_UNAVAILABLE"),
        ("40001", "CONCURRENT_CHANGE"),
        ("40P01", "CONCURRENT_CHANGE"),
        ("55P03", "CONCURRENT_CHANGE"),
        ("53300", "TOO_MANY_CONNECTIONS"),
        ("53100", "DATABASE_FULL"),
        ("57014", "DEADLINE_EXCEEDED"),
        ("22021", "VALIDATION_FAILED"),
        ("22P05", "VALIDATION_FAILED"),
        ("22003", "VALIDATION_FAILED"),
        ("23505", "RESOURCE_EXISTS"),
        ("23514", None),
        ("23502", None),
        ("42P01", None),
        ("42501", None),
        ("XX000", None),
    ],
)
def test_codes(state: str, reason: str | None) -> None:
    for raised in (postgres(state), wrapped(postgres(state))):
        error = translate(raised)
        assert (error.reason if error else None) == reason
        assert "driver" not in str(error)
        assert "secrets" not in str(error)


@pytest.mark.parametrize(
    "raised",
    [
        ConnectionRefusedError(111, "refused"),
        ConnectionResetError(),
        TimeoutError(),
        socket.gaierror(-2, "unknown host"),
        OSError("Multiple exceptions: [Errno 111] one, [Errno 111] two"),
        FileNotFoundError(2, "No such file or directory"),
        asyncpg.InterfaceError("connection is closed"),
        asyncpg.InternalClientError("cannot switch to state 15"),
        asyncpg.exceptions.TargetServerAttributeNotMatched("none is primary"),
        DBAPIError("SELECT 1", {}, Exception("lost"), connection_invalidated=True),
    ],
)
def test_losing_the_database(raised: Exception) -> None:
    candidates = [raised] if isinstance(raised, DBAPIError) else [raised, wrapped(raised)]
    for candidate in candidates:
        error = translate(candidate)
        assert error is not None
        assert error.reason == "DATABASE_UNAVAILABLE"
        assert error.retry_after is not None


@pytest.mark.parametrize(
    "raised", [ValueError("x"), KeyError("x"), FileNotFoundError(2, "No such file", "/etc/x")]
)
def test_what_is_not_about_the_database(raised: Exception) -> None:
    assert translate(raised) is None


def test_waiting_for_a_connection() -> None:
    error = translate(PoolTimeout("QueuePool limit"))
    assert error is not None
    assert error.reason == "TOO_MANY_CONNECTIONS"


def test_values_that_the_driver_refuses() -> None:
    error = translate(wrapped(asyncpg.DataError("value out of int32 range")))
    assert error is not None
    assert error.reason == "VALIDATION_FAILED"


def test_a_plan_from_before_a_migration() -> None:
    stale = asyncpg.exceptions.InvalidCachedStatementError("cached statement plan is invalid")
    error = translate(wrapped(stale))
    assert error is not None
    assert error.reason == "CONCURRENT_CHANGE"


@pytest.mark.parametrize(
    ("constraint", "table", "sentence"),
    [
        ("uq_teams_name", "teams", "The team with this name already exists."),
        ("uq_service_accounts_name", "service_accounts", "The service account with this name"),
        ("uq_releases_service_id_version", "releases", "The release with this service id version"),
        ("pk_environment_policies", "environment_policies", "The environment policy with this id"),
        ("strange", "teams", "The team with this id"),
        ("", "", "The entry with this id"),
    ],
)
def test_unique_constraints(constraint: str, table: str, sentence: str) -> None:
    raised = wrapped(
        postgres("23505", constraint_name=constraint, table_name=table), IntegrityError
    )
    error = translate(raised)
    assert str(error).startswith(sentence)
    assert (constraint_name(raised) or "") == constraint


def test_foreign_keys() -> None:
    name = {"constraint_name": "fk_services_team_id", "table_name": "services"}
    error = translate(wrapped(postgres("23503", detail="Key is not present in table", **name)))
    assert str(error).startswith("There is no team with the given id.")
    error = translate(wrapped(postgres("23503", detail="Key is still referenced from", **name)))
    assert error is not None
    assert error.reason == "RESOURCE_REFERENCED"
    assert error.facts["used_by"] == "services"
