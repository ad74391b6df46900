"""A stream ends when its caller may no longer make it, whatever takes the permission away."""

import asyncio
import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from types import SimpleNamespace

import pytest
from release_manager.audit.v1 import audit_pb2

from shared.clock import system_clock
from shared.domain_error import DomainError
from shared.errors import CredentialsMissing, DatabaseUnavailable, TokenRejected
from shared.identity.access import AccessRules
from shared.identity.access_tokens import LEEWAY
from shared.identity.actor import Actor, Role
from shared.ids import new_id
from shared.rpc import permission
from shared.rpc.permission import Permission, current_permission, while_permitted
from tests.rpc.audit.conftest import refusal
from tests.support.forged_tokens import Forger
from tests.support.platform import AUDIT, Platform, bearer, product_methods
from tests.support.polling import keeps_promise
from tests.support.programs import add_person, add_program, add_session, execute
from tests.support.raw_calls import Metadata

pytestmark = pytest.mark.asyncio(loop_scope="session")

WITHIN_S = 5.0
GOOD_FOR_S = 5
FOLLOW = f"/{AUDIT}/FollowAuditLogs"
LEAVES: Mapping[str, tuple[str, str]] = {
    "deactivated": ("UPDATE users SET active = false WHERE id", "TOKEN_REJECTED"),
    "demoted": ("UPDATE users SET role = 'developer' WHERE id", "ROLE_REQUIRED"),
    "logged out": (
        "UPDATE sessions SET revoked_at = now(), revoked_because = 'logout' WHERE user_id",
        "TOKEN_REJECTED",
    ),
}


async def cut_off(platform: Platform, metadata: Metadata, change: str = "") -> tuple[str, float]:
    """Follow, change something, and return why the stream ended and how long that took."""
    call = platform.audit.FollowAuditLogs(audit_pb2.FollowAuditLogsRequest(), metadata=metadata)
    await call.read()
    began = time.monotonic()
    if change:
        await execute(platform.database_url, change)

    async def to_the_end() -> None:
        while await call.read():
            pass

    error = await refusal(to_the_end())
    return error.reason, time.monotonic() - began


@pytest.mark.parametrize("change", LEAVES)
async def test_a_person_is_cut_off(platform: Platform, change: str) -> None:
    statement, expected = LEAVES[change]

    async def one_is(number: int) -> float:
        person = f"follower-{change.replace(' ', '-')}-{number}"
        await add_person(platform.database_url, person, "lead")
        session_id, user_id, _refresh = await add_session(platform.database_url, person)
        good = bearer(Forger(platform.keys, user_id, session_id).token())
        reason, seconds = await cut_off(platform, good, f"{statement} = '{user_id}'")
        assert reason == expected
        return seconds

    await keeps_promise(WITHIN_S, one_is)


async def test_a_token_that_expires_ends_the_stream(platform: Platform) -> None:
    await add_person(platform.database_url, "expiring", "lead")
    session_id, user_id, _refresh = await add_session(platform.database_url, "expiring")
    forger = Forger(platform.keys, user_id, session_id)

    async def one_does(_number: int) -> float:
        until = system_clock() + timedelta(seconds=GOOD_FOR_S) - LEEWAY
        soon = forger.claims(exp=int(until.timestamp()))
        reason, seconds = await cut_off(platform, bearer(forger.token(soon)))
        assert reason == "TOKEN_REJECTED"
        return seconds

    await keeps_promise(GOOD_FOR_S + WITHIN_S, one_does)


async def test_a_program_whose_token_is_revoked_is_cut_off(platform: Platform) -> None:
    async def one_is(number: int) -> float:
        name = f"siem-{number}"
        made = await add_program(platform.database_url, name, "lead", ("audit.export",))
        change = f"UPDATE api_tokens SET revoked_at = now() WHERE id = '{made.token_id}'"
        reason, seconds = await cut_off(platform, bearer(made.token), change)
        assert reason == "TOKEN_REJECTED"
        return seconds

    await keeps_promise(WITHIN_S, one_is)


class Answers:
    """A verifier that gives one answer after the other, the last one for ever.

    By its clock each takes a second, so that no machine is too slow for what is asked in between.
    """

    def __init__(self, *answers: DomainError | None) -> None:
        self.answers = list(answers)
        self.seconds = 0.0

    def time(self) -> float:
        return self.seconds

    async def identify(self, _metadata: Mapping[str, str]) -> Actor | None:
        self.seconds += 1
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if answer is not None:
            raise answer
        return Actor(new_id(), "lead", Role.LEAD)


@pytest.fixture
def ask(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Answers]:
    """Have a call that is asked about again and again, by the clock of the answers."""
    monkeypatch.setattr(permission, "CHECK_EVERY_S", 0.01)

    def ask(*answers: DomainError | None) -> Answers:
        verifier = Answers(*answers)
        own = SimpleNamespace(sleep=asyncio.sleep, timeout=asyncio.timeout)
        own.get_running_loop = lambda: verifier
        monkeypatch.setattr(permission, "asyncio", own)
        rules = AccessRules(product_methods())
        current_permission.set(Permission(verifier, rules, FOLLOW, {}))
        return verifier

    return ask


async def test_who_cannot_be_asked_about_goes_on_for_a_moment_only(
    ask: Callable[..., Answers],
) -> None:
    away = DatabaseUnavailable()
    ask(None, away, away, None, away, None)
    assert await while_permitted(asyncio.Event(), asyncio.sleep(0.6, "done")) == "done"
    asked = ask(None, away)
    with pytest.raises(DatabaseUnavailable):
        await while_permitted(asyncio.Event(), asyncio.sleep(60))
    assert asked.seconds <= permission.UNCONFIRMED_S + 2
    ask(away, TokenRejected())
    with pytest.raises(TokenRejected):
        await while_permitted(asyncio.Event(), asyncio.sleep(60))


async def test_there_is_no_stream_without_a_permission() -> None:
    current_permission.set(None)
    with pytest.raises(CredentialsMissing):
        await while_permitted(asyncio.Event(), asyncio.sleep(5))
