"""Sessions: opened by a log-in, continued by refresh tokens, ended by log-out or by theft."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import func, select

from services.catalog.operations import refusals, resolving
from services.catalog.operations.logins import Attempt, Refusal
from services.catalog.operations.recording import aggregate
from services.catalog.rules.resources import Session, User
from services.catalog.store import sessions as store
from services.catalog.store import users
from services.catalog.store.writing import add, raise_version
from shared.db.engine import Database
from shared.db.keyset import Page, PageRequest
from shared.db.models import identity as tables
from shared.errors import LoginRefused, NotPermitted, ResourceNotFound, TokenRejected
from shared.identity.access_tokens import AccessToken, AccessTokens
from shared.identity.actor import Actor, ActorKind, Role
from shared.identity.opaque_tokens import (
    OpaqueToken,
    digest_of,
    family_digest_of,
    new_refresh_token,
)
from shared.ids import new_id, parse_id
from shared.outbox.change import Change
from shared.outbox.events import Category, Event

GRACE = timedelta(seconds=10)
"""How long the previous refresh token is accepted, for answers that got lost on their way."""
KEEP_USED = 2 * GRACE
"""How long it is stored: longer, because calls with it wait for one another."""


@dataclass(frozen=True, slots=True)
class Started:
    """A session's new pair of tokens, for its user; `ends_at` is when the session ends."""

    user: User
    access: AccessToken
    refresh: OpaqueToken
    ends_at: datetime


class Sessions:
    """Opens and continues sessions, which end after `lifetime` however often refreshed."""

    def __init__(self, tokens: AccessTokens, lifetime: timedelta) -> None:
        """Issue access tokens by `tokens`."""
        self._tokens = tokens
        self.lifetime = lifetime

    async def open(self, change: Change, attempt: Attempt) -> Started | None:
        """Start a session for whoever has logged in.

        A refused log-in is recorded and answered with LoginRefused; None stands for its answer.
        """
        refusal = attempt.refusal or await refusal_now(change, attempt)
        found = attempt.user
        user = await users.find(change.tx, str(found.user_id)) if found is not None else None
        if found is None or user is None or refusal is not None:
            await refusals.record(change, attempt, refusal or Refusal.UNKNOWN_USER)
            change.refuse(LoginRefused())
            return None
        if attempt.check.rehashed is not None and found.password_hash is not None:
            rehashed = attempt.check.rehashed
            await users.replace_hash(change.tx, user.id, found.password_hash, rehashed)
        session_id = new_id()
        await add(
            change.tx,
            tables.Session,
            change.now,
            id=session_id,
            user_id=user.id,
            ip_address=change.call.ip_address,
            user_agent=change.call.user_agent,
        )
        _record(change, session_id, 1, "login", user.id, username=user.username)
        return await self._pair(change, user, session_id, change.now + self.lifetime)

    async def refresh(self, change: Change, token: str) -> Started | None:
        """Exchange a refresh token for a new pair; every other one of the session is used up.

        The one before is exchanged too for `GRACE`. One that was used earlier than that is held by
        two parties, so the session ends: recorded, and answered with TokenRejected like any token
        that is not valid; None stands for that answer. Such a one need not be stored any more: its
        family says of which session it was.
        """
        session, given = await _presented(change, token)
        if session.revoked_at is not None:
            raise TokenRejected
        # By the distance: a clock that has gone back makes no token that was used a new one.
        used_at = None if given is None else given.used_at
        if given is None or (used_at is not None and abs(change.now - used_at) > GRACE):
            await _revoke(change, session, "refresh_token_reused")
            change.refuse(TokenRejected())
            return None
        user = await users.find(change.tx, str(session.user_id))
        if user is None or not user.active or change.now >= given.expires_at:
            raise TokenRejected
        await store.use_up(change.tx, session.id, change.now)
        family = family_digest_of(token)
        if family is not None:
            await store.drop_used(change.tx, session.id, family, change.now - KEEP_USED)
        await store.note_refresh(change.tx, session.id, change.now)
        ends_at = session.created_at + self.lifetime
        return await self._pair(change, user, session.id, ends_at, instead_of=token)

    async def page(self, db: Database, actor: Actor, user: str, at: PageRequest) -> Page[Session]:
        """Return a page of the caller's sessions that are not over, or of another user's.

        Raises ResourceNotFound for an admin, and NotPermitted for anybody else who names another
        user, whether there is such a one or not.
        """
        own = not user or parse_id(user) == actor.user_id
        if not own and user.lower() != actor.username.lower() and actor.role < Role.ADMIN:
            raise _not_theirs()
        async with db.snapshot() as tx:
            found = await resolving.user(tx, user or str(actor.user_id))
            if found.id != actor.user_id and actor.role < Role.ADMIN:  # a name may look like an id
                raise _not_theirs()
            now = (await tx.execute(select(func.clock_timestamp()))).scalar_one()
            return await store.listed(tx, found.id, now - self.lifetime, at)

    async def _pair(
        self,
        change: Change,
        user: User,
        session_id: UUID,
        ends_at: datetime,
        *,
        instead_of: str = "",
    ) -> Started:
        refresh = new_refresh_token(instead_of)
        await add(
            change.tx,
            tables.RefreshToken,
            change.now,
            id=new_id(),
            session_id=session_id,
            token_hash=refresh.digest,
            family=family_digest_of(refresh.text),
            expires_at=ends_at,
        )
        return Started(user, self._tokens.issue(user.id, session_id), refresh, ends_at)


