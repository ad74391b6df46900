"""The rolling verification: new entries every ten minutes, and every entry once in so many days.

The ledger is cut into blocks. In each round, those blocks are due whose number leaves the round's
number as remainder when divided by the rounds of a period. So what is due follows from the clock
alone: there is nothing to store that somebody could change, and it does not matter which replica
does a round, or whether the ledger grows. A replica that starts, or takes over, first makes up for
the rounds that it cannot know to be done.
"""

import asyncio
import time
from collections.abc import Sequence
from contextlib import aclosing
from datetime import UTC, datetime, timedelta

import structlog
from prometheus_client import Gauge

from services.audit.checking.verification import Verification
from services.audit.rules.replay import Mismatch
from services.audit.store import trees
from services.audit.store.appending import driver_connection
from shared.clock import Clock
from shared.db.engine import Database
from shared.rpc.stopping import ended

ROUND = timedelta(minutes=10)
ROUNDS_A_DAY = timedelta(days=1) // ROUND
# What is made up for, at a start and at most: who runs at some time of each day leaves nothing out.
MADE_UP = ROUNDS_A_DAY
BLOCK = 4_096
# The clocks of replicas and database may differ by so much.
OVERLAP = timedelta(minutes=1)
# Held at least so long, so that another replica, which comes a moment later, finds it taken.
HELD_S = 5.0
# Any number that nothing else locks.
LOCK = 0x726F_6C6C_6564
STOPPING_S = 2.0
_START = datetime(1970, 1, 1, tzinfo=UTC)

VERIFIED = Gauge(
    "ledger_verified_entries", "Up to where the last round of the rolling verification looked."
)
FINISHED = Gauge(
    "ledger_verified_timestamp_seconds", "When the last round of the rolling verification ended."
)
MISMATCHES = Gauge(
    "ledger_mismatching_blocks", "Blocks that did not match in the last round; 0 when intact."
)
_log = structlog.get_logger(__name__)


class Rolling:
    """Verifies the ledger bit by bit in the background, one replica at a time."""

    def __init__(
        self,
        database: Database,
        verification: Verification,
        clock: Clock,
        days: int,
        held_s: float = HELD_S,
    ) -> None:
        """Take a database under the reader's role, and the days in which all is verified.

        `verification` should be its own, as callers of that one wait for each other.
        """
        self._database = database
        self._verification = verification
        self._clock = clock
        self._rounds = days * ROUNDS_A_DAY
        self._held_s = held_s
        self._done = self._now() - MADE_UP
        self._suspects: set[int] = set()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin with the next round; nothing begins where the days are 0."""
        if self._rounds == 0:
            return
        self._task = asyncio.create_task(self._run(), name="rolling verification")

    async def stop(self) -> None:
        """End at once; a round that is cut off is made up for after the next start."""
        if self._task is not None:
            await ended([self._task], STOPPING_S)

    def _now(self) -> int:
        return (self._clock() - _START) // ROUND

    async def _run(self) -> None:
        while True:
            left = ROUND - (self._clock() - _START) % ROUND
            await asyncio.sleep(left.total_seconds())
            try:
                await self.round()
            except Exception as error:  # noqa: BLE001  (a database that is away comes back)
                _log.warning("ledger_round_failed", error=type(error).__name__)

    async def round(self) -> bool:
        """Verify what is due; tell whether this replica did, or left it to another one."""
        number = self._now()
        async with driver_connection(self._database.engine) as driver:
            if not await driver.fetchval("SELECT pg_try_advisory_lock($1)", LOCK):
                # That it was begun does not say that it will be done, nor that others were.
                return False
            try:
                began = time.monotonic()
                await self._verify(number)
                await asyncio.sleep(began + self._held_s - time.monotonic())
            finally:
                await driver.execute("SELECT pg_advisory_unlock($1)", LOCK)
        self._done = number
        return True

    async def _verify(self, number: int) -> None:
        done = max(self._done, number - MADE_UP)
        since = _START + done * ROUND - OVERLAP
        async with self._database.snapshot() as tx:
            size = (await trees.head(tx)).next_index
            first = await trees.first_since(tx, since)
        new = size if first is None else min(first, size)
        self._suspects = {block for block in self._suspects if block * BLOCK < size}
        due = due_blocks(done + 1, number, self._rounds, -(-new // BLOCK))
        for block in sorted(self._suspects.union(due)):
            # One at a time, so that a round that fails forgets nothing that was found.
            if await self._matches(block * BLOCK, min((block + 1) * BLOCK, size)):
                self._suspects.discard(block)
        if new < size:
            await self._matches(new, size)
        VERIFIED.set(size)
        FINISHED.set(self._clock().timestamp())
        MISMATCHES.set(len(self._suspects))

    async def _matches(self, first: int, end: int) -> bool:
        """Tell whether a range matches; verify it, resting as long as each step took."""
        mismatch: Mismatch | None = None
        async with aclosing(self._verification.run(first=first, end=end)) as steps:
            began = time.monotonic()
            async for step in steps:
                mismatch = step.mismatch
                await asyncio.sleep(time.monotonic() - began)
                began = time.monotonic()
        if mismatch is not None:
            # Verified again in each round, until it matches.
            self._suspects.add(max(0, min(mismatch.first, end - 1)) // BLOCK)
            _log.error("ledger_tampered", first_mismatch=mismatch.first, problem=mismatch.problem)
        return mismatch is None


def due_blocks(first_round: int, last_round: int, rounds: int, blocks: int) -> Sequence[int]:
    """Return which of the first `blocks` are due in one of neighbouring rounds."""
    if last_round - first_round + 1 >= rounds:
        return range(blocks)
    return [
        block
        for number in range(first_round, last_round + 1)
        for block in range(number % rounds, blocks, rounds)
    ]
