"""One webhook's sender: the next event, until its receiver has taken it; then the one after.

Everything that decides how it goes on is in the database, so a restart changes nothing: the
position, and since when and how often the event there was sent. A step does one thing and says how
long nothing is to be done; the clock is given.
"""

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from services.audit.notifying.entries import Entries
from services.audit.notifying.reading import Windows
from services.audit.notifying.receivers import Answer, Message, Receivers
from services.audit.reading.head_watch import Seen
from services.audit.rules import cdevents, webhook_retries
from services.audit.rules.happenings import Happening, Told, Wanted, happenings
from services.audit.rules.webhook_retries import GONE, Patience
from services.audit.rules.webhook_signing import secret_key
from services.audit.store import webhooks
from services.audit.store.webhooks import Position, StoredDelivery, StoredWebhook
from shared.clock import Clock
from shared.db.engine import Database
from shared.errors import EntryRetired

# How far a webhook that is sent nothing of what happens is written down no more often than this.
SAVED_EVERY: Final = timedelta(seconds=1)
FOREVER_S: Final = math.inf


@dataclass(frozen=True, slots=True)
class Sending:
    """What all senders of a process share."""

    database: Database
    windows: Windows
    receivers: Receivers
    entries: Entries
    clock: Clock
    patience: Patience
    secret: bytes
    source: str
    luck: Callable[[], float] = random.random

    def keys(self, webhook: StoredWebhook, now: datetime) -> tuple[bytes, ...]:
        """Return the keys that sign now: the newest, and for a while the one before."""
        newest = webhook.secret_generation
        until = webhook.previous_secret_until
        both = until is not None and now < until
        generations = (newest, newest - 1) if both else (newest,)
        return tuple(secret_key(self.secret, webhook.id, number) for number in generations)

    def message(self, webhook: StoredWebhook, event: Happening, now: datetime) -> Message:
        """Return what is sent for an event."""
        body = cdevents.encoded(cdevents.message(event, self.source))
        kind = cdevents.cdevents_type(event.type)
        return Message(event.id, kind, self.source, body, self.keys(webhook, now))


