"""One run of `python -m services` as a process of its own, for tests that need the real thing."""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from shared.db.embedded import PORT
from shared.db.postmaster import Postmaster, is_serving, wait_until

COMMAND = [sys.executable, "-m", "services"]
SERVICES = ("audit", "catalog", "deployment")
UP_SECONDS = 90.0


def free_ports(count: int) -> list[int]:
    """Return ports that nobody listens on at this moment."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [held.getsockname()[1] for held in sockets]
    for held in sockets:
        held.close()
    return ports


@contextmanager
def own_environment() -> Iterator[dict[str, str]]:
    """Provide an environment with ports and a data directory of its own."""
    parent = Path(tempfile.mkdtemp(prefix="rm-"))
    addresses = zip(SERVICES, free_ports(len(SERVICES)), strict=True)
    yield {
        **{key: value for key, value in os.environ.items() if key != "DATABASE_URL"},
        "RELEASE_MANAGER_DATA_DIR": str(parent / "data"),
        **{f"{name.upper()}_ADDRESS": f"127.0.0.1:{port}" for name, port in addresses},
    }
    shutil.rmtree(parent)


class Machine:
    """One run of `python -m services`; leaving the block stops it by SIGTERM if it still runs."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.data = Path(environment["RELEASE_MANAGER_DATA_DIR"])
        self.output = self.data.with_name("output")
        self._environment = environment

    def __enter__(self) -> Self:
        with self.output.open("w") as file:
            self.process = subprocess.Popen(
                COMMAND, env=self._environment, stdout=file, stderr=file, start_new_session=True
            )
        return self

    def __exit__(self, *_error: object) -> None:
        if self.process.poll() is None:
            self.process.terminate()
        self.process.wait(60)

    def said(self) -> str:
        """Return everything printed so far."""
        return self.output.read_text()

    def wait_for(self, text: str, seconds: float = UP_SECONDS) -> None:
        """Wait until it has printed `text`."""
        found = wait_until(lambda: text in self.said() or self.process.poll() is not None, seconds)
        assert found, self.said()
        assert text in self.said(), self.said()

    def children(self) -> dict[str, int]:
        """Return the process ids of its services."""
        listed = subprocess.run(
            ["ps", "--ppid", str(self.process.pid), "-o", "pid=,args="],
            capture_output=True,
            text=True,
            check=False,
        )
        words = [line.split() for line in listed.stdout.splitlines()]
        return {
            name: int(line[0]) for name in SERVICES for line in words if f"services.{name}" in line
        }

    def postgres(self) -> int:
        """Return the process id of its PostgreSQL."""
        found = Postmaster.read(self.data / "postgres")
        assert found is not None
        return found.pid

    def has_postgres(self) -> bool:
        """Say whether its PostgreSQL accepts connections."""
        found = Postmaster.read(self.data / "postgres")
        return found is not None and found.ready and is_serving(found.pid, self.data / "postgres")

    def database_url(self) -> str:
        """Return the address of its database, for asyncpg."""
        found = Postmaster.read(self.data / "postgres")
        assert found is not None
        return f"postgresql://postgres@/release_manager?host={found.socket_dir}&port={PORT}"
