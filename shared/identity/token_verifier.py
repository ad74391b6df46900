"""Who calls: from the token in a call's metadata to an actor, in every service.

A signature is checked once for each token, and whether its key was dropped about once a second;
whether the session, the account and the user still count is asked of the database at most `keep`
(2 s) ago. So cutting somebody off works within two seconds, and an ordinary call costs neither
cryptography nor a query.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

import structlog

from shared.clock import Clock, system_clock
from shared.db.engine import Database
from shared.errors import (
    NotPermitted,
    ReferenceInactive,
    ResourceNotFound,
    ScopeRequired,
    TokenRejected,
)
from shared.identity import access_tokens
from shared.identity.access_tokens import AccessClaims
from shared.identity.actor import Actor, ActorKind
from shared.identity.keys import Keys
from shared.identity.opaque_tokens import API_TOKEN_MARK, digest_of
from shared.identity.short_memory import ShortMemory
from shared.identity.token_keys import TokenKeys
from shared.identity.user_states import ApiTokenState, NamedUser, UserStates

AUTHORIZATION: Final = "authorization"
ON_BEHALF_OF: Final = "x-on-behalf-of"
SCOPE_ON_BEHALF_OF: Final = "on_behalf_of"

MOST_SIGNATURES = 4_096
MOST_STATES = 4_096
LONGEST_NAME = 256
USE_PRECISION = timedelta(minutes=1)

_log = structlog.get_logger(__name__)


class TokenVerifier:
    """Implements `shared.identity.verifier.Verifier` for access tokens and API tokens.

    `keep` is how long a changed role or a revoked token may go unnoticed.
    """

    def __init__(
        self,
        db: Database,
        keys: Keys,
        clock: Clock = system_clock,
        *,
        keep: timedelta = timedelta(seconds=2),
    ) -> None:
        """Verify with the public keys of each moment, at first `keys`; read users from `db`."""
        self._keys = TokenKeys(keys)
        self._clock = clock
        self._signed: OrderedDict[str, AccessClaims] = OrderedDict()
        states = UserStates(db)
        self._states = states
        self._sessions: ShortMemory[tuple[UUID, UUID], Actor | None] = ShortMemory(
            states.of_session, keep=keep, size=MOST_STATES, clock=clock
        )
        self._api_tokens: ShortMemory[bytes, ApiTokenState | None] = ShortMemory(
            states.of_api_token, keep=keep, size=MOST_STATES, clock=clock
        )
        self._named: ShortMemory[str, NamedUser | None] = ShortMemory(
            states.named, keep=keep, size=MOST_STATES, clock=clock
        )
        self._used: OrderedDict[UUID, datetime] = OrderedDict()
        self._notes: set[asyncio.Task[None]] = set()

    async def identify(self, metadata: Mapping[str, str]) -> Actor | None:
        """Return the actor whose token the metadata carries, None when it carries none.

        Raises TokenRejected, and for `x-on-behalf-of` ScopeRequired, NotPermitted,
        ResourceNotFound or ReferenceInactive.
        """
        given = metadata.get(AUTHORIZATION)
        if given is None:
            return None
        scheme, _, token = given.partition(" ")
        if scheme.lower() != "bearer" or not 0 < len(token) <= access_tokens.LONGEST_TOKEN:
            raise TokenRejected
        if token.startswith(API_TOKEN_MARK):
            actor = await self._program(token)
        else:
            actor = await self._person(token)
        if ON_BEHALF_OF not in metadata:
            return actor
        return await self._acting_for(actor, metadata[ON_BEHALF_OF].strip())

    async def close(self) -> None:
        """Wait for what is still being stored."""
        await asyncio.gather(*self._notes, return_exceptions=True)

    async def _person(self, token: str) -> Actor:
        claims = self._signed.pop(token, None)
        if claims is None or claims.kid not in self._keys:  # a key that was dropped counts no more
            claims = access_tokens.verify(token, self._keys)
        claims.check_time(self._clock())
        self._signed[token] = claims  # the newest at the end; one out of its time is not put back
        if len(self._signed) > MOST_SIGNATURES:
            self._signed.popitem(last=False)
        actor = await self._sessions.get((claims.session_id, claims.user_id))
        if actor is None:
            raise TokenRejected
        return actor

    async def _program(self, token: str) -> Actor:
        state = await self._api_tokens.get(digest_of(token))
        now = self._clock()
        if state is None or now >= state.expires_at:
            raise TokenRejected
        self._note_use(state, now)
        return state.actor

    async def _acting_for(self, actor: Actor, name: str) -> Actor:
        if actor.kind is not ActorKind.SERVICE:
            raise NotPermitted(
                action="act for somebody else", because="people act for themselves alone"
            )
        if SCOPE_ON_BEHALF_OF not in actor.scopes:
            raise ScopeRequired(scope=SCOPE_ON_BEHALF_OF)
        user = await self._named.get(name.lower()) if 0 < len(name) <= LONGEST_NAME else None
        if user is None:
            raise ResourceNotFound(resource_type="user", resource=name[:LONGEST_NAME])
        if not user.active:
            raise ReferenceInactive(resource_type="user", resource=user.username)
        if not user.is_person:
            raise NotPermitted(
                action=f"act for {user.username}", because="only people can be acted for"
            )
        return replace(actor, on_behalf_of=user.id)

    def _note_use(self, state: ApiTokenState, now: datetime) -> None:
        """Store the use of a token beside the call, about once a minute."""
        known = self._used.get(state.id) or state.last_used_at
        if known is not None and now - known < USE_PRECISION:
            return
        self._used[state.id] = now
        if len(self._used) > MOST_STATES:
            self._used.popitem(last=False)
        note = asyncio.create_task(self._store_use(state.id, now))
        self._notes.add(note)
        note.add_done_callback(self._notes.discard)

    async def _store_use(self, token_id: UUID, now: datetime) -> None:
        try:
            await self._states.note_use(token_id, now, unless_since=now - USE_PRECISION)
        except Exception as error:  # noqa: BLE001  (the call itself must not fail because of it)
            _log.warning("token_use_not_stored", token_id=str(token_id), error=repr(error))
