"""Appending: from what producers send to entries, each event exactly once."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from uuid import UUID

import asyncpg

from services.audit.appending.group_commit import GroupCommit, Outcome
from services.audit.rules.events import Event, Sealed, microseconds, seal
from services.audit.rules.leaf import leaf_hash, request_key
from services.audit.store.appending import Placed
from services.audit.store.people import People, unknown_user
from shared.clock import Clock
from shared.db.violations import translate
from shared.domain_error import DomainError
from shared.errors import AggregateSequenceReused, EventIdReused, NotPermitted, ScopeRequired
from shared.identity.actor import Actor
from shared.ids import new_id, parse_id

ON_BEHALF_OF = "on_behalf_of"
# The producer of the entries that the audit service writes about itself; nobody else may be it.
ITSELF = "audit"
# Sealing takes about 60 µs an event; other calls get their turn after this many.
SEALED_AT_ONCE = 100


@dataclass(frozen=True, slots=True)
class Logged:
    """An event and its place in the ledger; `duplicate` when it was there before."""

    event: Sealed
    place: Placed

    @property
    def duplicate(self) -> bool:
        """Whether the event was already in the ledger."""
        return self.place.outcome != "appended"

    @property
    def leaf_hash(self) -> bytes:
        """The leaf of the new entry; of no meaning for a duplicate, which has another salt."""
        created_at = microseconds(self.place.created_at)
        return leaf_hash(self.place.leaf_index, created_at, self.event.event_digest)


@dataclass(frozen=True, slots=True)
class Refused:
    """An event that can never be appended as it is, and why."""

    event_id: UUID | None
    error: DomainError


@dataclass(frozen=True, slots=True)
class Own:
    """An event of the audit service itself, and the user it speaks of, who is known already.

    It has its id from the beginning: recorded again, because nobody heard what became of it the
    first time, it is the same entry.
    """

    event: Event
    user_id: UUID | None
    event_id: UUID = field(default_factory=new_id)


OnReused = Callable[[Actor, EventIdReused], None]


class Ledger:
    """Appends events of authenticated producers, and those of the audit service itself."""

    def __init__(
        self,
        group_commit: GroupCommit,
        people: People,
        *,
        secret: bytes,
        clock: Clock,
        on_reused: OnReused | None = None,
    ) -> None:
        """Take the queue, the users, the installation's secret, a clock.

        `on_reused` is told when a producer sends other content under the id of a stored event.
        """
        self._on_reused = on_reused
        self._group_commit = group_commit
        self._people = people
        self._mac_key = request_key(secret)
        self._clock = clock

    async def log(self, producer: Actor, event: Event) -> Logged:
        """Append one event; raises why it was refused."""
        (outcome,) = await self.log_all(producer, [event])
        if isinstance(outcome, Refused):
            raise outcome.error
        return outcome

    async def log_all(self, producer: Actor, events: Sequence[Event]) -> list[Logged | Refused]:
        """Append events in order, in one commit; say of each what became of it.

        Raises only what concerns all of them: a full queue, an unreachable database, a producer
        that is none.
        """
        if producer.username.lower() == ITSELF:
            raise NotPermitted(action="append", because=f"only the service itself is {ITSELF}")
        users = await self._people.resolve(event.user for event in events if event.user)
        now = self._clock()
        outcomes: list[Sealed | Refused] = []
        for number, event in enumerate(events, 1):
            outcomes.append(self._sent(producer, event, users, now))
            if number % SEALED_AT_ONCE == 0:
                await asyncio.sleep(0)
        judged = await self._appended(outcomes)
        if self._on_reused is not None:
            for refused in judged:
                if isinstance(refused, Refused) and isinstance(refused.error, EventIdReused):
                    self._on_reused(producer, refused.error)
        return judged

    async def record(self, own: Sequence[Own]) -> list[Logged | Refused]:
        """Append events of the audit service itself, in order, in one commit.

        For them every category is allowed, and the user is not looked up. Raises as `log_all` does.
        """
        now = self._clock()
        outcomes = [
            self._sealed(replace(one.event, event_id=one.event_id), ITSELF, one.user_id, now)
            for one in own
        ]
        return await self._appended(outcomes)

    async def _appended(self, outcomes: Sequence[Sealed | Refused]) -> list[Logged | Refused]:
        """Append what was sealed; say of each what became of it."""
        sealed = [outcome for outcome in outcomes if isinstance(outcome, Sealed)]
        places = iter(await self._group_commit.append(sealed) if sealed else ())
        return [
            outcome if isinstance(outcome, Refused) else _judged(outcome, next(places))
            for outcome in outcomes
        ]

    def _sent(
        self, producer: Actor, event: Event, users: dict[str, UUID], now: datetime
    ) -> Sealed | Refused:
        try:
            user_id = _user(producer, event, users)
        except DomainError as error:
            return Refused(event.event_id, error)
        return self._sealed(event, producer.username, user_id, now)

    def _sealed(
        self, event: Event, producer: str, user_id: UUID | None, now: datetime
    ) -> Sealed | Refused:
        try:
            return seal(event, producer=producer, user_id=user_id, now=now, mac_key=self._mac_key)
        except DomainError as error:
            return Refused(event.event_id, error)


def _user(producer: Actor, event: Event, users: dict[str, UUID]) -> UUID | None:
    """Return who acted; a producer may speak for itself and the system, else it needs a scope."""
    if not event.user:
        return None
    if ON_BEHALF_OF not in producer.scopes and not _is(producer, event.user):
        raise ScopeRequired(scope=ON_BEHALF_OF)
    user_id = users.get(event.user)
    if user_id is None:
        raise unknown_user(event.user)
    return user_id


def _is(producer: Actor, user: str) -> bool:
    return parse_id(user) == producer.user_id or user.lower() == producer.username.lower()


def _judged(event: Sealed, outcome: Outcome) -> Logged | Refused:
    if isinstance(outcome, asyncpg.ForeignKeyViolationError):
        return Refused(event.event_id, unknown_user(str(event.user_id)))
    if isinstance(outcome, Exception):
        refusal = translate(outcome)
        if refusal is None:
            raise outcome
        return Refused(event.event_id, refusal)
    if outcome.outcome == "event_id_reused":
        error: DomainError = EventIdReused(event_id=event.event_id, leaf_index=outcome.leaf_index)
        return Refused(event.event_id, error)
    if outcome.outcome == "aggregate_sequence_reused":
        error = AggregateSequenceReused(
            aggregate=event.aggregate,
            aggregate_seq=event.aggregate_seq,
            event_id=outcome.event_id,
        )
        return Refused(event.event_id, error)
    return Logged(event, outcome)
