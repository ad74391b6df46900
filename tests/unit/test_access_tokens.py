"""Access tokens: what is issued is accepted, and nothing else is, for whatever reason."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import TokenRejected
from shared.identity.access_tokens import LEEWAY, LONGEST_TOKEN, AccessTokens, verify
from shared.identity.keys import Keys, add_signing_key, ensure_keys, load_keys
from shared.ids import new_id
from tests.support.forged_tokens import LEFT_OUT, Forger, base64url

NOW = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)
USER, SESSION = new_id(), new_id()
LIFETIME = timedelta(minutes=15)


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    return ensure_keys(tmp_path_factory.mktemp("keys"))


@pytest.fixture(scope="module")
def forger(keys: Keys) -> Forger:
    return Forger(keys, USER, SESSION)


def issued(keys: Keys) -> str:
    return AccessTokens(keys, LIFETIME, lambda: NOW).issue(USER, SESSION).text


def test_an_issued_token_names_its_user_and_session(keys: Keys) -> None:
    claims = verify(issued(keys), keys.verifying)
    assert (claims.user_id, claims.session_id) == (USER, SESSION)
    assert claims.expires_at == NOW + LIFETIME


def test_a_token_holds_no_role(keys: Keys) -> None:
    claims = jwt.decode(issued(keys), options={"verify_signature": False})
    assert set(claims) == {"iss", "aud", "sub", "sid", "jti", "iat", "nbf", "exp"}


@pytest.mark.parametrize(
    ("moment", "good"),
    [
        (NOW - LEEWAY - timedelta(seconds=1), False),
        (NOW - LEEWAY, True),
        (NOW, True),
        (NOW + LIFETIME + LEEWAY - timedelta(seconds=1), True),
        (NOW + LIFETIME + LEEWAY, False),
    ],
)
def test_a_token_counts_in_its_time_give_or_take_30_seconds(
    keys: Keys, moment: datetime, *, good: bool
) -> None:
    claims = verify(issued(keys), keys.verifying)
    if good:
        claims.check_time(moment)
    else:
        with pytest.raises(TokenRejected):
            claims.check_time(moment)


def test_after_a_rotation_old_tokens_still_count_and_new_ones_have_the_new_key(
    tmp_path: Path,
) -> None:
    old = ensure_keys(tmp_path)
    kid = add_signing_key(tmp_path)
    both = load_keys(tmp_path)
    assert verify(issued(old), both.verifying).user_id == USER
    assert jwt.get_unverified_header(issued(both))["kid"] == kid


def refused(token: str, keys: Keys) -> bool:
    try:
        verify(token, keys.verifying)
    except TokenRejected:
        return True
    return False


def test_the_forger_can_make_a_right_token(keys: Keys, forger: Forger) -> None:
    assert not refused(forger.token(), keys)


HEADERS: dict[str, dict[str, object]] = {
    "alg none": {"alg": "none"},
    "alg None": {"alg": "None"},
    "alg HS256": {"alg": "HS256"},
    "alg missing": {"alg": LEFT_OUT},
    "typ JWT": {"typ": "JWT"},
    "typ missing": {"typ": LEFT_OUT},
    "unknown kid": {"kid": "another"},
    "kid as a path": {"kid": "../../etc/passwd"},
    "kid as a list": {"kid": ["0"]},
    "kid missing": {"kid": LEFT_OUT},
    "critical extension": {"crit": ["exp"]},
}
CLAIMS: dict[str, dict[str, object]] = {
    "another issuer": {"iss": "another"},
    "issuer as a list": {"iss": ["release-manager"]},
    "no issuer": {"iss": LEFT_OUT},
    "another audience": {"aud": "another"},
    "audience among others": {"aud": ["release-manager", "another"]},
    "no audience": {"aud": LEFT_OUT},
    "exp as text": {"exp": "9999999999"},
    "exp as a fraction": {"exp": 9999999999.5},
    "exp beyond all numbers": {"exp": 1e308},
    "exp beyond all years": {"exp": 10**18},
    "exp negative": {"exp": -1},
    "exp true": {"exp": True},
    "no exp": {"exp": LEFT_OUT},
    "no nbf": {"nbf": LEFT_OUT},
    "no iat": {"iat": LEFT_OUT},
    "no jti": {"jti": LEFT_OUT},
    "sub is no id": {"sub": "admin"},
    "sub as a number": {"sub": 1},
    "no sub": {"sub": LEFT_OUT},
    "no session": {"sid": LEFT_OUT},
    "session is null": {"sid": None},
}


@pytest.mark.parametrize("name", HEADERS)
def test_a_signed_token_with_a_wrong_header_is_refused(
    keys: Keys, forger: Forger, name: str
) -> None:
    assert refused(forger.token(header=forger.header(**HEADERS[name])), keys)


@pytest.mark.parametrize("name", CLAIMS)
def test_a_signed_token_with_wrong_claims_is_refused(keys: Keys, forger: Forger, name: str) -> None:
    assert refused(forger.token(claims=forger.claims(**CLAIMS[name])), keys)


def test_what_a_header_says_about_keys_is_not_looked_at(keys: Keys, forger: Forger) -> None:
    hint = {"jku": "https://example.com/keys", "jwk": {"kty": "OKP"}, "x5u": "https://example.com"}
    assert not refused(forger.token(header=forger.header(**hint)), keys)
    assert refused(forger.signed_by_another(), keys)


def test_the_public_key_is_no_shared_secret(keys: Keys) -> None:
    public = next(iter(keys.verifying.values())).public_bytes(
        serialization.Encoding.Raw, serialization.PublicFormat.Raw
    )
    header = {"typ": "at+jwt", "kid": next(iter(keys.verifying))}
    assert refused(jwt.encode({"sub": str(USER)}, public, "HS256", headers=header), keys)


def test_doubled_members_and_other_json_are_refused(keys: Keys, forger: Forger) -> None:
    text = b'{"exp": 1, "exp": 9999999999}'
    for body in (text, b"[]", b"null", b"NaN", b'{"exp": NaN}', b"\xff", b"", b"[" * 3000):
        assert refused(forger.token(claims=body), keys)
        assert refused(forger.token(header=body), keys)


MALFORMED: dict[str, Callable[[str], str]] = {
    "empty": lambda _: "",
    "no signature": lambda token: token.rpartition(".")[0] + ".",
    "signature cut": lambda token: token[:-4],
    "two parts": lambda token: token.rpartition(".")[0],
    "four parts": lambda token: token + ".e30",
    "dots": lambda token: token + "..",
    "padded": lambda token: token + "==",
    "space in it": lambda token: token[:20] + " " + token[20:],
    "new line": lambda token: token + "\n",
    "not ASCII": lambda token: token + "é",
    "64 KiB": lambda token: token + "A" * 65_536,
}


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_token_is_refused(keys: Keys, name: str) -> None:
    assert refused(MALFORMED[name](issued(keys)), keys)


def test_a_token_longer_than_4_kib_is_refused_whoever_signed_it(keys: Keys, forger: Forger) -> None:
    assert refused(forger.token(claims=forger.claims(extra="A" * LONGEST_TOKEN)), keys)


def test_a_token_has_one_spelling(keys: Keys) -> None:
    """64 bytes of signature leave four bits of the last character without a meaning."""
    token = issued(keys)
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    others = [token[:-1] + letter for letter in alphabet if letter != token[-1]]
    assert all(refused(other, keys) for other in others)


@given(st.data())
def test_no_changed_character_goes_unnoticed(keys: Keys, data: st.DataObject) -> None:
    token = issued(keys)
    place = data.draw(st.integers(0, len(token) - 1))
    letter = data.draw(st.characters(min_codepoint=0, max_codepoint=127))
    changed = token[:place] + letter + token[place + 1 :]
    assert changed == token or refused(changed, keys)


@given(st.text(max_size=200), st.text(max_size=200), st.text(max_size=100))
def test_garbage_is_refused_and_nothing_worse(keys: Keys, a: str, b: str, c: str) -> None:
    assert refused(f"{base64url(a.encode())}.{base64url(b.encode())}.{base64url(c.encode())}", keys)
