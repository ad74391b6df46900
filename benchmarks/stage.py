"""What benchmarks run on: a PostgreSQL as `python -m services` starts it, and services on it."""

import asyncio
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cached_property
from itertools import count
from pathlib import Path
from typing import Any, Final, TypeAlias

import asyncpg
import grpc
from release_manager.audit.v1 import audit_pb2_grpc

from shared.clock import system_clock
from shared.db.embedded import EmbeddedPostgres
from shared.db.embedded_host import dying_with_us
from shared.identity.keys import ensure_keys
from shared.identity.opaque_tokens import new_api_token
from shared.ids import new_id
from shared.rpc.probe import is_serving
from shared.setting_values import driver_url
from shared.settings import read_settings

PROJECT = Path(__file__).resolve().parents[1]
TEMPLATE = "benchmark_template"
USERS = ("admin", "alice", "bob", "carol")
PRODUCER = "benchmark"
SCOPES = ("audit.write", "on_behalf_of", "audit.read", "audit.export")
LARGEST_ANSWER = 16 * 1_048_576
START_S = 60.0
STOP_S = 60.0
POLL_S = 0.05
# Comparing all versions with an empty ledger would be measured too.
UNCOMPARED: Final = {"RECONCILE_SECONDS": "86400"}

Metadata: TypeAlias = tuple[tuple[str, str], ...]
Owner: TypeAlias = "asyncpg.Connection[asyncpg.Record]"


@dataclass(frozen=True)
class Running:
    """A running service."""

    address: str
    channel: grpc.aio.Channel
    process: "subprocess.Popen[bytes]"

    def resident_bytes(self) -> int:
        """Return how much memory the service holds now."""
        return self._memory("VmRSS")

    def peak_bytes(self) -> int:
        """Return how much memory the service held at most since `forget_peak` or its start."""
        return self._memory("VmHWM")

    def forget_peak(self) -> None:
        """Begin to watch for a new peak of memory."""
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")

    def cpu_seconds(self) -> float:
        """Return how much processor time the service has used."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def _memory(self, name: str) -> int:
        status = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        (line,) = (line for line in status if line.startswith(name + ":"))
        return int(line.split()[1]) * 1024


@dataclass(frozen=True)
class Audit(Running):
    """A running audit service over a ledger of its own.

    `metadata` is that of a service account (role lead) with every scope of the ledger; `owner` a
    connection that may do everything with the database at `database_url`.
    """

    database_url: str
    key_dir: Path
    metadata: Metadata
    owner: Owner

    @cached_property
    def stub(self) -> Any:  # noqa: ANN401  (the stubs know synchronous channels only)
        """The service."""
        return audit_pb2_grpc.AuditServiceStub(self.channel)


@dataclass
class Bench:
    """One run of benchmarks: its PostgreSQL, and how often each side is measured."""

    postgres: EmbeddedPostgres
    directory: Path
    rounds: int
    entries: int | None = None
    _numbers: Iterator[int] = field(default_factory=lambda: count(1))

    def size(self, usual: int) -> int:
        """Return how many entries to work with: what was asked for, or else the usual number."""
        return self.entries or usual

    @asynccontextmanager
    async def audit(self, environment: Mapping[str, str] | None = None) -> AsyncIterator[Audit]:
        """Provide an audit service over an empty ledger; `environment` are settings of its own."""
        number = next(self._numbers)
        url = await self._database(f"benchmark_{number}")
        key_dir = self.directory / f"keys_{number}"
        ensure_keys(key_dir)
        owner = await asyncpg.connect(driver_url(url))
        token = await _add_people(owner)
        settings = {"DATABASE_URL": url, "RELEASE_MANAGER_KEY_DIR": str(key_dir)}
        settings |= environment or {}
        async with self._running("benchmarks.nothing", "AUDIT_ADDRESS", settings) as it:
            metadata = (("authorization", f"Bearer {token}"),)
            yield Audit(it.address, it.channel, it.process, url, key_dir, metadata, owner)
        await owner.close()

    def beside(
        self, audit: Audit, module: str, address: str, environment: Mapping[str, str]
    ) -> AbstractAsyncContextManager[Running]:
        """Provide a service on the database of a ledger; `address` names the setting of its own."""
        settings = {
            "DATABASE_URL": audit.database_url,
            "AUDIT_ADDRESS": audit.address,
            "RELEASE_MANAGER_KEY_DIR": str(audit.key_dir),
            **environment,
        }
        return self._running(module, address, settings)

    @asynccontextmanager
    async def _running(
        self, module: str, address: str, environment: Mapping[str, str]
    ) -> AsyncIterator[Running]:
        settings = {"LOG_FORMAT": "json", address: (at := free_address()), **environment}
        log = self.directory / f"{module}_{next(self._numbers)}.log"
        with service_running(module, settings, log) as process:
            await until_serving(at, process, log)
            async with open_channel(at) as channel:
                yield Running(at, channel, process)

    async def _database(self, name: str) -> str:
        server = await asyncpg.connect(driver_url(self.postgres.url("postgres")))
        try:
            await server.execute(f'CREATE DATABASE "{name}" TEMPLATE "{TEMPLATE}"')
        finally:
            await server.close()
        return self.postgres.url(name)


@contextmanager
def stage(rounds: int, entries: int | None) -> Iterator[Bench]:
    """Provide a bench on a new PostgreSQL with the product's own settings, synced commits too."""
    directory = Path(tempfile.mkdtemp(prefix="rm-bench-"))
    try:
        with EmbeddedPostgres(directory) as postgres:
            asyncio.run(_make_template(postgres))
            _migrate(postgres.url(TEMPLATE))
            yield Bench(postgres, directory, rounds, entries)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


