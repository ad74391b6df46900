"""The key directory: made once, shared by replicas, rotated, and clear about what is wrong."""

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidSignature

from shared.identity.keys import (
    FIRST_KID,
    HMAC_FILE,
    KeysInvalid,
    add_signing_key,
    ensure_keys,
    load_keys,
)


def test_a_new_directory_gets_one_pair_and_a_secret(tmp_path: Path) -> None:
    directory = tmp_path / "data" / "keys"
    keys = ensure_keys(directory)
    assert keys.signing is not None
    assert keys.signing_kid == FIRST_KID
    assert list(keys.verifying) == [FIRST_KID]
    assert len(keys.hmac) == 32
    keys.verifying[FIRST_KID].verify(keys.signing.sign(b"text"), b"text")
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in directory.iterdir()} == {0o600}
    names = {f"access-token-{FIRST_KID}.pem", f"access-token-{FIRST_KID}.pub.pem", HMAC_FILE}
    assert {path.name for path in directory.iterdir()} == names


def test_a_second_start_changes_nothing(tmp_path: Path) -> None:
    ensure_keys(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    ensure_keys(tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_replicas_that_start_together_agree(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as threads:
        made = list(threads.map(lambda _number: ensure_keys(tmp_path / "keys"), range(8)))
    assert len({keys.hmac for keys in made}) == 1
    for keys in made:
        assert keys.signing is not None
        made[0].verifying[FIRST_KID].verify(keys.signing.sign(b"text"), b"text")


def test_after_a_rotation_the_new_key_signs_and_the_old_one_still_verifies(tmp_path: Path) -> None:
    old = ensure_keys(tmp_path)
    kid = add_signing_key(tmp_path)
    keys = load_keys(tmp_path)
    assert keys.signing_kid == kid
    assert set(keys.verifying) == {FIRST_KID, kid}
    assert old.signing is not None
    keys.verifying[FIRST_KID].verify(old.signing.sign(b"text"), b"text")
    with pytest.raises(InvalidSignature):
        keys.verifying[kid].verify(old.signing.sign(b"text"), b"text")


def test_public_keys_alone_verify_and_get_no_private_one(tmp_path: Path) -> None:
    ensure_keys(tmp_path)
    (tmp_path / f"access-token-{FIRST_KID}.pem").unlink()
    keys = ensure_keys(tmp_path)
    assert keys.signing is None
    assert list(keys.verifying) == [FIRST_KID]


def test_a_missing_public_half_is_made_again(tmp_path: Path) -> None:
    ensure_keys(tmp_path)
    public = tmp_path / f"access-token-{FIRST_KID}.pub.pem"
    content = public.read_bytes()
    public.unlink()
    ensure_keys(tmp_path)
    assert public.read_bytes() == content


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("access-token-x.pem", b"nonsense", "is not an unencrypted Ed25519 private key"),
        ("access-token-x.pub.pem", b"nonsense", "is not an Ed25519 public key"),
        (HMAC_FILE, b"short", "is not a file of 32 bytes"),
    ],
)
def test_a_broken_file_is_named(tmp_path: Path, name: str, content: bytes, sentence: str) -> None:
    ensure_keys(tmp_path)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(KeysInvalid, match=sentence) as caught:
        load_keys(tmp_path)
    assert name in str(caught.value)


def test_an_empty_directory_says_where_keys_come_from(tmp_path: Path) -> None:
    with pytest.raises(KeysInvalid, match="start the catalog service first"):
        load_keys(tmp_path)


def test_no_secret_is_shown(tmp_path: Path) -> None:
    keys = ensure_keys(tmp_path)
    assert repr(keys.hmac) not in repr(keys)
