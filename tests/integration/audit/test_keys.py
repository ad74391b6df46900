"""Keys that are replaced while the ledger is written, signed and verified."""

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest
import pytest_asyncio

from services.audit.signing import integrator as module
from services.audit.signing.integrator import Integrator, SigningRefused
from services.audit.signing.key_changes import CommandRefused, drop_key, key_name, rotate_key
from services.audit.signing.ledger_key import LedgerKeys
from services.audit.signing.proofs import Proofs
from shared.db.engine import Database
from shared.merkle.checkpoint import opened
from shared.merkle.note import Verifier
from shared.merkle.tree import verify_consistency
from tests.integration.audit.conftest import World
from tests.integration.audit.signing import SignedLedger
from tests.support.polling import eventually

STEPS_OF_ROTATION = 6
STEPS_OF_DROPPING = 3


@pytest_asyncio.fixture
async def ledger(world: World, tmp_path: Path) -> AsyncIterator[SignedLedger]:
    tree = Database(world.url, role="rm_audit_integrator", application_name="test integrator")
    owner = Database(world.url, role=None, application_name="test command")
    (tmp_path / "keys").mkdir()
    yield SignedLedger(world, tmp_path / "keys", tree, owner)
    await tree.close()
    await owner.close()


async def rotate(ledger: SignedLedger, steps: int = STEPS_OF_ROTATION + 1) -> list[str]:
    """Rotate, up to a number of steps: a command that is killed does no more."""
    said: list[str] = []
    command = rotate_key(ledger.directory, ledger.entries)
    async for sentence in command:
        said.append(sentence)
        if len(said) == steps:
            await command.aclose()
            break
    return said


async def drop(ledger: SignedLedger, key_id: str, steps: int = STEPS_OF_DROPPING + 1) -> None:
    done = 0
    command = drop_key(ledger.directory, ledger.entries, key_id)
    async for _sentence in command:
        done += 1
        if done == steps:
            await command.aclose()
            return


async def entries(ledger: SignedLedger) -> list[tuple[str, str]]:
    found = await ledger.owner.fetch(
        "SELECT action, resource_id FROM audit_logs WHERE resource_type = 'ledger_key'"
        " ORDER BY leaf_index"
    )
    return [(row["action"], row["resource_id"]) for row in found]


async def test_a_rotation_from_one_key_to_the_next(ledger: SignedLedger) -> None:
    await ledger.append(3)
    first = ledger.keys.ring.verifier
    assert len(await rotate(ledger)) == STEPS_OF_ROTATION
    second = ledger.keys.ring.verifier
    assert second != first
    assert Verifier.parse((ledger.directory / "ledger.pub").read_text()) == second
    await ledger.append(3)
    # Both sign: whoever has either key is content.
    newest = (await ledger.notes())[-1]
    assert opened(newest, first).size == opened(newest, second).size == 7
    await drop(ledger, key_name(first))
    await ledger.append(3)
    old, both, new = await ledger.notes()
    assert opened(both, first).size == 7
    assert opened(new, second).size == 11
    assert "\n\u2014 " in new
    assert new.count("\n\u2014 ") == 1
    # What the dropped key has signed is still proved, by its public half.
    assert (await ledger.verified(old)).mismatch is None
    assert await entries(ledger) == [
        ("rotate_key", key_name(second)),
        ("drop_key", key_name(first)),
    ]
    assert {path.name for path in ledger.directory.iterdir()} == {
        *("checkpoints", "ledger.pem", "ledger.pub"),
        f"ledger-{key_name(first)}.pub",
    }
    for name in ("ledger.pem", "ledger.pub"):
        assert (ledger.directory / name).stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("steps", range(1, STEPS_OF_ROTATION + 1))
async def test_a_rotation_killed_after_any_step_is_completed(
    ledger: SignedLedger, steps: int
) -> None:
    await ledger.append(2)
    first = ledger.keys.ring.verifier
    await rotate(ledger, steps)
    await ledger.append(2)
    assert opened((await ledger.notes())[-1], first).size in {4, 5}
    await rotate(ledger)
    ring = ledger.keys.ring
    assert {signer.verifier for signer in ring.signers} == {ring.verifier, first}
    assert ring.verifier != first
    assert await entries(ledger) == [("rotate_key", key_name(ring.verifier))]
    assert not [path for path in ledger.directory.iterdir() if ".new-" in path.name]
    assert not (ledger.directory / "ledger-next.pem").exists()
    await ledger.append(1)
    assert (await ledger.verified()).mismatch is None


@pytest.mark.parametrize("steps", range(1, STEPS_OF_DROPPING + 1))
async def test_a_drop_killed_after_any_step_is_completed(ledger: SignedLedger, steps: int) -> None:
    first = ledger.keys.ring.verifier
    await ledger.append(1)
    await rotate(ledger)
    await drop(ledger, key_name(first), steps)
    await ledger.append(1)
    await drop(ledger, key_name(first))
    await drop(ledger, key_name(first).upper())
    assert [action for action, _key in await entries(ledger)] == ["rotate_key", "drop_key"]
    assert len(ledger.keys.ring.signers) == 1
    assert first in ledger.keys.ring.verifiers
    assert (await ledger.verified()).mismatch is None


