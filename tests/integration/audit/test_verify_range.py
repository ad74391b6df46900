"""A range of the ledger verified: everything in it, and the way from it to the signed roots."""

import asyncio
import os
import signal
import sys

import pytest

from services.audit.checking import recheck_process, rechecking
from services.audit.checking.recheck_process import rechecked
from services.audit.checking.rechecking import Window
from services.audit.checking.verification import Progress
from services.audit.rules.quick_recheck import plain_leaf
from services.audit.rules.recheck import EntryDiffers, recomputed_leaf
from services.audit.store import trees
from services.audit.store.plain_rows import plain_rows
from shared.errors import PositionOutOfRange
from tests.integration.audit.tampering import COLUMNS, UNFITTING
from tests.integration.audit.test_verify import Verified, verified
from tests.support.processes import children_of

__all__ = ["verified"]

SIZE = 600
BORDERS = [0, 1, 255, 256, 257, 511, 512, 513, 599, 600]
FLIP = "UPDATE merkle_tiles SET hashes = set_bit(hashes, $3, 1 - get_bit(hashes, $3))"


async def ranged(verified: Verified, first: int, end: int = 0, known: str = "") -> Progress:
    steps = [step async for step in verified.verification.run(known, first, end)]
    assert steps[-1].complete
    return steps[-1]


async def found(verified: Verified, first: int, end: int = 0, known: str = "") -> tuple[int, str]:
    last = await ranged(verified, first, end, known)
    assert last.mismatch is not None, "nothing was found"
    return last.mismatch


@pytest.mark.parametrize("window", [100, 2_048])
async def test_every_range_of_an_untouched_ledger_is_intact(
    verified: Verified, monkeypatch: pytest.MonkeyPatch, window: int
) -> None:
    monkeypatch.setattr(rechecking, "ROWS_AT_ONCE", window)
    await verified.append(300)
    note = await verified.owner.fetchval("SELECT note FROM audit_checkpoints")
    await verified.append(300)
    for first in BORDERS[:-1]:
        for end in BORDERS:
            if end > first:
                last = await ranged(verified, first, end, note)
                assert (last.mismatch, last.verified) == (None, end - first), (first, end)
    assert (await ranged(verified, 599)).verified == 1


async def test_a_range_beyond_the_last_checkpoint_is_read_too(verified: Verified) -> None:
    await verified.append(20)
    await verified.owner.execute("ALTER TABLE audit_checkpoints DISABLE TRIGGER USER")
    await verified.append(280)
    # As after a crash between writing the file and the commit.
    await verified.owner.execute("DELETE FROM audit_checkpoints WHERE tree_size > 20")
    await verified.owner.execute("ALTER TABLE merkle_tiles DISABLE TRIGGER USER")
    await verified.owner.execute("DELETE FROM merkle_tiles WHERE level > 0 OR tile > 0")
    await verified.owner.execute("UPDATE merkle_tiles SET hashes = substr(hashes, 1, 640)")
    for first, end in ((0, 20), (5, 25), (30, 40), (250, 300), (299, 300)):
        assert (await ranged(verified, first, end)).mismatch is None, (first, end)
    await verified.owner.execute("ALTER TABLE audit_logs DISABLE TRIGGER USER")
    await verified.owner.execute(
        "UPDATE audit_logs SET leaf_hash = salt || salt WHERE leaf_index = 50"
    )
    assert "published outside" in (await found(verified, 100, 110))[1]
    await verified.owner.execute("DELETE FROM audit_logs WHERE leaf_index = 50")
    assert await found(verified, 100, 110) == (50, "The entry at 50 is missing.")


@pytest.mark.parametrize(("first", "end"), [(10, 0), (11, 0), (0, 11), (9, 11), (2**62, 2**63 - 1)])
async def test_a_range_that_is_not_there_is_refused(
    verified: Verified, first: int, end: int
) -> None:
    await verified.append(10)
    with pytest.raises(PositionOutOfRange):
        await ranged(verified, first, end)
    assert (await ranged(verified, 9, 10)).mismatch is None


async def test_in_an_empty_ledger_there_is_no_range(verified: Verified) -> None:
    with pytest.raises(PositionOutOfRange):
        await ranged(verified, 0, 1)
    assert (await ranged(verified, 0)).complete


async def test_what_was_changed_is_found_from_inside_its_range_only(verified: Verified) -> None:
    await verified.append(SIZE)
    await verified.walls_down()
    await verified.owner.execute("UPDATE audit_logs SET action = 'x' WHERE leaf_index = 300")
    for first, end in ((300, 301), (299, 302), (0, 301), (300, 0), (257, 599)):
        assert (await found(verified, first, end))[0] == 300
    for first, end in ((0, 300), (301, 0), (512, 513), (290, 300)):
        assert (await ranged(verified, first, end)).mismatch is None


