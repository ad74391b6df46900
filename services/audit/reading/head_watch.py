"""How far the ledger is, and how far it is signed: asked once for all who follow it.

One poller for each process, only while somebody follows; it costs two rows a few times a second,
however many followers there are. Entries appended by this process wake it at once.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import structlog

from services.audit.store import trees
from services.audit.store.trees import StoredCheckpoint
from shared.db.engine import Database
from shared.rpc.stopping import ended

EVERY_S = 0.15
# However often entries come, the head is not asked for more often than this.
BETWEEN_S = 0.03
ENDING_S = 0.5

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Seen:
    """The ledger at one moment: how many entries it has, and the newest checkpoint."""

    next_index: int
    signed: StoredCheckpoint | None

    @property
    def signed_index(self) -> int:
        """How many entries the newest checkpoint covers, of those that are there.

        A ledger that was cut off has a checkpoint of more; a stream must not pass by what will
        come in their places.
        """
        return min(self.signed.size, self.next_index) if self.signed else 0


class HeadWatch:
    """Tells followers that the head or the checkpoint has moved."""

    def __init__(self, database: Database) -> None:
        """Take a database under the reader's role."""
        self._database = database
        # One look after the other, so that a later answer is never of an earlier moment.
        self._looking = asyncio.Lock()
        self._followers = 0
        self._seen: Seen | None = None
        self._moved = asyncio.Event()
        self._wanted = asyncio.Event()
        self._poller: asyncio.Task[None] | None = None
        self._ending: set[asyncio.Task[None]] = set()

    @contextmanager
    def followed(self) -> Iterator[None]:
        """Keep the poller running."""
        self._followers += 1
        if self._poller is None:
            self._poller = asyncio.create_task(self._poll(), name="audit head watch")
        try:
            yield
        finally:
            self._followers -= 1
            if not self._followers:
                self._end()

    def wake(self) -> None:
        """Look at once: something was appended."""
        self._wanted.set()

    async def look(self) -> Seen:
        """Return how far the ledger is at this moment."""
        async with self._looking, self._database.snapshot() as tx:
            head = await trees.head(tx)
            signed = await trees.newest_checkpoint(tx)
            seen = Seen(head.next_index, signed)
            self._publish(seen)
        return seen

    async def moved(self, seen: Seen, seconds: float) -> Seen:
        """Return how far the ledger is as soon as that differs from `seen`, or after a time."""
        if self._seen is None or self._seen == seen:
            with suppress(TimeoutError):
                # Not `wait_for`, which in Python 3.11 loses a cancellation that meets a move: the
                # stream of somebody who may no longer read would go on.
                async with asyncio.timeout(max(seconds, 0.0)):
                    await self._moved.wait()
        return self._seen or seen

    async def close(self) -> None:
        """Wait for the end of the poller; to be called when nobody follows any more."""
        await asyncio.gather(*self._ending)

    def _end(self) -> None:
        poller, self._poller, self._seen = self._poller, None, None
        if poller is not None:
            # A connection that is being made hides cancellations.
            ending = asyncio.create_task(ended([poller], ENDING_S), name="audit head watch ends")
            self._ending.add(ending)
            ending.add_done_callback(self._ending.discard)

    async def _poll(self) -> None:
        failed = ""
        while True:
            self._wanted.clear()
            try:
                await self.look()
                failed = ""
            except Exception as error:  # noqa: BLE001  (a database that is away comes back)
                if type(error).__name__ != failed:
                    failed = type(error).__name__
                    _log.warning("ledger_head_not_read", error=failed)
            await asyncio.sleep(BETWEEN_S)
            with suppress(TimeoutError):
                async with asyncio.timeout(EVERY_S):
                    await self._wanted.wait()

    def _publish(self, seen: Seen) -> None:
        if seen == self._seen:
            return
        self._seen = seen
        moved, self._moved = self._moved, asyncio.Event()
        moved.set()
