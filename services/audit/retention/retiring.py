"""Dropping months of entries, in steps of which each may be the last before a crash.

First an entry announces it, together with a row of `audit_retirements`. When a signed checkpoint
covers that entry, the month is dropped. Repeating the call goes on where the last one stopped.
"""

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, timedelta

import asyncpg

from services.audit.reading.entries import Reading
from services.audit.reading.searching import Entry
from services.audit.retention.announcing import Announcer
from services.audit.rules import retirement
from services.audit.rules.events import Sealed
from services.audit.rules.ranges import subtrees
from services.audit.rules.tiles import WIDTH, TileKey, hash_of, hashes_in, tile_of
from services.audit.signing.integrator import Integrator
from services.audit.store import retention, trees
from services.audit.store.appending import driver_connection
from services.audit.store.retention import Outcome, Retirement
from shared.db.engine import Database
from shared.errors import ConcurrentChange, NotRetirable, SigningStopped, UnderLegalHold
from shared.merkle.tree import Span

# Leaves compared with the tree at a time.
AT_ONCE = 64 * WIDTH
# The lock that dropping needs is asked for 50 ms at a time; readers get at least these pauses.
PAUSES_S = (0.1, 0.2, 0.4, *[0.8] * 11)
# How often a month is looked through before it is announced, when holds are placed meanwhile.
LOOKS = 3
# Somebody reads or appends at this moment, or placed a hold meanwhile.
AGAIN = (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError, asyncpg.SerializationError)


@dataclass(frozen=True, slots=True)
class Retired:
    """The positions of a month, and the entry that announces that they are gone."""

    span: Span
    entry: Entry | None


class Retiring:
    """Retires months of the ledger."""

    def __init__(
        self,
        keeper: Database,
        reader: Database,
        reading: Reading,
        integrator: Integrator,
        announcer: Announcer,
    ) -> None:
        """Take databases under the keeper's and the reader's role, and whom it needs."""
        self._keeper = keeper
        self._reader = reader
        self._reading = reading
        self._integrator = integrator
        self._announcer = announcer

    async def retire(self, month: date, reason: str, *, validate_only: bool = False) -> Retired:
        """Announce the retirement of a month, wait until that is signed, and drop its entries.

        Raises NotRetirable, UnderLegalHold, SigningStopped, and ConcurrentChange when readers do
        not make room; then the month is announced, and the next call drops it.
        """
        found = await self._known(month)
        if found is None:
            try:
                span = await self._span(month)
            except NotRetirable:
                # Another call may have dropped the month while this one looked at its entries.
                found = await self._known(month)
                if found is None:
                    raise
        if found is None:
            await self._announce(month, span, reason, validate_only=validate_only)
            if validate_only:
                return Retired(span, None)
            found = await self._known(month)
        if found is None:
            raise ConcurrentChange
        if validate_only:
            return Retired(found.span, None)
        if found.dropped_at is None:
            await self._integrator.covering(found.leaf_index + 1)
            await self._drop(month)
        return Retired(found.span, await self._reading.by_leaf_index(found.leaf_index, kept=True))

    async def _known(self, month: date) -> Retirement | None:
        async with self._reader.snapshot() as tx:
            return await retention.retirement(tx, month)

    async def _span(self, month: date) -> Span:
        """Return the positions of a month that may be retired, as far as can be said by reading."""
        if not retirement.may_be_over(month, self._announcer.now()):
            raise _young(month)
        async with driver_connection(self._reader.engine) as driver:
            found = await retention.interval(driver, month)
        if found is None:
            raise _not_retirable(month, "it has no entries")
        span, count = found
        if count != span.end - span.first:
            raise _not_dense(month)
        try:
            await self._integrator.covering(span.end)
        except SigningStopped as error:
            raise _not_retirable(month, "signing has stopped before its end") from error
        await self._compare(month, span)
        return span

    async def _compare(self, month: date, span: Span) -> None:
        """Refuse to drop what the tree has otherwise; it would be the evidence of that."""
        for first in range(span.first - span.first % AT_ONCE, span.end, AT_ONCE):
            part = Span(max(first, span.first), min(first + AT_ONCE, span.end))
            keys = [TileKey(0, at // WIDTH) for at in range(first, part.end, WIDTH)]
            async with self._reader.snapshot() as tx:
                leaves = await trees.leaves(tx, part.first, part.end)
                tiles = await trees.tiles(tx, keys)
            held = [one for key in keys for one in hashes_in(tiles.get(key, b""))]
            if [leaf for _index, leaf in leaves] != held[part.first - first : part.end - first]:
                raise _not_retirable(month, "its entries are not in the tree; call VerifyLedger")

    async def _announce(self, month: date, span: Span, reason: str, *, validate_only: bool) -> None:
        nodes = subtrees(span)
        async with self._reader.snapshot() as tx:
            tiles = await trees.tiles(tx, {tile_of(node) for node in nodes})
        entry = self._announcer.entry(
            retirement.RETIRE,
            retirement.RESOURCE,
            retirement.name_of(month),
            retirement.retire_details(span, [hash_of(node, tiles) for node in nodes], reason),
        )
        done = await self._announced(entry, month, span, validate_only=validate_only)
        match done.outcome:
            case "held":
                raise UnderLegalHold(hold=done.hold, position=done.leaf_index)
            case "young":
                raise _young(month)
            case "unsigned":
                raise _not_retirable(month, "no signed checkpoint covers it")
            case "changed":
                raise _not_dense(month)

    async def _announced(
        self, entry: Sealed, month: date, span: Span, *, validate_only: bool
    ) -> Outcome:
        for _ in range(LOOKS):
            with suppress(asyncpg.SerializationError):
                async with retention.rehearsal(self._keeper, validate_only=validate_only) as driver:
                    return await retention.retire(driver, entry, month, span)
        raise ConcurrentChange

    async def _drop(self, month: date) -> None:
        for pause in (*PAUSES_S, 0.0):
            try:
                async with driver_connection(self._keeper.engine) as driver:
                    done = await retention.drop_month(driver, month)
            except AGAIN:
                await asyncio.sleep(pause)
                continue
            if done.outcome == "held":
                raise UnderLegalHold(hold=done.hold, position=done.leaf_index)
            if done.outcome != "dropped":
                raise _not_retirable(month, "no signed checkpoint covers the entry that says so")
            return
        raise ConcurrentChange(retry_after=timedelta(seconds=PAUSES_S[-1]))


def _young(month: date) -> NotRetirable:
    days = retirement.KEPT_FOR.days
    return _not_retirable(month, f"it must have been over for {days} days; wait until then")


def _not_dense(month: date) -> NotRetirable:
    return _not_retirable(month, "its entries do not follow one another; call VerifyLedger")


def _not_retirable(month: date, because: str) -> NotRetirable:
    return NotRetirable(month=retirement.name_of(month), because=because)
