"""Witnesses: a service that appends finds out when the ledger does not continue what it saw."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import asyncpg
import pytest_asyncio
from release_manager.audit.v1 import audit_pb2 as pb
from release_manager.audit.v1 import audit_pb2_grpc
from sqlalchemy.ext.asyncio import AsyncConnection

from services.audit.app import audit_server
from services.audit.appending.own_entries import OwnEntries
from services.audit.signing.key_changes import drop_key, key_name, replace, rotate_key
from services.audit.signing.ledger_key import LedgerKeys
from shared.db.engine import Database
from shared.identity.keys import ensure_keys, load_keys
from shared.merkle.key_files import public_keys
from shared.outbox.delivery import Delivery, DeliveryBounds
from shared.outbox.ledger import Ledger
from shared.outbox.witness import Witness
from shared.rpc.channel import dial
from shared.setting_values import driver_url
from shared.settings import Settings, read_settings
from tests.rpc.audit.conftest import ADD_USER, KnownActors, event
from tests.support.polling import eventually

CUT = (
    "ALTER TABLE audit_logs DISABLE TRIGGER USER",
    "ALTER TABLE merkle_tiles DISABLE TRIGGER USER",
    "ALTER TABLE audit_checkpoints DISABLE TRIGGER USER",
    "DELETE FROM audit_logs WHERE leaf_index >= 5",
    "DELETE FROM audit_event_keys WHERE leaf_index >= 5",
    "DELETE FROM merkle_tiles",
    "DELETE FROM audit_checkpoints",
    "UPDATE audit_log_head SET next_index = 5",
)


@dataclass
class Scene:
    """The settings of an audit service, the owner's connection, and who calls."""

    settings: Settings
    owner: asyncpg.Connection
    callers: KnownActors
    db: Database

    @property
    def keys(self) -> Path:
        return self.settings.key_dir


@dataclass
class Running:
    """A running service with a witness at it; `ledger` appends as that witness's service."""

    ledger: Ledger
    witness: Witness
    address: str

    async def append(self, count: int) -> None:
        await self.ledger.send([event(number) for number in range(count)], 5.0)

    async def covered(self, size: int) -> None:
        """Wait until a checkpoint covers a size; the next look asks for that."""

        async def is_covered() -> bool:
            return (await self.ledger.checkpoint()).tree_size >= size

        await eventually(is_covered)
        self.ledger.take_seen()


@pytest_asyncio.fixture
async def scene(database_url: str, tmp_path: Path) -> AsyncIterator[Scene]:
    ensure_keys(tmp_path / "keys")
    settings = read_settings(
        database_url=database_url,
        release_manager_key_dir=tmp_path / "keys",
        grace_seconds=0.2,
    ).model_copy(update={"audit_address": "127.0.0.1:0"})
    owner = await asyncpg.connect(driver_url(database_url))
    callers = KnownActors()
    for actor in callers.actors.values():
        name, role = actor.username, actor.role.stored
        await owner.execute(ADD_USER, actor.user_id, name, role, actor.kind.value)
    db = Database(database_url, role="rm_deployment", application_name="test witness")
    yield Scene(settings, owner, callers, db)
    await db.close()
    await owner.close()


@asynccontextmanager
async def running(scene: Scene) -> AsyncIterator[Running]:
    """Run the service, with a fresh witness that has what was kept in the database."""
    async with audit_server(scene.settings, verifier=scene.callers) as server:
        await server.start()
        channel = dial(server.address, token=lambda: "deployment")
        ledger = Ledger(audit_pb2_grpc.AuditServiceStub(channel))
        witness = Witness(scene.db, "deployment", ledger, lambda: public_keys(scene.keys))
        yield Running(ledger, witness, server.address)
        await channel.close()
        await server.stop()


async def kept(scene: Scene) -> list[tuple[str, int]]:
    rows = await scene.owner.fetch("SELECT origin, tree_size FROM witnessed_checkpoints ORDER BY 1")
    return [(row["origin"], row["tree_size"]) for row in rows]


async def cut(scene: Scene) -> None:
    for statement in CUT:
        await scene.owner.execute(statement)


