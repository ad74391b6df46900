"""The keys of access tokens as they are in the key directory at the moment.

A running service looks at the directory at most once in `LOOK_EVERY_S`, and sooner for a key that
it does not know: so a key that was added counts before the first token of it arrives, and one that
was removed ceases to count within that time. Whoever invents key ids causes a few looks a second,
and no more.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from time import monotonic

import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from shared.identity.keys import Keys, KeysInvalid, load_keys, token_key_files

LOOK_EVERY_S = 1.0
LOOK_AGAIN_S = 0.1
# Files may come and go while they are read.
READ_AGAIN = 3

# Name, inode, time of change in nanoseconds and size of each file: other when anything was changed.
Stamp = tuple[tuple[str, int, int, int], ...]

_log = structlog.get_logger(__name__)


class TokenKeys(Mapping[str, Ed25519PublicKey]):
    """The public keys by their kid, and the private one that signs, of this moment.

    Keys that were not read from a directory never change. While the files are not what they should
    be, those of before go on being used, and the log says so.
    """

    def __init__(self, keys: Keys) -> None:
        """Begin with `keys`, and look where they were read."""
        self._keys = keys
        self._stamp: Stamp | None = None  # of nothing read here: the first look reads
        self._looked = -LOOK_EVERY_S
        self._failed = ""

    def __getitem__(self, kid: str) -> Ed25519PublicKey:
        """Return the public key; raises KeyError for one that is not there now."""
        known = self._now(LOOK_EVERY_S).verifying
        if kid not in known:
            known = self._now(LOOK_AGAIN_S).verifying
        return known[kid]

    def __iter__(self) -> Iterator[str]:
        """Iterate over the kids."""
        return iter(self._now(LOOK_EVERY_S).verifying)

    def __len__(self) -> int:
        """Return how many keys are accepted."""
        return len(self._now(LOOK_EVERY_S).verifying)

    @property
    def signing(self) -> tuple[str, Ed25519PrivateKey]:
        """The kid and the private key that sign; raises KeysInvalid when there is none."""
        keys = self._now(LOOK_EVERY_S)
        if keys.signing is None or keys.signing_kid is None:
            sentence = "The key directory holds no private access-token-*.pem to sign with."
            raise KeysInvalid(sentence)
        return keys.signing_kid, keys.signing

    def _now(self, every_s: float) -> Keys:
        directory = self._keys.directory
        if directory is None or monotonic() - self._looked < every_s:
            return self._keys
        self._looked = monotonic()
        try:
            self._look(directory)
            self._failed = ""
        except (KeysInvalid, OSError) as error:
            if str(error) != self._failed:
                _log.warning("token_keys_unusable", error=str(error))
            self._failed = str(error)
        return self._keys

    def _look(self, directory: Path) -> None:
        """Read the keys if a file was changed, again while they are being changed."""
        for attempt in range(1, READ_AGAIN + 1):
            before = _stamp(directory)
            if before == self._stamp:
                return
            try:
                found = load_keys(directory)
            except (KeysInvalid, OSError):
                if attempt == READ_AGAIN:
                    raise
                continue
            if before == _stamp(directory):
                self._take(found, before)
                return

    def _take(self, found: Keys, stamp: Stamp) -> None:
        if found.verifying.keys() != self._keys.verifying.keys() or (
            found.signing_kid != self._keys.signing_kid
        ):
            _log.info(
                "token_keys_read", accepted=sorted(found.verifying), signing=found.signing_kid
            )
        self._keys, self._stamp = found, stamp


def _stamp(directory: Path) -> Stamp:
    return tuple(
        sorted(
            (path.name, found.st_ino, found.st_mtime_ns, found.st_size)
            for path in token_key_files(directory)
            for found in (path.stat(),)
        )
    )
