"""The checkpoints outside the database: cut off, rolled back, on a full disk, gone."""

import resource
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import pytest_asyncio

from services.audit.signing.checkpoint_file import CheckpointFileInvalid
from services.audit.signing.integrator import SigningRefused
from services.audit.signing.ledger_key import LedgerKeys
from shared.db.engine import Database
from shared.errors import SigningStopped
from shared.merkle.checkpoint import opened
from shared.merkle.note import NoteInvalid, Verifier
from tests.integration.audit.conftest import World
from tests.integration.audit.test_integrity import SIGNED, Signing, caught_up
from tests.unit.audit import trees


@pytest_asyncio.fixture
async def five(world: World, tmp_path: Path) -> AsyncIterator[Signing]:
    """A ledger that was signed at 2, 4, 6, 8 and 10 entries."""
    tree = Database(world.url, role="rm_audit_integrator", application_name="test integrator")
    made = Signing(world, tmp_path, LedgerKeys(tmp_path), tree)
    for _time in range(5):
        await made.append(2)
        await caught_up(made.integrator())
    yield made
    await tree.close()


def sizes(made: Signing) -> list[int]:
    """Return the sizes in the file, notes that were cut off left out."""
    public = Verifier.parse((made.directory / "ledger.pub").read_text())
    found = []
    for note in made.file.all():
        with suppress(NoteInvalid):
            found.append(opened(note, public).size)
    return found


async def goes_on(made: Signing, *, expected: list[int]) -> None:
    """Append and sign; the file must have these sizes, the tree must be the right one."""
    await made.append(1)
    await caught_up(made.integrator())
    assert sizes(made) == expected
    rows = await made.world.owner.fetch(SIGNED)
    leaves = await made.leaves()
    assert [row["root"] for row in rows] == [trees.root(leaves[: row["tree_size"]]) for row in rows]


async def test_an_older_copy_of_the_file_is_continued(five: Signing) -> None:
    notes = list(five.file.all())
    five.file.path.write_text("".join(f"{note}\n" for note in notes[:2]))
    await goes_on(five, expected=[2, 4, 11])


async def test_a_file_that_is_gone_is_begun_again(five: Signing) -> None:
    five.file.path.unlink()
    assert not await five.integrator().integrate()
    assert sizes(five) == [10]
    await goes_on(five, expected=[10, 11])


@pytest.mark.parametrize("cut", [1, 2, 3, 40, 100, 170])
async def test_a_file_cut_off_anywhere_is_continued(five: Signing, cut: int) -> None:
    content = five.file.path.read_bytes()
    five.file.path.write_bytes(content[:-cut])
    assert sizes(five) == [2, 4, 6, 8]
    # A note that lost only the ends of its lines is whole again once something follows.
    await goes_on(five, expected=[2, 4, 6, 8, *[10] * (cut <= 2), 11])


async def test_a_newer_file_than_the_database_stops_signing(five: Signing) -> None:
    """As after a restore of the database alone: the file has been further."""
    await five.append(2)
    await caught_up(five.integrator())
    published = five.file.path.read_bytes()
    owner = five.world.owner
    for table in ("audit_logs", "merkle_tiles", "audit_checkpoints"):
        await owner.execute(f"ALTER TABLE {table} DISABLE TRIGGER USER")
        if table != "merkle_tiles":
            column = {"audit_logs": "leaf_index >= 10"}.get(table, "tree_size > 10")
            await owner.execute(f"DELETE FROM {table} WHERE {column}")
    await owner.execute("UPDATE audit_log_head SET next_index = 10")
    await owner.execute("UPDATE merkle_tiles SET hashes = substring(hashes FOR 320)")
    for count in (0, 1, 1, 5):
        if count:
            await five.append(count)
        with pytest.raises(SigningRefused):
            await five.integrator().integrate()
    assert five.file.path.read_bytes() == published


async def test_signing_goes_on_once_the_file_can_be_written(five: Signing) -> None:
    away = five.file.path.rename(five.directory / "away")
    five.file.path.mkdir()
    running = five.integrator()
    running.start()
    await five.append(1)
    with pytest.raises(SigningStopped):
        await running.covering(11)
    five.file.path.rmdir()
    away.rename(five.file.path)
    for _time in range(100):
        try:
            await running.covering(11)
        except SigningStopped:
            continue
        break
    await running.stop()
    assert sizes(five) == [2, 4, 6, 8, 10, 11]


@contextmanager
def disk_full_after(size: int) -> Iterator[None]:
    """Let no file of this process grow beyond a size."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("room", [0, 1, 50, 150])
async def test_a_note_that_did_not_fit_is_not_relied_upon(five: Signing, room: int) -> None:
    """A write may put down a part and say so; the checkpoint must not be stored then."""
    before = await five.world.owner.fetch(SIGNED)
    await five.append(1)
    with disk_full_after(five.file.path.stat().st_size + room), pytest.raises(SigningRefused):
        await five.integrator().integrate()
    assert await five.world.owner.fetch(SIGNED) == before
    assert sizes(five) == [2, 4, 6, 8, 10]
    await goes_on(five, expected=[2, 4, 6, 8, 10, 12])


async def test_notes_of_another_key_are_not_taken_for_its_own(
    five: Signing, tmp_path_factory: pytest.TempPathFactory
) -> None:
    other = LedgerKeys(tmp_path_factory.mktemp("other"))
    foreign = Signing(five.world, five.directory, other, five.tree)
    with pytest.raises(SigningRefused):
        await foreign.integrator().integrate()
    five.file.path.write_text("release-manager/audit\n99\nAAAA\n\n\u2014 x y\n\n")
    with pytest.raises(CheckpointFileInvalid):
        five.file.newest(Verifier.parse((five.directory / "ledger.pub").read_text()))
    with pytest.raises(SigningRefused):
        await five.integrator().integrate()
