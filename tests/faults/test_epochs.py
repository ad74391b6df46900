"""Backups that are too old, lost ends and killed commands, with real processes and files."""

import asyncio
import shutil
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import asyncpg
import grpc
import pytest
from release_manager.audit.v1 import audit_pb2, audit_pb2_grpc
from release_manager.catalog.v1 import catalog_pb2, catalog_pb2_grpc
from release_manager.identity.v1 import identity_pb2, identity_pb2_grpc

from tests.support.database import PROJECT
from tests.support.machine import Machine, own_environment
from tests.support.polling import eventually
from tests.support.walls import lose_end

DIGEST = "sha256:" + "ab" * 32
SENT = "SELECT count(*) = 0 FROM outbox WHERE sent_at IS NULL"
pytestmark = pytest.mark.timeout(600)


@dataclass
class Product:
    """A running machine, as `admin` and `lead1` see it."""

    machine: Machine
    environment: dict[str, str]
    audit: Any
    catalog: Any
    admin: tuple[tuple[str, str], ...]
    releases: int = 0

    @property
    def keys(self) -> Path:
        return self.machine.data / "keys"

    async def change(self, count: int) -> None:
        """Make changes, each of which is an entry."""
        for number in range(self.releases, self.releases + count):
            create = catalog_pb2.CreateReleaseRequest(
                service="gateway", version=f"9.1.{number}", commit="abcdef1", artifact_digest=DIGEST
            )
            await self.catalog.CreateRelease(create, metadata=self.admin)
        self.releases += count

    async def signed(self) -> audit_pb2.Checkpoint:
        """Wait until all entries are there and signed; return the checkpoint."""
        await eventually(lambda: self.fetch(SENT), 30)
        size = await self.fetch("SELECT next_index FROM audit_log_head")
        async with asyncio.timeout(30):
            while True:
                try:
                    request = audit_pb2.GetCheckpointRequest()
                    answer = await self.audit.GetCheckpoint(request, metadata=self.admin)
                    found: audit_pb2.Checkpoint = answer.checkpoint
                    if found.tree_size >= size:
                        return found
                except grpc.aio.AioRpcError:
                    pass
                await asyncio.sleep(0.1)

    async def verdict(self, known: str = "") -> Any:
        """Verify everything; return the last message."""
        request = audit_pb2.VerifyLedgerRequest(known_checkpoint=known)
        answers = self.audit.VerifyLedger(request, metadata=self.admin)
        return [answer async for answer in answers][-1]

    async def fetch(self, statement: str) -> Any:
        connection = await asyncpg.connect(self.machine.database_url())
        try:
            return await connection.fetchval(statement)
        finally:
            await connection.close()

    async def lose(self, size: int) -> None:
        """Lose the end of the ledger, as a fail-over to a standby that was behind does."""
        connection = await asyncpg.connect(self.machine.database_url())
        async with connection.transaction():
            await lose_end(connection, size)
        await connection.close()

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "services.audit", *arguments]

    def surroundings(self) -> dict[str, str]:
        url = self.machine.database_url().replace("postgresql://", "postgresql+asyncpg://")
        return self.environment | {
            "DATABASE_URL": url,
            "RELEASE_MANAGER_KEY_DIR": str(self.keys),
        }

    async def run(self, *arguments: str, after: float | None = None) -> tuple[int, str]:
        """Run a command, or kill it after some seconds; return its exit code and what it said."""
        process = await asyncio.create_subprocess_exec(
            *self.command(*arguments),
            cwd=PROJECT,
            env=self.surroundings(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        if after is not None:
            await asyncio.sleep(after)
            if process.returncode is None:
                process.kill()
        said, _ = await process.communicate()
        return process.returncode or 0, said.decode()


@pytest.fixture
async def environment() -> AsyncIterator[dict[str, str]]:
    with own_environment() as made:
        made["BCRYPT_ROUNDS"] = "4"
        made["RECONCILE_SECONDS"] = "3600"
        yield made


class _Up:
    """The product up, until the block is left."""

    def __init__(self, environment: dict[str, str]) -> None:
        self._environment = environment
        self._machine = Machine(environment)

    async def __aenter__(self) -> Product:
        self._machine.__enter__()
        self._machine.wait_for("\nready\n")
        self._catalog = grpc.aio.insecure_channel(self._environment["CATALOG_ADDRESS"])
        self._audit = grpc.aio.insecure_channel(self._environment["AUDIT_ADDRESS"])
        identity: Any = identity_pb2_grpc.IdentityServiceStub(self._catalog)
        login = identity_pb2.LoginRequest(username="admin", password="password123")
        session = (await identity.Login(login)).session
        return Product(
            self._machine,
            self._environment,
            audit_pb2_grpc.AuditServiceStub(self._audit),
            catalog_pb2_grpc.CatalogServiceStub(self._catalog),
            (("authorization", f"Bearer {session.access_token}"),),
        )

    async def __aexit__(self, *failure: object) -> None:
        await self._catalog.close()
        await self._audit.close()
        await asyncio.to_thread(self._machine.__exit__, *failure)


async def test_what_a_fail_over_lost_is_delivered_again(environment: dict[str, str]) -> None:
    async with _Up(environment) as product:
        await product.change(6)
        first = await product.signed()
        assert (await product.run("new-epoch", "--reason", "no reason"))[0] == 2
        await product.change(9)
        kept = await product.signed()
        lost = await product.fetch(
            "SELECT array_agg(event_id) FROM audit_logs WHERE aggregate IS NOT NULL"
            f" AND leaf_index >= {first.tree_size}"
        )
        await product.lose(first.tree_size)
        # Nothing else stops: what is new is appended, and not signed.
        await product.change(2)
        assert kept.tree_size - first.tree_size >= 9
        code, said = await product.run("new-epoch", "--reason", "fail-over", "--dry-run")
        assert (code, "Nothing was changed." in said) == (0, True), said
        code, said = await product.run("new-epoch", "--reason", "fail-over")
        assert code == 0, said
        assert "release-manager/audit/1" in said
        answer = await product.catalog.ReconcileAudit(
            catalog_pb2.ReconcileAuditRequest(), metadata=product.admin
        )
        assert answer.missing == answer.resent >= 9
        newest = await product.signed()
        assert newest.note.startswith("release-manager/audit/1\n")
        there = await product.fetch("SELECT array_agg(event_id) FROM audit_logs")
        assert set(lost) <= set(there)
        assert len(set(there)) == len(there)
        for note in ("", first.note, kept.note, newest.note):
            last = await product.verdict(note)
            assert last.verdict == audit_pb2.LEDGER_VERDICT_INTACT, last
        answer = await product.catalog.ReconcileAudit(
            catalog_pb2.ReconcileAuditRequest(), metadata=product.admin
        )
        assert answer.missing == 0


async def test_an_old_backup_is_not_signed_until_somebody_says_so(
    environment: dict[str, str],
) -> None:
    backup = Path(environment["RELEASE_MANAGER_DATA_DIR"]).with_name("backup")
    async with _Up(environment) as product:
        await product.change(5)
        first = await product.signed()
        cluster = product.machine.data / "postgres"
    shutil.copytree(cluster, backup)
    async with _Up(environment) as product:
        product.releases = 5
        await product.change(5)
        kept = await product.signed()
    shutil.rmtree(cluster)
    shutil.copytree(backup, cluster)
    async with _Up(environment) as product:
        product.machine.wait_for("ledger_signing_stopped")
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await product.audit.GetInclusionProof(
                audit_pb2.GetInclusionProofRequest(leaf_index=kept.tree_size - 1),
                metadata=product.admin,
            )
        assert "SIGNING_STOPPED" in str(refused.value) or "beyond the end" in str(refused.value)
        code, said = await product.run("new-epoch", "--reason", "the disk failed")
        assert code == 0, said
        product.releases = 10
        await product.change(3)
        newest = await product.signed()
        for note in (first.note, kept.note, newest.note):
            last = await product.verdict(note)
            assert last.verdict == audit_pb2.LEDGER_VERDICT_INTACT, last


async def test_commands_killed_at_any_moment_are_completed(environment: dict[str, str]) -> None:
    chance = Random(time.time_ns())
    async with _Up(environment) as product:
        await product.change(4)
        kept = await product.signed()
        started = time.monotonic()
        code, said = await product.run("rotate-key")
        assert code == 0, said
        took = time.monotonic() - started
        for _time in range(2):
            await product.run("rotate-key", after=took * chance.uniform(0.6, 1.1))
            await product.change(1)
        assert (await product.run("rotate-key"))[0] == 0
        await product.signed()
        private = [path for path in product.keys.glob("ledger*.pem") if path.name != "ledger.pem"]
        assert {path.stat().st_mode & 0o777 for path in product.keys.glob("ledger*")} == {0o600}
        rotations = await product.fetch(
            "SELECT count(*) FROM audit_logs WHERE action = 'rotate_key'"
        )
        assert len(private) == rotations
        for path in private:
            key_id = path.stem.removeprefix("ledger-")
            if path == private[0]:
                await product.run("drop-key", key_id, after=took * chance.uniform(0.6, 1.1))
            assert (await product.run("drop-key", key_id))[0] == 0
        first = await product.signed()
        await product.change(6)
        lost = await product.signed()
        await product.lose(first.tree_size)
        for _time in range(2):
            seconds = took * chance.uniform(0.6, 1.1)
            await product.run("new-epoch", "--reason", "killed", after=seconds)
        code, said = await product.run("new-epoch", "--reason", "killed")
        assert code == 0 or "Nothing is lost" in said, said
        assert await product.fetch("SELECT max(epoch) FROM audit_epochs") == 1
        await product.change(1)
        await product.signed()
        for note in (kept.note, first.note, lost.note):
            last = await product.verdict(note)
            assert last.verdict == audit_pb2.LEDGER_VERDICT_INTACT, last
        actions = await product.fetch(
            "SELECT array_agg(action ORDER BY leaf_index) FROM audit_logs"
            " WHERE resource_type IN ('ledger', 'ledger_key')"
        )
    assert sorted(set(actions)) == ["drop_key", "epoch", "rotate_key"]
    assert actions.count("rotate_key") == actions.count("drop_key") == rotations
    assert actions.count("epoch") == 1
