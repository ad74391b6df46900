"""Tokens that must not be believed, at the doors of all three services: one answer for all of them.

Each token is right but for one thing. The last tests are the other side: the same maker's tokens
are taken where the one thing is harmless, so none of the refusals is for another reason.
"""

from collections.abc import Callable, Mapping

import grpc
import pytest
import pytest_asyncio

from shared.errors import TokenRejected
from shared.identity.access_tokens import verify
from shared.ids import new_id
from tests.rpc.token_corpus import A_LITTLE, CORPUS, SKEW, Issuer, shifted, with_claims, with_header
from tests.support.forged_tokens import Forger, base64url
from tests.support.platform import AUDIT, DEPLOYMENT, IDENTITY, Platform, bearer
from tests.support.programs import add_person, add_program, add_session, execute
from tests.support.raw_calls import Answer, Metadata

pytestmark = pytest.mark.asyncio(loop_scope="session")

DOORS = (f"/{IDENTITY}/WhoAmI", f"/{DEPLOYMENT}/ListRollbacks", f"/{AUDIT}/ListAuditLogs")
REFUSED = (grpc.StatusCode.UNAUTHENTICATED, "TOKEN_REJECTED", str(TokenRejected()))


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def issuer(platform: Platform) -> Issuer:
    url, keys = platform.database_url, platform.keys
    session, admin, refresh = await add_session(url, "admin")
    other_session, _lead, _refresh = await add_session(url, "lead1")
    await add_person(url, "gone", "admin", active=False)
    gone_session, gone, _refresh = await add_session(url, "gone")
    ended_session, _admin, _refresh = await add_session(url, "admin")
    revoke = "UPDATE sessions SET revoked_at = now(), revoked_because = 'test' WHERE id = $1"
    await execute(url, revoke, ended_session)
    scopes = ("audit.read",)
    good = await add_program(url, "good", "admin", scopes)
    late = await add_program(url, "late", "admin", scopes, days=-0.001)
    revoked = await add_program(url, "revoked", "admin", scopes)
    await execute(url, "UPDATE api_tokens SET revoked_at = now() WHERE id = $1", revoked.token_id)
    idle = await add_program(url, "idle", "admin", scopes)
    await execute(url, "UPDATE users SET active = false WHERE username = 'idle'")
    return Issuer(
        platform,
        Forger(keys, admin, session),
        Forger(keys, new_id(), new_id()),
        other_session,
        {
            "refresh token": refresh.text,
            "API token": good.token,
            "API token expired": late.token,
            "API token revoked": revoked.token,
            "API token of an account at rest": idle.token,
            "API token cut": good.token[:-1],
            "API token longer": good.token + "A",
            "API token in capitals": good.token.upper(),
            "API token without its mark": good.token.removeprefix("rmt_"),
            "API token of nobody": "rmt_" + base64url(b"a" * 32),
            "API token empty": "rmt_",
            "deactivated user": Forger(keys, gone, gone_session).token(),
            "session over": Forger(keys, admin, ended_session).token(),
        },
    )


async def refusals(issuer: Issuer, metadata: Metadata) -> set[tuple[object, ...]]:
    """Return how the three services answer."""
    answers = [await issuer.platform.ask(door, b"", metadata) for door in DOORS]
    return {(answer.code, answer.reason, answer.text) for answer in answers}


async def accepted(issuer: Issuer, metadata: Metadata) -> bool:
    """Say whether all three services let the caller in."""
    answers: list[Answer] = [await issuer.platform.ask(door, b"", metadata) for door in DOORS]
    return all(answer.ok for answer in answers)


@pytest.mark.parametrize("name", CORPUS)
async def test_it_is_refused_in_one_way(issuer: Issuer, name: str) -> None:
    token = CORPUS[name](issuer)
    assert await refusals(issuer, bearer(token)) == {REFUSED}


@pytest.mark.parametrize(
    "value",
    ["", "Bearer", "Bearer ", "Basic {}", "Token {}", "{}", "Bearer  {}", "Bearer {} {}",
     "Bearer={}", "Bearer,{}", "Bearer {}, Bearer {}"],
)  # fmt: skip
async def test_the_scheme_is_bearer(issuer: Issuer, value: str) -> None:
    token = issuer.admin.token()
    metadata = (("authorization", value.replace("{}", token)),)
    assert await refusals(issuer, metadata) == {REFUSED}


async def test_two_credentials_are_none(issuer: Issuer) -> None:
    right, wrong = bearer(issuer.admin.token()), bearer(issuer.admin.signed_by_another())
    for metadata in ((*right, *wrong), (*wrong, *right), (*right, *right)):
        assert await refusals(issuer, metadata) == {REFUSED}


async def test_a_token_of_64_kib_reaches_nobody(issuer: Issuer) -> None:
    token = issuer.admin.token(issuer.admin.claims(a="a" * 48 * 1024))
    for door in DOORS:
        answer = await issuer.platform.ask(door, b"", bearer(token))
        assert answer.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    with pytest.raises(TokenRejected):
        verify(token, issuer.platform.keys.verifying)


GOOD: Mapping[str, Callable[[Issuer], str]] = {
    "plain": lambda issuer: issuer.admin.token(),
    "just expired": shifted("exp", -SKEW + A_LITTLE),
    "just not yet": shifted("nbf", SKEW - A_LITTLE),
    "clock of the issuer ahead": shifted("iat", SKEW - A_LITTLE),
    "a claim more": with_claims(role="viewer", scope="none"),
    "key offered, not needed": with_header(jku="https://example.com/keys", jwk={"kty": "oct"}),
    "API token": lambda issuer: issuer.strays["API token"],
}


@pytest.mark.parametrize("name", GOOD)
async def test_it_is_accepted(issuer: Issuer, name: str) -> None:
    assert await accepted(issuer, bearer(GOOD[name](issuer)))


async def test_the_scheme_may_be_spelled_in_any_case(issuer: Issuer) -> None:
    for scheme in ("bearer", "BEARER"):
        assert await accepted(issuer, (("authorization", f"{scheme} {issuer.admin.token()}"),))


async def test_nothing_unexpected_was_logged(platform: Platform) -> None:
    assert platform.errors == []