async def test_a_changed_tile_is_found_from_the_ranges_that_need_it(verified: Verified) -> None:
    await verified.append(SIZE)
    await verified.walls_down()
    change = f"{FLIP} WHERE level = $1 AND tile = $2"
    # A leaf in the tile of the range, inside and outside of it.
    await verified.owner.execute(change, 0, 1, 8 * 32 * 44 + 3)
    assert await found(verified, 300, 301) == (300, "The tile 0/1 was changed.")
    assert (await found(verified, 301, 302))[0] == 256
    assert (await ranged(verified, 0, 256)).mismatch is None
    await verified.owner.execute(change, 0, 1, 8 * 32 * 44 + 3)
    # The hash of a tile in the one above, which every range has on its way.
    await verified.owner.execute(change, 1, 0, 8 * 32 + 3)
    assert "The tile 0/1 does not have the hash" in (await found(verified, 300, 301))[1]
    assert "do not have the root" in (await found(verified, 0, 10))[1]
    await verified.owner.execute(change, 1, 0, 8 * 32 + 3)
    assert (await ranged(verified, 1)).mismatch is None
    await verified.owner.execute("DELETE FROM merkle_tiles WHERE level = 0 AND tile = 1")
    assert await found(verified, 300, 301) == (300, "The tile 0/1 was changed.")


async def test_a_tail_that_was_cut_is_found_from_every_range(verified: Verified) -> None:
    await verified.append(40)
    await verified.walls_down()
    await verified.owner.execute("DELETE FROM audit_logs WHERE leaf_index >= 30")
    await verified.owner.execute("UPDATE audit_log_head SET next_index = 30")
    place, problem = await found(verified, 3, 5)
    assert problem.startswith("The ledger ends at 30, but")
    assert place == 0  # the one root that there was covers more than is left


async def test_the_quick_recheck_says_nothing_that_the_thorough_one_does_not(
    verified: Verified,
) -> None:
    await verified.append(40)
    await verified.walls_down()
    for changes in (COLUMNS, UNFITTING):
        for column, values in changes.items():
            for value in values:
                change = verified.owner.transaction()
                await change.start()
                await verified.owner.execute(f"UPDATE audit_logs SET {column} = {value}")
                for row in await plain_rows(verified.owner, 0, 40):
                    assert plain_leaf(tuple(row)) is None, (column, value)
                await change.rollback()
    quick = await plain_rows(verified.owner, 0, 40)
    for row, slow in zip(quick, await trees.rows(verified.owner, 0, 40), strict=True):
        try:
            leaf = recomputed_leaf(dict(slow))
        except EntryDiffers:  # pragma: no cover
            raise AssertionError from None
        assert plain_leaf(tuple(row)) in {None, leaf}


async def collected(verified: Verified, first: int, end: int) -> list[Window]:
    return [window async for window in rechecked(verified.world.reader, first, end)]


def children() -> set[int]:
    listed = children_of(os.getpid()).items()
    return {process for process, command in listed if "recheck_process" in command}


async def test_a_process_of_its_own_finds_the_same(
    verified: Verified, monkeypatch: pytest.MonkeyPatch
) -> None:
    await verified.append(SIZE)
    here = await collected(verified, 10, SIZE)
    monkeypatch.setattr(recheck_process, "WORTH_A_PROCESS", 2)
    assert await collected(verified, 10, SIZE) == here
    assert (await verified.run()).mismatch is None
    assert not children()
    await verified.walls_down()
    await verified.owner.execute("UPDATE audit_logs SET action = 'x' WHERE leaf_index = 300")
    there = await collected(verified, 10, SIZE)
    assert there[-1].mismatch is not None
    assert there[-1].mismatch.first == 300
    assert len(there[-1].leaves) == 290
    assert (await verified.found())[0] == 300
    assert not children()


async def test_processes_take_turns_with_windows(
    verified: Verified, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = rechecking.ROWS_AT_ONCE
    size = 2 * rows + 404
    await verified.append(size)
    here = await collected(verified, 10, size)
    monkeypatch.setattr(recheck_process, "WORTH_A_PROCESS", 2)
    assert await collected(verified, 10, size) == here
    assert [window.first for window in here] == [10, rows, 2 * rows]
    await verified.walls_down()
    for changed in (2 * rows + 300, rows + 300):
        await verified.owner.execute(
            "UPDATE audit_logs SET action = 'x' WHERE leaf_index = $1", changed
        )
        there = await collected(verified, 10, size)
        assert there[-1].mismatch is not None
        assert there[-1].mismatch.first == changed
        assert len(there[-1].leaves) == 300
    assert not children()


async def test_without_its_process_a_recheck_goes_on_here(
    verified: Verified, monkeypatch: pytest.MonkeyPatch
) -> None:
    await verified.append(SIZE)
    here = await collected(verified, 0, SIZE)
    monkeypatch.setattr(recheck_process, "WORTH_A_PROCESS", 2)
    monkeypatch.setattr(sys, "executable", "/bin/false")
    assert await collected(verified, 0, SIZE) == here
    monkeypatch.setattr(sys, "executable", "/nowhere")
    assert await collected(verified, 0, SIZE) == here


async def started() -> set[int]:
    async with asyncio.timeout(10):
        while not (found := children()):  # noqa: ASYNC110  (another process)
            await asyncio.sleep(0.01)
    return found


async def test_a_process_ends_with_who_asked_it(
    verified: Verified, monkeypatch: pytest.MonkeyPatch
) -> None:
    await verified.append(SIZE)
    monkeypatch.setattr(recheck_process, "WORTH_A_PROCESS", 2)
    asked = asyncio.create_task(collected(verified, 0, SIZE))
    pids = await started()
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked
    assert not pids & children()
    asked = asyncio.create_task(collected(verified, 0, SIZE))
    os.kill((await started()).pop(), signal.SIGKILL)
    assert sum(len(window.leaves) for window in await asked) == SIZE