async def test_answers_carry_checkpoints_and_the_newest_is_kept(scene: Scene) -> None:
    async with running(scene) as service:
        for size in (3, 6, 9):
            await service.append(3)
            await service.covered(size)
            assert await service.witness.look() is None
        await service.append(1)
        await service.append(1)  # whose answer has a checkpoint of before
        assert await service.witness.look() is None
        ((_origin, size),) = await kept(scene)
        assert size >= 9
        answer = await service.ledger._stub.LogAction(  # noqa: SLF001
            pb.LogActionRequest(event=event(1), wait_for=pb.WAIT_FOR_INTEGRATED)
        )
        assert answer.checkpoint.tree_size >= 10


async def test_a_ledger_that_was_cut_off_is_found_even_without_key_and_file(scene: Scene) -> None:
    async with running(scene) as service:
        await service.append(10)
        await service.covered(10)
        assert await service.witness.look() is None
    before = await kept(scene)
    await cut(scene)
    # The file is in the same hands, so the service signs again as if nothing had been.
    (scene.keys / "checkpoints").unlink()
    async with running(scene) as service:
        await service.covered(5)
        problem = await service.witness.look()
        assert problem == f"The ledger has fewer than the {before[0][1]} entries that were signed."
        await service.append(40)
        await service.covered(45)
        await service.append(1)
        for _time in range(2):  # with what came with the answer, and with the newest
            assert "does not begin with that of" in str(await service.witness.look())
    assert await kept(scene) == before


async def test_two_roots_for_one_size_are_found(scene: Scene) -> None:
    async with running(scene) as service:
        await service.append(10)
        await service.covered(10)
        await service.witness.look()
    await cut(scene)
    (scene.keys / "checkpoints").unlink()
    ((_origin, size),) = await kept(scene)
    async with running(scene) as service:
        await service.append(size - 5)
        await service.covered(size)
        assert await service.witness.look() == f"There are two roots for {size} entries."


async def test_a_witness_goes_along_with_rotated_keys(scene: Scene) -> None:
    async with running(scene) as service:
        await service.append(3)
        await service.covered(3)
        assert await service.witness.look() is None
        first = LedgerKeys(scene.keys).ring.verifier
        writer = Database(
            scene.settings.database_url, role="rm_audit_writer", application_name="test command"
        )
        reader = Database(
            scene.settings.database_url, role="rm_audit_reader", application_name="test command"
        )
        entries = OwnEntries(writer, reader, load_keys(scene.keys).hmac)
        async for _sentence in rotate_key(scene.keys, entries):
            pass
        async for _sentence in drop_key(scene.keys, entries, key_name(first)):
            pass
        await service.append(3)
        await service.covered(8)
        assert await service.witness.look() is None
        await writer.close()
        await reader.close()
        # A key that the witness does not know proves nothing to it.
        current = scene.keys / "ledger.pub"
        known = current.read_bytes()
        replace(current, f"{first}\n".encode())
        await service.append(1)
        assert "not signed by" in str(await service.witness.look())
        replace(current, known)
        assert await service.witness.look() is None


async def test_a_delivery_is_a_witness_by_itself(scene: Scene) -> None:
    async def no_versions(_tx: AsyncConnection) -> AsyncIterator[tuple[str, int]]:
        pairs: list[tuple[str, int]] = []
        for pair in pairs:
            yield pair

    async with running(scene) as service:
        await service.append(3)
        await service.covered(3)
        channel = dial(service.address, token=lambda: "deployment")
        bounds = DeliveryBounds(witness_every_s=0.02)
        keys = partial(public_keys, scene.keys)
        async with Delivery(scene.db, "deployment", channel, no_versions, bounds, keys=keys):
            await eventually(lambda: kept(scene))


async def test_replicas_share_what_is_kept(scene: Scene) -> None:
    async with running(scene) as service:
        await service.append(3)
        await service.covered(3)
        others = [
            Witness(scene.db, "deployment", service.ledger, lambda: public_keys(scene.keys))
            for _number in range(4)
        ]
        assert await asyncio.gather(*(other.look() for other in others)) == [None] * 4
        await service.append(3)
        await service.covered(6)
        assert await asyncio.gather(*(other.look() for other in others)) == [None] * 4
        assert len(await kept(scene)) == 1
