"""Retirement: a month goes as a whole, its leaves stay, and whoever is in the way is not harmed."""

import asyncio
from collections.abc import AsyncIterator
from copy import copy
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import pytest
import pytest_asyncio

from services.audit.reading.entries import PageQuery
from services.audit.retention import retiring
from services.audit.store import retention
from services.audit.store.appending import driver_connection
from services.audit.store.queries import Filter
from shared.errors import ConcurrentChange, EntryRetired, NotRetirable, UnderLegalHold
from shared.merkle.tree import verify_inclusion
from shared.setting_values import driver_url
from tests.integration.audit.conftest import World
from tests.integration.audit.keeping import (
    LATER,
    MONTHS,
    ORDER,
    ORDERED,
    PAST,
    PER_MONTH,
    Kept,
    erase_as_ordered,
    hold,
    keeping,
)

JANUARY, FEBRUARY, MARCH = MONTHS
PARTITION = "audit_logs_y2025m01"


@pytest_asyncio.fixture
async def kept(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Kept]:
    monkeypatch.setattr(retiring, "PAUSES_S", (0.1,) * 4)
    async with keeping(world, tmp_path) as made:
        yield made


async def is_there(kept: Kept, month: date) -> bool:
    name = f"audit_logs_y{month:%Y}m{month:%m}"
    found: bool = await kept.owner.fetchval("SELECT to_regclass($1) IS NOT NULL", name)
    return found


async def test_a_month_goes_and_everything_can_still_be_proved(kept: Kept) -> None:
    retire = kept.keeping.retiring.retire
    await kept.integrator.covering(PAST + LATER)
    proofs = [await kept.proofs.inclusion(place) for place in range(PAST + LATER)]
    consistency = await kept.proofs.consistency(5, PAST + LATER)
    root = (await kept.proofs.newest()).root
    dry = await retire(JANUARY, "rule 7", validate_only=True)
    assert (dry.span, dry.entry) == ((0, PER_MONTH), None)
    assert await kept.owner.fetchval("SELECT count(*) FROM audit_logs") == PAST + LATER
    done = await retire(JANUARY, "rule 7")
    assert done.span == (0, PER_MONTH)
    assert done.entry is not None
    assert (done.entry.action, done.entry.resource_type, done.entry.resource_id) == (
        "retire",
        "audit_log_month",
        "2025-01",
    )
    assert not await is_there(kept, JANUARY)
    assert await kept.owner.fetchval("SELECT min(leaf_index) FROM audit_logs") == PER_MONTH
    for place, proof in enumerate(proofs):
        now = await kept.proofs.inclusion(place, PAST + LATER)
        assert now == proof
        assert verify_inclusion(now.leaf_hash, place, now.size, now.hashes, root)
    assert await kept.proofs.consistency(5, PAST + LATER) == consistency
    assert await kept.intact() == (0, PER_MONTH)
    again = await retire(JANUARY, "another reason")
    assert again.entry is not None
    assert again.entry.id == done.entry.id
    assert (await retire(JANUARY, "x", validate_only=True)).span == done.span


async def test_readers_cope_with_the_hole(kept: Kept) -> None:
    ids = [row["id"] for row in await kept.world.rows()]
    done = await kept.keeping.retiring.retire(FEBRUARY, "rule 7")
    assert done.entry is not None
    for key in (PER_MONTH, 2 * PER_MONTH - 1):
        with pytest.raises(EntryRetired) as refused:
            await kept.reading.by_leaf_index(key)
        assert refused.value.facts["next_index"] == str(2 * PER_MONTH)
        assert refused.value.facts["retired_by"] == str(done.entry.leaf_index)
        with pytest.raises(EntryRetired):
            await kept.reading.by_id(ids[key])
        assert await kept.reading.position(ids[key]) == key
    assert (await kept.reading.by_leaf_index(2 * PER_MONTH)).id == ids[2 * PER_MONTH]

    async def listed(**narrowed: Any) -> list[int]:
        wanted, found, token = Filter(**narrowed), [], ""
        while True:
            asked = PageQuery("/m", UUID(int=1), wanted, size=7, token=token, oldest_first=True)
            page = await kept.reading.page(asked)
            found += [entry.leaf_index for entry in page.entries]
            token = page.next_token
            if not token:
                return found

    there = [*range(PER_MONTH), *range(2 * PER_MONTH, PAST + LATER), done.entry.leaf_index]
    assert await listed() == there
    middle = datetime(2025, 2, 10, tzinfo=UTC)
    assert await listed(end=middle) == there[:PER_MONTH]
    assert await listed(start=middle) == there[PER_MONTH:]
    assert await listed(start=middle, end=datetime(2025, 2, 11, tzinfo=UTC)) == []
    # An empty partition in its place changes nothing.
    await kept.owner.execute("SELECT audit_ensure_partitions($1, 1)", FEBRUARY)
    assert await listed() == there
    assert await kept.intact() == (0, PER_MONTH)


