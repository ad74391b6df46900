"""One run of `python -m services` as a process of its own, for tests that need the real thing."""

import atexit
import itertools
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Self

from shared.db.embedded import PORT
from shared.db.postmaster import Postmaster, is_serving, wait_until
from tests.support.processes import children_of

COMMAND = [sys.executable, "-m", "services"]
SERVICES = ("audit", "catalog", "deployment")
UP_SECONDS = 90.0
FIRST_PORT, LAST_PORT = 20_000, 65_535
BLOCK = 200


def free_ports(count: int) -> list[int]:
    """Return ports that nobody else gets until somebody listens on them."""
    free = (port for port in _own_ports() if _is_free(port))
    return list(itertools.islice(free, count))


@cache
def _own_ports() -> Iterator[int]:
    """Return the ports of a block that this process takes for as long as it lives, again and again.

    Whoever holds the first port of a block may use the others. They are none of those that the
    system gives to whoever asks for any: between now and when a service listens, it would give
    them to others.
    """
    low, high = _ports_of_the_system()
    blocks = [
        *range(FIRST_PORT, low - BLOCK + 1, BLOCK),
        *range(high + 1, LAST_PORT - BLOCK + 2, BLOCK),
    ]
    for first in blocks or range(FIRST_PORT, LAST_PORT - BLOCK + 2, BLOCK):
        with suppress(OSError):
            held = socket.create_server(("127.0.0.1", first))
            atexit.register(held.close)
            return itertools.cycle(range(first + 1, first + BLOCK))
    raise AssertionError("no ports are left")


def _ports_of_the_system() -> tuple[int, int]:
    """Return the first and the last port that the system chooses by itself."""
    try:
        low, high = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()
    except OSError:  # not Linux: those that RFC 6335 names
        return 49_152, LAST_PORT
    return int(low), int(high)


def _is_free(port: int) -> bool:
    """Say whether nobody listens on a port."""
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True


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
        listed = children_of(self.process.pid).items()
        return {
            name: process
            for name in SERVICES
            for process, command in listed
            if f"services.{name}" in command.split()
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
