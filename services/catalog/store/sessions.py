"""Sessions and their refresh tokens, locked for the change that reads them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import delete, exists, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from services.catalog.rules.resources import Session
from services.catalog.store.reading import one, page
from shared.db.keyset import Page, PageRequest, sorted_by
from shared.db.models import identity as tables

_session = tables.Session
_QUERY = select(
    _session.id,
    _session.user_id,
    _session.created_at,
    _session.revoked_at,
    _session.refreshed_at,
    _session.ip_address,
    _session.user_agent,
)
_NEWEST_FIRST = sorted_by(_session.created_at, _session.id, descending=True)


@dataclass(frozen=True, slots=True)
class RefreshToken:
    """A refresh token. `used_at` is when it was exchanged, or replaced without being used."""

    id: UUID
    session_id: UUID
    expires_at: datetime
    used_at: datetime | None


async def locked(tx: AsyncConnection, session_id: UUID) -> Session | None:
    """Return a session and keep everybody else from changing it or its tokens."""
    return await one(tx, Session, _QUERY.where(_session.id == session_id).with_for_update())


async def listed(
    tx: AsyncConnection, user_id: UUID, began_after: datetime, wanted: PageRequest
) -> Page[Session]:
    """Return a page of a user's sessions that were not revoked, newest first."""
    query = _QUERY.where(
        _session.user_id == user_id,
        _session.revoked_at.is_(None),
        _session.created_at > began_after,
    )
    return await page(tx, Session, query, _NEWEST_FIRST, wanted)


async def addresses(tx: AsyncConnection, user_id: UUID, since: datetime) -> list[str | None]:
    """Return from where a user has logged in since then."""
    query = select(_session.ip_address).where(
        _session.user_id == user_id, _session.created_at > since
    )
    return list((await tx.execute(query.distinct())).scalars())


async def any_of(tx: AsyncConnection, user_id: UUID) -> bool:
    """Say whether a user has ever logged in, as far as is known."""
    return bool(
        await tx.scalar(select(exists(select(_session.id).where(_session.user_id == user_id))))
    )


async def revoke_all(
    tx: AsyncConnection, user_id: UUID, now: datetime, because: str, *, but: UUID | None
) -> Sequence[tuple[UUID, int]]:
    """End the sessions of a user `but` one; return each id with its new version."""
    open_ones = select(_session.id).where(
        _session.user_id == user_id, _session.revoked_at.is_(None)
    )
    if but is not None:
        open_ones = open_ones.where(_session.id != but)
    locked_ones = open_ones.order_by(_session.id).with_for_update()
    statement = (
        update(_session)
        .where(_session.id.in_(locked_ones))
        .values(revoked_at=now, revoked_because=because, row_version=_session.row_version + 1)
        .returning(_session.id, _session.row_version)
    )
    return [(row[0], row[1]) for row in await tx.execute(statement)]


async def note_refresh(tx: AsyncConnection, session_id: UUID, now: datetime) -> None:
    """Store when a session was refreshed, which is no new version of it."""
    statement = update(_session).where(_session.id == session_id)
    await tx.execute(statement.values(refreshed_at=now))


async def purge(tx: AsyncConnection, *, ended: datetime, began: datetime, most: int) -> int:
    """Delete sessions that ended before `ended` or began before `began`, with their tokens.

    Returns how many there were, `most` at most.
    """
    old = (
        select(_session.id)
        .where(or_(_session.revoked_at < ended, _session.created_at < began))
        .limit(most)
        .with_for_update(skip_locked=True)
    )
    return (await tx.execute(delete(_session).where(_session.id.in_(old)))).rowcount


async def session_of(tx: AsyncConnection, token_hash: bytes) -> UUID | None:
    """Return the session that a refresh token belongs to."""
    query = select(tables.RefreshToken.session_id)
    return await tx.scalar(query.where(tables.RefreshToken.token_hash == token_hash))


async def session_of_family(tx: AsyncConnection, family: bytes) -> UUID | None:
    """Return the session whose refresh tokens are of a family."""
    query = select(tables.RefreshToken.session_id)
    return await tx.scalar(query.where(tables.RefreshToken.family == family).limit(1))


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


async def drop_used(tx: AsyncConnection, session_id: UUID, family: bytes, before: datetime) -> None:
    """Delete the refresh tokens of a family that were used before a moment."""
    token = tables.RefreshToken
    same = (token.session_id == session_id, token.family == family)
    await tx.execute(delete(token).where(*same, token.used_at < before))