def _not_theirs() -> NotPermitted:
    because = "they are somebody else's; ask an admin"
    return NotPermitted(action="list these sessions", because=because)


async def end(change: Change) -> None:
    """End the caller's session; one that has ended already stays as it is.

    Raises NotPermitted for a program, whose token has no session.
    """
    actor = change.actor
    if actor.session_id is None or actor.kind is not ActorKind.PERSON:
        raise NotPermitted(action="log out", because="an API token has no session; revoke it")
    session = await store.locked(change.tx, actor.session_id)
    if session is not None and session.revoked_at is None:
        await _revoke(change, session, "logout")


async def revoke(change: Change, session_id: UUID) -> None:
    """End a session of the caller, or of anybody for an admin; one that is over stays as it is.

    Raises ResourceNotFound, for somebody else's as well.
    """
    actor = change.actor
    session = await store.locked(change.tx, session_id)
    if session is None or (session.user_id != actor.user_id and actor.role < Role.ADMIN):
        raise ResourceNotFound(resource_type="session", resource=session_id)
    if session.revoked_at is None:
        await _revoke(change, session, "revoked")


async def end_all(change: Change, user_id: UUID, because: str, *, but: UUID | None = None) -> None:
    """End the sessions of a user `but` one: each is an aggregate, and has an entry."""
    revoked = await store.revoke_all(change.tx, user_id, change.now, because, but=but)
    for session_id, version in revoked:
        _record(change, session_id, version, "revoke", user_id, reason=because)


async def refusal_now(change: Change, attempt: Attempt) -> Refusal | None:
    """Return what has come between comparing the password and now; locks the user.

    Without the lock a session could begin just after all of the user's were ended.
    """
    found = attempt.user
    if found is None:
        return Refusal.UNKNOWN_USER
    to_change = attempt.check.rehashed is not None
    current = await users.credentials_locked(change.tx, found.user_id, to_change=to_change)
    if current is None or not current.may_log_in:
        return Refusal.CANNOT_LOG_IN
    # Another cost of the same password is a new hash, but no new version.
    same_version = current.row_version == found.row_version
    same_hash = current.password_hash == found.password_hash
    return None if same_version or same_hash else Refusal.WRONG_PASSWORD


async def _presented(change: Change, token: str) -> tuple[Session, store.RefreshToken | None]:
    """Return the session of a refresh token, locked, and the token as it stands under the lock.

    None for a token of which only the family is known; raises TokenRejected when not even that is.
    """
    digest, family = digest_of(token), family_digest_of(token)
    session_id = await store.session_of(change.tx, digest)
    if session_id is None and family is not None:
        session_id = await store.session_of_family(change.tx, family)
    session = await store.locked(change.tx, session_id) if session_id is not None else None
    if session is None:
        raise TokenRejected
    return session, await store.refresh_token(change.tx, digest)


async def _revoke(change: Change, session: Session, because: str) -> None:
    version, _ = await raise_version(
        change.tx,
        tables.Session,
        session.id,
        revoked_at=change.now,
        revoked_because=because,
    )
    action = "logout" if because == "logout" else "revoke"
    _record(change, session.id, version, action, session.user_id, reason=because)


def _record(
    change: Change, session_id: UUID, version: int, action: str, user_id: UUID, **details: str
) -> None:
    change.record(
        Event(
            action=action,
            aggregate=aggregate("session", session_id),
            aggregate_seq=version,
            resource_type="session",
            resource_id=str(session_id),
            details=details,
            user_id=user_id,
            category=Category.SECURITY,
        )
    )
