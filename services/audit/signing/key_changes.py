"""Replacing the key of the ledger: add one beside it, sign with both, drop the old one later.

Each step leaves a directory with which the service signs, and is harmless when made again: a
command that was killed is completed by giving it again. Each generator yields a sentence after
each of its steps.
"""

import os
from collections.abc import AsyncGenerator
from pathlib import Path
from tempfile import NamedTemporaryFile

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from services.audit.appending.own_entries import OwnEntries
from services.audit.signing.ledger_key import KeyRing, LedgerKeys
from shared.identity.keys import create_once, private_pem, read_private, sync_directory
from shared.merkle.key_files import PRIVATE, PUBLIC, key_files
from shared.merkle.note import Ed25519Signer, Verifier

# The key that takes over, while the command is under way; it does not sign yet.
NEXT = "ledger-next.pem"
RESOURCE_TYPE = "ledger_key"
ROTATE = "rotate_key"
DROP = "drop_key"
MOST_SIGNERS = 8
TOLD = "The ledger has an entry of it."


class CommandRefused(Exception):
    """The command cannot or need not be carried out; the text says why."""


async def rotate_key(directory: Path, entries: OwnEntries) -> AsyncGenerator[str, None]:
    """Make a new key the current one, beside those that sign already.

    Raises CommandRefused and KeysInvalid.
    """
    async with entries.alone() as tx:
        ring = LedgerKeys(directory).ring
        key = _next(directory, ring)
        added = Ed25519Signer(ring.origin, key).verifier
        yield f"The new key is {key_name(added)}."
        told = {"key": str(added), "replaces": key_name(ring.verifier)}
        await entries.once(tx, ROTATE, RESOURCE_TYPE, key_name(added), told)
        yield TOLD
        if ring.verifier != added:
            keep_public(directory, ring.verifier)
            current = _private_of(directory, ring.verifier)
            create_once(directory / _file(ring.verifier, "pem"), private_pem(current))
            yield f"The key {key_name(ring.verifier)} goes on signing."
        create_once(directory / _file(added, "pem"), private_pem(key))
        yield "The new key signs too."
        replace(directory / PRIVATE, private_pem(key))
        yield f"It is the one of {PRIVATE}."
        replace(directory / PUBLIC, f"{added}\n".encode())
        yield f"It is the one of {PUBLIC}: give that to everybody who checks the ledger."
        (directory / _file(added, "pem")).unlink(missing_ok=True)
        (directory / NEXT).unlink(missing_ok=True)
        sync_directory(directory)


async def drop_key(directory: Path, entries: OwnEntries, key_id: str) -> AsyncGenerator[str, None]:
    """Let an older key sign no more; its public half stays, for what it has signed.

    Raises CommandRefused and KeysInvalid.
    """
    async with entries.alone() as tx:
        ring = LedgerKeys(directory).ring
        if (directory / NEXT).exists():
            raise CommandRefused("A key is being added: give rotate-key again to complete that.")
        dropped = _named(ring, key_id)
        if dropped == ring.verifier:
            raise CommandRefused("This is the current key: replace it with rotate-key first.")
        if dropped in {signer.verifier for signer in ring.signers}:
            told = {"key": str(dropped), "current": key_name(ring.verifier)}
            await entries.once(tx, DROP, RESOURCE_TYPE, key_name(dropped), told)
            yield TOLD
            keep_public(directory, dropped)
            yield "The public half stays."
            for path in key_files(directory, "pem"):
                if Ed25519Signer(ring.origin, read_private(path)).verifier == dropped:
                    path.unlink()
            sync_directory(directory)
        yield f"The key {key_name(dropped)} does not sign any more."


def _next(directory: Path, ring: KeyRing) -> Ed25519PrivateKey:
    """Return the key that is being added, which is made when there is none."""
    if not (directory / NEXT).exists():
        if len(ring.signers) >= MOST_SIGNERS:
            raise CommandRefused(f"{MOST_SIGNERS} keys sign already: drop-key an old one first.")
        create_once(directory / NEXT, private_pem(Ed25519PrivateKey.generate()))
    return read_private(directory / NEXT)


def key_name(verifier: Verifier) -> str:
    """Return how a key is named in entries, files and commands: its id in hexadecimal."""
    return verifier.key_id.hex()


def keep_public(directory: Path, verifier: Verifier) -> None:
    """Keep a public key under its own name."""
    create_once(directory / _file(verifier, "pub"), f"{verifier}\n".encode())


def replace(path: Path, content: bytes) -> None:
    """Put a whole file, 0600, in the place of one whose content is kept elsewhere."""
    with NamedTemporaryFile(dir=path.parent, prefix=".new-", delete=False) as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    Path(file.name).replace(path)
    sync_directory(path.parent)


def _named(ring: KeyRing, key_id: str) -> Verifier:
    """Return the key, under the name of today, that has or had this id; raises CommandRefused."""
    known = {verifier.public for verifier in ring.verifiers if key_name(verifier) == key_id.lower()}
    if not known:
        ids = ", ".join(dict.fromkeys(map(key_name, ring.verifiers)))
        raise CommandRefused(f"There is no key {key_id}. There are {ids}.")
    return Verifier(ring.origin, known.pop())


def _private_of(directory: Path, verifier: Verifier) -> Ed25519PrivateKey:
    for path in key_files(directory, "pem"):
        key = read_private(path)
        if Ed25519Signer(verifier.name, key).verifier == verifier:
            return key
    raise CommandRefused(f"The private key of {key_name(verifier)} is not there.")


def _file(verifier: Verifier, kind: str) -> str:
    return f"ledger-{key_name(verifier)}.{kind}"
