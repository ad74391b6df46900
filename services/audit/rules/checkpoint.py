"""Checkpoints (C2SP tlog-checkpoint): origin, size and root of the tree, to be signed as a note.

Three lines: the name of the log, the number of leaves in decimal, the root in base64.
"""

import re
from base64 import b64decode, b64encode
from binascii import Error as NotBase64
from dataclasses import dataclass

from services.audit.rules.merkle import HASH_BYTES
from services.audit.rules.note import NoteInvalid, Signer, Verifier, open_note, sign

_TEXT = re.compile(r"(?P<origin>[^\n]+)\n(?P<size>0|[1-9][0-9]{0,18})\n(?P<root>[A-Za-z0-9+/=]+)\n")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The state of a log: the first `size` leaves have this root."""

    origin: str
    size: int
    root: bytes

    def __str__(self) -> str:
        """Return the text that is signed."""
        return f"{self.origin}\n{self.size}\n{b64encode(self.root).decode()}\n"


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


def signed(checkpoint: Checkpoint, signer: Signer) -> str:
    """Return the note of a checkpoint."""
    return sign(str(checkpoint), signer)


def opened(note: str, verifier: Verifier) -> Checkpoint:
    """Return the checkpoint of a note; raises NoteInvalid unless the key signed it as its log.

    The name of the key is the origin of the log.
    """
    checkpoint = parse(open_note(note, verifier))
    if checkpoint.origin != verifier.name:
        raise NoteInvalid(f"a checkpoint of {checkpoint.origin}, not of {verifier.name}")
    return checkpoint
