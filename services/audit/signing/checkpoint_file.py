"""Checkpoints outside the database: a file that only gets longer, note after note.

Whoever may rewrite the database cannot take back what is in it. A note that was cut off by a crash
is skipped, as it was never relied upon: the checkpoint is stored only after the file is synced.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path

from shared.merkle.checkpoint import Checkpoint, opened
from shared.merkle.note import NoteInvalid, Verifier

# More than the longest note, so that the last one is always in it.
TAIL_BYTES = 16 * 1024
_END = b"\n\n"
_NOTE = re.compile(r"^[^\n]+\n[0-9]+\n[A-Za-z0-9+/=]+\n\n(?:\u2014 [^\n]+\n)+(?=\n)", re.MULTILINE)


class CheckpointFileInvalid(Exception):
    """The file cannot be used, or has something else in it; the text says what."""


class CheckpointFile:
    """The file of one service; all its replicas may share it."""

    def __init__(self, path: Path) -> None:
        """Take the path; the file need not exist yet."""
        self.path = path

    def newest(self, *verifiers: Verifier) -> Checkpoint | None:
        """Return the last checkpoint, None when there is no file or it is empty.

        Raises CheckpointFileInvalid when it has anything, but no checkpoint that a key signed.
        """
        return (self.last(*verifiers) or (None, ""))[0]

    def last(self, *verifiers: Verifier) -> tuple[Checkpoint, str] | None:
        """Return the last checkpoint and its note, as `newest` does."""
        tail = self._tail()
        for note in reversed(_NOTE.findall(tail.decode(errors="replace"))):
            try:
                return opened(note, *verifiers), note
            except NoteInvalid:
                continue
        if tail:
            raise CheckpointFileInvalid("the checkpoint file has no checkpoint of this key")
        return None

    def all(self) -> Iterator[str]:
        """Yield every note from the first one on, unchecked; raises CheckpointFileInvalid."""
        try:
            with self.path.open(encoding="utf-8", errors="replace") as file:
                lines: list[str] = []
                for line in file:
                    lines.append(line)
                    # A note ends with an empty line after its signatures; it has one before them.
                    if line == "\n" and lines[-2:-1] and lines[-2].startswith("\u2014"):
                        yield from _NOTE.findall("".join(lines))
                        lines = []
        except FileNotFoundError:
            return
        except OSError as error:
            raise self._unusable(error) from error

    def append(self, note: str) -> None:
        """Write a note and wait until it is on the disk; raises CheckpointFileInvalid."""
        before = self._tail()
        cut_off = bool(before) and not before.endswith(_END)
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            handle = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            try:
                left = _END * cut_off + note.encode() + b"\n"
                while left:  # a disk that is nearly full takes a part of it, and no error yet
                    left = left[os.write(handle, left) :]
                os.fsync(handle)
            finally:
                os.close(handle)
        except OSError as error:
            raise self._unusable(error) from error

    def _tail(self) -> bytes:
        try:
            with self.path.open("rb") as file:
                end = file.seek(0, os.SEEK_END)
                file.seek(max(0, end - TAIL_BYTES))
                return file.read()
        except FileNotFoundError:
            return b""
        except OSError as error:
            raise self._unusable(error) from error

    def _unusable(self, error: OSError) -> CheckpointFileInvalid:
        return CheckpointFileInvalid(f"the checkpoint file cannot be used: {error.strerror}")
