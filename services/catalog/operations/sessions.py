"""Sessions: opened by a log-in, continued by refresh tokens, ended by log-out or by theft."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from services.catalog.operations.logins import Attempt, Refusal
from services.catalog.operations.recording import aggregate
from services.catalog.rules.resources import User
from services.catalog.store import sessions as store
from services.catalog.store import users
from services.catalog.store.writing import add, raise_version
from shared.db.models import identity as tables
from shared.errors import LoginRefused, NotPermitted, TokenRejected
from shared.identity.access_tokens import AccessToken, AccessTokens
from shared.identity.actor import ActorKind
from shared.identity.opaque_tokens import OpaqueToken, digest_of, new_refresh_token
from shared.ids import new_id
from shared.outbox.change import Change
from shared.outbox.events import Category, Event

GRACE = timedelta(seconds=10)
"""How long the previous refresh token is accepted, for answers that got lost on their way."""


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
        self._lifetime = lifetime

    async def open(self, change: Change, attempt: Attempt) -> Started | None:
        """Start a session for whoever has logged in.

        A refused log-in is recorded and answered with LoginRefused; None stands for its answer.
        """
        found = attempt.user
        user = await users.find(change.tx, str(found.user_id)) if found is not None else None
        refusal = attempt.refusal
        if refusal is None and (user is None or not user.active):
            refusal = Refusal.CANNOT_LOG_IN
        if found is None or user is None or refusal is not None:
            _record_refusal(change, attempt, refusal or Refusal.UNKNOWN_USER)
            change.refuse(LoginRefused())
            return None
        if attempt.check.rehashed is not None and found.password_hash is not None:
            rehashed = attempt.check.rehashed
            await users.replace_hash(change.tx, user.id, found.password_hash, rehashed)
        session_id = new_id()
        await add(change.tx, tables.Session, change.now, id=session_id, user_id=user.id)
        _record(change, session_id, 1, "login", user.id, username=user.username)
        return await self._pair(change, user, session_id, change.now + self._lifetime)

    async def refresh(self, change: Change, token: str) -> Started | None:
        """Exchange a refresh token for a new pair; every other one of the session is used up.

        The one before is exchanged too for `GRACE`. One that was used earlier than that is held by
        two parties, so the session ends: recorded, and answered with TokenRejected like any token
        that is not valid; None stands for that answer.
        """
        session, given = await _presented(change, token)
        if session.revoked_at is not None:
            raise TokenRejected
        if given.used_at is not None and change.now - given.used_at > GRACE:
            await _revoke(change, session, "refresh_token_reused")
            change.refuse(TokenRejected())
            return None
        user = await users.find(change.tx, str(session.user_id))
        if user is None or not user.active or change.now >= given.expires_at:
            raise TokenRejected
        await store.use_up(change.tx, session.id, change.now)
        return await self._pair(change, user, session.id, session.created_at + self._lifetime)

    async def _pair(
        self, change: Change, user: User, session_id: UUID, ends_at: datetime
    ) -> Started:
        refresh = new_refresh_token()
        await add(
            change.tx,
            tables.RefreshToken,
            change.now,
            id=new_id(),
            session_id=session_id,
            token_hash=refresh.digest,
            expires_at=ends_at,
        )
        return Started(user, self._tokens.issue(user.id, session_id), refresh, ends_at)


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


async def _presented(change: Change, token: str) -> tuple[store.Session, store.RefreshToken]:
    """Return the session of a refresh token, locked, and the token as it stands under the lock."""
    digest = digest_of(token)
    session_id = await store.session_of(change.tx, digest)
    session = await store.locked(change.tx, session_id) if session_id is not None else None
    given = await store.refresh_token(change.tx, digest)
    if session is None or given is None:
        raise TokenRejected
    return session, given


async def _revoke(change: Change, session: store.Session, because: str) -> None:
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


def _record_refusal(change: Change, attempt: Attempt, refusal: Refusal) -> None:
    """Record a refused log-in, which is an aggregate of its own with this one version."""
    login_id = new_id()
    change.record(
        Event(
            action="login_refused",
            aggregate=aggregate("login", login_id),
            aggregate_seq=1,
            resource_type="login",
            resource_id=str(login_id),
            details={"username": attempt.username, "reason": refusal},
            user_id=attempt.user.user_id if attempt.user is not None else None,
            category=Category.SECURITY,
        )
    )
