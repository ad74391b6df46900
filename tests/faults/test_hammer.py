"""Writers, provers, scanners, exports and followers at once, while processes are killed.

`HAMMER_SECONDS` says for how long, `HAMMER_SEED` repeats the choices of a run.
"""

import asyncio
import os
import re
from collections.abc import Coroutine
from functools import partial
from random import Random
from typing import Any

import asyncpg
import grpc
import pytest
from release_manager.audit.v1 import audit_pb2 as pb
from release_manager.audit.v1 import audit_pb2_grpc

from services.audit.rules.tiles import grown, root_of
from shared.merkle.checkpoint import opened
from shared.merkle.note import Verifier
from tests.faults import hammer as callers
from tests.faults.hammer import Hammer
from tests.faults.ledger_machine import REPLICAS, LedgerMachine, ledger_machine
from tests.support.programs import add_person, add_program
from tests.unit.audit import trees

SECONDS = float(os.environ.get("HAMMER_SECONDS", "10"))
SEED = int(os.environ.get("HAMMER_SEED", "0")) or Random().randrange(1, 2**32)
WRITERS = 4
PROVERS = 2
FOLLOWERS = 2
READY_S = 60.0
# A run in which nothing happened proves nothing: of each of these there are more than so many.
KINDS = ("batches", "consistency proofs", "inclusion proofs", "scans", "exports")
FEW = 3
NOTE = re.compile(r"(?:[^\n]+\n){3}\n(?:\u2014 [^\n]+\n)+")
pytestmark = pytest.mark.timeout(SECONDS + 240)


async def test_nothing_is_lost_doubled_or_reordered() -> None:
    print(f"HAMMER_SEED={SEED} HAMMER_SECONDS={SECONDS:.0f}")  # noqa: T201  (to repeat it)
    with ledger_machine() as machine:
        for number in range(REPLICAS):
            machine.start_service(number)
        hammer, channels = await hammered(machine)
        exports: list[bytes] = []
        followed: list[list[tuple[int, str, bytes]]] = [[] for _number in range(FOLLOWERS)]
        work = [
            *(callers.write(hammer, number) for number in range(WRITERS)),
            *(callers.prove(hammer) for _number in range(PROVERS)),
            callers.scan(hammer),
            callers.export(hammer, exports),
            *(callers.follow(hammer, seen) for seen in followed),
        ]
        try:
            await until_killed_enough(hammer, machine, work)
            await check(hammer, machine, exports, followed)
        except BaseException:
            print(machine.logs()[-20_000:])  # noqa: T201  (what a failure is told by)
            raise
        finally:
            print(  # noqa: T201
                dict(machine.kills), dict(hammer.done), dict(hammer.failed), hammer.longest_outage
            )
            for channel in channels:
                await channel.close()


async def hammered(machine: LedgerMachine) -> tuple[Hammer, list[grpc.aio.Channel]]:
    """Return the callers' knowledge, once every replica serves."""
    url = machine.database_url
    await add_person(url, "admin", "admin")
    writer = await add_program(url, "writer", "viewer", ("audit.write",))
    reader = await add_program(url, "reader", "lead", ("audit.read", "audit.export"))
    channels = [machine.channel(number) for number in range(REPLICAS)]
    for channel in channels:
        await asyncio.wait_for(channel.channel_ready(), READY_S)
    made = Hammer(
        stubs=[audit_pb2_grpc.AuditServiceStub(channel) for channel in channels],
        writing=(("authorization", f"Bearer {writer.token}"),),
        reading=(("authorization", f"Bearer {reader.token}"),),
        verifier=Verifier.parse((machine.keys / "ledger.pub").read_text()),
        chance=Random(SEED),
    )
    return made, channels


async def until_killed_enough(
    hammer: Hammer, machine: LedgerMachine, work: list[Coroutine[Any, Any, None]]
) -> None:
    """Let everybody work while the killer does; the first that fails ends the test."""
    async with asyncio.TaskGroup() as group:
        for one in work:
            group.create_task(one)
        await kill(hammer, machine, Random(SEED + 1))
        hammer.ending.set()


