"""The service, a connection or PostgreSQL ends at exactly the worst moments of an append or a pass.

A lock held by the test lets the work stop at one of its steps; then something is killed.
"""

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from itertools import product
from random import Random
from typing import Any

import asyncpg
import pytest
import pytest_asyncio
from release_manager.audit.v1 import audit_pb2 as pb
from release_manager.audit.v1 import audit_pb2_grpc

from shared.ids import new_id
from shared.merkle.note import Verifier
from tests.faults.hammer import Hammer
from tests.faults.ledger_machine import LedgerMachine, ledger_machine
from tests.faults.test_hammer import verified
from tests.support.polling import eventually
from tests.support.programs import add_person, add_program

pytestmark = pytest.mark.asyncio(loop_scope="module")

HOLDING = """
    CREATE FUNCTION hold() RETURNS trigger LANGUAGE plpgsql AS
        'BEGIN PERFORM pg_advisory_xact_lock(42); RETURN NULL; END';
    CREATE CONSTRAINT TRIGGER hold AFTER INSERT ON audit_event_keys
        DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION hold();
    CREATE CONSTRAINT TRIGGER hold AFTER INSERT ON audit_checkpoints
        DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION hold();
    ALTER TABLE audit_event_keys DISABLE TRIGGER hold;
    ALTER TABLE audit_checkpoints DISABLE TRIGGER hold;
"""
# What is locked by the test, so that work of this role stops there.
POINTS = {
    "append, before its turn": ("audit_writer", "SELECT FROM audit_log_head FOR UPDATE"),
    "append, at its commit": ("audit_writer", "audit_event_keys"),
    "pass, before the tiles": ("audit_integrator", "LOCK TABLE merkle_tiles IN SHARE MODE"),
    "pass, tiles are written": ("audit_integrator", "LOCK TABLE audit_checkpoints IN SHARE MODE"),
    "pass, published and not committed": ("audit_integrator", "audit_checkpoints"),
}
VICTIMS = ("service", "backend", "postgres")
EVERYTHING = list(product(POINTS, VICTIMS))
# In `make faults` all of them; else each point with one victim.
CHOSEN = (
    EVERYTHING
    if os.environ.get("FAULT_POINTS") == "all"
    else [(point, VICTIMS[number % 3]) for number, point in enumerate(POINTS)]
)
WAITING = """
    SELECT pid FROM pg_stat_activity
    WHERE application_name = $1 AND wait_event_type = 'Lock' AND datname = current_database()
"""

REPLICATING = """
    SELECT pid FROM pg_stat_activity
    WHERE application_name = $1 AND wait_event = 'SyncRep' AND datname = current_database()
"""
COMMITTING = """
    DO $$ BEGIN
        LOOP PERFORM pg_logical_emit_message(true, 'committing', ''); COMMIT; END LOOP;
    END $$
"""


@dataclass
class Ledger:
    """One replica on one database, and a caller who may do everything."""

    machine: LedgerMachine
    caller: Hammer

    async def append(self, event: pb.AuditEvent, *, signed: bool = False) -> Any:
        """Append one event, repeating it until it is acknowledged."""
        wanted = pb.WAIT_FOR_INTEGRATED if signed else pb.WAIT_FOR_SEQUENCED
        request = pb.LogActionRequest(event=event, wait_for=wanted)
        return await self.caller.insist(
            lambda stub: stub.LogAction(request, metadata=self.caller.writing, timeout=5)
        )

    async def verdict(self, note: str = "") -> pb.VerifyLedgerResponse:
        """Verify the ledger."""
        return await self.caller.insist(partial(verified, self.caller, note))


def event() -> pb.AuditEvent:
    return pb.AuditEvent(
        event_id=str(new_id()), action="deploy", resource_type="deployment", resource_id="1"
    )


@pytest.fixture(scope="module")
def machine() -> Iterator[LedgerMachine]:
    with ledger_machine() as made:
        made.start_service(0)
        yield made


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def ledger(machine: LedgerMachine) -> AsyncIterator[Ledger]:
    url = machine.database_url
    await add_person(url, "admin", "admin")
    program = await add_program(
        url, "caller", "lead", ("audit.write", "audit.read", "audit.export")
    )
    metadata = (("authorization", f"Bearer {program.token}"),)
    channel = machine.channel(0)
    stub = audit_pb2_grpc.AuditServiceStub(channel)
    database = await asyncpg.connect(machine.asyncpg_url)
    await database.execute(HOLDING)
    await database.close()
    await asyncio.wait_for(channel.channel_ready(), 60)
    verifier = Verifier.parse((machine.keys / "ledger.pub").read_text())
    yield Ledger(machine, Hammer([stub], metadata, metadata, verifier, Random(1)))
    await channel.close()


@asynccontextmanager
async def stopped_at(machine: LedgerMachine, what: str) -> AsyncIterator[asyncpg.Connection]:
    """Hold what lets the work stop at a point; PostgreSQL may be gone in the end."""
    held = what if " " in what else "SELECT pg_advisory_xact_lock(42)"
    database = await asyncpg.connect(machine.asyncpg_url)
    if held != what:
        await database.execute(f"ALTER TABLE {what} ENABLE ALWAYS TRIGGER hold")
    try:
        await database.transaction().start()
        await database.execute(held)
        yield database
    finally:
        database.terminate()
    if held != what:
        database = await asyncpg.connect(machine.asyncpg_url)
        await database.execute(f"ALTER TABLE {what} DISABLE TRIGGER hold")
        await database.close()


