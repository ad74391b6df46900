"""The integrator on a real database: the tree, its checkpoints, restarts and replicas."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from random import Random

import asyncpg
import pytest
import pytest_asyncio

from services.audit.rules.events import Event
from services.audit.rules.tiles import FULL_BYTES, TileKey
from services.audit.signing import integrator as module
from services.audit.signing.checkpoint_file import CheckpointFile
from services.audit.signing.integrator import Integrator, SigningRefused
from services.audit.signing.ledger_key import LedgerKeys
from services.audit.signing.proofs import Proofs
from shared.db.engine import Database
from shared.errors import PositionOutOfRange, SigningStopped
from shared.identity.keys import KeysInvalid
from shared.ids import new_id
from shared.merkle.checkpoint import opened
from shared.merkle.note import Verifier
from shared.merkle.tree import verify_consistency, verify_inclusion
from tests.integration.audit.conftest import World
from tests.unit.audit import trees

SIGNED = "SELECT tree_size, root, note FROM audit_checkpoints ORDER BY tree_size"
TILES = "SELECT level, tile, hashes FROM merkle_tiles ORDER BY level, tile"


@dataclass
class Signing:
    """A ledger with a key, a file of checkpoints, and any number of integrators."""

    world: World
    directory: Path
    keys: LedgerKeys
    tree: Database

    @property
    def file(self) -> CheckpointFile:
        return CheckpointFile(self.directory / "checkpoints")

    def integrator(self) -> Integrator:
        return Integrator(self.tree, self.keys, self.file)

    async def append(self, count: int) -> None:
        for first in range(0, count, 1_000):
            numbers = range(first, min(count, first + 1_000))
            events = [Event("deploy", "deployment", f"d-{n}", event_id=new_id()) for n in numbers]
            await self.world.ledger.log_all(self.world.producer, events)

    async def leaves(self) -> list[bytes]:
        return [row["leaf_hash"] for row in await self.world.rows()]


@pytest_asyncio.fixture
async def signing(world: World, tmp_path: Path) -> AsyncIterator[Signing]:
    tree = Database(world.url, role="rm_audit_integrator", application_name="test integrator")
    yield Signing(world, tmp_path, LedgerKeys(tmp_path), tree)
    await tree.close()


async def caught_up(integrator: Integrator) -> None:
    while await integrator.integrate():
        pass


async def test_an_empty_ledger_is_signed_too(signing: Signing) -> None:
    assert await signing.integrator().integrate() is False
    (row,) = await signing.world.owner.fetch(SIGNED)
    assert (row["tree_size"], row["root"]) == (0, sha256(b"").digest())
    await signing.append(1)
    await caught_up(signing.integrator())
    assert len(await signing.world.owner.fetch(SIGNED)) == 2


async def test_checkpoints_are_signed_and_kept_outside(signing: Signing) -> None:
    public = Verifier.parse((signing.directory / "ledger.pub").read_text())
    for count in (3, 300, 1):
        await signing.append(count)
        await caught_up(signing.integrator())
    rows = await signing.world.owner.fetch(SIGNED)
    leaves = await signing.leaves()
    assert [row["tree_size"] for row in rows] == [3, 303, 304]
    for row in rows:
        checkpoint = opened(row["note"], public)
        assert (checkpoint.size, checkpoint.root) == (row["tree_size"], row["root"])
        assert checkpoint.root == trees.root(leaves[: checkpoint.size])
    assert signing.file.path.read_text() == "".join(f"{row['note']}\n" for row in rows)
    newest = signing.file.newest(public)
    assert newest is not None
    assert newest.size == 304


async def test_nothing_new_is_not_signed_again(signing: Signing) -> None:
    await signing.append(2)
    for _time in range(3):
        await caught_up(signing.integrator())
    assert len(await signing.world.owner.fetch(SIGNED)) == 1


async def test_a_pass_that_fails_is_repeated(
    signing: Signing, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A smaller pass, so that a few hundred entries take several of them.
    monkeypatch.setattr(module, "LEAVES_AT_ONCE", 100)
    await signing.append(450)
    crashing = signing.integrator()
    assert await crashing.integrate()
    publish = crashing._publish  # noqa: SLF001

    def crash(note: str) -> None:
        publish(note)
        raise ConnectionError

    # The crash between publishing and storing, which nothing from outside can time.
    monkeypatch.setattr(crashing, "_publish", crash)
    with pytest.raises(ConnectionError):
        await crashing.integrate()
    # Published for 200 entries, stored for 100: the next one signs at least as much, and agrees.
    await caught_up(signing.integrator())
    rows = await signing.world.owner.fetch(SIGNED)
    assert [row["tree_size"] for row in rows] == [100, 200, 300, 400, 450]
    assert rows[-1]["root"] == trees.root(await signing.leaves())


async def test_a_note_cut_off_by_a_crash_is_skipped(signing: Signing) -> None:
    await signing.append(2)
    await caught_up(signing.integrator())
    with signing.file.path.open("a") as file:
        file.write("release-manager/audit\n7\nAAAA")
    await signing.append(2)
    await caught_up(signing.integrator())
    newest = signing.file.newest(signing.keys.ring.verifier)
    assert newest is not None
    assert newest.size == 4


async def test_replicas_make_one_tree(signing: Signing, monkeypatch: pytest.MonkeyPatch) -> None:
    # A smaller pass, so that the replicas meet in many of them.
    monkeypatch.setattr(module, "LEAVES_AT_ONCE", 50)
    replicas = [signing.integrator() for _number in range(2)]
    for replica in replicas:
        replica.start()
    for _time in range(10):
        await signing.append(60)
    await asyncio.gather(*(replica.covering(600) for replica in replicas))
    for replica in replicas:
        await replica.stop()
    rows = await signing.world.owner.fetch(SIGNED)
    leaves = await signing.leaves()
    for row in rows:
        assert row["root"] == trees.root(leaves[: row["tree_size"]])
    assert rows[-1]["tree_size"] == 600
    tiles = await signing.world.owner.fetch(TILES)
    assert [(row["level"], row["tile"]) for row in tiles] == [(0, 0), (0, 1), (0, 2), (1, 0)]
    assert b"".join(row["hashes"] for row in tiles[:3]) == b"".join(leaves)


async def test_proofs_hold_for_random_entries(signing: Signing) -> None:
    integrator = signing.integrator()
    integrator.start()
    proofs = Proofs(signing.world.reader, integrator)
    await signing.append(700)
    newest = await proofs.inclusion(699)
    leaves = await signing.leaves()
    chance = Random(7)
    root = trees.root(leaves)
    assert opened(newest.note, signing.keys.ring.verifier).root == root
    for index in chance.sample(range(700), 40):
        made = await proofs.inclusion(index)
        assert made.leaf_hash == leaves[index]
        assert verify_inclusion(leaves[index], index, 700, made.hashes, root)
        old = chance.randint(0, 700)
        pair = await proofs.consistency(old)
        assert verify_consistency(old, 700, pair.hashes, trees.root(leaves[:old]), root)
    early = await proofs.inclusion(3, 5)
    assert verify_inclusion(leaves[3], 3, 5, early.hashes, trees.root(leaves[:5]))
    assert await proofs.tile(TileKey(0, 1), 256) == b"".join(leaves[256:512])
    assert await proofs.tile(TileKey(1, 0), 2) == trees.root(leaves[:256]) + trees.root(
        leaves[256:512]
    )
    for beyond in (
        proofs.inclusion(700),
        proofs.inclusion(5, 5),
        proofs.consistency(1, 701),
        proofs.tile(TileKey(0, 2), 256),
        proofs.tile(TileKey(7, 2**62), 256),
    ):
        with pytest.raises(PositionOutOfRange):
            await beyond
    await integrator.stop()


async def cut(signing: Signing, size: int) -> None:
    """Take the ledger back to a size, as a superuser or an old backup would."""
    owner = signing.world.owner
    await owner.execute("SET session_replication_role = replica")
    for table in ("audit_logs", "merkle_tiles", "audit_checkpoints"):
        await owner.execute(f"ALTER TABLE {table} DISABLE TRIGGER USER")
    await owner.execute("DELETE FROM audit_logs WHERE leaf_index >= $1", size)
    await owner.execute("DELETE FROM audit_event_keys WHERE leaf_index >= $1", size)
    await owner.execute("DELETE FROM merkle_tiles")
    await owner.execute("DELETE FROM audit_checkpoints")
    await owner.execute("UPDATE audit_log_head SET next_index = $1", size)
    await owner.execute("SET session_replication_role = origin")


async def refusal(signing: Signing) -> str:
    """Return why a pass refuses to sign, having seen that it left no checkpoint."""
    before = await signing.world.owner.fetch(SIGNED)
    size = signing.file.path.stat().st_size
    with pytest.raises(SigningRefused) as refused:
        await caught_up(signing.integrator())
    assert await signing.world.owner.fetch(SIGNED) == before
    assert signing.file.path.stat().st_size == size
    return str(refused.value)


async def test_a_database_behind_what_was_published_is_not_signed(signing: Signing) -> None:
    await signing.append(10)
    await caught_up(signing.integrator())
    await cut(signing, 6)
    assert await refusal(signing) == "the ledger has 6 entries, 10 were published"
    # Other entries instead do not help.
    await signing.append(9)
    assert await refusal(signing) == "another root was published for 10 entries"
    running = signing.integrator()
    running.start()
    with pytest.raises(SigningStopped) as stopped:
        await running.covering(1)
    assert stopped.value.facts["problem"] == "another root was published for 10 entries"
    await running.stop()


async def test_what_was_built_from_the_same_entries_is_signed_again(signing: Signing) -> None:
    await signing.append(10)
    await caught_up(signing.integrator())
    await cut(signing, 10)
    await signing.append(2)
    await caught_up(signing.integrator())
    assert [row["tree_size"] for row in await signing.world.owner.fetch(SIGNED)] == [12]


@pytest.mark.parametrize(
    ("tampering", "problem"),
    [
        ("UPDATE merkle_tiles SET hashes = sha256('x') || substring(hashes FROM 33)", "the tiles"),
        ("DELETE FROM merkle_tiles", "tile 0/0 is missing"),
        ("UPDATE audit_checkpoints SET root = sha256('x')", "is not what was signed"),
        ("UPDATE audit_checkpoints SET note = replace(note, '10', '11')", "signature of"),
        ("UPDATE audit_log_head SET origin = 'other'", "the log other"),
        ("UPDATE audit_log_head SET next_index = 13", "entries are missing"),
        ("UPDATE audit_log_head SET next_index = 9", "10 were signed"),
    ],
)
async def test_what_contradicts_is_not_signed(
    signing: Signing, tampering: str, problem: str
) -> None:
    await signing.append(10)
    await caught_up(signing.integrator())
    await signing.append(2)
    for table in ("merkle_tiles", "audit_checkpoints"):
        await signing.world.owner.execute(f"ALTER TABLE {table} DISABLE TRIGGER USER")
    await signing.world.owner.execute(tampering)
    assert problem in await refusal(signing)


async def test_another_key_signs_nothing(signing: Signing, tmp_path: Path) -> None:
    await signing.append(3)
    await caught_up(signing.integrator())
    (tmp_path / "other").mkdir()
    other = LedgerKeys(tmp_path / "other")
    fresh = CheckpointFile(tmp_path / "other" / "checkpoints")
    for file in (signing.file, fresh):
        with pytest.raises(SigningRefused):
            await Integrator(signing.tree, other, file).integrate()
    assert not fresh.path.exists()


async def test_a_file_that_cannot_be_written_stops_signing(signing: Signing) -> None:
    signing.file.path.mkdir()
    with pytest.raises(SigningRefused, match="cannot be used"):
        await signing.integrator().integrate()
    assert await signing.world.owner.fetch(SIGNED) == []


def test_the_key_is_made_once_and_belongs_to_its_public_half(tmp_path: Path) -> None:
    first = LedgerKeys(tmp_path).ring.verifier
    assert LedgerKeys(tmp_path).ring.verifier == first
    assert (tmp_path / "ledger.pem").stat().st_mode & 0o777 == 0o600
    (tmp_path / "ledger.pem").unlink()
    with pytest.raises(KeysInvalid, match="does not belong"):
        LedgerKeys(tmp_path)
    with pytest.raises(KeysInvalid, match="cannot be made"):
        LedgerKeys(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("role", "statement"),
    [
        ("rm_audit_integrator", "UPDATE merkle_tiles SET hashes = sha256('x')"),
        ("rm_audit_integrator", "UPDATE merkle_tiles SET level = 1"),
        ("rm_audit_integrator", "DELETE FROM merkle_tiles"),
        ("rm_audit_integrator", "TRUNCATE merkle_tiles"),
        ("rm_audit_integrator", "UPDATE audit_checkpoints SET note = 'x'"),
        ("rm_audit_integrator", "DELETE FROM audit_checkpoints"),
        ("rm_audit_integrator", "SELECT details FROM audit_logs"),
        (
            "rm_audit_reader",
            "INSERT INTO audit_checkpoints SELECT 9, root, note FROM audit_checkpoints",
        ),
        ("rm_audit_writer", "SELECT * FROM merkle_tiles"),
        ("rm_catalog", "SELECT * FROM audit_checkpoints"),
        (None, "UPDATE merkle_tiles SET hashes = sha256('x')"),
        (None, "UPDATE merkle_tiles SET hashes = substring(hashes FOR 32)"),
        (None, "DELETE FROM merkle_tiles"),
        (None, "TRUNCATE merkle_tiles"),
        (None, "UPDATE audit_checkpoints SET note = 'x'"),
        (None, "DELETE FROM audit_checkpoints"),
        (None, "TRUNCATE audit_checkpoints"),
    ],
)
async def test_walls(signing: Signing, role: str | None, statement: str) -> None:
    await signing.append(2)
    await caught_up(signing.integrator())
    owner = signing.world.owner
    await owner.execute("SET session_replication_role = replica")
    if role is not None:
        await owner.execute(f"SET ROLE {role}")
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await owner.execute(statement)


async def test_a_full_tile_stays_as_it_is(signing: Signing) -> None:
    await signing.append(300)
    await caught_up(signing.integrator())
    full = await signing.world.owner.fetchval(
        "SELECT hashes FROM merkle_tiles WHERE level = 0 AND tile = 0"
    )
    assert len(full) == FULL_BYTES
    with pytest.raises(asyncpg.CheckViolationError):
        await signing.world.owner.execute(
            "UPDATE merkle_tiles SET hashes = hashes || sha256('x') WHERE level = 0 AND tile = 0"
        )
