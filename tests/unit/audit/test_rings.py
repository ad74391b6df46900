"""Notes of several keys: while one key is replaced by another, and after."""

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from services.audit.signing import ledger_key as module
from services.audit.signing.checkpoint_file import CheckpointFile, CheckpointFileInvalid
from services.audit.signing.ledger_key import LedgerKeys
from shared.identity.keys import KeysInvalid, private_pem
from shared.merkle.checkpoint import Checkpoint, epoch_of, opened, origin_of, signed
from shared.merkle.key_files import public_keys
from shared.merkle.note import Ed25519Signer, NoteInvalid, Verifier, open_note, sign

NAME = "release-manager/audit"
CHECKPOINT = Checkpoint(NAME, 5, b"r" * 32)
PETER = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"


def signer(number: int, name: str = NAME) -> Ed25519Signer:
    return Ed25519Signer(name, Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32))


OLD, NEW, STRANGE = signer(1), signer(2), signer(3)


def test_a_note_has_one_line_for_each_key() -> None:
    note = signed(CHECKPOINT, NEW, OLD)
    assert note.count("\n\u2014 ") == 2
    # Byte for byte what each alone would have signed.
    assert signed(CHECKPOINT, NEW) + signed(CHECKPOINT, OLD).split("\n\n")[1] == note


@pytest.mark.parametrize("known", [(OLD,), (NEW,), (OLD, NEW), (NEW, STRANGE)])
def test_one_known_key_is_enough(known: tuple[Ed25519Signer, ...]) -> None:
    verifiers = [key.verifier for key in known]
    assert opened(signed(CHECKPOINT, OLD, NEW), *verifiers) == CHECKPOINT


def test_without_a_key_in_common_a_note_says_nothing() -> None:
    for known in ((STRANGE.verifier,), (Verifier.parse(PETER),), ()):
        with pytest.raises(NoteInvalid):
            opened(signed(CHECKPOINT, OLD, NEW), *known)


def test_no_known_key_may_have_signed_wrongly() -> None:
    good, other = signed(CHECKPOINT, OLD), signed(Checkpoint(NAME, 6, b"r" * 32), NEW)
    mixed = good + other.split("\n\n")[1]
    assert opened(mixed, OLD.verifier) == CHECKPOINT
    with pytest.raises(NoteInvalid, match="is wrong"):
        opened(mixed, OLD.verifier, NEW.verifier)
    with pytest.raises(NoteInvalid, match="is wrong"):
        opened(mixed, NEW.verifier)


def test_signatures_of_other_logs_are_ignored_and_never_count() -> None:
    elsewhere = signer(1, "elsewhere")
    note = signed(CHECKPOINT, OLD, elsewhere)
    assert opened(note, OLD.verifier, elsewhere.verifier) == CHECKPOINT
    # The other log's key signed this log's text: that is no checkpoint of this log.
    with pytest.raises(NoteInvalid):
        opened(signed(CHECKPOINT, elsewhere), OLD.verifier, elsewhere.verifier)
    assert open_note(sign("text\n", elsewhere), OLD.verifier, elsewhere.verifier) == "text\n"


def test_epochs_have_names() -> None:
    assert [origin_of(number) for number in (0, 1, 12)] == [NAME, f"{NAME}/1", f"{NAME}/12"]
    assert [epoch_of(origin_of(number)) for number in (0, 1, 12)] == [0, 1, 12]
    for other in ("", "audit", f"{NAME}/", f"{NAME}/0", f"{NAME}/01", f"{NAME}/x", f"{NAME}2"):
        with pytest.raises(NoteInvalid):
            epoch_of(other)


def test_the_file_is_read_with_any_of_the_keys(tmp_path: Path) -> None:
    file = CheckpointFile(tmp_path / "checkpoints")
    notes = [
        signed(Checkpoint(NAME, size, b"r" * 32), *signers)
        for size, signers in ((1, [OLD]), (2, [OLD, NEW]), (3, [NEW]))
    ]
    for note in notes:
        file.append(note)
    assert list(file.all()) == notes
    for known, newest in (([OLD], 2), ([NEW], 3), ([OLD, NEW], 3)):
        found = file.newest(*(key.verifier for key in known))
        assert found is not None
        assert found.size == newest
    with pytest.raises(CheckpointFileInvalid):
        file.newest(STRANGE.verifier)


def write(directory: Path, name: str, number: int) -> None:
    key = Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32)
    (directory / name).write_bytes(private_pem(key))


def test_all_private_keys_sign_and_the_current_one_comes_first(tmp_path: Path) -> None:
    write(tmp_path, "ledger.pem", 2)
    write(tmp_path, "ledger-0000beef.pem", 1)
    (tmp_path / "ledger.pub").write_text(f"{NEW.verifier}\n")
    (tmp_path / "ledger-0000cafe.pub").write_text(f"{STRANGE.verifier}\n")
    (tmp_path / "ledger-other.pem").write_text("not one of them")
    ring = LedgerKeys(tmp_path).ring
    assert [key.verifier for key in ring.signers] == [NEW.verifier, OLD.verifier]
    assert list(ring.verifiers) == [NEW.verifier, OLD.verifier, STRANGE.verifier]
    assert ring.opened(signed(CHECKPOINT, STRANGE)) == CHECKPOINT
    assert public_keys(tmp_path) == (NEW.verifier, STRANGE.verifier)


def test_files_that_change_are_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # However soon; the service waits for some milliseconds between two looks.
    monkeypatch.setattr(module, "LOOK_EVERY_S", 0.0)
    keys = LedgerKeys(tmp_path)
    first = keys.ring
    assert keys.ring is first
    write(tmp_path, "ledger-0000beef.pem", 1)
    assert [key.verifier for key in keys.ring.signers] == [first.verifier, OLD.verifier]
    # What cannot be used changes nothing until it is mended.
    (tmp_path / "ledger-0000beef.pem").write_text("no key")
    assert len(keys.ring.signers) == 2
    with pytest.raises(KeysInvalid):
        LedgerKeys(tmp_path)
    (tmp_path / "ledger-0000beef.pem").unlink()
    assert list(keys.ring.signers) != []
    assert len(keys.ring.signers) == 1


def test_a_later_epoch_has_its_own_name(tmp_path: Path) -> None:
    write(tmp_path, "ledger.pem", 1)
    later = signer(1, f"{NAME}/3")
    (tmp_path / "ledger.pub").write_text(f"{later.verifier}\n")
    (tmp_path / "ledger-0000beef.pub").write_text(f"{OLD.verifier}\n")
    ring = LedgerKeys(tmp_path).ring
    assert (ring.origin, ring.epoch) == (f"{NAME}/3", 3)
    assert ring.opened(signed(CHECKPOINT, OLD)).epoch == 0
    assert ring.opened(ring.signed(Checkpoint(ring.origin, 9, b"r" * 32))).epoch == 3
    (tmp_path / "ledger.pub").write_text(f"{signer(1, 'elsewhere').verifier}\n")
    with pytest.raises(KeysInvalid, match="is not the ledger"):
        LedgerKeys(tmp_path)
