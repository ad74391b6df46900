"""What the database says of whoever shows a token: read by every service, for every call.

Only what decides whether the token still counts, and as whom: never a password hash, which only
the catalog service may read.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Row, func, or_, select, update

from shared.db.engine import Database
from shared.db.models.identity import ApiToken, ServiceAccount, Session, User
from shared.identity.actor import Actor, ActorKind, Role
from shared.ids import parse_id


@dataclass(frozen=True, slots=True)
class ApiTokenState:
    """An API token that was not revoked, and the account it speaks for."""

    id: UUID
    actor: Actor
    expires_at: datetime
    last_used_at: datetime | None


@dataclass(frozen=True, slots=True)
class NamedUser:
    """A user somebody claims to act for."""

    id: UUID
    username: str
    active: bool
    is_person: bool


class UserStates:
    """Reads users, sessions and API tokens."""

    def __init__(self, db: Database) -> None:
        """Read from `db`, under whatever role it has."""
        self._db = db

    async def of_session(self, session: tuple[UUID, UUID]) -> Actor | None:
        """Return the active person of a session that was not revoked; `session` is (id, user)."""
        session_id, user_id = session
        statement = (
            select(User.id, User.username, User.role, User.password_change_required)
            .join(Session, Session.user_id == User.id)
            .where(
                Session.id == session_id,
                User.id == user_id,
                Session.revoked_at.is_(None),
                User.active,
                User.kind == ActorKind.PERSON,
            )
        )
        async with self._db.snapshot() as tx:
            row = (await tx.execute(statement)).one_or_none()
        if row is None:
            return None
        return Actor(
            row.id,
            row.username,
            Role.from_stored(row.role),
            session_id=session_id,
            password_change_required=row.password_change_required,
        )

    async def of_api_token(self, digest: bytes) -> ApiTokenState | None:
        """Return the token with this digest, unless it was revoked or its account is not active."""
        statement = (
            select(
                User.id,
                User.username,
                User.role,
                ServiceAccount.id.label("account_id"),
                ServiceAccount.owner_id,
                ServiceAccount.scopes,
                ApiToken.id.label("token_id"),
                ApiToken.expires_at,
                ApiToken.last_used_at,
            )
            .join(ServiceAccount, ServiceAccount.id == ApiToken.service_account_id)
            .join(User, User.id == ServiceAccount.user_id)
            .where(ApiToken.token_hash == digest, ApiToken.revoked_at.is_(None), User.active)
        )
        async with self._db.snapshot() as tx:
            row = (await tx.execute(statement)).one_or_none()
        if row is None:
            return None
        return ApiTokenState(row.token_id, _program(row), row.expires_at, row.last_used_at)

    async def named(self, reference: str) -> NamedUser | None:
        """Return the user with this name, without regard to case, or id."""
        user_id = parse_id(reference)
        same = User.id == user_id if user_id else func.lower(User.username) == func.lower(reference)
        statement = select(User.id, User.username, User.active, User.kind).where(same)
        async with self._db.snapshot() as tx:
            row = (await tx.execute(statement)).one_or_none()
        if row is None:
            return None
        return NamedUser(row.id, row.username, row.active, row.kind == ActorKind.PERSON)

    async def note_use(self, token_id: UUID, used_at: datetime, *, unless_since: datetime) -> None:
        """Store that a token was used, unless that is known since `unless_since`."""
        statement = (
            update(ApiToken)
            .where(
                ApiToken.id == token_id,
                or_(ApiToken.last_used_at.is_(None), ApiToken.last_used_at < unless_since),
            )
            .values(last_used_at=used_at)
        )
        async with self._db.transaction() as tx:
            await tx.execute(statement)


def _program(row: Row[*tuple[Any, ...]]) -> Actor:
    return Actor(
        row.id,
        row.username,
        Role.from_stored(row.role),
        kind=ActorKind.SERVICE,
        scopes=frozenset(row.scopes),
        service_account_id=row.account_id,
        owner_id=row.owner_id,
    )
