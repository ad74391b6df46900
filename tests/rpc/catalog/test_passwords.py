"""Passwords: the first one, the changed one, the one that was reset; never seen anywhere."""

import asyncio
import hashlib
from typing import Any
from uuid import uuid4

import bcrypt
import pytest
from google.protobuf.json_format import MessageToDict
from release_manager.common.v1 import access_pb2
from release_manager.identity.v1 import identity_pb2 as pb

from shared.errors import (
    LoginRefused,
    NotPermitted,
    PasswordChangeRequired,
    RequestIdReused,
    ResourceNotFound,
    TokenRejected,
    ValidationFailed,
)
from tests.rpc.catalog.conftest import entries, refusal
from tests.rpc.catalog.identities import FIRST, SECOND, THIRD, Identities
from tests.support.platform import Platform, bearer

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest.fixture
def identities(platform: Platform) -> Identities:
    return Identities(platform)


async def forget(platform: Platform) -> None:
    """Wait until no service believes what the database said before."""
    await asyncio.sleep(platform.settings.user_cache_seconds + 0.1)


@pytest.mark.parametrize(
    "password",
    ["x" * 8, "x" * 64, "x" * 71, "x" * 72, "\N{GRINNING FACE}" * 18, " twelve  with spaces "],
)
async def test_exactly_the_password_that_was_set_logs_in(
    identities: Identities, password: str
) -> None:
    user = (await identities.create(password=password)).user
    assert (await identities.log_in(user.username, password)).user.id == user.id
    for other in (password + "x", password[:-1], password.strip() + "\t"):
        error = await identities.refused("Login", None, username=user.username, password=other)
        assert isinstance(error, LoginRefused)


async def test_composed_and_decomposed_letters_differ(identities: Identities) -> None:
    composed, decomposed = "caf\u00e9 caf\u00e9", "cafe\u0301 cafe\u0301"
    user = (await identities.create(password=composed)).user
    await identities.log_in(user.username, composed)
    login = {"username": user.username, "password": decomposed}
    assert isinstance(await identities.refused("Login", None, **login), LoginRefused)


@pytest.mark.parametrize(
    ("password", "rule"),
    [
        ("x" * 7, "password.short"),
        ("x" * 73, "password.long"),
        ("\N{GRINNING FACE}" * 18 + "x", "password.long"),
        ("Password123", "password.common"),
        ("my dev1 is secret", "password.name"),
    ],
)
async def test_what_breaks_a_rule_is_refused_wherever_it_is_set(
    identities: Identities, password: str, rule: str
) -> None:
    named = {"username": "dev1", "email": "dev1@elsewhere.example.com"}
    errors = {
        "password": [
            await identities.refused_creation(password=password, **named),
            await identities.refused("ResetPassword", user="dev1", password=password),
        ],
        "new_password": [
            await identities.refused(
                "ChangePassword", "dev1", current_password="password123", new_password=password
            )
        ],
    }
    for field, found in errors.items():
        for error in found:
            assert isinstance(error, ValidationFailed)
            assert [(one.field, one.rule) for one in error.fields] == [(field, rule)]
            assert password not in str(error)


async def test_nul_and_a_million_characters_are_refused(identities: Identities) -> None:
    for password in ("nul \0 within", "x" * 1_000_000):
        assert isinstance(
            await identities.refused("ResetPassword", user="dev1", password=password),
            ValidationFailed,
        )


async def test_with_a_first_password_nothing_goes_but_changing_it(
    identities: Identities, platform: Platform
) -> None:
    user = (await identities.create(role=4)).user
    session = await identities.log_in(user.username, FIRST)
    assert session.user.password_change_required
    for rpc, fields in (
        ("GetUser", {"user": "dev1"}),
        ("ListSessions", {}),
        ("DeleteUser", {"user": "dev1"}),
    ):
        error = await identities.refused(rpc, session, **fields)
        assert isinstance(error, PasswordChangeRequired), rpc
    for service, rpc in (("catalog", "ListTeams"), ("deployment", "ListDeployments")):
        assert await refused_everywhere(platform, session, service, rpc)
    assert await refused_everywhere(platform, session, "audit", "GetCheckpoint")
    assert (await identities.call("WhoAmI", session)).user.password_change_required
    refreshed = await identities.call("Refresh", None, refresh_token=session.refresh_token)
    session = refreshed.session
    change = {"current_password": FIRST, "new_password": SECOND}
    await identities.call("ChangePassword", session, **change)
    await forget(platform)
    assert not (await identities.call("WhoAmI", session)).user.password_change_required
    await identities.call("GetUser", session, user="dev1")
    await identities.call("Logout", session)


async def refused_everywhere(platform: Platform, session: Any, service: str, rpc: str) -> bool:
    stub = getattr(platform, service)
    package = __import__(f"release_manager.{service}.v1.{service}_pb2", fromlist=["x"])
    request = getattr(package, f"{rpc}Request")()
    call = getattr(stub, rpc)(request, metadata=bearer(session.access_token))
    return isinstance(await refusal(call), PasswordChangeRequired)


