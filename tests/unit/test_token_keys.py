"""Running services know the keys of this moment, look seldom, and survive files that are wrong."""

from pathlib import Path

import pytest
from structlog.testing import capture_logs

from shared.identity import token_keys as module
from shared.identity.keys import (
    FIRST_KID,
    KeysInvalid,
    add_signing_key,
    ensure_keys,
    let_sign,
    load_keys,
    prepare_key,
    publish_key,
    remove_key,
)
from shared.identity.token_keys import LOOK_AGAIN_S, LOOK_EVERY_S, TokenKeys

# Longer than one second and shorter than two, so that neither look is at an edge.
A_LOOK = LOOK_EVERY_S * 1.01


class Hand:
    """A clock that the test moves; it counts how often the directory is read meanwhile."""

    def __init__(self) -> None:
        self.now = 1_000.0
        self.looks = 0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def hand(monkeypatch: pytest.MonkeyPatch) -> Hand:
    moved = Hand()
    stamp = module._stamp  # noqa: SLF001  (counted, not replaced)

    def counted(directory: Path) -> module.Stamp:
        moved.looks += 1
        return stamp(directory)

    monkeypatch.setattr(module, "monotonic", moved)
    monkeypatch.setattr(module, "_stamp", counted)
    return moved


def test_a_published_key_counts_and_one_that_signs_signs(tmp_path: Path, hand: Hand) -> None:
    keys = TokenKeys(ensure_keys(tmp_path))
    assert keys.signing[0] == FIRST_KID
    kid = prepare_key(tmp_path)
    assert set(keys) == {FIRST_KID}
    publish_key(tmp_path, kid)
    hand.now += A_LOOK
    assert set(keys) == {FIRST_KID, kid}
    assert keys.signing[0] == FIRST_KID
    let_sign(tmp_path, kid)
    hand.now += A_LOOK
    assert keys.signing[0] == kid
    keys[kid].verify(keys.signing[1].sign(b"text"), b"text")
    remove_key(tmp_path, FIRST_KID)
    hand.now += A_LOOK
    assert list(keys) == [kid]
    assert FIRST_KID not in keys


def test_an_unknown_key_is_looked_for_sooner(tmp_path: Path, hand: Hand) -> None:
    keys = TokenKeys(ensure_keys(tmp_path))
    assert len(keys) == 1
    kid = add_signing_key(tmp_path)
    hand.now += LOOK_AGAIN_S * 1.01
    assert FIRST_KID in keys
    assert len(keys) == 1
    assert kid in keys
    assert len(keys) == 2


def test_invented_keys_cause_few_looks(tmp_path: Path, hand: Hand) -> None:
    keys = TokenKeys(ensure_keys(tmp_path))
    for _ in range(10_000):
        assert "invented" not in keys
        hand.now += 0.001
    assert hand.looks <= 10 / LOOK_AGAIN_S + 5


def test_known_keys_cause_a_look_a_second(tmp_path: Path, hand: Hand) -> None:
    keys = TokenKeys(ensure_keys(tmp_path))
    for _ in range(10_000):
        assert FIRST_KID in keys
        hand.now += 0.001
    assert hand.looks <= 10 / LOOK_EVERY_S + 5


@pytest.mark.parametrize("what", ["broken", "empty"])
def test_the_keys_of_before_stay_while_the_files_are_wrong(
    tmp_path: Path, hand: Hand, what: str
) -> None:
    keys = TokenKeys(ensure_keys(tmp_path))
    content = {path: path.read_bytes() for path in tmp_path.glob("access-token-*")}
    assert FIRST_KID in keys
    for path in content:
        if what == "broken":
            path.write_bytes(b"nonsense")
        else:
            path.unlink()
    with capture_logs() as lines:
        for _ in range(3):
            hand.now += A_LOOK
            assert keys.signing[0] == FIRST_KID
    assert [line["event"] for line in lines] == ["token_keys_unusable"]
    for path, bytes_before in content.items():
        path.write_bytes(bytes_before)
    kid = add_signing_key(tmp_path)
    hand.now += A_LOOK
    assert set(keys) == {FIRST_KID, kid}


def test_who_has_public_keys_alone_cannot_sign(tmp_path: Path, hand: Hand) -> None:
    ensure_keys(tmp_path)
    (tmp_path / f"access-token-{FIRST_KID}.pem").unlink()
    keys = TokenKeys(load_keys(tmp_path))
    hand.now += A_LOOK
    assert FIRST_KID in keys
    with pytest.raises(KeysInvalid, match="no private"):
        keys.signing  # noqa: B018  (a property that raises)
