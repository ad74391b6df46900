"""The token corpus: tokens that are right but for one thing, each as a way to make it."""

import hmac
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from uuid import UUID

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from shared.ids import new_id
from tests.support.forged_tokens import LEFT_OUT, Forger, base64url
from tests.support.platform import Platform

SKEW = 30
A_LITTLE = 15


@dataclass
class Issuer:
    """Who makes the tokens of the corpus, and whose they could be.

    `nobodys` makes those of a user and a session that are not there, `others` is the session of
    another user, and `strays` are tokens that are right in form but do not count.
    """

    platform: Platform
    admin: Forger
    nobodys: Forger
    others: UUID
    strays: Mapping[str, str]


def with_claims(**changes: object) -> Callable[[Issuer], str]:
    return lambda issuer: issuer.admin.token(issuer.admin.claims(**changes))


def with_header(**changes: object) -> Callable[[Issuer], str]:
    return lambda issuer: issuer.admin.token(header=issuer.admin.header(**changes))


def shifted(name: str, seconds: int) -> Callable[[Issuer], str]:
    """Return a maker of tokens with one time so many seconds from now."""

    def make(issuer: Issuer) -> str:
        times = issuer.admin.claims()
        return issuer.admin.token(issuer.admin.claims(**{name: int(str(times["iat"])) + seconds}))

    return make


def with_body(change: Callable[[bytes], bytes]) -> Callable[[Issuer], str]:
    return lambda issuer: issuer.admin.token(change(json.dumps(issuer.admin.claims()).encode()))


def respelled(change: Callable[[str], str]) -> Callable[[Issuer], str]:
    return lambda issuer: change(issuer.admin.token())


def by_stray(name: str) -> Callable[[Issuer], str]:
    return lambda issuer: issuer.strays[name]


def with_time(text: str) -> Callable[[Issuer], str]:
    """Return a maker of tokens whose `exp` is spelled like this in JSON."""

    def make(issuer: Issuer) -> str:
        body = json.dumps(issuer.admin.claims(exp="HERE")).replace('"HERE"', text)
        return issuer.admin.token(body.encode())

    return make


def symmetric(form: Callable[[Issuer], bytes]) -> Callable[[Issuer], str]:
    """Return a maker of tokens with a MAC, whose key is our public one, known to everybody."""

    def make(issuer: Issuer) -> str:
        def sign(text: bytes) -> bytes:
            return hmac.digest(form(issuer), text, "sha256")

        return issuer.admin.token(header=issuer.admin.header(alg="HS256"), sign=sign)

    return make


def public_key(encoding: serialization.Encoding) -> Callable[[Issuer], bytes]:
    raw = encoding is serialization.Encoding.Raw
    form = serialization.PublicFormat
    wanted = form.Raw if raw else form.SubjectPublicKeyInfo

    def read(issuer: Issuer) -> bytes:
        [key] = issuer.platform.keys.verifying.values()
        return key.public_bytes(encoding, wanted)

    return read


def brought_along(**header: object) -> Callable[[Issuer], str]:
    """Return a maker of tokens that bring the key by which they ask to be checked."""

    def make(issuer: Issuer) -> str:
        key = Ed25519PrivateKey.generate()
        raw = key.public_key().public_bytes_raw()
        jwk = {"kty": "OKP", "crv": "Ed25519", "x": base64url(raw)}
        stated = {name: jwk if value == "KEY" else value for name, value in header.items()}
        return issuer.admin.token(header=issuer.admin.header(**stated), sign=key.sign)

    return make


def signature(change: Callable[[bytes], bytes]) -> Callable[[Issuer], str]:
    def make(issuer: Issuer) -> str:
        key = issuer.platform.keys.signing
        assert key is not None
        return issuer.admin.token(sign=lambda text: change(key.sign(text)))

    return make


def unsigned(algorithm: str) -> Callable[[Issuer], str]:
    return lambda issuer: issuer.admin.unsigned(algorithm)


def with_junk(token: str) -> str:
    head, body, end = token.split(".")
    return f"{head}.{body}=.{end}"


