"""A PostgreSQL server as a process of this machine: is one running here, and how is it ended."""

import os
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

PID_FILE = "postmaster.pid"
FAST_SHUTDOWN_SECONDS = 30.0
IMMEDIATE_SHUTDOWN_SECONDS = 5.0
_POLL_SECONDS = 0.02
_LINES = 8


@dataclass(frozen=True, slots=True)
class Postmaster:
    """What a server writes into `postmaster.pid` of its data directory."""

    pid: int
    socket_dir: Path
    ready: bool

    @classmethod
    def read(cls, cluster: Path) -> Self | None:
        """Return what the file says, or None when there is none or it is only half written."""
        try:
            lines = (cluster / PID_FILE).read_text().splitlines()
        except OSError:
            return None
        if len(lines) < _LINES or not lines[0].isdigit():
            return None
        return cls(int(lines[0]), Path(lines[4]), lines[7].strip() == "ready")


def is_serving(pid: int, cluster: Path) -> bool:
    """Say whether process `pid` is a living PostgreSQL server of exactly this data directory.

    A process id alone proves nothing: after a crash, and always in containers, another process may
    have it. A server works inside its data directory; where /proc does not tell that, its command
    line, which `EmbeddedPostgres` makes, names the directory.
    """
    try:
        return Path(f"/proc/{pid}/cwd").readlink() == cluster.resolve()
    except OSError:
        if Path("/proc/self").exists():
            return False
    command = ["ps", "-p", str(pid), "-o", "command="]
    listed = subprocess.run(command, capture_output=True, text=True, check=False)
    return f"postgres -D {cluster}" in listed.stdout


def shut_down(pid: int, is_gone: Callable[[float], bool]) -> None:
    """End the server: fast (sessions are cut, data is flushed), then harder when it takes long.

    `is_gone` waits up to so many seconds and says whether the process has ended.
    """
    ways = (
        (signal.SIGINT, FAST_SHUTDOWN_SECONDS),
        (signal.SIGQUIT, IMMEDIATE_SHUTDOWN_SECONDS),
        (signal.SIGKILL, IMMEDIATE_SHUTDOWN_SECONDS),
    )
    for number, seconds in ways:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            return
        if is_gone(seconds):
            return


def wait_until(condition: Callable[[], bool], seconds: float) -> bool:
    """Poll `condition` for up to `seconds`; return whether it came true."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_SECONDS)
    return True
