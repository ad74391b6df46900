r"""Signed notes (C2SP signed-note): a text, and lines that sign it.

    <text, which ends with a newline>
    <empty line>
    — <name of the key> <base64 of 4 bytes of key id and the signature>

Ed25519 only, algorithm 0x01. The key id is the beginning of SHA-256(name || "\n" || 0x01 || public
key). Whoever signs is a `Signer`, so that the private key may live elsewhere.
"""

import re
from base64 import b64decode, b64encode
from binascii import Error as NotBase64
from dataclasses import dataclass
from hashlib import sha256
from typing import Protocol

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

ED25519 = b"\x01"
KEY_ID_BYTES = 4
KEY_BYTES = 32
SIGNATURE_BYTES = 64
_NAME = re.compile(r"[^\s+]+")
_SIGNATURE = re.compile(r"\u2014 (?P<name>[^\s+]+) (?P<signature>[A-Za-z0-9+/]+={0,2})")
_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f]")
MOST_SIGNATURES = 100


class NoteInvalid(Exception):
    """A note or a key that is not what it should be; the text says why."""


class NotSigned(NoteInvalid):
    """The signatures of a note are of other keys than those that are known."""


@dataclass(frozen=True, slots=True)
class Verifier:
    """A public key with its name, as `name+key id+base64 of algorithm and key`."""

    name: str
    public: bytes

    @property
    def key_id(self) -> bytes:
        """The 4 bytes by which a signature names the key."""
        return sha256(self.name.encode() + b"\n" + ED25519 + self.public).digest()[:KEY_ID_BYTES]

    def __str__(self) -> str:
        """Return the one-line form that `parse` reads."""
        return f"{self.name}+{self.key_id.hex()}+{b64encode(ED25519 + self.public).decode()}"

    @classmethod
    def parse(cls, line: str) -> "Verifier":
        """Read the one-line form; raises NoteInvalid."""
        name, _, rest = line.strip().partition("+")
        key_id, _, encoded = rest.partition("+")
        key = _decoded(encoded)
        if not _NAME.fullmatch(name) or key[:1] != ED25519 or len(key) != 1 + KEY_BYTES:
            raise NoteInvalid("not an Ed25519 verifier key")
        verifier = cls(name, key[1:])
        if key_id != verifier.key_id.hex():
            raise NoteInvalid("the key id does not belong to the key")
        return verifier

    def accepts(self, text: str, signature: bytes) -> bool:
        """Tell whether the key signed the text."""
        try:
            Ed25519PublicKey.from_public_bytes(self.public).verify(signature, text.encode())
        except (InvalidSignature, ValueError):
            return False
        return True


class Signer(Protocol):
    """Signs texts under a name: a key in a file, or one that never leaves its machine."""

    @property
    def verifier(self) -> Verifier:
        """The public half."""

    def sign(self, text: bytes) -> bytes:
        """Return the 64 bytes of an Ed25519 signature."""


class Ed25519Signer:
    """A signer whose key is in memory."""

    def __init__(self, name: str, key: Ed25519PrivateKey) -> None:
        """Take the key and the name it signs under; raises NoteInvalid for an unusable name."""
        if not _NAME.fullmatch(name):
            raise NoteInvalid("the name of a key has neither spaces nor plus signs")
        self._key = key
        self.verifier = Verifier(name, key.public_key().public_bytes_raw())

    def sign(self, text: bytes) -> bytes:
        """Return the signature."""
        return self._key.sign(text)


def sign(text: str, *signers: Signer) -> str:
    """Return the note in which each of the signers signs a text.

    Raises NoteInvalid for a text that cannot be signed.
    """
    if not text.endswith("\n") or _CONTROL.search(text):
        raise NoteInvalid("a text ends with a newline and has no other control characters")
    lines = [_signature_line(signer, text.encode()) for signer in signers]
    return f"{text}\n{''.join(lines)}"


def _signature_line(signer: Signer, text: bytes) -> str:
    verifier = signer.verifier
    signature = b64encode(verifier.key_id + signer.sign(text)).decode()
    return f"\u2014 {verifier.name} {signature}\n"


def open_note(note: str, *verifiers: Verifier) -> str:
    """Return the text of a note that at least one of the keys has signed, and none wrongly.

    Signatures of other keys are ignored, as long as they have the form of one: so a key can be
    replaced by signing with both for a while. Raises NoteInvalid.
    """
    text, found, lines = note.rpartition("\n\n")
    text += "\n"
    if not found or not lines.endswith("\n") or _CONTROL.search(note):
        raise NoteInvalid("not a signed note")
    signatures = [_signature(line) for line in lines[:-1].split("\n")[: MOST_SIGNATURES + 1]]
    if len(signatures) > MOST_SIGNATURES:
        raise NoteInvalid("too many signatures")
    known = [
        (verifier, encoded[KEY_ID_BYTES:])
        for name, encoded in signatures
        for verifier in verifiers
        if name == verifier.name and encoded.startswith(verifier.key_id)
    ]
    if not known:
        names = dict.fromkeys(verifier.name for verifier in verifiers)
        signers = ", ".join(encoded[:KEY_ID_BYTES].hex() for _name, encoded in signatures)
        wanted = " or ".join(names) or "any key that is known"
        raise NotSigned(f"not signed by {wanted} with a key that is known, but with {signers}")
    for verifier, signature in known:
        if not verifier.accepts(text, signature):
            raise NoteInvalid(f"the signature of {verifier.name} is wrong")
    return text


def _signature(line: str) -> tuple[str, bytes]:
    """Return who a signature line names, and its key id and signature; raises NoteInvalid."""
    found = _SIGNATURE.fullmatch(line)
    if found is None:
        raise NoteInvalid("a signature line is malformed")
    encoded = _decoded(found["signature"])
    if len(encoded) <= KEY_ID_BYTES:
        raise NoteInvalid("a signature is too short")
    return found["name"], encoded


def _decoded(encoded: str) -> bytes:
    """Decode base64 in its one spelling; raises NoteInvalid."""
    try:
        decoded = b64decode(encoded, validate=True)
    except (NotBase64, ValueError) as error:
        raise NoteInvalid("not base64") from error
    if b64encode(decoded).decode() != encoded:
        raise NoteInvalid("base64 with stray bits")
    return decoded
