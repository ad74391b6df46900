"""Processes of this machine, found without any tool where the system tells of them in /proc."""

import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

PROC = Path("/proc")


def children_of(parent: int) -> dict[int, str]:
    """Return the command lines of the processes that any thread of a process has, by their ids."""
    listed = _in_proc() if (PROC / "self/stat").exists() else _listed()
    return {process: command for process, its_parent, command in listed if its_parent == parent}


def _in_proc() -> Iterator[tuple[int, int, str]]:
    for process in PROC.glob("[0-9]*"):
        with suppress(OSError):  # it has ended meanwhile
            # Only its name, which stands in brackets before the others, may hold any character.
            parent = (process / "stat").read_text(errors="replace").rpartition(")")[2].split()[1]
            words = (process / "cmdline").read_bytes().decode(errors="replace").split("\0")
            yield int(process.name), int(parent), " ".join(words)


def _listed() -> Iterator[tuple[int, int, str]]:
    command = ("ps", "-A", "-o", "pid=,ppid=,args=")
    found = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    for line in found.splitlines():
        process, parent, *args = line.split(maxsplit=2)
        yield int(process), int(parent), "".join(args)