@asynccontextmanager
async def without_standby(machine: LedgerMachine) -> AsyncIterator[asyncpg.Connection]:
    """Let every commit wait for a synchronous standby that is away.

    A new setting counts from when the checkpointer has read it, which nothing tells; whoever
    commits again and again stops then.
    """
    database = await asyncpg.connect(machine.asyncpg_url)
    first = await asyncpg.connect(
        machine.asyncpg_url, server_settings={"application_name": "committing"}
    )
    await database.execute("ALTER SYSTEM SET synchronous_standby_names = 'absent'")
    await database.execute("SELECT pg_reload_conf()")
    committing = asyncio.create_task(first.execute(COMMITTING))
    try:
        await eventually(lambda: database.fetchval(REPLICATING, "committing"), 20, 0.02)
        yield database
    finally:
        await database.execute("SELECT pg_terminate_backend($1)", first.get_server_pid())
        await asyncio.wait({committing})
        await database.execute("ALTER SYSTEM RESET synchronous_standby_names")
        await database.execute("SELECT pg_reload_conf()")
        await database.close()


@pytest.mark.parametrize(("point", "victim"), CHOSEN)
async def test_an_end_in_the_middle_only_repeats_work(
    ledger: Ledger, point: str, victim: str
) -> None:
    machine = ledger.machine
    before = (await ledger.append(event(), signed=True)).audit_log.leaf_index
    role, what = POINTS[point]
    sent = event()
    async with stopped_at(machine, what) as database:
        appending = asyncio.create_task(ledger.append(sent))
        waiting = await eventually(lambda: database.fetchval(WAITING, role), 20, 0.02)
        if victim == "service":
            machine.kill_service(0)
        elif victim == "backend":
            await database.execute("SELECT pg_terminate_backend($1)", waiting)
        else:
            machine.kill_postgres(at_once=True)
            machine.start_postgres()
    machine.start_service(0)
    first = await appending
    again = await ledger.append(sent, signed=True)
    # The ledger may have come first with an entry of its own, about what was verified before.
    assert first.audit_log.leaf_index == again.audit_log.leaf_index > before
    assert again.deduplicated
    verdict = await ledger.verdict()
    assert verdict.verdict == pb.LEDGER_VERDICT_INTACT, verdict
    assert verdict.entries == verdict.tree_size >= before + 2  # and that it was verified


async def test_what_the_standby_may_not_have_is_not_published(ledger: Ledger) -> None:
    """An append that is cut off while it waits for the standby is there for all to see."""
    machine = ledger.machine
    await ledger.append(event(), signed=True)
    published = machine.keys / "checkpoints"
    before = published.read_bytes()
    sent = event()
    async with without_standby(machine) as database:
        appending = asyncio.create_task(ledger.append(sent))
        waiting = await eventually(lambda: database.fetchval(REPLICATING, "audit_writer"), 20, 0.02)
        await database.execute("SELECT pg_terminate_backend($1)", waiting)
        await eventually(lambda: database.fetchval(REPLICATING, "audit_integrator"), 20, 0.02)
        assert published.read_bytes() == before
    place = (await appending).audit_log.leaf_index
    again = await ledger.append(sent, signed=True)
    assert again.audit_log.leaf_index == place
    assert published.read_bytes().startswith(before)
    assert len(published.read_bytes()) > len(before)
    assert (await ledger.verdict()).verdict == pb.LEDGER_VERDICT_INTACT


async def test_a_restored_backup_is_not_signed(ledger: Ledger) -> None:
    """Neither what is missing in it, nor other entries in their place."""
    machine = ledger.machine
    await ledger.append(event(), signed=True)
    machine.postgres.stop()
    backup = machine.directory / "backup"
    shutil.copytree(machine.postgres.cluster, backup)
    machine.start_postgres()
    lost = [(await ledger.append(event(), signed=True)).audit_log for _time in range(3)]
    machine.postgres.stop()
    shutil.rmtree(machine.postgres.cluster)
    backup.rename(machine.postgres.cluster)
    machine.start_postgres()
    published = machine.directory.joinpath("keys", "checkpoints").read_bytes()
    for _time in range(5):
        other = (await ledger.append(event())).audit_log
    assert other.leaf_index > lost[-1].leaf_index
    verdict = await ledger.verdict()
    assert verdict.verdict == pb.LEDGER_VERDICT_TAMPERED, verdict
    assert verdict.first_mismatch <= lost[0].leaf_index
    assert "published outside the database" in verdict.problem
    assert machine.directory.joinpath("keys", "checkpoints").read_bytes() == published
    assert "ledger_signing_stopped" in machine.logs()
    database = await asyncpg.connect(machine.asyncpg_url)
    signed = await database.fetchval("SELECT max(tree_size) FROM audit_checkpoints")
    await database.close()
    assert signed <= lost[0].leaf_index
