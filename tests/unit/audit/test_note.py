"""Signed notes and checkpoints: a published vector, and everything that is none."""

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from shared.merkle.checkpoint import Checkpoint, opened, parse, signed
from shared.merkle.note import Ed25519Signer, NoteInvalid, Verifier, open_note, sign

# The example in the documentation of golang.org/x/mod/sumdb/note.
PETER = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
TEXT = (
    "If you think cryptography is the answer to your problem,\n"
    "then you don't know what your problem is.\n"
)
SIGNATURE = (
    "\u2014 PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngo"
    "tpRZb6KE6RyyBwJnAM=\n"
)
NOTE = f"{TEXT}\n{SIGNATURE}"
ORIGIN = "release-manager/audit"


@pytest.fixture(scope="module")
def signer() -> Ed25519Signer:
    return Ed25519Signer(ORIGIN, Ed25519PrivateKey.from_private_bytes(b"k" * 32))


def test_the_published_note_opens() -> None:
    verifier = Verifier.parse(PETER)
    assert str(verifier) == PETER
    assert open_note(NOTE, verifier) == TEXT


def test_what_is_signed_opens_with_the_public_key_alone(signer: Ed25519Signer) -> None:
    public = Verifier.parse(f"{signer.verifier}\n")
    assert open_note(sign(TEXT, signer), public) == TEXT
    assert open_note(sign("a\n\nb\n\n", signer), public) == "a\n\nb\n\n"


def test_signatures_of_others_are_ignored(signer: Ed25519Signer) -> None:
    both = sign(TEXT, signer) + SIGNATURE
    assert open_note(both, signer.verifier) == TEXT
    assert open_note(both, Verifier.parse(PETER)) == TEXT


@pytest.mark.parametrize(
    "note",
    [
        "",
        TEXT,
        SIGNATURE,
        NOTE[:-1],
        NOTE + "\n",
        NOTE.replace("\n\n", "\n"),
        NOTE.replace("\u2014", "-"),
        NOTE.replace("PeterNeumann ", "Peter Neumann "),
        NOTE.replace("=", ""),
        NOTE.replace("AM=", "AN="),
        NOTE.replace("\u2014 PeterNeumann x08go", "\u2014 PeterNeumann y08go"),
        NOTE.replace("If you", "If we"),
        NOTE.replace("problem is", "problem\tis"),
        TEXT + "\n" + "\u2014 PeterNeumann x08gow==\n",
        TEXT + "\n" + SIGNATURE * 101,
    ],
)
def test_what_is_no_note_of_that_key_is_refused(note: str) -> None:
    with pytest.raises(NoteInvalid):
        open_note(note, Verifier.parse(PETER))


def test_every_flipped_bit_of_a_note_is_found(signer: Ed25519Signer) -> None:
    checkpoint = Checkpoint(ORIGIN, 7, b"r" * 32)
    note = signed(checkpoint, signer).encode()
    for bit in range(len(note) * 8):
        changed = bytearray(note)
        changed[bit // 8] ^= 1 << bit % 8
        try:
            text = changed.decode()
        except UnicodeDecodeError:
            continue
        with pytest.raises(NoteInvalid):
            opened(text, signer.verifier)


@pytest.mark.parametrize(
    "key",
    [
        "",
        "PeterNeumann",
        PETER.replace("c74f20a3", "c74f20a4"),
        PETER.replace("+ARpc", "+Ahpc"),
        PETER.replace("Peter", "Peter "),
        PETER[:-4],
        PETER.replace("Neumann", ""),
    ],
)
def test_what_is_no_key_is_refused(key: str) -> None:
    with pytest.raises(NoteInvalid):
        Verifier.parse(key)


@pytest.mark.parametrize("text", ["", "no newline", "tab\t\n", "null\x00\n", "return\r\n"])
def test_what_cannot_be_signed_is_refused(signer: Ed25519Signer, text: str) -> None:
    with pytest.raises(NoteInvalid):
        sign(text, signer)


@pytest.mark.parametrize("name", ["", "a b", "a+b", "a\nb"])
def test_a_key_needs_a_usable_name(name: str) -> None:
    with pytest.raises(NoteInvalid):
        Ed25519Signer(name, Ed25519PrivateKey.generate())


def test_a_checkpoint_comes_back_from_its_note(signer: Ed25519Signer) -> None:
    for size in (0, 1, 2**63 - 1):
        checkpoint = Checkpoint(ORIGIN, size, bytes(range(32)))
        assert opened(signed(checkpoint, signer), signer.verifier) == checkpoint
    assert str(Checkpoint("log", 5, b"\x00" * 32)) == f"log\n5\n{'A' * 43}=\n"


ROOT = "A" * 43 + "="


@pytest.mark.parametrize(
    "text",
    [
        "",
        f"log\n5\n{ROOT}",
        f"log\n05\n{ROOT}\n",
        f"log\n-5\n{ROOT}\n",
        f"log\n\u0665\n{ROOT}\n",
        f"\n5\n{ROOT}\n",
        f"log\n5\n{ROOT}\nmore\n",
        f"log\n5\n{'A' * 42}B=\n",
        f"log\n5\n{'A' * 40}\n",
        f"log\n5\n{'A' * 41}\n",
    ],
)
def test_what_is_no_checkpoint_is_refused(text: str) -> None:
    with pytest.raises(NoteInvalid):
        parse(text)


def test_a_checkpoint_of_another_log_is_refused(signer: Ed25519Signer) -> None:
    other = signed(Checkpoint("elsewhere", 5, b"r" * 32), signer)
    with pytest.raises(NoteInvalid):
        opened(other, signer.verifier)