async def test_changing_needs_the_old_one_and_ends_the_other_sessions(
    identities: Identities, platform: Platform
) -> None:
    user = await identities.person()
    mine, other = [await identities.log_in(user.username) for _ in range(2)]
    wrong = {"current_password": FIRST, "new_password": THIRD}
    assert isinstance(await identities.refused("ChangePassword", mine, **wrong), LoginRefused)
    same = {"current_password": SECOND, "new_password": SECOND}
    assert isinstance(await identities.refused("ChangePassword", mine, **same), ValidationFailed)
    right = {"current_password": SECOND, "new_password": THIRD}
    answer = await identities.call("ChangePassword", mine, **right)
    assert len(answer.audit.event_ids) == 1 + 2  # the user, the other one, that of the first change
    await forget(platform)
    assert (await identities.call("WhoAmI", mine)).user.id == user.id
    assert isinstance(await identities.refused("WhoAmI", other), TokenRejected)
    login = {"username": user.username, "password": SECOND}
    assert isinstance(await identities.refused("Login", None, **login), LoginRefused)
    await identities.log_in(user.username, THIRD)
    log = await entries(platform, "user", user.id)
    assert [entry.action for entry in log] == ["create", "change_password", "change_password"]
    assert "password_hash" not in str([MessageToDict(entry.details) for entry in log])


async def test_a_program_has_no_password(identities: Identities, platform: Platform) -> None:
    change = {"current_password": FIRST, "new_password": SECOND}
    program = await platform.program("admin")
    error = await identities.refused("ChangePassword", program, **change)
    assert isinstance(error, NotPermitted)


async def test_a_reset_ends_all_sessions_and_asks_for_another_one(
    identities: Identities, platform: Platform
) -> None:
    user = await identities.person()
    session = await identities.log_in(user.username)
    answer = await identities.call("ResetPassword", user=user.username, password=THIRD)
    assert answer.user.password_change_required
    await forget(platform)
    assert isinstance(await identities.refused("WhoAmI", session), TokenRejected)
    assert isinstance(
        await identities.refused("Login", None, username=user.username, password=SECOND),
        LoginRefused,
    )
    again = await identities.log_in(user.username, THIRD)
    assert isinstance(
        await identities.refused("GetUser", again, user="dev1"), PasswordChangeRequired
    )
    nobody = {"user": "nobody", "password": THIRD}
    assert isinstance(await identities.refused("ResetPassword", **nobody), ResourceNotFound)


async def test_a_log_in_under_way_does_not_outlive_the_password(identities: Identities) -> None:
    """Whatever the order, no session begun with the old password is left."""
    for _ in range(3):
        user = await identities.person()
        logins = [identities.log_in(user.username) for _ in range(4)]
        reset = identities.call("ResetPassword", user=user.username, password=THIRD)
        await asyncio.gather(*logins, reset, return_exceptions=True)
        left = await identities.call("ListSessions", user=user.username)
        assert list(left.sessions) == []


async def test_what_is_kept_of_a_repeatable_call_does_not_tell_the_password(
    identities: Identities, owner: Any
) -> None:
    request_id, name = str(uuid4()), f"r{uuid4().hex[:10]}"
    facts = {"username": name, "email": f"{name}@x.example.com", "request_id": request_id}
    first = await identities.create(**facts)
    again = await identities.create(**facts)
    assert first == again
    other = await identities.refused_creation(**facts, password=SECOND)
    assert isinstance(other, RequestIdReused)
    rows = await owner.fetch("SELECT fingerprint, response FROM idempotency_records")
    assert rows
    request = pb.CreateUserRequest(
        username=name, email=facts["email"], role=access_pb2.ROLE_DEVELOPER, password=FIRST
    )
    guess = hashlib.sha256(request.SerializeToString(deterministic=True)).digest()
    for row in rows:
        assert row["fingerprint"] != guess
        assert FIRST.encode() not in (row["response"] or b"")
    reset = {"user": name, "password": THIRD, "request_id": request_id}
    one, two = [await identities.call("ResetPassword", **reset) for _ in range(2)]
    assert one == two


async def test_no_password_is_stored_or_recorded(identities: Identities, owner: Any) -> None:
    user = await identities.person()
    await identities.call("ResetPassword", user=user.id, password=THIRD)
    rows = await owner.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    for table in [row[0] for row in rows]:
        text = await owner.fetchval(f"SELECT string_agg(t::text, ' ') FROM {table} t") or ""
        for secret in (FIRST, SECOND, THIRD):
            assert secret not in text, table
            assert secret.encode().hex() not in text, table
        if table != "users":
            assert "$2b$" not in text, table
    stored = await owner.fetchval("SELECT password_hash FROM users WHERE id = $1", user.id)
    assert bcrypt.checkpw(THIRD.encode(), stored.encode())


async def test_a_rehearsal_stores_nothing(identities: Identities) -> None:
    user = await identities.person()
    reset = {"user": user.id, "password": THIRD, "validate_only": True}
    assert (await identities.call("ResetPassword", **reset)).user.password_change_required
    await identities.log_in(user.username)
    made = (await identities.create(validate_only=True)).user
    assert isinstance(await identities.refused("GetUser", user=made.id), ResourceNotFound)
