"""New epochs: after a restore that lost entries, the ledger goes on and says what is lost."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import pytest_asyncio

from services.audit.reading.entries import Reading
from services.audit.retention.announcing import Announcer
from services.audit.retention.redacting import Redacting
from services.audit.rules.redaction import is_about_the_ledger
from services.audit.signing.integrator import SigningRefused
from services.audit.signing.key_changes import CommandRefused, drop_key, key_name, rotate_key
from services.audit.signing.new_epoch import Plan
from services.audit.signing.proofs import Proofs
from shared.clock import system_clock
from shared.db.engine import Database
from shared.errors import NotRedactable
from shared.identity.actor import Actor, Call, Role, current_call
from shared.identity.keys import read_private
from shared.merkle.checkpoint import LOG, Checkpoint, signed
from shared.merkle.note import Ed25519Signer
from shared.merkle.tree import verify_consistency
from shared.paging import PageTokens
from tests.integration.audit.conftest import SECRET, World
from tests.integration.audit.signing import SignedLedger
from tests.support.walls import put_up, take_down

STEPS = 4
REASON = "The disk failed; restored from the backup of the night."


@pytest_asyncio.fixture
async def ledger(world: World, tmp_path: Path) -> AsyncIterator[SignedLedger]:
    tree = Database(world.url, role="rm_audit_integrator", application_name="test integrator")
    owner = Database(world.url, role=None, application_name="test command")
    (tmp_path / "keys").mkdir()
    yield SignedLedger(world, tmp_path / "keys", tree, owner)
    await tree.close()
    await owner.close()


async def begin(ledger: SignedLedger, steps: int = STEPS + 1) -> Plan:
    """Begin an epoch, up to a number of steps: a command that is killed does no more."""
    command = ledger.new_epoch
    plan = await command.plan()
    done = 0
    steps_of = command.begin(plan, REASON)
    async for _sentence in steps_of:
        done += 1
        if done == steps:
            await steps_of.aclose()
            break
    return plan


async def told(ledger: SignedLedger) -> list[dict[str, Any]]:
    rows = await ledger.owner.fetch(
        "SELECT leaf_index, details::text AS details FROM audit_logs"
        " WHERE action = 'epoch' ORDER BY leaf_index"
    )
    return [json.loads(row["details"]) | {"at": row["leaf_index"]} for row in rows]


async def parts(ledger: SignedLedger, *sizes: int) -> None:
    """Append and sign, so that there is a checkpoint at each of the sizes."""
    there = len(await ledger.world.rows())
    for size in sizes:
        await ledger.append(size - there)
        there = size


@pytest.mark.parametrize("tree_too", [True, False])
async def test_a_restored_ledger_goes_on_in_a_new_epoch(
    ledger: SignedLedger,
    tree_too: bool,  # noqa: FBT001
) -> None:
    await parts(ledger, 300, 600, 700)
    kept = await ledger.notes()
    await ledger.restore(650, tree_too=tree_too)
    with pytest.raises(SigningRefused, match="the ledger has 650 entries"):
        await ledger.sign()
    plan = await begin(ledger)
    assert (plan.number, plan.fork, plan.entries, plan.signed) == (1, 600, 650, 700)
    (entry,) = await told(ledger)
    assert entry["checkpoints"] == [kept[-1]]
    lost = (entry["at"], entry["lost_at_least"], entry["lost_at_most"], entry["reason"])
    assert lost == (650, 50, 100, REASON)
    await ledger.append(9)
    ring = ledger.keys.ring
    newest = ring.opened((await ledger.notes())[-1])
    assert (newest.origin, newest.size) == (f"{LOG}/1", 660)
    # What was signed of the surviving entries holds, what was signed of lost ones is accounted for.
    for note in (*kept, (await ledger.notes())[-1]):
        assert (await ledger.verified(note)).mismatch is None
    integrator = ledger.integrator()
    integrator.start()
    proof = await Proofs(ledger.world.reader, integrator).consistency(600)
    await integrator.stop()
    old, new = ring.opened(proof.old_note), ring.opened(proof.new_note)
    assert (old.origin, new.origin) == (LOG, f"{LOG}/1")
    assert verify_consistency(600, 660, proof.hashes, old.root, new.root)
    evidence = await ledger.owner.fetch("SELECT epoch, tree_size FROM audit_checkpoints")
    assert ((0, 700) in {tuple(row) for row in evidence}) is not tree_too
    assert {path.name for path in ledger.directory.glob("*.pub")} == {
        "ledger.pub",
        f"ledger-{key_name(ring.verifiers[-1])}.pub",
    }


@pytest.mark.parametrize("tree_too", [True, False])
async def test_lost_events_are_accepted_again(
    ledger: SignedLedger,
    tree_too: bool,  # noqa: FBT001
) -> None:
    await ledger.append(6)
    lost = await ledger.append(4)
    await ledger.restore(6, tree_too=tree_too)
    await begin(ledger)
    await ledger.world.ledger.log_all(ledger.world.producer, lost)
    entries = [row["event_id"] for row in await ledger.world.rows()]
    assert entries[7:] == [event.event_id for event in lost]
    await ledger.sign()
    assert (await ledger.verified()).mismatch is None


async def test_what_was_signed_of_lost_entries_covers_nothing(ledger: SignedLedger) -> None:
    """No month may be dropped because an abandoned checkpoint is large enough."""
    signed_entries = "SELECT audit_signed_entries()"
    await parts(ledger, 10, 20)
    assert await ledger.owner.fetchval(signed_entries) == 20
    await ledger.restore(12, tree_too=False)
    await begin(ledger)
    assert await ledger.owner.fetchval(signed_entries) == 0
    await ledger.sign()
    assert await ledger.owner.fetchval(signed_entries) == 13


async def test_an_epoch_that_only_the_database_has_hides_nothing(ledger: SignedLedger) -> None:
    """Who has the database can begin one with everything in its place, but for `ledger.pub`."""
    await parts(ledger, 10, 20)
    public = (ledger.directory / "ledger.pub").read_text()
    await ledger.restore(12)
    await begin(ledger)
    (ledger.directory / "ledger.pub").write_text(public)
    await ledger.append(3, prefix="forged", signed=False)
    found = (await ledger.verified()).mismatch
    assert found is not None
    assert "is not that of the keys" in found.problem
    assert found.first == 10


async def test_the_leaves_of_retired_entries_are_not_cut_off(ledger: SignedLedger) -> None:
    await parts(ledger, 10, 20)
    await ledger.restore(16)
    await ledger.owner.execute(
        "INSERT INTO audit_retirements (month, first_index, end_index, leaf_index, dropped_at)"
        " VALUES ('2025-01-01', 0, 12, 14, now())"
    )
    with pytest.raises(CommandRefused, match="Entries up to 12 were retired"):
        await ledger.new_epoch.plan()


async def test_what_an_epoch_rests_on_can_be_neither_erased_nor_dropped(
    ledger: SignedLedger,
) -> None:
    """Entries of epochs and keys are about the ledger, as redactions and retirements are."""
    await ledger.append(6)
    await ledger.restore(4)
    await begin(ledger)
    await ledger.sign()
    async for _sentence in rotate_key(ledger.directory, ledger.entries):
        pass
    rows = {row["action"]: row for row in await ledger.world.rows()}
    for action in ("epoch", "rotate_key"):
        assert is_about_the_ledger(rows[action]["producer"], rows[action]["category"])
    reader, admin = ledger.world.reader, Actor(ledger.world.user_id, "somebody", Role.ADMIN)
    keeper = Database(ledger.world.url, role="rm_audit_keeper", application_name="test keeper")
    tokens, announcer = PageTokens(SECRET), Announcer(SECRET, system_clock)
    redacting = Redacting(keeper, reader, Reading(reader, tokens), announcer)
    known = current_call.set(Call("/test", "request", actor=admin))
    with pytest.raises(NotRedactable):
        await redacting.redact(rows["epoch"]["leaf_index"], ["details"], "x")
    current_call.reset(known)
    await keeper.close()
    assert (await ledger.verified()).mismatch is None


async def test_entries_that_came_after_the_restore_stay(ledger: SignedLedger) -> None:
    await parts(ledger, 10, 20)
    await ledger.restore(12)
    await ledger.append(3, prefix="later", signed=False)
    plan = await begin(ledger)
    assert (plan.fork, plan.entries) == (10, 15)
    await ledger.append(30)
    assert (await told(ledger))[0]["at"] == 15
    assert (await ledger.verified()).mismatch is None


async def test_a_ledger_that_has_outgrown_what_was_signed(ledger: SignedLedger) -> None:
    await parts(ledger, 10, 20)
    await ledger.restore(10)
    await ledger.append(30, prefix="later", signed=False)
    with pytest.raises(SigningRefused, match="another root was published for 20"):
        await ledger.sign()
    plan = await begin(ledger)
    assert not plan.is_behind  # which the command line asks about
    assert (plan.fork, plan.entries, plan.signed) == (10, 40, 20)
    await ledger.append(1)
    assert (await ledger.verified()).mismatch is None


@pytest.mark.parametrize("steps", range(1, STEPS + 1))
async def test_a_command_killed_after_any_step_is_completed(
    ledger: SignedLedger, steps: int
) -> None:
    await parts(ledger, 10, 20)
    kept = (await ledger.notes())[-1]
    await ledger.restore(13)
    await begin(ledger, steps)
    if steps < STEPS:
        assert await told(ledger) == []
        with pytest.raises(SigningRefused):
            await ledger.sign()
        await begin(ledger)
    with pytest.raises(CommandRefused, match="Nothing is lost"):
        await ledger.new_epoch.plan()
    assert [entry["epoch"] for entry in await told(ledger)] == [1]
    await ledger.append(4)
    assert (await ledger.verified(kept)).mismatch is None


async def test_commands_at_the_same_time_begin_one_epoch(ledger: SignedLedger) -> None:
    await parts(ledger, 10, 20)
    await ledger.restore(13)
    results = await asyncio.gather(*(begin(ledger) for _number in range(2)), return_exceptions=True)
    assert sorted(type(result).__name__ for result in results) == ["CommandRefused", "Plan"]
    assert len(await told(ledger)) == 1
    await ledger.append(1)
    assert (await ledger.verified()).mismatch is None


async def test_nothing_is_done_where_nothing_is_lost(ledger: SignedLedger) -> None:
    with pytest.raises(CommandRefused, match="Nothing is lost"):
        await ledger.new_epoch.plan()
    await parts(ledger, 5, 9)
    await ledger.append(2, signed=False)
    with pytest.raises(CommandRefused, match="Nothing is lost"):
        await ledger.new_epoch.plan()
    await take_down(ledger.owner)
    await ledger.owner.execute("DELETE FROM audit_logs WHERE leaf_index = 9")
    with pytest.raises(CommandRefused, match="entry at 9 is missing"):
        await ledger.new_epoch.plan()


async def test_one_epoch_after_another(ledger: SignedLedger) -> None:
    await parts(ledger, 10, 20)
    notes = await ledger.notes()
    await ledger.restore(15)
    await begin(ledger)
    await ledger.append(10)
    async for _sentence in rotate_key(ledger.directory, ledger.entries):
        pass
    await ledger.append(10)
    notes += (await ledger.notes())[-2:]
    # This time from a backup that knows nothing of the first new epoch.
    await ledger.restore(12)
    await take_down(ledger.owner)
    await ledger.owner.execute("DELETE FROM audit_checkpoints WHERE epoch = 1")
    await ledger.owner.execute("DELETE FROM audit_epochs WHERE epoch = 1")
    await ledger.owner.execute("UPDATE audit_log_head SET epoch = 0, origin = $1", LOG)
    await put_up(ledger.owner)
    with pytest.raises(SigningRefused, match="the database is that of the log"):
        await ledger.sign()
    plan = await begin(ledger)
    assert (plan.number, plan.fork, plan.entries, plan.signed) == (2, 10, 12, 37)
    await ledger.append(40)
    assert (await ledger.verified(notes[0])).mismatch is None
    assert (await ledger.verified(notes[-1])).mismatch is None
    # A checkpoint of lost entries that no entry quotes is not taken on trust.
    assert "does not name it" in str((await ledger.verified(notes[-2])).mismatch)
    for verifier in ledger.keys.ring.verifiers[1:]:
        if verifier.name == f"{LOG}/2":
            async for _sentence in drop_key(ledger.directory, ledger.entries, key_name(verifier)):
                pass
    await ledger.append(1)
    assert (await ledger.verified(notes[0])).mismatch is None


async def test_a_new_name_in_the_database_alone_is_not_signed(ledger: SignedLedger) -> None:
    """Whoever may change the database cannot begin an epoch: its name comes from outside."""
    await parts(ledger, 10, 20)
    public = (ledger.directory / "ledger.pub").read_text()
    await ledger.restore(13)
    await begin(ledger)
    (ledger.directory / "ledger.pub").write_text(public)
    with pytest.raises(SigningRefused, match=f"that of the log {LOG}/1"):
        await ledger.sign()
    with pytest.raises(CommandRefused, match="put back the newest"):
        await ledger.new_epoch.plan()


@pytest.mark.parametrize(
    ("tampering", "problem"),
    [
        ("UPDATE audit_epochs SET fork = 10 WHERE epoch = 1", "did not begin the epoch"),
        ("UPDATE audit_epochs SET note = NULL WHERE epoch = 1", "did not begin the epoch"),
        ("UPDATE audit_epochs SET leaf_index = 40 WHERE epoch = 1", "did not begin the epoch"),
        ("UPDATE audit_epochs SET leaf_index = 400 WHERE epoch = 1", "is missing"),
        ("DELETE FROM audit_checkpoints WHERE epoch = 0 AND tree_size = 30", "did not begin"),
        (
            "INSERT INTO audit_epochs VALUES (2, 'release-manager/audit/2', 40, 25, NULL)",
            "does not name it",
        ),
        ("UPDATE audit_checkpoints SET epoch = 0 WHERE tree_size = 50", "did not begin"),
    ],
)
async def test_what_is_done_to_epochs_is_found(
    ledger: SignedLedger, tampering: str, problem: str
) -> None:
    await parts(ledger, 10, 20, 30)
    await ledger.restore(25, tree_too=False)
    await begin(ledger)
    await ledger.append(24)
    assert (await ledger.verified()).mismatch is None
    await take_down(ledger.owner)
    await ledger.owner.execute(tampering)
    assert problem in str((await ledger.verified()).mismatch)


async def test_only_a_beginning_epoch_cuts_tiles(ledger: SignedLedger) -> None:
    await parts(ledger, 300)
    for statement in (
        "DELETE FROM merkle_tiles WHERE tile = 1",
        "UPDATE merkle_tiles SET hashes = substring(hashes FOR 32)",
        "UPDATE audit_epochs SET origin = 'x'",
        "DELETE FROM audit_epochs",
        "TRUNCATE audit_epochs CASCADE",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await ledger.owner.execute(statement)
    for role in ("rm_audit_writer", "rm_audit_integrator", "rm_audit_reader", "rm_catalog"):
        may = await ledger.owner.fetchval(
            "SELECT bool_or(has_function_privilege($1, oid, 'EXECUTE')) FROM pg_proc"
            " WHERE proname = 'audit_new_epoch'",
            role,
        )
        assert not may
    # Not even in the transaction that begins an epoch, to another size than its own.
    async with ledger.owner.transaction():
        await ledger.owner.execute(
            "INSERT INTO audit_epochs VALUES (1, 'release-manager/audit/1', 300, 270, NULL)"
        )
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            async with ledger.owner.transaction():
                await ledger.owner.execute(
                    "UPDATE merkle_tiles SET hashes = substring(hashes FOR 32)"
                    " WHERE level = 0 AND tile = 1"
                )
    assert (await ledger.owner.fetchval("SELECT sum(octet_length(hashes)) FROM merkle_tiles")) == (
        301 * 32
    )


async def test_a_checkpoint_that_the_new_epoch_does_not_name_stops_signing(
    ledger: SignedLedger,
) -> None:
    await parts(ledger, 10, 20)
    await ledger.restore(13)
    await begin(ledger)
    ring = ledger.keys.ring
    old = next(one for one in ring.verifiers if one.name == LOG)
    assert old.public == ring.verifier.public
    late = signed(
        Checkpoint(LOG, 25, b"r" * 32),
        Ed25519Signer(LOG, read_private(ledger.directory / "ledger.pem")),
    )
    ledger.file.append(late)
    with pytest.raises(SigningRefused, match="does not name it"):
        await ledger.sign()