class Sender:
    """Sends what one webhook wants."""

    def __init__(self, webhook_id: UUID, sending: Sending) -> None:
        """Begin where the database says."""
        self._id = webhook_id
        self._with = sending
        self._at = self._stored = Position(-1)  # where it is, and what the database has of it
        self._version = -1
        self._batch: Sequence[Told] = ()
        self._saved_at: datetime | None = None

    async def step(self, seen: Seen) -> float | None:
        """Do the next thing; return the seconds until the next, None when it is to send no more.

        `seen` is how far the ledger is; only what is signed is sent.
        """
        async with self._with.database.snapshot() as tx:
            webhook = await webhooks.find(tx, webhook_id=self._id)
        if webhook is None or webhook.paused:
            return None
        stored = Position(webhook.next_index, webhook.next_part)
        if stored.leaf_index > seen.next_index:  # which may be of a while ago
            size = await self._with.windows.size()
            if stored.leaf_index > size:
                because = f"The ledger ends at {size}, before position {stored.leaf_index}."
                return await self._pause(webhook, because)
        # Set by somebody, be it to the same place, or it wants others now, or this is the first.
        if stored != self._stored or webhook.row_version != self._version:
            self._at = self._stored = stored
            self._version = webhook.row_version
            self._batch = ()
        try:
            event = await self._next(webhook, seen.signed_index)
        except EntryRetired as gone:
            because = (
                f"The entries from {stored.leaf_index} on have left the ledger unsent; it can go on"
                f" from {gone.facts['next_index']}."
            )
            return await self._pause(webhook, because)
        if event is None:
            return await self._save(seen.signed_index)
        return await self._attempt(webhook, event)

    async def _next(self, webhook: StoredWebhook, end: int) -> Happening | None:
        """Return the next event that the webhook wants, None when the next entries have none."""
        wanted = Wanted.of(webhook.event_types, webhook.environments, webhook.services)
        if not self._batch and self._at.leaf_index < end:
            batch = await self._with.windows.read(self._at.leaf_index, end)
            self._batch = batch.entries
            beyond = Position(batch.next_index)
        else:
            beyond = Position(self._batch[-1].leaf_index + 1) if self._batch else self._at
        for entry in self._batch:
            for event in happenings(entry):
                at = Position(entry.leaf_index, event.part)
                if at >= self._at and wanted.takes(event):
                    self._at = at
                    return event
        self._at, self._batch = max(self._at, beyond), ()
        return None

    async def _save(self, end: int) -> float:
        """Write down what was passed by; return the seconds until there is more to do."""
        more = 0.0 if self._at.leaf_index < end else FOREVER_S
        if self._at == self._stored:
            return more
        now = self._with.clock()
        if self._saved_at is not None and now - self._saved_at < SAVED_EVERY:
            return min(more, (self._saved_at + SAVED_EVERY - now).total_seconds())
        values = {"next_index": self._at.leaf_index, "next_part": self._at.part}
        async with self._with.database.transaction() as tx:
            if await webhooks.advance(tx, self._id, self._stored, values):
                self._saved_at, self._stored = now, self._at
        return more

    async def _attempt(self, webhook: StoredWebhook, event: Happening) -> float:
        """Send an event, unless it is too early to do so again."""
        async with self._with.database.snapshot() as tx:
            known = await webhooks.delivery(tx, self._id, self._at)
        retried = known is not None and known.state == "retrying"
        now = self._with.clock()
        if known is not None and retried and known.next_attempt_at > now:
            return float((known.next_attempt_at - now).total_seconds())
        message = self._with.message(webhook, event, now)
        answer = await self._with.receivers.send(webhook.url, message, now)
        last = _Last(known if retried else None, now, self._with.clock())
        row = last.row(self._id, event, answer)
        if answer.is_taken:
            return await self._taken(event, row)
        return await self._not_taken(webhook, event, row, answer)

    async def _taken(self, event: Happening, row: dict[str, Any]) -> float:
        values = {
            "failing_since": None,
            "last_error": "",
            "delivered_at": row["last_attempt_at"],
        }
        async with self._with.database.transaction() as tx:
            await self._move(tx, _after(event), row, values)
        return 0.0

    async def _not_taken(
        self, webhook: StoredWebhook, event: Happening, row: dict[str, Any], answer: Answer
    ) -> float:
        now: datetime = row["last_attempt_at"]
        patience = self._with.patience
        failing_since = webhook.failing_since or row["first_attempt_at"]
        values = {"failing_since": failing_since, "last_error": answer.error}
        lost = webhook_retries.is_lost(patience, failing_since, now)
        if answer.status == GONE or lost:
            because = (
                "The receiver answered 410 Gone."
                if answer.status == GONE
                else f"The receiver has taken nothing since {failing_since:%Y-%m-%dT%H:%M:%SZ}."
            )
            return await self._pause(webhook, because, row | {"state": "refused"}, values)
        pause = webhook_retries.pause_before(row["attempts"], self._with.luck())
        if not webhook_retries.is_given_up(patience, row["first_attempt_at"], now + pause):
            row |= {"state": "retrying", "next_attempt_at": now + pause}
            async with self._with.database.transaction() as tx:
                await self._move(tx, self._at, row, values)
            return float(pause.total_seconds())
        row |= {"state": "given-up"}
        async with self._with.database.transaction() as tx:
            if await self._move(tx, _after(event), row, values):
                await webhooks.append_in(tx, self._given_up(webhook, event, row))
        return 0.0

    def _given_up(self, webhook: StoredWebhook, event: Happening, row: dict[str, Any]) -> Any:  # noqa: ANN401
        details = {
            "name": webhook.name,
            "webhook_id": event.id,
            "event_type": event.type,
            "leaf_index": event.entry.leaf_index,
            "attempts": row["attempts"],
            "first_attempt_at": row["first_attempt_at"].isoformat(),
            "error": row["error"],
        }
        return self._with.entries.by_service("give_up", self._id, None, details)

    async def _move(
        self,
        tx: AsyncConnection,
        to: Position,
        row: dict[str, Any],
        values: dict[str, Any],
    ) -> bool:
        """Write what came back and how far the webhook is; False when it was set elsewhere."""
        moved = {"next_index": to.leaf_index, "next_part": to.part, **values}
        done = await webhooks.advance(tx, self._id, self._stored, moved)
        if done:
            await webhooks.put_delivery(tx, row)
            self._at = self._stored = to
        return done

    async def _pause(
        self,
        webhook: StoredWebhook,
        because: str,
        row: dict[str, Any] | None = None,
        values: dict[str, Any] | None = None,
    ) -> float:
        """Send nothing more, keep the position, and say so in the ledger."""
        async with self._with.database.transaction() as tx:
            held = await webhooks.find(tx, webhook_id=self._id, hold=True)
            if held is None or held.paused or held.row_version != webhook.row_version:
                return 0.0  # the next step sees what it is now
            if row is not None:
                await self._move(tx, self._at, row, values or {})
            version = held.row_version + 1
            changed = {"paused": True, "paused_because": because}
            await webhooks.change(tx, self._id, version, changed)
            details = {
                "name": held.name,
                "before": {"paused": False},
                "after": {"paused": True},
                "reason": because,
                "next_index": self._at.leaf_index,
            }
            entry = self._with.entries.by_service("pause", self._id, version, details)
            await webhooks.append_in(tx, entry)
        return 0.0


@dataclass(frozen=True, slots=True)
class _Last:
    """An attempt: what is known of those before it, when it began, and when it ended."""

    known: StoredDelivery | None
    began: datetime
    ended: datetime

    def row(self, webhook_id: UUID, event: Happening, answer: Answer) -> dict[str, Any]:
        return delivery_row(
            webhook_id,
            event,
            answer,
            attempts=1 if self.known is None else self.known.attempts + 1,
            times=(self.began if self.known is None else self.known.first_attempt_at, self.ended),
        )


def delivery_row(
    webhook_id: UUID,
    event: Happening,
    answer: Answer,
    *,
    attempts: int,
    times: tuple[datetime, datetime],
) -> dict[str, Any]:
    """Return the row of a delivery that is not sent again; `times` are of its first and last."""
    return {
        "webhook_id": webhook_id,
        "leaf_index": event.entry.leaf_index,
        "part": event.part,
        "event_id": event.id,
        "event_type": event.type.value,
        "state": "delivered" if answer.is_taken else "refused",
        "attempts": attempts,
        "first_attempt_at": times[0],
        "last_attempt_at": times[1],
        "next_attempt_at": None,
        "status_code": answer.status,
        "error": answer.error,
        "latency_ms": int(answer.latency.total_seconds() * 1000),
    }


def _after(event: Happening) -> Position:
    """Return the place after an event."""
    leaf = event.entry.leaf_index
    is_last = event.part == len(happenings(event.entry)) - 1
    return Position(leaf + 1) if is_last else Position(leaf, event.part + 1)
