"""The keys that sign checkpoints, as they are in the key directory at the moment.

All private keys that are there sign; all public ones are accepted for verification, those of
earlier names of the log included. `ledger.pub` says which key is the current one and under which
name the log is signed. Replicas share the directory or have copies of it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Protocol

import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from shared.identity.keys import KeysInvalid, create_once, private_pem, read_private
from shared.merkle.checkpoint import LOG as ORIGIN
from shared.merkle.checkpoint import Checkpoint, epoch_of, opened, signed
from shared.merkle.key_files import PRIVATE, PUBLIC, Stamp, key_files, read_public, stamp
from shared.merkle.note import Ed25519Signer, NoteInvalid, Signer, Verifier, sign

__all__ = ["ORIGIN", "PRIVATE", "PUBLIC", "KeyRing", "Keys", "LedgerKeys"]

# Files may come and go while they are read.
READ_AGAIN = 5
# A verification asks for the keys thousands of times a second.
LOOK_EVERY_S = 0.02

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class KeyRing:
    """The keys of the log: who signs, the current key first, and all that ever signed.

    `verifiers` begins with the current key; every signer is among them.
    """

    signers: Sequence[Signer]
    verifiers: Sequence[Verifier]

    @property
    def verifier(self) -> Verifier:
        """The current public key."""
        return self.verifiers[0]

    @property
    def origin(self) -> str:
        """The name under which the log is signed."""
        return self.verifier.name

    @property
    def epoch(self) -> int:
        """The number of the epoch that is signed."""
        return epoch_of(self.origin)

    @property
    def ring(self) -> "KeyRing":
        """The keys themselves, as those of a directory that never changes."""
        return self

    def sign(self, text: str) -> str:
        """Return the note of any text, with a signature of each private key."""
        return sign(text, *self.signers)

    def signed(self, checkpoint: Checkpoint) -> str:
        """Return the note of a checkpoint, with a signature of each private key."""
        return signed(checkpoint, *self.signers)

    def opened(self, note: str) -> Checkpoint:
        """Return the checkpoint of a note of this log, of whatever epoch; raises NoteInvalid."""
        return opened(note, *self.verifiers)


class Keys(Protocol):
    """Who knows the keys of this moment."""

    @property
    def ring(self) -> KeyRing:
        """All keys."""


class LedgerKeys:
    """The key directory, read again when one of its files was changed."""

    def __init__(self, directory: Path) -> None:
        """Make the first key where there is none, and read all; raises KeysInvalid."""
        self._directory = directory
        _ensure(directory)
        self._stamp, self._ring = _read(directory)
        self._looked = monotonic()
        self._failed = ""

    @property
    def ring(self) -> KeyRing:
        """The keys of this moment; those of before while the files are not what they should be."""
        if monotonic() - self._looked < LOOK_EVERY_S:
            return self._ring
        self._looked = monotonic()
        try:
            if stamp(self._directory) != self._stamp:
                self._stamp, self._ring = _read(self._directory)
                names = [verifier.key_id.hex() for verifier in self._ring.verifiers]
                log.info("ledger_keys_read", signing=len(self._ring.signers), keys=names)
            self._failed = ""
        except (KeysInvalid, OSError) as error:
            if str(error) != self._failed:
                log.warning("ledger_keys_unusable", error=str(error))
            self._failed = str(error)
        return self._ring


def _ensure(directory: Path) -> None:
    try:
        if not (directory / PUBLIC).exists():
            if not (directory / PRIVATE).exists():
                create_once(directory / PRIVATE, private_pem(Ed25519PrivateKey.generate()))
            verifier = Ed25519Signer(ORIGIN, read_private(directory / PRIVATE)).verifier
            create_once(directory / PUBLIC, f"{verifier}\n".encode())
    except OSError as error:
        raise _unusable(error) from error


def _read(directory: Path) -> tuple[Stamp, KeyRing]:
    """Read all keys, again while they are being changed; raises KeysInvalid."""
    problem: Exception = OSError("they are changed again and again")
    for _time in range(READ_AGAIN):
        try:
            before = stamp(directory)
            ring = _ring(directory)
            if before == stamp(directory):
                return before, ring
        except (OSError, KeysInvalid) as error:
            problem = error
    raise problem if isinstance(problem, KeysInvalid) else _unusable(problem) from problem


def _ring(directory: Path) -> KeyRing:
    try:
        current = read_public(directory / PUBLIC)
        public = [read_public(path) for path in key_files(directory, "pub")]
    except (NoteInvalid, UnicodeDecodeError) as error:
        sentence = f"A public key of the ledger in {directory} is not one: {error}."
        raise KeysInvalid(sentence) from error
    private = [read_private(path) for path in key_files(directory, "pem")]
    signers = {
        signer.verifier: signer for signer in (Ed25519Signer(current.name, key) for key in private)
    }
    if current not in signers:
        sentence = f"{directory / PUBLIC} does not belong to {PRIVATE}: put back the pair."
        raise KeysInvalid(sentence)
    ordered = {current: signers[current]} | signers
    # Names count up, so the newest is that of the highest epoch.
    older = sorted(public, key=lambda verifier: -epoch_of(verifier.name))
    return KeyRing(tuple(ordered.values()), tuple(dict.fromkeys([*ordered, *older])))


def _unusable(error: Exception) -> KeysInvalid:
    return KeysInvalid(f"The key of the ledger cannot be made or read: {error}.")
