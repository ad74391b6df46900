"""Appending: from what producers send to entries, each event exactly once."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import asyncpg
import structlog

from services.audit.group_commit import GroupCommit, Outcome
from services.audit.rules.events import Event, Sealed, microseconds, seal
from services.audit.rules.leaf import leaf_hash, request_key
from services.audit.store.appending import Placed
from services.audit.store.people import People, unknown_user
from shared.clock import Clock
from shared.db.violations import translate
from shared.errors import (
    AggregateSequenceReused,
    DomainError,
    EventIdReused,
    ScopeRequired,
)
from shared.identity.actor import Actor
from shared.ids import parse_id

ON_BEHALF_OF = "on_behalf_of"
# Sealing takes about 60 µs an event; other calls get their turn after this many.
SEALED_AT_ONCE = 100

log = structlog.get_logger(__name__)


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


class Ledger:
    """Appends events of authenticated producers."""

    def __init__(
        self, group_commit: GroupCommit, people: People, *, secret: bytes, clock: Clock
    ) -> None:
        """Take the queue, the users, the installation's secret and a clock."""
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

        Raises only what concerns all of them: a full queue, an unreachable database.
        """
        users = await self._people.resolve(event.user for event in events if event.user)
        now = self._clock()
        outcomes: list[Sealed | Refused] = []
        for number, event in enumerate(events, 1):
            outcomes.append(self._sealed(producer, event, users, now))
            if number % SEALED_AT_ONCE == 0:
                await asyncio.sleep(0)
        sealed = [outcome for outcome in outcomes if isinstance(outcome, Sealed)]
        places = iter(await self._group_commit.append(sealed) if sealed else ())
        return [
            outcome if isinstance(outcome, Refused) else _judged(outcome, next(places))
            for outcome in outcomes
        ]

    def _sealed(
        self, producer: Actor, event: Event, users: dict[str, UUID], now: datetime
    ) -> Sealed | Refused:
        try:
            user_id = _user(producer, event, users)
            return seal(
                event,
                producer=producer.username,
                user_id=user_id,
                now=now,
                mac_key=self._mac_key,
            )
        except DomainError as error:
            return Refused(event.event_id, error)


def _user(producer: Actor, event: Event, users: dict[str, UUID]) -> UUID | None:
    """Return who acted; a producer may speak for itself and the system, else it needs a scope."""
    if not event.user:
        return None
    is_itself = (
        parse_id(event.user) == producer.user_id or event.user.lower() == producer.username.lower()
    )
    if not is_itself and ON_BEHALF_OF not in producer.scopes:
        raise ScopeRequired(scope=ON_BEHALF_OF)
    user_id = users.get(event.user)
    if user_id is None:
        raise unknown_user(event.user)
    return user_id


def _judged(event: Sealed, outcome: Outcome) -> Logged | Refused:
    if isinstance(outcome, asyncpg.ForeignKeyViolationError):
        return Refused(event.event_id, unknown_user(str(event.user_id)))
    if isinstance(outcome, Exception):
        refusal = translate(outcome)
        if refusal is None:
            raise outcome
        return Refused(event.event_id, refusal)
    if outcome.outcome == "event_id_reused":
        log.warning(
            "event id reused with other content",
            event_id=str(event.event_id),
            producer=event.producer,
            leaf_index=outcome.leaf_index,
        )
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