async def test_what_cannot_be_dropped(ledger: SignedLedger) -> None:
    only = key_name(ledger.keys.ring.verifier)
    for key_id, why in ((only, "current"), ("00000000", "no key 00000000"), ("x", "no key x")):
        with pytest.raises(CommandRefused, match=why):
            await drop(ledger, key_id)
    await rotate(ledger, 2)
    with pytest.raises(CommandRefused, match="rotate-key again"):
        await drop(ledger, only)
    assert only == key_name(ledger.keys.ring.verifier)


async def test_commands_at_the_same_time_take_turns(ledger: SignedLedger) -> None:
    first = ledger.keys.ring.verifier
    await asyncio.gather(*(rotate(ledger) for _number in range(3)))
    ring = ledger.keys.ring
    told = [key for action, key in await entries(ledger) if action == "rotate_key"]
    assert len(told) == 3
    assert {key_name(signer.verifier) for signer in ring.signers} == {key_name(first), *told}
    await ledger.append(1)
    assert (await ledger.verified()).mismatch is None


async def test_replicas_go_on_while_keys_change(
    ledger: SignedLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "EVERY_S", 0.01)
    await ledger.append(1)
    first = ledger.keys.ring.verifier
    replicas = [ledger.integrator() for _number in range(3)]
    for replica in replicas:
        replica.start()
    proofs = Proofs(ledger.world.reader, replicas[0])
    stop = asyncio.Event()
    failures: list[BaseException] = []
    calls = 0

    async def load() -> None:
        nonlocal calls
        while not stop.is_set():
            try:
                await ledger.append(5, signed=False)
                newest = await proofs.newest()
                await proofs.inclusion(newest.size - 1)
                calls += 1
            except Exception as error:  # noqa: BLE001  (each of them is one too many)
                failures.append(error)

    async def signed_by(signers: int) -> bool:
        return (await ledger.notes())[-1].count("\n\u2014 ") == signers

    async def several() -> bool:
        return calls > 5

    loads = [asyncio.create_task(load()) for _number in range(3)]
    for number in (2, 3):
        await rotate(ledger)
        await eventually(partial(signed_by, number))
    await drop(ledger, key_name(first))
    await eventually(partial(signed_by, 2))
    await eventually(several)
    stop.set()
    await asyncio.gather(*loads)
    for replica in replicas:
        await replica.stop()
    assert not failures
    assert calls > 5
    await ledger.sign()
    assert (await ledger.verified()).mismatch is None
    signers = [note.count("\n\u2014 ") for note in await ledger.notes()]
    assert set(signers) == {1, 2, 3}


async def test_a_replica_with_a_copy_of_the_keys(ledger: SignedLedger, tmp_path: Path) -> None:
    await ledger.append(2)
    first = ledger.keys.ring.verifier
    (tmp_path / "copy").mkdir()
    for path in ledger.directory.glob("ledger.*"):
        (tmp_path / "copy" / path.name).write_bytes(path.read_bytes())
    behind = Integrator(ledger.tree, LedgerKeys(tmp_path / "copy"), ledger.file)
    await rotate(ledger)
    await ledger.append(2)
    # It has one of the two keys that signed: it goes on, and signs with that.
    await ledger.append(2, signed=False)
    await behind.integrate()
    assert opened((await ledger.notes())[-1], first).size == 7
    await ledger.append(1)
    # Without any of them it signs nothing, and says so.
    await drop(ledger, key_name(first))
    await ledger.append(1)
    await ledger.append(1, signed=False)
    with pytest.raises(SigningRefused, match="not signed by"):
        await behind.integrate()
    await ledger.sign()


async def test_a_replica_with_the_new_key_alone(ledger: SignedLedger, tmp_path: Path) -> None:
    await ledger.append(2)
    first = ledger.keys.ring.verifier
    await rotate(ledger)
    (tmp_path / "new").mkdir()
    for name in ("ledger.pem", "ledger.pub"):
        (tmp_path / "new" / name).write_bytes((ledger.directory / name).read_bytes())
    ahead = Integrator(ledger.tree, LedgerKeys(tmp_path / "new"), ledger.file)
    with pytest.raises(SigningRefused, match=r"not signed by|no checkpoint of this key"):
        await ahead.integrate()
    # As soon as both have signed, it goes on; the others have its key too.
    await ledger.append(2)
    await ledger.append(2, signed=False)
    await ahead.integrate()
    newest = (await ledger.notes())[-1]
    assert newest.count("\n\u2014 ") == 1
    await ledger.append(1)
    assert opened((await ledger.notes())[-1], first).size == 8
    assert (await ledger.verified()).mismatch is None


async def test_trees_before_and_after_a_rotation_are_consistent(ledger: SignedLedger) -> None:
    await ledger.append(5)
    first = ledger.keys.ring.verifier
    await rotate(ledger)
    await drop(ledger, key_name(first))
    await ledger.append(5)
    integrator = ledger.integrator()
    integrator.start()
    proof = await Proofs(ledger.world.reader, integrator).consistency(5)
    await integrator.stop()
    ring = ledger.keys.ring
    old, new = ring.opened(proof.old_note), ring.opened(proof.new_note)
    assert verify_consistency(old.size, new.size, proof.hashes, old.root, new.root)
