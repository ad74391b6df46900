"""Random tampering by a superuser, who makes more and more of the rest fit: all of it is found."""

import io
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

import asyncpg
import pytest
import pytest_asyncio

from services.audit.checking import verification as module
from services.audit.store.appending import Driver
from shared.db.engine import Database
from tests.integration.audit.conftest import running_world
from tests.integration.audit.tampering import (
    ENTRIES,
    TAMPERINGS,
    Power,
    first_difference,
    keep,
    made_to_fit,
    put_back,
)
from tests.integration.audit.test_verify import Verified
from tests.support.database import Databases

# All 1,000 in `make faults`.
HOW_MANY = int(os.environ.get("LEDGER_TAMPERINGS", "100"))
EVERYTHING = 1_000
HEADER = 19  # of the format of COPY: its signature, flags, and the length of an extension
SIZES = (1, 40, 130, 257, ENTRIES)
pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(120 + HOW_MANY)]


@dataclass
class Signed:
    """A signed ledger whose walls are down, and what somebody outside has kept of it."""

    verified: Verified
    note: str
    published: bytes

    @property
    def owner(self) -> Driver:
        return self.verified.owner

    async def put_back(self) -> None:
        await put_back(self.owner)
        self.verified.file.path.write_bytes(self.published)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def signed(
    databases: Databases, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Signed]:
    """Sign a ledger of two tiles at five sizes."""
    with databases.fresh() as url, pytest.MonkeyPatch.context() as patch:
        # The integrator's loop does not run here: waiting longer for a checkpoint only takes time.
        patch.setattr(module, "WAITING_S", 0.01)
        directory: Path = tmp_path_factory.mktemp("keys")
        async with running_world(url) as world:
            tree = Database(url, role="rm_audit_integrator", application_name="test integrator")
            verified = Verified(world, directory, tree)
            for size in SIZES:
                await verified.append(size - verified.count)
            await keep(verified.owner)
            note = await verified.owner.fetchval(
                "SELECT note FROM audit_checkpoints ORDER BY tree_size DESC LIMIT 1"
            )
            yield Signed(verified, note, verified.file.path.read_bytes())
            await tree.close()


async def problem_with(signed: Signed, number: int) -> str | None:
    """Tamper at random; return what is wrong with what was found, None when it is right."""
    chance = Random(number)
    tampering = TAMPERINGS[number % len(TAMPERINGS)]
    power = Power(chance.randint(0, await tampering(signed.owner, chance)))
    place = await first_difference(signed.owner)
    if place is None:
        return None  # two entries of the same content were exchanged
    await made_to_fit(signed.owner, power, place)
    place = await first_difference(signed.owner)
    assert place is not None
    if power == Power.OUTSIDE:
        signed.verified.file.path.unlink()
    known = signed.note if power == Power.OUTSIDE else ""
    what = f"{number} {tampering.__name__} {power.name} at {place}"
    found = (await signed.verified.run(known)).mismatch
    if found is None:
        return f"{what}: not found"
    # Where leaves fit too, only the last root that holds is known.
    holding = max((size for size in SIZES if size <= place), default=0)
    least = place = min(place, ENTRIES)
    if power >= Power.LEAVES:
        least = 0 if power >= Power.CHECKPOINTS else holding
    if not least <= found.first <= place:
        return f"{what}: found at {found.first}: {found.problem}"
    return None


async def test_random_tampering_is_found_where_it_is(signed: Signed) -> None:
    """Each in turn on one ledger, where what it changed is put back."""
    problems = []
    for number in range(HOW_MANY):
        if problem := await problem_with(signed, number):
            problems.append(problem)
        await signed.put_back()
    assert not problems, "\n".join(problems)
    assert (await signed.verified.run(signed.note)).mismatch is None