async def _make_template(postgres: EmbeddedPostgres) -> None:
    server = await asyncpg.connect(driver_url(postgres.url("postgres")))
    try:
        await server.execute(f'CREATE DATABASE "{TEMPLATE}"')
    finally:
        await server.close()


def _migrate(url: str) -> None:
    subprocess.run(
        [sys.executable, "-m", "alembic", "upgrade", "head"],
        cwd=PROJECT,
        env=os.environ | {"DATABASE_URL": url},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=True,
    )


async def _add_people(owner: Owner) -> str:
    """Add the people of the events and the service account that sends them; return its token."""
    people = {name: new_id() for name in USERS}
    user_id, account_id, token = new_id(), new_id(), new_api_token()
    async with owner.transaction():
        await owner.executemany(
            "INSERT INTO users (id, username, email, role, kind, password_hash)"
            " VALUES ($1, $2, $2 || '@example.com', 'admin', 'person', 'none')",
            [(person_id, name) for name, person_id in people.items()],
        )
        await owner.execute(
            "INSERT INTO users (id, username, email, role, kind)"
            " VALUES ($1, $2, $2 || '@programs.example.com', 'lead', 'service')",
            *(user_id, PRODUCER),
        )
        await owner.execute(
            "INSERT INTO service_accounts (id, user_id, owner_id, name, scopes)"
            " VALUES ($1, $2, $3, $4, $5)",
            *(account_id, user_id, people["admin"], PRODUCER, list(SCOPES)),
        )
        await owner.execute(
            "INSERT INTO api_tokens"
            " (id, service_account_id, description, prefix, token_hash, expires_at)"
            " VALUES ($1, $2, 'for benchmarks', $3, $4, $5)",
            *(new_id(), account_id, token.prefix, token.digest),
            system_clock() + timedelta(days=1),
        )
    return token.text


@contextmanager
def service_running(
    module: str, settings: Mapping[str, str], log: Path
) -> Iterator["subprocess.Popen[bytes]"]:
    """Run a service; its process ends with the block, or with this process."""
    with log.open("wb") as file:
        process = subprocess.Popen(
            [*dying_with_us("TERM"), sys.executable, "-m", module],
            cwd=PROJECT,
            env=os.environ | settings,
            stdout=file,
            stderr=file,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        process.terminate()
        process.wait(STOP_S)


async def until_serving(address: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    """Wait until a service serves; raises RuntimeError with its log when it does not."""
    settings = read_settings()
    deadline = time.monotonic() + START_S
    while not await is_serving(address, settings):
        if process.poll() is not None or time.monotonic() > deadline:
            said = await asyncio.to_thread(log.read_text)
            raise RuntimeError(f"The service does not serve:\n{said}")
        await asyncio.sleep(POLL_S)


def open_channel(address: str) -> grpc.aio.Channel:
    """Return a channel that takes large answers and repeats nothing."""
    options = (("grpc.max_receive_message_length", LARGEST_ANSWER), ("grpc.enable_retries", 0))
    return grpc.aio.insecure_channel(address, options)


def free_address() -> str:
    """Return an address of this machine that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as held:
        return f"127.0.0.1:{held.getsockname()[1]}"