async def test_entries_that_others_are_judged_by_outlive_their_month(
    world: World, tmp_path: Path
) -> None:
    """A redaction is told by an entry of a month that goes one day itself."""
    async with keeping(world, tmp_path, ordered=True) as kept:
        await kept.integrator.covering(PAST + LATER)
        assert (await kept.found())[0] == ORDERED  # what was ordered was not done
        await kept.walls_down()
        await erase_as_ordered(kept)
        assert await kept.intact() == (1, 0)
        await kept.keeping.retiring.retire(FEBRUARY, "x")
        assert await kept.intact() == (1, PER_MONTH)
        with pytest.raises(EntryRetired):
            await kept.reading.by_leaf_index(ORDER)
        stored = await kept.reading.by_leaf_index(ORDER, kept=True)
        assert (stored.action, stored.details["leaf_index"]) == ("redact", ORDERED)
        assert (await kept.redact(ORDERED, "details")).id == stored.id
        await kept.owner.execute(
            "UPDATE audit_kept_entries"
            " SET entry = jsonb_set(entry, '{occurred_at}', '\"2025-02-01\"')"
        )
        assert (await kept.found())[0] == ORDERED


@pytest.mark.parametrize(
    ("month", "because"),
    [
        (date(2024, 5, 1), "no entries"),
        (datetime.now(UTC).date().replace(day=1), "90 days"),
        (date(2999, 1, 1), "90 days"),
    ],
)
async def test_not_every_month_can_go(kept: Kept, month: date, because: str) -> None:
    with pytest.raises(NotRetirable, match=because):
        await kept.keeping.retiring.retire(month, "x")


async def test_a_month_with_something_wrong_stays(kept: Kept) -> None:
    await kept.integrator.covering(PAST + LATER)
    await kept.walls_down()
    await kept.owner.execute(
        "UPDATE audit_logs SET leaf_hash = sha256(leaf_hash) WHERE leaf_index = 3"
    )
    with pytest.raises(NotRetirable, match="VerifyLedger"):
        await kept.keeping.retiring.retire(JANUARY, "x")
    await kept.owner.execute("DELETE FROM audit_logs WHERE leaf_index = $1", PER_MONTH + 2)
    with pytest.raises(NotRetirable, match="VerifyLedger"):
        await kept.keeping.retiring.retire(FEBRUARY, "x")


async def test_a_hold_on_one_entry_keeps_its_month(kept: Kept) -> None:
    holds, retire = kept.keeping.holds, kept.keeping.retiring.retire
    await holds.place(hold(kept.world, resource_id=f"d-{PER_MONTH + 1}"), {})
    with pytest.raises(UnderLegalHold) as refused:
        await retire(FEBRUARY, "x")
    assert refused.value.facts["position"] == str(PER_MONTH + 1)
    await retire(JANUARY, "x")
    await holds.release("case-1", "over")
    await retire(FEBRUARY, "x")
    assert await kept.intact() == (0, 2 * PER_MONTH)


async def test_a_hold_placed_after_the_announcement_keeps_it_too(kept: Kept) -> None:
    retire = kept.keeping.retiring.retire
    async with in_the_way(kept):
        with pytest.raises(ConcurrentChange):
            await retire(JANUARY, "x")
    await kept.keeping.holds.place(hold(kept.world, action="deploy"), {})
    with pytest.raises(UnderLegalHold):
        await retire(JANUARY, "x")
    assert await is_there(kept, JANUARY)
    assert await kept.intact() == (0, 0)
    await kept.keeping.holds.release("case-1", "over")
    await retire(JANUARY, "x")
    assert await kept.intact() == (0, PER_MONTH)


class in_the_way:  # noqa: N801  (reads like a function)
    """A reader that holds on to the ledger."""

    def __init__(self, kept: Kept) -> None:
        self.kept = kept

    async def __aenter__(self) -> asyncpg.Connection:
        self.reader = await asyncpg.connect(driver_url(self.kept.world.url))
        await self.reader.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        assert await self.reader.fetchval("SELECT count(*) FROM audit_logs") >= PAST
        return self.reader

    async def __aexit__(self, *_: object) -> None:
        await self.reader.close()


