"""All senders of one process: each webhook has one at a time, in whichever replica.

One connection holds an advisory lock for each webhook that this process sends. When it ends, by
whatever, so do the locks and the senders: another replica goes on from what is in the database. An
event that was under way then arrives twice.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final
from uuid import UUID

import structlog
from prometheus_client import Gauge
from sqlalchemy.ext.asyncio import AsyncConnection

from services.audit.notifying.sender import FOREVER_S, Sender, Sending
from services.audit.reading.head_watch import HeadWatch, Seen
from services.audit.store import webhooks
from shared.rpc.stopping import ended

# How long a new webhook, one that was changed, and one whose sender went away wait.
EVERY_S: Final = 1.0
AGAIN_S: Final = 1.0
LONGEST_S: Final = 3_600.0
ENDING_S: Final = 0.5
FORGET_EVERY: Final = timedelta(minutes=10)
KEPT: Final = timedelta(days=7)
GIVEN_UP_KEPT: Final = timedelta(days=90)
FORGOTTEN_AT_ONCE: Final = 5_000

SENDERS = Gauge("webhook_senders", "Webhooks that this process sends.")
_log = structlog.get_logger(__name__)

MakeSender = Callable[[UUID], Sender]


@dataclass
class _Held:
    """A webhook whose sender runs here; `changed` wakes it."""

    version: int
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None


class Notifier:
    """Runs senders, and ends them."""

    def __init__(self, sending: Sending, watch: HeadWatch) -> None:
        """Take what senders share, and what tells how far the ledger is."""
        self._sending = sending
        self._watch = watch
        self._held: dict[UUID, _Held] = {}
        self._wanted = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._forgot_at = sending.clock()

    @property
    def held(self) -> frozenset[UUID]:
        """The webhooks that this process sends."""
        return frozenset(self._held)

    def start(self) -> None:
        """Begin to send."""
        self._task = asyncio.create_task(self._run(), name="audit notifier")

    def wake(self) -> None:
        """Look at once: a webhook was changed."""
        self._wanted.set()

    async def stop(self) -> None:
        """End; what is under way is sent again by whoever goes on."""
        if self._task is not None:
            await ended([self._task], ENDING_S)

    async def _run(self) -> None:
        failed = ""
        while True:
            try:
                await self._hold()
            except Exception as error:  # noqa: BLE001  (a database that is away comes back)
                if type(error).__name__ != failed:
                    failed = type(error).__name__
                    _log.warning("webhooks_not_held", error=failed)
                await asyncio.sleep(AGAIN_S)

    async def _hold(self) -> None:
        async with self._sending.database.statements() as connection:
            try:
                while True:
                    self._wanted.clear()
                    await self._look(connection)
                    with suppress(TimeoutError):
                        # Not `wait_for`, which in Python 3.11 may lose a cancellation.
                        async with asyncio.timeout(EVERY_S):
                            await self._wanted.wait()
            finally:
                try:
                    await self._end(list(self._held))
                finally:
                    # The locks belong to the connection, and would go back to the pool with it.
                    await connection.invalidate()

    async def _look(self, connection: AsyncConnection) -> None:
        """Take the webhooks that nobody sends, and leave those that are paused or gone."""
        wanted = await webhooks.sending(connection)
        for webhook_id in self._held.keys() - wanted.keys():
            await self._end([webhook_id])
            await webhooks.give_back(connection, webhook_id)
        for webhook_id, version in wanted.items():
            held = self._held.get(webhook_id)
            if held is None and await webhooks.take(connection, webhook_id):
                held = self._held[webhook_id] = _Held(version)
            if held is None:
                continue
            if held.version != version:
                held.version = version
                held.changed.set()
            if held.task is None or held.task.done():
                held.task = asyncio.create_task(self._send(webhook_id, held), name="webhook sender")
        SENDERS.set(len(self._held))
        await self._forget()

    async def _send(self, webhook_id: UUID, held: _Held) -> None:
        """Send as long as the webhook is to."""
        sender, failed = Sender(webhook_id, self._sending), ""
        with self._watch.followed():
            seen: Seen | None = None
            while True:
                held.changed.clear()
                try:
                    seen = seen or await self._watch.look()
                    pause = await sender.step(seen)
                    failed = ""
                except Exception as error:  # noqa: BLE001  (a database that is away comes back)
                    if type(error).__name__ != failed:
                        failed = type(error).__name__
                        _log.warning("webhook_not_sent", webhook=str(webhook_id), error=failed)
                    pause = AGAIN_S
                if pause is None:
                    return
                if pause:
                    seen = await self._news(seen, held, pause)

    async def _news(self, seen: Seen | None, held: _Held, pause: float) -> Seen | None:
        """Wait until there may be something to do, and return how far the ledger is then."""
        if pause < FOREVER_S or seen is None:
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await held.changed.wait()
            return await self._watch.moved(seen, 0) if seen else None
        moved = asyncio.create_task(self._watch.moved(seen, LONGEST_S))
        changed = asyncio.create_task(held.changed.wait())
        try:
            await asyncio.wait({moved, changed}, return_when=asyncio.FIRST_COMPLETED)
            return moved.result() if moved.done() else seen
        finally:
            moved.cancel()
            changed.cancel()

    async def _end(self, webhook_ids: list[UUID]) -> None:
        """End senders, and wait until they have ended."""
        held = [self._held.pop(webhook_id) for webhook_id in webhook_ids]
        await ended([one.task for one in held if one.task is not None], ENDING_S)
        SENDERS.set(len(self._held))

    async def _forget(self) -> None:
        """Delete old deliveries, now and then; any replica may."""
        now = self._sending.clock()
        if now - self._forgot_at < FORGET_EVERY:
            return
        before, self._forgot_at = self._forgot_at, now
        async with self._sending.database.transaction() as tx:
            forgotten = await webhooks.forget_deliveries(
                tx, now, KEPT, GIVEN_UP_KEPT, FORGOTTEN_AT_ONCE
            )
        if forgotten == FORGOTTEN_AT_ONCE:  # there may be more: go on at the next look
            self._forgot_at = before
