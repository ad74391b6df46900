"""Checkpoints (C2SP tlog-checkpoint): origin, size and root of the tree, to be signed as a note.

Three lines: the name of the log, the number of leaves in decimal, the root in base64.
"""

import re
from base64 import b64decode, b64encode
from binascii import Error as NotBase64
from dataclasses import dataclass

from shared.merkle.note import NoteInvalid, Signer, Verifier, open_note, sign
from shared.merkle.tree import HASH_BYTES

LOG = "release-manager/audit"
_ORIGIN = re.compile(rf"{LOG}(?:/(?P<epoch>[1-9][0-9]{{0,8}}))?")
_TEXT = re.compile(r"(?P<origin>[^\n]+)\n(?P<size>0|[1-9][0-9]{0,18})\n(?P<root>[A-Za-z0-9+/=]+)\n")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The state of a log: the first `size` leaves have this root."""

    origin: str
    size: int
    root: bytes

    @property
    def epoch(self) -> int:
        """The epoch of the ledger, which its origin names; raises NoteInvalid for another log."""
        return epoch_of(self.origin)

    def __str__(self) -> str:
        """Return the text that is signed."""
        return f"{self.origin}\n{self.size}\n{b64encode(self.root).decode()}\n"


def origin_of(epoch: int) -> str:
    """Return the name under which an epoch of the ledger is signed; the first one has number 0."""
    return f"{LOG}/{epoch}" if epoch else LOG


def epoch_of(origin: str) -> int:
    """Return the number of the epoch that a name stands for; raises NoteInvalid for another log."""
    found = _ORIGIN.fullmatch(origin)
    if found is None:
        raise NoteInvalid(f"{origin} is not the ledger")
    return int(found["epoch"] or 0)


def parse(text: str) -> Checkpoint:
    """Read the text of a checkpoint, in its one spelling; raises NoteInvalid."""
    found = _TEXT.fullmatch(text)
    if found is None:
        raise NoteInvalid("not a checkpoint of three lines")
    try:
        root = b64decode(found["root"], validate=True)
    except NotBase64 as error:
        raise NoteInvalid("the root is not base64") from error
    checkpoint = Checkpoint(found["origin"], int(found["size"]), root)
    if len(root) != HASH_BYTES or str(checkpoint) != text:
        raise NoteInvalid(f"the root is not {HASH_BYTES} bytes")
    return checkpoint


def signed(checkpoint: Checkpoint, *signers: Signer) -> str:
    """Return the note of a checkpoint, with a signature of each signer."""
    return sign(str(checkpoint), *signers)


def opened(note: str, *verifiers: Verifier) -> Checkpoint:
    """Return the checkpoint of a note; raises NoteInvalid unless a key signed it as its log.

    The name of a key is the origin of its log. One of the keys of that log must have signed the
    note, and none of them wrongly.
    """
    origin = note.partition("\n")[0]
    mine = [verifier for verifier in verifiers if verifier.name == origin]
    checkpoint = parse(open_note(note, *(mine or verifiers)))
    if not mine:
        names = dict.fromkeys(verifier.name for verifier in verifiers)
        raise NoteInvalid(f"a checkpoint of {origin}, not of {' or '.join(names)}")
    return checkpoint
