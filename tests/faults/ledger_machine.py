"""A PostgreSQL and replicas of the audit service, real processes that are killed and come back."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc

from shared.db.embedded import EmbeddedPostgres
from shared.db.postmaster import Postmaster
from shared.identity.keys import ensure_keys
from shared.setting_values import driver_url
from tests.support.database import PROJECT
from tests.support.machine import free_ports

REPLICAS = 2
CHANNEL = (
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 500),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_retries", 0),
    ("grpc.max_receive_message_length", 32 * 1024 * 1024),
)


class LedgerMachine:
    """One database and several audit services on it, which share one key directory."""

    def __init__(self, directory: Path) -> None:
        """Prepare for an empty directory."""
        self.directory = directory
        self.keys = directory / "keys"
        self.postgres = EmbeddedPostgres(directory / "data")
        self.ports = free_ports(REPLICAS)
        self.services: dict[int, subprocess.Popen[bytes]] = {}
        self.kills: dict[str, int] = {}

    @property
    def database_url(self) -> str:
        """The URL of the database, for its owner."""
        return self.postgres.url()

    @property
    def asyncpg_url(self) -> str:
        """The same for asyncpg."""
        return driver_url(self.database_url)

    def set_up(self) -> None:
        """Start PostgreSQL, make the schema and the keys."""
        self.postgres.start()
        self.keys.mkdir(mode=0o700)
        ensure_keys(self.keys)
        self._run("alembic", "upgrade", "head")

    def start_service(self, number: int) -> None:
        """Start a replica unless it runs."""
        running = self.services.get(number)
        if running is not None and running.poll() is None:
            return
        with (self.directory / f"audit-{number}.log").open("ab") as log:
            self.services[number] = subprocess.Popen(
                [sys.executable, "-m", "services.audit"],
                cwd=PROJECT,
                env=self._environment() | {"AUDIT_ADDRESS": f"127.0.0.1:{self.ports[number]}"},
                stdout=log,
                stderr=log,
            )

    def kill_service(self, number: int) -> None:
        """End a replica as a power cut would."""
        self._count("audit")
        self.services[number].kill()
        self.services[number].wait()

    def pause_service(self, number: int) -> None:
        """Stop a replica in the middle of whatever it does."""
        self._count("pause")
        self.services[number].send_signal(signal.SIGSTOP)

    def resume_service(self, number: int) -> None:
        """Let a replica go on with what it did."""
        self.services[number].send_signal(signal.SIGCONT)

    def kill_postgres(self, *, at_once: bool) -> None:
        """End PostgreSQL without a shutdown: its backends with it, or the postmaster alone."""
        self._count("postgres")
        found = Postmaster.read(self.postgres.cluster)
        assert found is not None
        os.kill(found.pid, signal.SIGQUIT if at_once else signal.SIGKILL)
        process = self.postgres._process  # noqa: SLF001  (a child must be waited for)
        assert process is not None
        process.wait(30)

    def start_postgres(self) -> None:
        """Start PostgreSQL again; it recovers from its log."""
        self.postgres.start()

    def channel(self, number: int) -> grpc.aio.Channel:
        """Return a channel to a replica."""
        return grpc.aio.insecure_channel(f"127.0.0.1:{self.ports[number]}", CHANNEL)

    def logs(self) -> str:
        """Return what the replicas have logged."""
        found = sorted(self.directory.glob("audit-*.log"))
        return "\n".join(path.read_text(errors="replace") for path in found)

    def close(self) -> None:
        """End everything."""
        for process in self.services.values():
            process.kill()
            process.wait()
        self.postgres.stop()

    def _count(self, kind: str) -> None:
        self.kills[kind] = self.kills.get(kind, 0) + 1

    def _environment(self) -> dict[str, str]:
        return os.environ | {
            "DATABASE_URL": self.database_url,
            "RELEASE_MANAGER_KEY_DIR": str(self.keys),
            "LOG_LEVEL": "warning",
        }

    def _run(self, *module: str) -> None:
        subprocess.run(
            [sys.executable, "-m", *module],
            cwd=PROJECT,
            env=self._environment(),
            check=True,
            capture_output=True,
        )


@contextmanager
def ledger_machine() -> Iterator[LedgerMachine]:
    """Provide a machine with the schema, whose services are not yet started."""
    directory = Path(tempfile.mkdtemp(prefix="rm-ledger-"))
    machine = LedgerMachine(directory)
    try:
        machine.set_up()
        yield machine
    finally:
        machine.close()
        shutil.rmtree(directory, ignore_errors=True)
