"""Service accounts and other rows of identity that no RPC makes, written as an owner."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from uuid import UUID

import asyncpg

from shared.identity.opaque_tokens import OpaqueToken, new_api_token, new_refresh_token
from shared.ids import new_id
from shared.setting_values import driver_url

OWNER = "admin"


@dataclass(frozen=True)
class Program:
    """A service account with one API token."""

    account_id: UUID
    token_id: UUID
    token: str = field(repr=False)


async def execute(database_url: str, statement: str, *values: object) -> None:
    """Execute one statement as the owner of the database."""
    connection = await asyncpg.connect(driver_url(database_url))
    try:
        await connection.execute(statement, *values)
    finally:
        await connection.close()


async def add_program(
    database_url: str, name: str, role: str, scopes: Iterable[str], *, days: float = 1
) -> Program:
    """Add a service account of the seeded admin, whose token expires in so many days."""
    user_id, account_id, token_id, token = new_id(), new_id(), new_id(), new_api_token()
    connection = await asyncpg.connect(driver_url(database_url))
    try:
        async with connection.transaction():
            await connection.execute(
                "INSERT INTO users (id, username, email, role, kind)"
                " VALUES ($1, $2, $2 || '@programs.example.com', $3, 'service')",
                user_id,
                name,
                role,
            )
            await connection.execute(
                "INSERT INTO service_accounts (id, user_id, owner_id, name, scopes)"
                " SELECT $1, $2, id, $3, $4 FROM users WHERE username = $5",
                account_id,
                user_id,
                name,
                list(scopes),
                OWNER,
            )
            await connection.execute(
                "INSERT INTO api_tokens"
                " (id, service_account_id, description, prefix, token_hash, expires_at)"
                " VALUES ($1, $2, 'for tests', $3, $4, $5)",
                token_id,
                account_id,
                token.prefix,
                token.digest,
                datetime.now(UTC) + timedelta(days=days),
            )
    finally:
        await connection.close()
    return Program(account_id, token_id, token.text)


async def add_session(database_url: str, username: str) -> tuple[UUID, UUID, OpaqueToken]:
    """Add a session of a user without a log-in; return its id, the user's and a refresh token."""
    session_id, token = new_id(), new_refresh_token()
    connection = await asyncpg.connect(driver_url(database_url))
    try:
        async with connection.transaction():
            user_id: UUID = await connection.fetchval(
                "INSERT INTO sessions (id, user_id) SELECT $1, id FROM users WHERE username = $2"
                " RETURNING user_id",
                session_id,
                username,
            )
            await connection.execute(
                "INSERT INTO refresh_tokens (id, session_id, token_hash, expires_at)"
                " VALUES ($1, $2, $3, now() + interval '1 day')",
                new_id(),
                session_id,
                token.digest,
            )
    finally:
        await connection.close()
    return session_id, user_id, token


async def add_person(database_url: str, username: str, role: str, *, active: bool = True) -> UUID:
    """Add a person who cannot log in, because nothing hashes to what is stored; return the id."""
    user_id = new_id()
    await execute(
        database_url,
        "INSERT INTO users (id, username, email, role, kind, password_hash, active)"
        " VALUES ($1, $2, $2 || '@example.com', $3, 'person', 'none', $4)",
        user_id,
        username,
        role,
        active,
    )
    return user_id
