"""A PostgreSQL server of our own, for one machine and for tests: real, on a Unix socket only.

The cluster lies in `<directory>/postgres`, its log beside it. Whoever starts it owns it: a lock on
the directory keeps a second owner out, and a server that a killed owner left behind is ended before
a new one starts. It accepts every user of its socket, which only the owner of the 0700 directory
around it can reach; it never listens on a network.
"""

import fcntl
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Self
from urllib.parse import quote

from shared.db.cluster import USER, check_cluster, make_cluster, make_database, own_environment
from shared.db.embedded_host import (
    EmbeddedPostgresError,
    as_ordinary_user,
    check_writable,
    dying_with_us,
    program,
)
from shared.db.postmaster import PID_FILE, Postmaster, is_serving, shut_down, wait_until

DATABASE = "release_manager"
PORT = 5432
SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "port": str(PORT),
    "max_connections": "200",
    "timezone": "UTC",
    "log_timezone": "UTC",
}
# sun_path holds 108 bytes on Linux (104 elsewhere), the last of them a zero.
LONGEST_SOCKET_PATH = 103
START_SECONDS = 120.0
# Backends of a server that was killed need a moment to notice and let go of its shared memory.
ATTEMPTS = 20
SOCKET_PREFIX = "release-manager-"


class EmbeddedPostgres:
    """A server over one directory, started and stopped by this process; a context manager."""

    def __init__(self, directory: Path, *, settings: Mapping[str, str] | None = None) -> None:
        """Prepare for `directory`; `settings` are PostgreSQL's own, such as `fsync`."""
        self.directory = directory.absolute()
        self.cluster = self.directory / "postgres"
        self.log = self.directory / "postgres.log"
        self._settings = SETTINGS | dict(settings or {})
        self._lock: IO[str] | None = None
        self._socket_dir: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        """Start the server."""
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop the server."""
        self.stop()

    def url(self, database: str = DATABASE) -> str:
        """Return the SQLAlchemy URL of one of its databases; the server must have been started."""
        if self._socket_dir is None:
            sentence = "The embedded PostgreSQL has not been started."
            raise EmbeddedPostgresError(sentence)
        return _url(self._socket_dir, database)

    @property
    def running(self) -> bool:
        """Whether the server that was started still lives."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start the server, making the cluster and the database when missing.

        Also starts it again, at the same URL, after it has crashed. Blocks until it accepts
        connections; raises EmbeddedPostgresError.
        """
        if self.running:
            return
        first = self._lock is None
        try:
            self._take_directory()
            self._end_leftover()
            make_cluster(self.cluster, sync=self._settings.get("fsync") != "off")
            self._socket_dir = self._socket_dir or self._make_socket_dir()
            self._launch()
            make_database(DATABASE, "-h", str(self._socket_dir), "-p", str(PORT))
        except BaseException as error:
            self._end_process()
            if first:
                self.stop()
            if not isinstance(error, OSError):
                raise
            sentence = f"The data directory {self.directory} cannot be used: {error.strerror}."
            raise EmbeddedPostgresError(sentence) from error

    def stop(self) -> None:
        """Stop the server, cutting its sessions, and let go of the directory."""
        self._end_process()
        if self._socket_dir is not None:
            _remove_socket_dir(self._socket_dir)
        self._socket_dir = None
        if self._lock is not None:
            self._lock.close()
        self._lock = None

    def _end_process(self) -> None:
        if self._process is not None and self._process.poll() is None:
            shut_down(self._process.pid, self._has_ended)
        self._process = None

    def _has_ended(self, seconds: float) -> bool:
        process = self._process
        return process is None or wait_until(lambda: process.poll() is not None, seconds)

    def _take_directory(self) -> None:
        if self._lock is not None:
            return
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = (self.directory / "postgres.lock").open("a+")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            owner = lock.read().strip()
            lock.close()
            sentence = (
                f"The data directory {self.directory} is in use by process {owner}: stop that one,"
                " or set RELEASE_MANAGER_DATA_DIR to another directory."
            )
            raise EmbeddedPostgresError(sentence) from None
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        self._lock = lock
        check_writable(self.directory)
        check_cluster(self.cluster)

    def _end_leftover(self) -> None:
        left = Postmaster.read(self.cluster)
        if left is not None and is_serving(left.pid, self.cluster):
            shut_down(
                left.pid,
                lambda seconds: wait_until(lambda: not is_serving(left.pid, self.cluster), seconds),
            )
        # PostgreSQL takes any process with the id in a stale file for a server of its own.
        (self.cluster / PID_FILE).unlink(missing_ok=True)
        if left is not None and left.socket_dir != self._socket_dir:
            _remove_socket_dir(left.socket_dir)

    def _make_socket_dir(self) -> Path:
        inside = self.directory / "socket"
        name = os.fsencode(inside / f".s.PGSQL.{PORT}")
        # The setting is a list: a comma, quote or space in the path would need quoting of its own.
        if len(name) <= LONGEST_SOCKET_PATH and re.fullmatch(r"[\w./+-]+", str(inside)):
            inside.mkdir(mode=0o700, exist_ok=True)
            inside.chmod(0o700)
            return inside
        return Path(tempfile.mkdtemp(prefix=SOCKET_PREFIX))

    def _launch(self) -> None:
        if self.log.exists():
            self.log.replace(self.log.with_suffix(".log.1"))
        for _attempt in range(ATTEMPTS):
            self._process = self._spawn()
            wait_until(lambda: self._is_ready() or not self.running, START_SECONDS)
            if self.running:
                break
            if "shared memory" not in self._last_complaint():
                break
            wait_until(lambda: False, 0.25)
        if not self._is_ready():
            sentence = (
                f"PostgreSQL did not start on {self.cluster}: {self._last_complaint()}; its log is"
                f" {self.log}."
            )
            raise EmbeddedPostgresError(sentence)

    def _spawn(self) -> subprocess.Popen[bytes]:
        """Start the server in a session of its own: Ctrl-C must reach it last, through us."""
        options = self._settings | {"unix_socket_directories": str(self._socket_dir)}
        command = [
            *as_ordinary_user(),
            *dying_with_us("INT"),
            *(program("postgres"), "-D", str(self.cluster)),
            *(word for name, value in options.items() for word in ("-c", f"{name}={value}")),
        ]
        with self.log.open("ab") as log:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=own_environment(),
                start_new_session=True,
            )

    def _is_ready(self) -> bool:
        said = Postmaster.read(self.cluster)
        process = self._process
        return said is not None and process is not None and said.ready and said.pid == process.pid

    def _last_complaint(self) -> str:
        """Return the last line of the log in which the server says why it ends."""
        lines = self.log.read_text(errors="replace").splitlines()
        fatal = [line.partition("FATAL:")[2].strip() for line in lines if "FATAL:" in line]
        return fatal[-1] if fatal else (lines[-1] if lines else "it said nothing")


def running_url(directory: Path) -> str | None:
    """Return the URL of the server that another process runs over `directory`, or None."""
    cluster = directory.absolute() / "postgres"
    said = Postmaster.read(cluster)
    if said is None or not said.ready or not is_serving(said.pid, cluster):
        return None
    return _url(said.socket_dir, DATABASE)


def _url(socket_dir: Path, database: str) -> str:
    host = quote(str(socket_dir), safe="/")
    return f"postgresql+asyncpg://{USER}@/{quote(database)}?host={host}&port={PORT}"


def _remove_socket_dir(directory: Path) -> None:
    """Remove a temporary directory of our making; leave any other in place."""
    if directory.name.startswith(SOCKET_PREFIX):
        shutil.rmtree(directory, ignore_errors=True)
