"""The files of the ledger's keys in the key directory, and what anybody may read of them.

`ledger.pem` is the private key that signs, `ledger.pub` its public half under the name of the log:
a C2SP verifier key in one line. `ledger-<key id>.pem` and `.pub` are those of keys that are being
replaced or were, and of names that the log had before.
"""

import re
from pathlib import Path

from shared.merkle.checkpoint import epoch_of
from shared.merkle.note import NoteInvalid, Verifier

PRIVATE = "ledger.pem"
PUBLIC = "ledger.pub"
_FILE = re.compile(r"ledger(?:-[0-9a-f]{8})?\.(?P<kind>pem|pub)")

# Name, inode, time of change in nanoseconds and size of each file: other when anything was changed.
Stamp = tuple[tuple[str, int, int, int], ...]


def stamp(directory: Path) -> Stamp:
    """Tell one state of the files from the next, without reading them; raises OSError."""
    return tuple(
        (path.name, found.st_ino, found.st_mtime_ns, found.st_size)
        for path in key_files(directory)
        for found in (path.stat(),)
    )


def key_files(directory: Path, kind: str = "") -> list[Path]:
    """Return the files, of the kind `pem` or `pub` if given, the current key first."""
    found = [
        path
        for path in directory.iterdir()
        if (match := _FILE.fullmatch(path.name)) and kind in {"", match["kind"]}
    ]
    return sorted(found, key=lambda path: (path.stem != "ledger", path.name))


def read_public(path: Path) -> Verifier:
    """Read a public key of the ledger; raises OSError and NoteInvalid."""
    verifier = Verifier.parse(path.read_text())
    epoch_of(verifier.name)
    return verifier


def public_keys(directory: Path) -> tuple[Verifier, ...]:
    """Return all public keys of the ledger that are in a directory, the current one first.

    None when one of them cannot be read, or where there is no directory.
    """
    try:
        return tuple(read_public(path) for path in key_files(directory, "pub"))
    except (OSError, NoteInvalid, UnicodeDecodeError):
        return ()
