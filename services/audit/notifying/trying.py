"""What is sent because somebody asks: a test, and the events of one entry once more."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from services.audit.notifying.entries import Entries, Recorded
from services.audit.notifying.reading import told
from services.audit.notifying.receivers import Answer, Message
from services.audit.notifying.sender import Sending, delivery_row
from services.audit.notifying.webhooks import named
from services.audit.reading.entries import Reading
from services.audit.reading.head_watch import HeadWatch
from services.audit.rules import cdevents
from services.audit.rules.events import Sealed
from services.audit.rules.happenings import Happening, Wanted, happenings
from services.audit.signing.integrator import Integrator
from services.audit.store import webhooks
from services.audit.store.webhooks import Position, StoredWebhook
from shared.errors import EtagMismatch, PositionOutOfRange
from shared.ids import new_id


@dataclass(frozen=True, slots=True)
class Tried:
    """A test, and what came back."""

    event_id: str
    at: datetime
    answer: Answer


@dataclass(frozen=True, slots=True)
class SentAgain:
    """What is known of a delivery after it was sent again, and the entry that says so.

    There is no entry when the webhook was deleted meanwhile.
    """

    row: Any
    recorded: Recorded | None


class Trying:
    """Sends what it is asked to, and says what came back."""

    def __init__(
        self, sending: Sending, reading: Reading, watch: HeadWatch, integrator: Integrator
    ) -> None:
        """Take what senders share, what finds entries, and what tells how far the ledger is."""
        self._with = sending
        self._reading = reading
        self._watch = watch
        self._integrator = integrator

    async def test(self, reference: str) -> Tried:
        """Send a test event; raises ResourceNotFound."""
        async with self._with.database.snapshot() as tx:
            webhook = await named(tx, reference)
        now, source = self._with.clock(), self._with.source
        event_id = str(new_id())
        body = cdevents.test_message(event_id, webhook.name, now, source)
        keys = self._with.keys(webhook, now)
        message = Message(event_id, cdevents.TEST_TYPE, source, cdevents.encoded(body), keys)
        return Tried(event_id, now, await self._with.receivers.send(webhook.url, message, now))

    async def check_position(self, position: int) -> None:
        """Raise PositionOutOfRange for one that is beyond the next entry."""
        size = (await self._watch.look()).next_index
        if position > size:
            raise PositionOutOfRange(position=position, size=size)

    async def again(
        self, reference: str, etag: str, leaf_index: int, *, validate_only: bool
    ) -> tuple[StoredWebhook, Sequence[SentAgain]]:
        """Send the events of an entry once, whether or not they were taken before.

        Returns the webhook and what came of each event. The webhook stays where it is.
        Raises ResourceNotFound, EtagMismatch, PositionOutOfRange, EntryRetired and SigningStopped.
        """
        async with self._with.database.snapshot() as tx:
            webhook = await named(tx, reference)
        if etag and etag != str(webhook.row_version):
            raise EtagMismatch(resource_type="webhook", current=webhook.row_version)
        entry = told(await self._reading.by_leaf_index(leaf_index))
        await self._integrator.covering(leaf_index + 1)
        wanted = Wanted.of(webhook.event_types, webhook.environments, webhook.services)
        events = [event for event in happenings(entry) if wanted.takes(event)]
        if validate_only:
            return webhook, ()
        return webhook, [await self._once(webhook, event) for event in events]

    async def _once(self, webhook: StoredWebhook, event: Happening) -> SentAgain:
        now = self._with.clock()
        message = self._with.message(webhook, event, now)
        answer = await self._with.receivers.send(webhook.url, message, now)
        at = Position(event.entry.leaf_index, event.part)
        async with self._with.database.transaction() as tx:
            held = await webhooks.find(tx, webhook_id=webhook.id, hold=True)
            known = await webhooks.delivery(tx, webhook.id, at)
            first = now if known is None else known.first_attempt_at
            row = delivery_row(
                webhook.id,
                event,
                answer,
                attempts=1 if known is None else known.attempts + 1,
                times=(first, self._with.clock()),
            )
            if known is not None and not answer.is_taken:
                # It stays what it was: on its way, or given up.
                row |= {"state": known.state, "next_attempt_at": known.next_attempt_at}
            recorded = None
            if held is not None:  # not deleted meanwhile
                await webhooks.put_delivery(tx, row)
                entry = self._entry(webhook, event, answer)
                recorded = Recorded(entry.event_id, await webhooks.append_in(tx, entry))
        return SentAgain(row, recorded)

    def _entry(self, webhook: StoredWebhook, event: Happening, answer: Answer) -> Sealed:
        entries: Entries = self._with.entries
        details = {
            "name": webhook.name,
            "webhook_id": event.id,
            "leaf_index": event.entry.leaf_index,
            "taken": answer.is_taken,
        }
        return entries.by_caller("redeliver", webhook.id, None, details)
