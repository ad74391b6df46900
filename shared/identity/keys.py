"""The key directory: the Ed25519 pairs of access tokens and the secret of page tokens.

`access-token-<kid>.pem` is a private key (only the catalog service needs it), `access-
token-<kid>.pub.pem` its public half, `hmac.key` 32 random bytes. During a rotation there are
several pairs; the private key whose kid is last in order signs. The first kid is the same for
everybody, so that replicas agree on one pair; later ones start with their time. Before its turn a
private key is called `next-access-token-<kid>.pem`: its public half is known everywhere before it
signs. Files are 0600 in a 0700 directory and are never overwritten, so that replicas may create
them at the same moment: the first one wins and all of them read its keys.
"""

import os
import re
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from tempfile import NamedTemporaryFile

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

HMAC_BYTES = 32
HMAC_FILE = "hmac.key"
FIRST_KID = "0"
_PRIVATE = re.compile(r"access-token-(?P<kid>[A-Za-z0-9_-]{1,64})\.pem")
_NEXT = re.compile(r"next-access-token-(?P<kid>[A-Za-z0-9_-]{1,64})\.pem")
_PUBLIC = re.compile(r"access-token-(?P<kid>[A-Za-z0-9_-]{1,64})\.pub\.pem")


class KeysInvalid(Exception):
    """The key directory lacks something or holds something else; the text says what and where."""


@dataclass(frozen=True, slots=True)
class Keys:
    """What was found in a key directory.

    `signing_kid` and `signing` are None where only public keys are. `verifying` maps each kid to
    its public key. `hmac` has 32 bytes. `directory` is where they were read, and change.
    """

    hmac: bytes = field(repr=False)
    verifying: Mapping[str, Ed25519PublicKey]
    signing_kid: str | None = None
    signing: Ed25519PrivateKey | None = field(default=None, repr=False)
    directory: Path | None = None


def ensure_keys(directory: Path) -> Keys:
    """Create what is missing in `directory`, which may not exist yet, and return all keys.

    A first pair is made only when there is no key of either kind: a directory with public keys
    alone belongs to a service that does not sign.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not (directory / HMAC_FILE).exists():
        create_once(directory / HMAC_FILE, os.urandom(HMAC_BYTES))
    private, public = _found(directory, _PRIVATE), _found(directory, _PUBLIC)
    if not private and not public:
        add_signing_key(directory, kid=FIRST_KID)
    for kid in private.keys() - public.keys():
        _write_public(directory, kid, read_private(private[kid]))
    return load_keys(directory)


def add_signing_key(directory: Path, kid: str | None = None) -> str:
    """Add a pair, which signs at once where the directory is read; return its kid.

    A replica that makes the same kid at the same moment changes nothing: one of the two is kept.
    """
    key = Ed25519PrivateKey.generate()
    kid = kid or _new_kid(key.public_key())
    path = directory / f"access-token-{kid}.pem"
    create_once(path, private_pem(key))
    _write_public(directory, kid, read_private(path))
    return kid


def prepared_key(directory: Path) -> str | None:
    """Return the kid of a key that is being added, None when none is."""
    return max(_found(directory, _NEXT), default=None)


def prepare_key(directory: Path) -> str:
    """Make a private key that does not sign yet; return its kid."""
    key = Ed25519PrivateKey.generate()
    kid = _new_kid(key.public_key())
    create_once(directory / f"next-access-token-{kid}.pem", private_pem(key))
    return kid


def publish_key(directory: Path, kid: str) -> None:
    """Write the public half of a prepared key, so that its tokens count before there are any."""
    _write_public(directory, kid, read_private(directory / f"next-access-token-{kid}.pem"))


def let_sign(directory: Path, kid: str) -> None:
    """Let a prepared key sign where the directory is read."""
    prepared = directory / f"next-access-token-{kid}.pem"
    # A new file, whose time says since when it signs.
    create_once(directory / f"access-token-{kid}.pem", private_pem(read_private(prepared)))
    prepared.unlink()
    sync_directory(directory)


def replaced_at(directory: Path, kid: str) -> datetime:
    """Return when a private key was put in the place of `kid`, as the times of the files say."""
    later = [path for other, path in _found(directory, _PRIVATE).items() if other > kid]
    first = min(path.stat().st_mtime for path in later)
    return datetime.fromtimestamp(first, UTC)


def remove_key(directory: Path, kid: str) -> None:
    """Remove a pair: the private half first, since from it the public one would be made again."""
    for name in (f"access-token-{kid}.pem", f"access-token-{kid}.pub.pem"):
        (directory / name).unlink(missing_ok=True)
        sync_directory(directory)


def load_keys(directory: Path) -> Keys:
    """Read all keys of `directory`; raises KeysInvalid when tokens could not be verified."""
    private = {kid: read_private(path) for kid, path in _found(directory, _PRIVATE).items()}
    public = {kid: _read_public(path) for kid, path in _found(directory, _PUBLIC).items()}
    verifying = {kid: key.public_key() for kid, key in private.items()} | public
    if not verifying:
        sentence = (
            f"The key directory {directory} holds no access-token-*.pem or access-token-*.pub.pem:"
            " start the catalog service first, or set RELEASE_MANAGER_KEY_DIR to its keys."
        )
        raise KeysInvalid(sentence)
    kid = max(private, default=None)
    return Keys(
        hmac=_read_hmac(directory / HMAC_FILE),
        verifying=verifying,
        signing_kid=kid,
        signing=private[kid] if kid is not None else None,
        directory=directory,
    )


def token_key_files(directory: Path) -> list[Path]:
    """Return the files from which `load_keys` reads the keys of access tokens."""
    return [*_found(directory, _PRIVATE).values(), *_found(directory, _PUBLIC).values()]


def _new_kid(public: Ed25519PublicKey) -> str:
    """Return a kid that sorts by time: UTC to the second, then a part of the key's thumbprint."""
    raw = public.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    thumbprint = urlsafe_b64encode(sha256(raw).digest()).decode()[:8]
    return f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{thumbprint}"


