"""VerifyLedger's work: an untouched ledger is intact, and whatever a superuser does is found."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from services.audit.checking import rechecking
from services.audit.checking import verification as module
from services.audit.checking.verification import Progress, Verification
from services.audit.rules.events import Event, microseconds
from services.audit.rules.leaf import event_digest, leaf_hash
from services.audit.rules.recheck import recomputed_leaf, values_of
from services.audit.rules.tiles import TileKey, grown, root_of
from services.audit.signing.checkpoint_file import CheckpointFile
from services.audit.signing.integrator import Integrator
from services.audit.signing.ledger_key import LedgerKeys
from shared.db.engine import Database
from shared.errors import ValidationFailed
from shared.ids import new_id
from shared.merkle.checkpoint import Checkpoint
from tests.integration.audit.conftest import World
from tests.unit.audit import trees

ENTRIES = 40
WALLED = ("audit_logs", "merkle_tiles", "audit_checkpoints")


class Verified:
    """A signed ledger of a few entries, whose walls a superuser has taken down."""

    def __init__(self, world: World, directory: Path, tree: Database) -> None:
        self.world = world
        self.owner = world.owner
        self.count = 0
        self.keys = LedgerKeys(directory)
        self.file = CheckpointFile(directory / "checkpoints")
        self.integrator = Integrator(tree, self.keys, self.file)
        self.verification = Verification(world.reader, self.integrator, self.keys, self.file)

    async def append(self, count: int) -> None:
        events = [
            Event(
                "deploy",
                "deployment",
                f"d-{number}",
                event_id=new_id(),
                user="somebody" if number % 3 else None,
                details={"n": number, "share": 0.5, "list": [1, None, True, "\u00e9"], "far": 1e-7},
                ip_address="192.0.2.7" if number % 2 else "2001:db8::7",
                user_agent="agent" if number % 4 else None,
                aggregate=f"deployment:{number}" if number % 2 else None,
                aggregate_seq=1 if number % 2 else None,
            )
            for number in range(self.count, self.count + count)
        ]
        self.count += count
        await self.world.ledger.log_all(self.world.producer, events)
        await self.integrate()

    async def integrate(self) -> None:
        while await self.integrator.integrate():
            pass

    async def walls_down(self) -> None:
        for table in WALLED:
            await self.owner.execute(f"ALTER TABLE {table} DISABLE TRIGGER USER")

    async def run(self, known: str = "") -> Progress:
        progress = [made async for made in self.verification.run(known)]
        assert all(not made.complete for made in progress[:-1])
        assert progress[-1].complete
        return progress[-1]

    async def found(self, known: str = "") -> tuple[int, str]:
        last = await self.run(known)
        assert last.mismatch is not None, "nothing was found"
        return last.mismatch

    async def leaves(self) -> list[bytes]:
        return [row["leaf_hash"] for row in await self.world.rows()]


@pytest_asyncio.fixture
async def verified(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Verified]:
    # The integrator's loop does not run here: waiting longer for a checkpoint only takes time.
    monkeypatch.setattr(module, "WAITING_S", 0.05)
    tree = Database(world.url, role="rm_audit_integrator", application_name="test integrator")
    made = Verified(world, tmp_path, tree)
    yield made
    await tree.close()


@pytest.mark.parametrize("window", [1, 7, 2_000])
async def test_an_untouched_ledger_is_intact(
    verified: Verified, monkeypatch: pytest.MonkeyPatch, window: int
) -> None:
    monkeypatch.setattr(rechecking, "ROWS_AT_ONCE", window)
    assert (await verified.run()) == Progress(0, 0, 0, complete=True)
    await verified.integrate()
    assert (await verified.run()) == Progress(0, 0, 0, complete=True)
    notes = []
    for count in (3, 1, 290, 6):
        await verified.append(count)
        notes.append(await verified.owner.fetchval("SELECT max(note) FROM audit_checkpoints"))
    for note in notes:
        assert (await verified.run(note)) == Progress(300, 300, 300, complete=True)


async def test_entries_after_the_last_checkpoint_are_read_too(verified: Verified) -> None:
    await verified.append(5)
    await verified.world.ledger.log(verified.world.producer, Event("a", "b", "c"))
    assert (await verified.run()) == Progress(6, 6, 5, complete=True)
    await verified.walls_down()
    await verified.owner.execute("UPDATE audit_logs SET action = 'x' WHERE leaf_index = 5")
    assert (await verified.found())[0] == 5


FIELDS = {
    "id": "overlay(id::text PLACING 'f' FROM 28)::uuid",
    "event_id": "gen_random_uuid()",
    "user_id": "(SELECT id FROM users WHERE username = 'deployment')",
    "action": "action || 's'",
    "resource_type": "'service'",
    "resource_id": "resource_id || ' '",
    "details": """details || '{"n": 0.5}'""",
    "ip_address": "'192.0.2.8'",
    "user_agent": "coalesce(user_agent || ' ', '')",
    "category": "'security'",
    "producer": "'catalog'",
    "aggregate": "'deployment:x', aggregate_seq = 1",
    "aggregate_seq": "7, aggregate = coalesce(aggregate, 'deployment:x')",
    "occurred_at": "occurred_at + interval '1 microsecond'",
    "created_at": "created_at - interval '1 microsecond'",
    "updated_at": "updated_at + interval '1 second'",
    "leaf_version": "2",
    "salt": "sha256(salt)",
    "event_digest": "sha256(event_digest)",
    "leaf_hash": "sha256(leaf_hash)",
    "redactions": "'{}'",
    "leaf_index": "leaf_index + 1000",
}
# Values that look the same, or that no service can read.
SAME_AT_FIRST_SIGHT = {
    "details": "replace(details::text, '0.5', '0.50')::jsonb",
    "details ": "replace(details::text, '0.5', '0.5000000000000000000001')::jsonb",
    "details  ": "replace(details::text, '0.5', '1e400')::jsonb",
    "details   ": "'[1]'",
    "ip_address": "'::ffff:192.0.2.7'",
    "ip_address ": "set_masklen(ip_address, 24)",
    "salt": "NULL",
    "occurred_at": "'infinity'",
    "occurred_at ": "'0044-03-15 BC'",
}


async def test_every_column_is_held_against_the_leaf(verified: Verified) -> None:
    await verified.append(ENTRIES)
    await verified.walls_down()
    columns = await verified.owner.fetch(
        "SELECT attname FROM pg_attribute WHERE attrelid = 'audit_logs'::regclass AND attnum > 0"
    )
    assert FIELDS.keys() == {row["attname"] for row in columns}
    for column, value in [*FIELDS.items(), *SAME_AT_FIRST_SIGHT.items()]:
        change = verified.owner.transaction()
        await change.start()
        before = await verified.owner.fetchrow("SELECT * FROM audit_logs WHERE leaf_index = 21")
        await verified.owner.execute(
            f"UPDATE audit_logs SET {column} = {value} WHERE leaf_index = 21"
        )
        await change.commit()
        place, problem = await verified.found()
        assert place == 21, (column, value, problem)
        assert before is not None
        await verified.owner.execute(
            "DELETE FROM audit_logs WHERE leaf_index IN (21, 1021) AND resource_id LIKE 'd-21%'"
        )
        numbers = ", ".join(f"${number}" for number in range(1, len(before) + 1))
        await verified.owner.execute(f"INSERT INTO audit_logs VALUES ({numbers})", *before)
        assert (await verified.run()).mismatch is None


async def cut(verified: Verified, size: int) -> None:
    """Cut everything off behind a size, and let the rest fit."""
    owner = verified.owner
    for table, column in (
        ("audit_logs", "leaf_index >="),
        ("audit_event_keys", "leaf_index >="),
        ("audit_checkpoints", "tree_size >"),
    ):
        await owner.execute(f"DELETE FROM {table} WHERE {column} $1", size)
    await owner.execute(
        "UPDATE audit_log_head SET next_index = $1,"
        " last_at = (SELECT max(created_at) FROM audit_logs)",
        size,
    )
    signed = await owner.fetchval("SELECT coalesce(max(tree_size), 0) FROM audit_checkpoints")
    await grow_tiles(verified, signed)


async def grow_tiles(verified: Verified, size: int) -> dict[TileKey, bytes]:
    """Store the tiles of the first entries, and none beyond."""
    tiles = grown({}, 0, (await verified.leaves())[:size])
    await verified.owner.execute("DELETE FROM merkle_tiles")
    for key, hashes in tiles.items():
        await verified.owner.execute("INSERT INTO merkle_tiles VALUES ($1, $2, $3)", *key, hashes)
    return tiles


async def rewritten(verified: Verified, place: int) -> dict[TileKey, bytes]:
    """Change an entry and everything that follows from it but for signatures."""
    owner = verified.owner
    await owner.execute("UPDATE audit_logs SET action = 'approve' WHERE leaf_index = $1", place)
    row = await owner.fetchrow("SELECT * FROM audit_logs WHERE leaf_index = $1", place)
    assert row is not None
    digest, leaf = forged(dict(row))
    await owner.execute(
        "UPDATE audit_logs SET event_digest = $2, leaf_hash = $3 WHERE leaf_index = $1",
        *(place, digest, leaf),
    )
    return await grow_tiles(verified, len(await verified.leaves()))


def forged(row: dict[str, Any]) -> tuple[bytes, bytes]:
    """Return digest and leaf of the fields of a row, as the ledger would compute them."""
    digest = event_digest(values_of(row), row["salt"])
    leaf = leaf_hash(row["leaf_index"], microseconds(row["created_at"]), digest)
    assert recomputed_leaf(row | {"event_digest": digest, "leaf_hash": leaf}) == leaf
    return digest, leaf


async def test_an_entry_rewritten_with_its_tree_contradicts_the_signature(
    verified: Verified,
) -> None:
    await verified.append(20)
    await verified.append(20)
    await verified.walls_down()
    tiles = await rewritten(verified, 30)
    place, problem = await verified.found()
    assert place == 20
    assert problem.startswith("The first 40 entries do not have the root of the checkpoint")
    # Nor does it help to take the signatures away, as one is outside, or in somebody's hands.
    kept = await verified.owner.fetchval("SELECT note FROM audit_checkpoints WHERE tree_size = 40")
    await verified.owner.execute("DELETE FROM audit_checkpoints WHERE tree_size > 20")
    assert "published outside" in (await verified.found())[1]
    verified.file.path.unlink()
    await grow_tiles(verified, 20)
    assert (await verified.run()).mismatch is None
    assert "that you have kept" in (await verified.found(kept))[1]
    # Who has the key as well is found by what was kept, and by nothing else.
    origin = verified.keys.ring.origin
    note = verified.keys.ring.signed(Checkpoint(origin, 40, root_of(40, tiles)))
    await verified.owner.execute(
        "INSERT INTO audit_checkpoints VALUES (40, $1, $2)", root_of(40, tiles), note
    )
    await grow_tiles(verified, 40)
    assert (await verified.run()).mismatch is None
    assert (await verified.found(kept))[0] == 20


async def test_a_tail_that_was_cut_is_found_by_what_is_outside(verified: Verified) -> None:
    await verified.append(20)
    kept = await verified.owner.fetchval("SELECT note FROM audit_checkpoints")
    await verified.append(20)
    await verified.walls_down()
    await cut(verified, 20)
    assert (await verified.found()) == (
        20,
        (
            "The ledger ends at 20, but the checkpoint published outside the database covers 40"
            " entries."
        ),
    )
    await cut(verified, 10)
    verified.file.path.unlink()
    assert (await verified.run()).mismatch is None
    # Nothing proves what is left.
    assert (await verified.found(kept))[0] == 0


async def test_signatures_are_checked(verified: Verified) -> None:
    await verified.append(5)
    await verified.append(5)
    await verified.walls_down()
    await verified.owner.execute(
        "UPDATE audit_checkpoints SET note = replace(note, E'\\n5\\n', E'\\n6\\n')"
    )
    place, problem = await verified.found()
    assert place == 0
    assert "signature of release-manager/audit is wrong" in problem


@pytest.mark.parametrize("note", ["x", "release-manager/audit\n5\nAAAA\n\n\u2014 a b\n"])
async def test_what_is_no_checkpoint_of_this_ledger_is_refused(
    verified: Verified, note: str
) -> None:
    await verified.append(5)
    with pytest.raises(ValidationFailed, match="known_checkpoint"):
        await verified.run(note)


async def test_a_file_with_something_else_is_told(verified: Verified) -> None:
    await verified.append(5)
    verified.file.path.write_text("nothing\n")
    assert "has no checkpoint of this key" in (await verified.found())[1]


async def test_the_definition_agrees_with_what_is_verified(verified: Verified) -> None:
    await verified.append(ENTRIES)
    root = await verified.owner.fetchval("SELECT root FROM audit_checkpoints")
    assert root == trees.root(await verified.leaves())