async def test_every_flipped_bit_of_a_row_is_found(signed: Signed) -> None:
    """As far as PostgreSQL can store what comes of it: each bit of the row as COPY sends it."""
    owner, place = signed.owner, 77
    where = f"SELECT t::text FROM audit_logs AS t WHERE leaf_index = {place}"
    before = await owner.fetchval(where)
    copied = io.BytesIO()
    await owner.copy_from_query(where.replace("t::text", "t.*"), output=copied, format="binary")
    row = copied.getvalue()
    # Behind the header, without the trailer; at random unless every one is wanted.
    bits = range(8 * HEADER, 8 * (len(row) - 2))
    chosen = bits if HOW_MANY >= EVERYTHING else Random(7).sample(bits, HOW_MANY)
    stored = 0
    for bit in chosen:
        changed = bytearray(row)
        changed[bit // 8] ^= 1 << bit % 8
        await owner.execute(f"DELETE FROM audit_logs WHERE leaf_index = {place}")
        try:
            await owner.copy_to_table("audit_logs", source=io.BytesIO(changed), format="binary")
        except (asyncpg.PostgresError, asyncpg.InternalClientError):
            pass  # it cannot be stored
        else:
            if await owner.fetchval(where) != before:
                found = (await signed.verified.run()).mismatch
                assert found is not None, bit
                assert found.first <= place, bit
                stored += 1
        await signed.put_back()
    assert stored > len(chosen) / 3


async def test_flipped_bits_of_tiles_and_notes_are_found(signed: Signed) -> None:
    for number in range(HOW_MANY // 5):
        chance = Random(number)
        if number % 2:
            bit = chance.randrange(256 * 256)
            place = bit // 256
            change = (
                "UPDATE merkle_tiles SET hashes = set_bit(hashes, $1, 1 - get_bit(hashes, $1))"
                " WHERE level = 0 AND tile = 0"
            )
        else:
            bit, place = chance.randrange(8 * len(signed.note.encode())), SIZES[-2]
            note = "convert_to(note, 'UTF8')"
            change = (
                "UPDATE audit_checkpoints SET note ="
                f" convert_from(set_bit({note}, $1, 1 - get_bit({note}, $1)), 'UTF8')"
                f" WHERE tree_size = {ENTRIES}"
            )
        try:
            await signed.owner.execute(change, bit)
        except asyncpg.PostgresError:
            continue  # no text any more
        found = (await signed.verified.run()).mismatch
        await signed.put_back()
        assert found is not None, (change, bit)
        assert found.first == place, (change, bit)


# Changes of what is around the entries, and the first position they are found at.
AROUND = {
    "UPDATE merkle_tiles SET hashes = set_byte(hashes, 32 * 77, 255 - get_byte(hashes, 32 * 77))"
    " WHERE level = 0 AND tile = 0": 77,
    "UPDATE merkle_tiles SET hashes = set_byte(hashes, 0, 255 - get_byte(hashes, 0))"
    " WHERE level = 1": 0,
    "UPDATE merkle_tiles SET hashes = substring(hashes FOR 32 * 9) WHERE level = 0 AND tile = 1": (
        256 + 9
    ),
    "DELETE FROM merkle_tiles WHERE level = 0 AND tile = 1": 256,
    "DELETE FROM merkle_tiles": 0,
    "UPDATE merkle_tiles SET tile = 7 WHERE level = 0 AND tile = 1": 256,
    "UPDATE merkle_tiles SET hashes = hashes || sha256('x') WHERE level = 0 AND tile = 1": 300,
    "INSERT INTO merkle_tiles VALUES (0, 2, sha256('x'))": 300,
    "INSERT INTO merkle_tiles VALUES (2, 0, sha256('x'))": 300,
    "UPDATE audit_checkpoints SET root = sha256('x') WHERE tree_size = 130": 40,
    "UPDATE audit_checkpoints SET tree_size = 131 WHERE tree_size = 130": 40,
    "UPDATE audit_checkpoints SET note = note || 'x' WHERE tree_size = 300": 257,
    "UPDATE audit_checkpoints AS a SET note = b.note FROM audit_checkpoints AS b"
    " WHERE a.tree_size = 130 AND b.tree_size = 40": 40,
    "INSERT INTO audit_checkpoints SELECT 299, sha256('x'), note FROM audit_checkpoints"
    " WHERE tree_size = 300": 257,
    "INSERT INTO audit_checkpoints SELECT 301, root, note FROM audit_checkpoints"
    " WHERE tree_size = 300": 300,
    "UPDATE audit_log_head SET next_index = 299": 257,
    "UPDATE audit_log_head SET next_index = 301": 300,
    "UPDATE audit_log_head SET next_index = 0": 0,
    "UPDATE audit_log_head SET origin = 'other'": 0,
    "UPDATE audit_log_head SET epoch = 1": 0,
    "UPDATE audit_log_head SET last_at = last_at + interval '1 hour'": 300,
    "UPDATE audit_log_head SET last_at = last_at - interval '1 hour'": 300,
    "DELETE FROM audit_log_head": 0,
    # Without its key an event that is sent again makes a second entry; with the key of an entry
    # that is not there, an event is taken for a repetition and lost.
    "DELETE FROM audit_event_keys WHERE leaf_index = 77": 77,
    "UPDATE audit_event_keys SET event_id = gen_random_uuid() WHERE leaf_index = 77": 77,
    "UPDATE audit_event_keys SET leaf_index = 78 WHERE leaf_index = 77": 77,
    "UPDATE audit_event_keys SET producer = 'x' WHERE leaf_index = 77": 77,
    "UPDATE audit_event_keys SET aggregate = 'x' WHERE leaf_index = 77": 77,
    "UPDATE audit_event_keys SET aggregate_seq = 9 WHERE leaf_index = 77": 77,
    "UPDATE audit_event_keys SET audit_log_id = gen_random_uuid() WHERE leaf_index = 77": 77,
    "UPDATE audit_event_keys SET created_at = now() WHERE leaf_index = 77": 77,
    "INSERT INTO audit_event_keys SELECT gen_random_uuid(), 'x', NULL, NULL, 77, audit_log_id,"
    " request_mac, created_at, seen_at FROM audit_event_keys LIMIT 1": 77,
    "INSERT INTO audit_event_keys SELECT gen_random_uuid(), 'x', NULL, NULL, 300, audit_log_id,"
    " request_mac, created_at, seen_at FROM audit_event_keys LIMIT 1": 300,
    # An epoch that no entry began, and a month that none announced.
    "INSERT INTO audit_epochs VALUES (1, 'release-manager/audit/1', 299, 100, NULL)": 100,
    "INSERT INTO audit_retirements VALUES ('2020-01-01', 5, 10, 299, now(), now());"
    "DELETE FROM audit_logs WHERE leaf_index BETWEEN 5 AND 9": 5,
}


@pytest.mark.parametrize("change", AROUND)
async def test_what_is_around_the_entries_is_held_against_them(signed: Signed, change: str) -> None:
    assert not (await signed.owner.execute(change)).endswith(" 0")
    try:
        found = (await signed.verified.run()).mismatch
    finally:
        await signed.put_back()
    assert found is not None, "not found"
    assert found.first == AROUND[change], found.problem