def _found(directory: Path, pattern: re.Pattern[str]) -> dict[str, Path]:
    if not directory.is_dir():
        return {}
    matches = (pattern.fullmatch(path.name) for path in directory.iterdir())
    return {match["kid"]: directory / match[0] for match in matches if match}


def create_once(path: Path, content: bytes) -> None:
    """Write a whole file, 0600, under a name that must be new; keep one that is there already."""
    with NamedTemporaryFile(dir=path.parent, prefix=".new-", delete=False) as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    try:
        os.link(file.name, path)
    except FileExistsError:
        pass
    finally:
        Path(file.name).unlink()
    sync_directory(path.parent)


def sync_directory(directory: Path) -> None:
    """Wait until the names in a directory are on the disk."""
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def private_pem(key: Ed25519PrivateKey) -> bytes:
    """Return a private key in PEM, not encrypted."""
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _write_public(directory: Path, kid: str, key: Ed25519PrivateKey) -> None:
    encoded = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    create_once(directory / f"access-token-{kid}.pub.pem", encoded)


def read_private(path: Path) -> Ed25519PrivateKey:
    """Read an Ed25519 private key in PEM; raises KeysInvalid."""
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise _wrong(path, "an unencrypted Ed25519 private key in PEM") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise _wrong(path, "an unencrypted Ed25519 private key in PEM")
    return key


def _read_public(path: Path) -> Ed25519PublicKey:
    try:
        key = serialization.load_pem_public_key(path.read_bytes())
    except (OSError, ValueError, UnsupportedAlgorithm) as error:
        raise _wrong(path, "an Ed25519 public key in PEM") from error
    if not isinstance(key, Ed25519PublicKey):
        raise _wrong(path, "an Ed25519 public key in PEM")
    return key


def _read_hmac(path: Path) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise _wrong(path, f"a file of {HMAC_BYTES} bytes") from error
    if len(content) != HMAC_BYTES:
        raise _wrong(path, f"a file of {HMAC_BYTES} bytes")
    return content


def _wrong(path: Path, expected: str) -> KeysInvalid:
    return KeysInvalid(f"{path} is not {expected}, or it cannot be read.")