async def kill(hammer: Hammer, machine: LedgerMachine, chance: Random) -> None:
    """Kill, pause and start again for so many seconds, each kind at least once.

    Longer where a busy machine has done too little in that time.
    """
    loop = asyncio.get_running_loop()
    ends = loop.time() + SECONDS
    kinds = ["audit", "postgres", "pause", "both", "audit", "audit"]
    turn = 0
    while (
        loop.time() < ends
        or turn < len(set(kinds))
        or min(hammer.done[kind] for kind in KINDS) <= FEW
    ):
        await asyncio.sleep(chance.uniform(0.5, 2.0))
        kind = kinds[turn] if turn < len(kinds) else chance.choice(kinds)
        turn += 1
        victim = chance.randrange(REPLICAS)
        if kind == "postgres":
            machine.kill_postgres(at_once=chance.random() < 0.5)
            await asyncio.sleep(chance.uniform(0, 0.5))
            machine.start_postgres()
        elif kind == "pause":
            machine.pause_service(victim)
            await asyncio.sleep(chance.uniform(0.5, 3.0))
            machine.resume_service(victim)
        else:
            for number in range(REPLICAS) if kind == "both" else [victim]:
                machine.kill_service(number)
            await asyncio.sleep(chance.uniform(0, 0.5))
        for number in range(REPLICAS):
            machine.start_service(number)
        # That it goes on is part of the test: so many are acknowledged before the next blow.
        reached = hammer.done["batches"] + 20
        while hammer.done["batches"] < reached:  # noqa: ASYNC110  (a count, not an event)
            await asyncio.sleep(0.02)


async def check(
    hammer: Hammer,
    machine: LedgerMachine,
    exports: list[bytes],
    followed: list[list[tuple[int, str, bytes]]],
) -> None:
    """Hold what everybody has seen against what is there in the end."""
    database = await asyncpg.connect(machine.asyncpg_url)
    rows = await database.fetch(
        "SELECT leaf_index, event_id::text, aggregate, aggregate_seq, created_at, leaf_hash,"
        " category FROM audit_logs ORDER BY leaf_index"
    )
    await database.close()
    assert [row["leaf_index"] for row in rows] == list(range(len(rows)))
    moments = [row["created_at"] for row in rows]
    assert moments == sorted(moments)
    written = {row["event_id"]: row["leaf_index"] for row in rows if row["aggregate"] is not None}
    assert written == hammer.acknowledged
    for aggregate, events in hammer.aggregates.items():
        mine = [row for row in rows if row["aggregate"] == aggregate]
        assert [row["event_id"] for row in mine] == events
        assert [row["aggregate_seq"] for row in mine] == list(range(1, len(events) + 1))
    leaves = [row["leaf_hash"] for row in rows]
    for seen in followed:
        assert (
            seen
            == [(row["leaf_index"], row["event_id"], row["leaf_hash"]) for row in rows][: len(seen)]
        )
    await check_signatures(hammer, machine, leaves)
    last: list[bytes] = []
    hammer.ending.clear()
    exporting = asyncio.create_task(callers.export(hammer, last))
    while not last:  # noqa: ASYNC110  (a list that the task fills)
        await asyncio.sleep(0.1)
    hammer.ending.set()
    await exporting
    assert all(last[0].startswith(data) for data in exports)
    assert min(hammer.done[kind] for kind in KINDS) > FEW, hammer.done
    assert min(map(len, followed)) > len(rows) / 2


async def check_signatures(hammer: Hammer, machine: LedgerMachine, leaves: list[bytes]) -> None:
    """Verify the ledger, and every checkpoint that anybody was given or that is in the file."""
    for note in (hammer.notes[0], hammer.notes[-1]):
        verdict = await hammer.insist(partial(verified, hammer, note))
        assert verdict.verdict == pb.LEDGER_VERDICT_INTACT, verdict
        assert verdict.entries >= len(leaves)
    tiles = grown({}, 0, leaves)
    assert root_of(len(leaves), tiles) == trees.root(leaves)
    notes = NOTE.findall((machine.keys / "checkpoints").read_text())
    assert len(notes) > 3
    for checkpoint in [opened(note, hammer.verifier) for note in notes]:
        known = hammer.checkpoints.setdefault(checkpoint.size, checkpoint)
        assert known == checkpoint, "two histories were signed"
    for size, checkpoint in hammer.checkpoints.items():
        if size <= len(leaves):
            assert checkpoint.root == root_of(size, tiles), size


async def verified(hammer: Hammer, note: str, stub: Any) -> pb.VerifyLedgerResponse:
    """Return the verdict on the whole ledger."""
    asked = pb.VerifyLedgerRequest(known_checkpoint=note)
    last = pb.VerifyLedgerResponse()
    async for answer in stub.VerifyLedger(asked, metadata=hammer.reading, timeout=300):
        last = answer
    return last
