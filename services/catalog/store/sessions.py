"""Sessions and their refresh tokens, locked for the change that reads them."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from services.catalog.store.reading import one
from shared.db.models import identity as tables


@dataclass(frozen=True, slots=True)
class Session:
    """A log-in and what was refreshed from it."""

    id: UUID
    user_id: UUID
    created_at: datetime
    revoked_at: datetime | None


@dataclass(frozen=True, slots=True)
class RefreshToken:
    """A refresh token. `used_at` is when it was exchanged, or replaced without being used."""

    id: UUID
    session_id: UUID
    expires_at: datetime
    used_at: datetime | None


async def locked(tx: AsyncConnection, session_id: UUID) -> Session | None:
    """Return a session and keep everybody else from changing it or its tokens."""
    session = tables.Session
    query = select(session.id, session.user_id, session.created_at, session.revoked_at)
    return await one(tx, Session, query.where(session.id == session_id).with_for_update())


async def session_of(tx: AsyncConnection, token_hash: bytes) -> UUID | None:
    """Return the session that a refresh token belongs to."""
    query = select(tables.RefreshToken.session_id)
    return await tx.scalar(query.where(tables.RefreshToken.token_hash == token_hash))


async def refresh_token(tx: AsyncConnection, token_hash: bytes) -> RefreshToken | None:
    """Return a refresh token of a session that is locked."""
    token = tables.RefreshToken
    query = select(token.id, token.session_id, token.expires_at, token.used_at)
    return await one(tx, RefreshToken, query.where(token.token_hash == token_hash))


async def use_up(tx: AsyncConnection, session_id: UUID, now: datetime) -> None:
    """Mark every refresh token of a session as used that was not."""
    token = tables.RefreshToken
    statement = update(token).where(token.session_id == session_id, token.used_at.is_(None))
    await tx.execute(statement.values(used_at=now))
