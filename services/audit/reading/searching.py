"""One page of the ledger: which way to look for its entries, and where to stop looking.

However many entries there are, a page costs about the same. It first walks a short way along the
index of one equality of the filter, or of the order of the ledger; pages of most filters are full
then. If not, the entries are rare, or far away, and it pays to find out which condition is rarest:

* an equality that few entries have: its index leads to all of them;
* `details`: the inverted index finds those of some months, which are then put in order. A month
  that has too many of them is walked;
* otherwise the walk goes on.

Either way the search goes in steps and ends after EXAMINED entries or, when a step is done, after
SECONDS, and says how far it came.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Row
from sqlalchemy.ext.asyncio import AsyncConnection

from services.audit.rules.wanted_details import has_values
from services.audit.store import pages, queries
from services.audit.store.pages import EVERYTHING, Asked, Driver
from services.audit.store.queries import Filter, Leaves

EXAMINED: Final = 50_000
# Read in about a millisecond, and enough for a page of a hundred unless one in ten matches.
FIRST = 1_000
# Entries that can be put in order rather than walked to.
FEW = 2_000
# As many as it takes longer to walk to than to find another way.
FAR = 20_000
# Months that the inverted index is asked for at a time: near ones first, as it may have too many.
MONTHS: Final = (1, 12, 120)
STEP = 10_000
SECONDS = 0.1
END: Final = 2**63 - 1
_LAST_MONTH: Final = 9999 * 12 + 11
_LAST_ID: Final = UUID(int=2**128 - 1)

Entry = Row[Any]


def after(leaf: int, leaves: Leaves, *, oldest_first: bool) -> Leaves | None:
    """Return the leaves beyond one in the order of the list, or None when there are none."""
    if oldest_first:
        rest = Leaves(max(leaf + 1, leaves.first), leaves.end)
    else:
        rest = Leaves(leaves.first, min(leaf, leaves.end))
    return rest if rest.first < rest.end else None


@dataclass
class Search:
    """A search for the entries of a filter, in the order of the ledger or against it.

    `examined` is how many entries the walk may look at; `found` has the entries so far.
    """

    tx: AsyncConnection
    wanted: Filter
    oldest_first: bool
    size: int
    examined: int = field(default_factory=lambda: EXAMINED)
    found: list[Entry] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)

    async def run(self, left: Leaves) -> int | None:
        """Find entries of a range; return the last leaf that is done with, None when all are.

        There is at most one entry more than fits on the page, which says that there is a next one.
        """
        drivers = pages.drivers(self.wanted)
        first = drivers[0] if drivers else EVERYTHING
        examine = 2 * self._missing
        if len(drivers) < 2:  # noqa: PLR2004  (else another equality may be the rare one)
            examine = max(FIRST, examine)
        stop = await self._walk(first, left, examine)
        rest = self._beyond(stop, left)
        # At the density so far, and twice that for safety.
        ahead = 2 * self._missing * examine // max(len(self.found), 1)
        if rest is not None and self.found and ahead < FAR:
            stop = await self._walk(first, rest, ahead)
            rest = self._beyond(stop, rest)
        if rest is not None:
            stop = await self._go_on(drivers, first, rest)
        if len(self.found) > self.size:
            del self.found[self.size :]
            return int(self.found[-1].leaf_index)
        return stop

    @property
    def _missing(self) -> int:
        return self.size + 1 - len(self.found)

    def _is_late(self) -> bool:
        return time.monotonic() - self.began > SECONDS

    def _beyond(self, stop: int | None, left: Leaves) -> Leaves | None:
        """Return what is to be searched after a step, None when nothing is."""
        if stop is None or self._missing == 0:
            return None
        return after(stop, left, oldest_first=self.oldest_first)

    async def _go_on(self, drivers: Sequence[Driver], first: Driver, left: Leaves) -> int | None:
        """Find the entries that a short walk did not."""
        details = self.wanted.details
        probes = details is not None and has_values(details)
        chosen = first
        if probes or len(drivers) > 1:
            # Most entries are of some of several categories: counting them would find nothing out.
            choices = [one for one in drivers if len(one.values) == 1 or not probes]
            has = (await self.tx.execute(*pages.outlook(choices, left, at_most=FEW))).one()
            counted = {str(driver.name): driver for driver in choices}
            rarest = min(counted, key=lambda name: getattr(has, name), default=None)
            if rarest is not None and getattr(has, rarest) < FEW:
                chosen = counted[rarest]
            elif probes and has.oldest is not None:
                span = _month_of(has.oldest), _month_of(has.newest)
                return await self._probe(str(details), left, span, first)
        return await self._walk_on(chosen, left)

    async def _walk_on(self, driver: Driver, left: Leaves) -> int | None:
        """Walk along an index as far as may be; return as `_walk` does."""
        while True:
            stop = await self._walk(driver, left, STEP)
            rest = self._beyond(stop, left)
            if rest is None or self.examined <= 0 or self._is_late():
                return stop
            left = rest

    async def _walk(self, driver: Driver, left: Leaves, examine: int) -> int | None:
        """Walk along an index; return the last leaf that is done with, None at the end."""
        examine = min(examine, self.examined)
        if examine <= 0:
            return left.first - 1 if self.oldest_first else left.end
        self.examined -= examine
        size, oldest_first = self._missing, self.oldest_first
        each = max(examine // driver.ways, 1)
        walk = pages.walk(
            self.wanted, driver, left, examine=each, size=size, oldest_first=oldest_first
        )
        for entry in await self._entries(walk):
            if entry.matches:
                self.found.append(entry)
            # Beyond the nearest end of a way, entries may be missing that are met that way.
            if self._missing == 0 or entry.number == each:
                return int(entry.leaf_index)
        return None

    async def _probe(
        self, details: str, left: Leaves, span: tuple[int, int], driver: Driver
    ) -> int | None:
        """Ask the inverted index, some months of a span at a time; `driver` walks where it cannot.

        Returns the last leaf that is done with, None when all are.
        """
        month, last = span if self.oldest_first else span[::-1]
        step = 0
        matches: list[UUID] = []
        while True:
            ids = self._months(month, MONTHS[step])
            matching = pages.details_matches(details, ids, left, at_most=FEW + 1)
            found = (await self.tx.execute(*matching)).scalar_one()
            if len(found) > FEW and step > 0:
                step = 0
                continue
            if len(found) > FEW:
                await self._take(matches)
                stop = await self._walk_months(driver, left, ids)
                if stop is not None:
                    return stop
            else:
                matches += found
            month += MONTHS[step] if self.oldest_first else -MONTHS[step]
            is_end = month > last if self.oldest_first else month < last
            if is_end or len(matches) >= self._missing:
                await self._take(matches)
            if self._missing == 0:
                return int(self.found[-1].leaf_index)
            if is_end:
                return None
            if self._is_late():
                await self._take(matches)
                return await self._edge(left, month)
            step = min(step + 1, len(MONTHS) - 1)

    async def _take(self, matches: list[UUID]) -> None:
        """Add the entries with these ids that match in every other way too."""
        if matches and self._missing:
            size, oldest_first = self._missing, self.oldest_first
            self.found += await self._entries(
                pages.among(self.wanted, matches, size=size, oldest_first=oldest_first)
            )
        matches.clear()

    async def _entries(self, asked: Asked) -> Sequence[Entry]:
        return (await self.tx.execute(*asked)).all()

    def _months(self, month: int, months: int) -> tuple[UUID, UUID]:
        """Return the bounds of the ids of some months in the order of the list."""
        if self.oldest_first:
            return _first_id(month), _first_id(month + months)
        return _first_id(month + 1 - months), _first_id(month + 1)

    async def _walk_months(
        self, driver: Driver, left: Leaves, ids: tuple[UUID, UUID]
    ) -> int | None:
        """Walk through the part of a range that ids leave over; return None at its end."""
        if self._missing == 0:
            return int(self.found[-1].leaf_index)
        first, end = await self._first_leaf(ids[0]), await self._first_leaf(ids[1])
        within = Leaves(max(left.first, first), min(left.end, end))
        return await self._walk_on(driver, within)

    async def _edge(self, left: Leaves, month: int) -> int:
        """Return the last leaf before a month that is the next to be looked at."""
        if self.oldest_first:
            return max(left.first, await self._first_leaf(_first_id(month))) - 1
        return min(left.end, await self._first_leaf(_first_id(month + 1)))

    async def _first_leaf(self, entry_id: UUID) -> int:
        found = (await self.tx.execute(*pages.first_leaf(entry_id))).scalar_one_or_none()
        return END if found is None else int(found)


def _month_of(entry_id: UUID) -> int:
    moment = datetime.fromtimestamp((entry_id.int >> 80) / 1000, UTC)
    return moment.year * 12 + moment.month - 1


def _first_id(month: int) -> UUID:
    """Return the lowest id of a month; beyond the years of a calendar, that of all or none."""
    if month > _LAST_MONTH:
        return _LAST_ID
    if month < 1970 * 12:
        return UUID(int=0)
    return queries.id_floor(datetime(month // 12, month % 12 + 1, 1, tzinfo=UTC))