ENCODINGS = serialization.Encoding
ODD_AUDIENCES: tuple[object, ...] = ("", [], None, 1, "Release-Manager")
ODD_SUBJECTS: tuple[object, ...] = ("", "admin", 1, None, [], "urn:uuid:1")
ODD_TIMES = (
    *('"4102444800"', "true", "null", "[4102444800]", "{}"),
    *("NaN", "Infinity", "-Infinity", "1e308", "1e400", "-1", "4102444800.0"),
    *("9223372036854775807", "253402300799", "1" * 1_000),
)
STRAYS = (
    *("refresh token", "deactivated user", "session over"),
    *("API token expired", "API token revoked", "API token of an account at rest"),
    *("API token cut", "API token longer", "API token in capitals", "API token empty"),
    *("API token without its mark", "API token of nobody"),
)
CORPUS: Mapping[str, Callable[[Issuer], str]] = {
    **{f"alg {name}": unsigned(name) for name in ("none", "None", "nOnE", "NONE", "", "HS256")},
    **{
        f"alg {name} over a good signature": with_header(alg=name)
        for name in ("none", "eddsa", "Ed25519", "ES256", "RS256", "HS256", 1, None, ["EdDSA"])
    },
    "alg missing": with_header(alg=LEFT_OUT),
    "MAC by public key, PEM": symmetric(public_key(ENCODINGS.PEM)),
    "MAC by public key, DER": symmetric(public_key(ENCODINGS.DER)),
    "MAC by public key, raw": symmetric(public_key(ENCODINGS.Raw)),
    "MAC by nothing": symmetric(lambda _issuer: b""),
    "key of somebody else": lambda issuer: issuer.admin.signed_by_another(),
    "jwk brought along": brought_along(jwk="KEY"),
    "jwk without kid": brought_along(jwk="KEY", kid=LEFT_OUT),
    "jku": brought_along(jku="https://example.com/keys"),
    "x5u": brought_along(x5u="https://example.com/keys"),
    "signature empty": signature(lambda _text: b""),
    "signature cut": signature(lambda text: text[:-1]),
    "signature longer": signature(lambda text: text + b"a"),
    "signature flipped": signature(lambda text: bytes([text[0] ^ 1]) + text[1:]),
    "signature of zeros": signature(lambda _text: bytes(64)),
    "signature of another": respelled(lambda token: token[:-86] + "A" * 86),
    "typ JWT": with_header(typ="JWT"),
    "typ missing": with_header(typ=LEFT_OUT),
    "typ of a refresh token": with_header(typ="rt+jwt"),
    "kid unknown": with_header(kid="1"),
    "kid missing": with_header(kid=LEFT_OUT),
    "kid a path": with_header(kid="../hmac.key"),
    "kid SQL": with_header(kid="0' or '1'='1"),
    **{f"kid {kid}": with_header(kid=kid) for kid in (0, None, ["0"], {"0": 0}, True)},
    "crit": with_header(crit=["unknown"], unknown=1),
    "aud of another": with_claims(aud="another-product"),
    "aud missing": with_claims(aud=LEFT_OUT),
    "aud several": with_claims(aud=["release-manager", "another-product"]),
    **{f"aud {aud}": with_claims(aud=aud) for aud in ODD_AUDIENCES},
    **{f"iss {iss}": with_claims(iss=iss) for iss in ("", "another", None, ["release-manager"])},
    "iss missing": with_claims(iss=LEFT_OUT),
    **{f"{name} missing": with_claims(**{name: LEFT_OUT}) for name in ("sub", "sid", "jti", "iat")},
    **{f"sub {sub}": with_claims(sub=sub) for sub in ODD_SUBJECTS},
    **{f"sid {sid}": with_claims(sid=sid) for sid in ("", "1", 1, None)},
    "sub nobody": with_claims(sub=str(new_id())),
    "sid nobody": with_claims(sid=str(new_id())),
    "nobody at all": lambda issuer: issuer.nobodys.token(),
    "session of another": lambda issuer: issuer.admin.token(
        issuer.admin.claims(sid=str(issuer.others))
    ),
    "expired": shifted("exp", -SKEW - A_LITTLE),
    "expired long ago": lambda issuer: issuer.admin.aged(86_400),
    "not yet": shifted("nbf", SKEW + A_LITTLE),
    "issued in the future": shifted("iat", SKEW + A_LITTLE),
    "exp missing": with_claims(exp=LEFT_OUT),
    "nbf missing": with_claims(nbf=LEFT_OUT),
    **{f"exp {text:.30}": with_time(text) for text in ODD_TIMES},
    "claim twice": with_body(lambda body: body.replace(b'"aud"', b'"sub": "x", "aud"')),
    "claim twice, the same": with_body(lambda body: body[:-1] + b', "aud": "release-manager"}'),
    "body of a list": with_body(lambda body: b"[" + body + b"]"),
    "body of text": with_body(lambda body: json.dumps(body.decode()).encode()),
    "body empty": with_body(lambda _body: b""),
    "body an empty object": with_body(lambda _body: b"{}"),
    "body cut": with_body(lambda body: body[:-1]),
    "body and more": with_body(lambda body: body + b"{}"),
    "body no UTF-8": with_body(lambda body: body.replace(b"release", b"rel\xffase")),
    "body with a mark": with_body(lambda body: b"\xef\xbb\xbf" + body),
    "body in UTF-16": with_body(lambda body: body.decode().encode("utf-16")),
    "header of a list": lambda issuer: issuer.admin.token(header=b"[]"),
    "header empty": lambda issuer: issuer.admin.token(header=b""),
    "header twice": lambda issuer: issuer.admin.token(
        header=json.dumps(issuer.admin.header()).encode()[:-1] + b', "alg": "EdDSA"}'
    ),
    "cut in half": respelled(lambda token: token[: len(token) // 2]),
    "two dots more": respelled(lambda token: token + ".."),
    "a part more": respelled(lambda token: token + "." + token.split(".")[0]),
    "no dots": respelled(lambda token: token.replace(".", "")),
    "dots alone": respelled(lambda _token: ".."),
    "padded": respelled(lambda token: token + "=="),
    "padded inside": respelled(with_junk),
    "space inside": respelled(lambda token: token.replace(".", ". ", 1)),
    "another alphabet": respelled(lambda token: token.replace("-", "+").replace("_", "/") + "+/"),
    "quoted": respelled(lambda token: f'"{token}"'),
    "twice": respelled(lambda token: f"{token},{token}"),
    "other bits at the end": respelled(lambda token: token[:-1] + chr(ord(token[-1]) + 1)),
    "4,097 characters": lambda issuer: issuer.admin.token(issuer.admin.claims(a="a" * 3_000)),
    "7 KiB": lambda _issuer: "a" * 7_000,
    "a letter": lambda _issuer: "x",
    "text": lambda _issuer: "null",
    **{name: by_stray(name) for name in STRAYS},
}
