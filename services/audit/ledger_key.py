"""The key that signs checkpoints: `ledger.pem` and its public half `ledger.pub`.

Both lie in the key directory, which replicas share. The public one is a C2SP verifier key, for
whoever checks the ledger from outside.
"""

from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from services.audit.rules.note import Ed25519Signer
from shared.identity.keys import KeysInvalid, create_once, private_pem, read_private

# The name of the log and of its key, as migration 003 wrote it into the head.
ORIGIN = "release-manager/audit"
PRIVATE = "ledger.pem"
PUBLIC = "ledger.pub"


def ensure_ledger_key(directory: Path) -> Ed25519Signer:
    """Return the signer of the ledger, whose key is made when there is none.

    Raises KeysInvalid when it can be neither read nor made, or when `ledger.pub` is not its half.
    """
    try:
        if not (directory / PRIVATE).exists():
            create_once(directory / PRIVATE, private_pem(Ed25519PrivateKey.generate()))
        signer = Ed25519Signer(ORIGIN, read_private(directory / PRIVATE))
        public = f"{signer.verifier}\n"
        create_once(directory / PUBLIC, public.encode())
        found = (directory / PUBLIC).read_text()
    except OSError as error:
        sentence = f"The key of the ledger cannot be made or read: {error.filename}: {error}."
        raise KeysInvalid(sentence) from error
    if found != public:
        sentence = f"{directory / PUBLIC} does not belong to {PRIVATE}: put back the pair."
        raise KeysInvalid(sentence)
    return signer