async def test_a_long_reader_is_not_harmed_and_appends_go_on(
    kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retiring, "PAUSES_S", (0.1,) * 8)
    loop = asyncio.get_running_loop()
    async with in_the_way(kept) as reader:
        attempt = asyncio.create_task(kept.keeping.retiring.retire(JANUARY, "x"))
        slowest = 0.0
        while not attempt.done():
            begun = loop.time()
            await kept.append()
            slowest = max(slowest, loop.time() - begun)
        with pytest.raises(ConcurrentChange):
            await attempt
        assert slowest < 4.0  # and not as long as a lock may take
        assert await reader.fetchval("SELECT count(*) FROM audit_logs") == PAST + LATER
    assert await is_there(kept, JANUARY)
    await kept.keeping.retiring.retire(JANUARY, "x")
    assert not await is_there(kept, JANUARY)
    assert await kept.owner.fetchval("SELECT count(*) FROM audit_logs WHERE action = 'retire'") == 1
    assert await kept.intact() == (0, PER_MONTH)


async def test_users_are_not_locked_by_a_drop(kept: Kept) -> None:
    """A foreign key of the partition leads to users, which every call reads."""
    done = await kept.keeping.retiring.retire(FEBRUARY, "x", validate_only=True)
    await kept.integrator.covering(PAST + LATER)
    assert done.entry is None
    async with in_the_way(kept):
        with pytest.raises(ConcurrentChange):
            await kept.keeping.retiring.retire(FEBRUARY, "x")
    async with driver_connection(kept.keeper.engine) as driver, driver.transaction():
        await retention.drop_month(driver, FEBRUARY)
        locked = await kept.owner.fetch(
            "SELECT mode FROM pg_locks"
            " WHERE relation = 'users'::regclass AND pid <> pg_backend_pid()"
        )
        assert all(row["mode"] == "AccessShareLock" for row in locked), locked


async def test_several_at_once_make_one_entry(kept: Kept) -> None:
    retire = kept.keeping.retiring.retire
    results = await asyncio.gather(
        *(retire(month, "x") for month in MONTHS * 3),
        *(kept.append() for _ in range(20)),
        *(kept.keeping.redacting.redact(place, ["details"], "x") for place in range(3)),
        return_exceptions=True,
    )
    for result in results:
        is_fine = not isinstance(result, Exception) or isinstance(
            result, (ConcurrentChange, EntryRetired)
        )
        assert is_fine, result
    for month in MONTHS:
        await retire(month, "x")
    entries = "SELECT count(*) FROM audit_logs WHERE action = 'retire'"
    assert await kept.owner.fetchval(entries) == len(MONTHS)
    assert await kept.intact() == (0, PAST)


@pytest.mark.parametrize("validate_only", [False, True])
@pytest.mark.parametrize("before", ["_span", "_compare", "_announce"])
async def test_a_month_that_another_call_retires_meanwhile_is_retired(
    kept: Kept,
    monkeypatch: pytest.MonkeyPatch,
    before: str,
    validate_only: bool,  # noqa: FBT001
) -> None:
    late, other = kept.keeping.retiring, copy(kept.keeping.retiring)
    real = getattr(late, before)

    async def behind(*given: Any, **named: Any) -> Any:
        """Do a step only after all of the other call."""
        await other.retire(JANUARY, "x")
        return await real(*given, **named)

    monkeypatch.setattr(late, before, behind)
    done = await late.retire(JANUARY, "x", validate_only=validate_only)
    assert done.span == (0, PER_MONTH)
    assert (done.entry is None) == validate_only
    entries = "SELECT count(*) FROM audit_logs WHERE action = 'retire'"
    assert await kept.owner.fetchval(entries) == 1
    assert not await is_there(kept, JANUARY)
    assert await kept.intact() == (0, PER_MONTH)


@pytest.mark.parametrize("after", ["_announce", "covering", "_drop"])
async def test_a_call_that_ends_anywhere_is_finished_by_the_next(
    kept: Kept, monkeypatch: pytest.MonkeyPatch, after: str
) -> None:
    class Killed(Exception):
        pass

    owner = kept.integrator if after == "covering" else kept.keeping.retiring
    real = getattr(owner, after)

    async def killed(*given: Any, **named: Any) -> None:
        await real(*given, **named)
        if after != "covering" or given[0] > PAST + LATER:
            raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(type(owner), after, lambda _self, *a, **n: killed(*a, **n))
        with pytest.raises(Killed):
            await kept.keeping.retiring.retire(MARCH, "x")
    await kept.intact()
    await kept.keeping.retiring.retire(MARCH, "x")
    assert not await is_there(kept, MARCH)
    assert await kept.intact() == (0, PER_MONTH)
