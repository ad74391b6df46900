"""Sessions: from log-in to log-out, and what a stolen refresh token comes to."""

import asyncio
from typing import Any
from uuid import uuid4

import bcrypt
import pytest
from google.protobuf.json_format import MessageToDict
from release_manager.audit.v1 import audit_pb2
from release_manager.identity.v1 import identity_pb2 as pb

from shared.errors import LoginRefused, NotPermitted, ResourceNotFound, TokenRejected
from shared.identity.opaque_tokens import digest_of
from tests.rpc.catalog.conftest import entries, recorded, refusal
from tests.rpc.catalog.identities import Identities
from tests.support.platform import PASSWORD, Platform, bearer
from tests.support.programs import execute

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def log_in(platform: Platform, username: str, password: str = PASSWORD) -> Any:
    request = pb.LoginRequest(username=username, password=password)
    return (await platform.identity.Login(request)).session


async def refresh(platform: Platform, session: Any) -> Any:
    request = pb.RefreshRequest(refresh_token=session.refresh_token)
    return (await platform.identity.Refresh(request)).session


async def who(platform: Platform, session: Any) -> str:
    request = pb.WhoAmIRequest()
    metadata = bearer(session.access_token)
    answer = await platform.identity.WhoAmI(request, metadata=metadata)
    return str(answer.user.username)


async def age(platform: Platform, seconds: int) -> None:
    """Let the refresh tokens that were used have been used earlier."""
    await execute(
        platform.database_url,
        "UPDATE refresh_tokens SET used_at = used_at - make_interval(secs => $1)",
        seconds,
    )


async def forget(platform: Platform) -> None:
    """Wait until no service believes what the database said before."""
    await asyncio.sleep(platform.settings.user_cache_seconds + 0.1)


@pytest.mark.parametrize(
    "username", ["admin", "lead1", "lead2", "dev1", "dev2", "dev3", "viewer1", "viewer2"]
)
async def test_every_seeded_user_can_log_in(platform: Platform, username: str) -> None:
    assert await who(platform, await log_in(platform, username)) == username


@pytest.mark.parametrize("name", ["dev1", "DEV1", "dev1@example.com", "Dev1@Example.COM"])
async def test_a_user_logs_in_by_name_or_mail(platform: Platform, name: str) -> None:
    session = await log_in(platform, name)
    assert session.user.username == "dev1"
    assert await who(platform, session) == "dev1"


async def test_every_refused_log_in_reads_the_same_and_is_recorded(
    platform: Platform, owner: Any
) -> None:
    await platform.program("viewer")
    await execute(
        platform.database_url, "UPDATE users SET active = false WHERE username = $1", "dev3"
    )
    refused = {
        ("nobody", PASSWORD): "unknown user",
        ("dev1", "letmein"): "wrong password",
        ("dev1", PASSWORD + " "): "wrong password",
        ("dev1", "x" * 73): "wrong password",
        ("dev3", PASSWORD): "not an active person",
        ("test-viewer", PASSWORD): "not an active person",
    }
    texts = set()
    for (username, password), reason in refused.items():
        error = await refusal(log_in(platform, username, password))
        assert isinstance(error, LoginRefused)
        texts.add((str(error), tuple(error.facts)))
        row = await owner.fetchrow(
            "SELECT * FROM outbox WHERE event->>'action' = 'login_refused' ORDER BY id DESC LIMIT 1"
        )
        assert f'"reason": "{reason}"' in row["event"]
        assert password not in row["event"]
        assert ('"user"' in row["event"]) == (username != "nobody")
    assert len(texts) == 1
    await execute(
        platform.database_url, "UPDATE users SET active = true WHERE username = $1", "dev3"
    )


async def test_log_ins_and_refusals_are_security_entries(platform: Platform, owner: Any) -> None:
    lead = await platform.person("lead1")
    await log_in(platform, "dev1")
    await refusal(log_in(platform, "dev1", "letmein"))
    await recorded(owner)
    for action in ("login", "login_refused"):
        request = audit_pb2.ListAuditLogsRequest(filter=audit_pb2.AuditLogFilter(action=action))
        answer = await platform.audit.ListAuditLogs(request, metadata=lead)
        newest = answer.audit_logs[0]
        assert newest.category == audit_pb2.AUDIT_CATEGORY_SECURITY
        assert MessageToDict(newest.details)["username"] == "dev1"


async def test_a_refresh_token_works_once_and_gives_another_pair(platform: Platform) -> None:
    first = await log_in(platform, "dev1")
    second = await refresh(platform, first)
    assert second.refresh_token != first.refresh_token
    assert second.refresh_token_expires_at == first.refresh_token_expires_at
    third = await refresh(platform, second)
    for session in (first, second, third):
        assert await who(platform, session) == "dev1"


async def test_the_previous_token_counts_for_ten_seconds(platform: Platform) -> None:
    first = await log_in(platform, "dev1")
    lost = await refresh(platform, first)
    await age(platform, 5)
    found = await refresh(platform, first)
    assert found.refresh_token != lost.refresh_token
    assert await who(platform, await refresh(platform, found)) == "dev1"


@pytest.mark.parametrize("seconds", [11, -3_600], ids=["old", "used ahead of the clock"])
async def test_an_old_token_ends_the_session_for_all_who_hold_it(
    platform: Platform, owner: Any, seconds: int
) -> None:
    stolen = await log_in(platform, "dev1")
    current = await refresh(platform, stolen)
    await age(platform, seconds)
    assert isinstance(await refusal(refresh(platform, stolen)), TokenRejected)
    assert isinstance(await refusal(refresh(platform, current)), TokenRejected)
    await forget(platform)
    assert isinstance(await refusal(who(platform, current)), TokenRejected)
    row = await owner.fetchrow(
        "SELECT id, row_version, revoked_because FROM sessions WHERE revoked_at IS NOT NULL"
        " ORDER BY revoked_at DESC LIMIT 1"
    )
    assert (row["row_version"], row["revoked_because"]) == (2, "refresh_token_reused")
    log = await entries(platform, "session", str(row["id"]))
    assert [entry.action for entry in log] == ["login", "revoke"]


async def test_used_tokens_are_known_without_being_kept(platform: Platform, owner: Any) -> None:
    stolen = current = await log_in(platform, "dev1")
    for _ in range(5):
        current = await refresh(platform, current)
        await age(platform, 21)
    digest = digest_of(current.refresh_token)
    session = "SELECT session_id FROM refresh_tokens WHERE token_hash = $1"
    session_id = await owner.fetchval(session, digest)
    kept = "SELECT count(*) FROM refresh_tokens WHERE session_id = $1"
    assert await owner.fetchval(kept, session_id) == 2
    assert await owner.fetchval(session, digest_of(stolen.refresh_token)) is None
    for held in (stolen, current):
        assert isinstance(await refusal(refresh(platform, held)), TokenRejected)
    because = "SELECT revoked_because FROM sessions WHERE id = $1"
    assert await owner.fetchval(because, session_id) == "refresh_token_reused"


async def test_a_token_from_before_there_were_families_goes_on_and_stays_known(
    platform: Platform, owner: Any
) -> None:
    session, old = await log_in(platform, "dev1"), f"old-{uuid4()}"
    await owner.execute(
        "UPDATE refresh_tokens SET token_hash = $2, family = NULL WHERE token_hash = $1",
        digest_of(session.refresh_token),
        digest_of(old),
    )
    current = await refresh(platform, pb.Session(refresh_token=old))
    for _ in range(2):
        await age(platform, 21)
        current = await refresh(platform, current)
    for token in (old, current.refresh_token):
        held = pb.Session(refresh_token=token)
        assert isinstance(await refusal(refresh(platform, held)), TokenRejected)


async def test_a_token_lost_in_the_grace_cannot_live_on_beside_the_new_one(
    platform: Platform,
) -> None:
    first = await log_in(platform, "dev1")
    lost = await refresh(platform, first)
    found = await refresh(platform, first)
    await age(platform, 11)
    assert isinstance(await refusal(refresh(platform, lost)), TokenRejected)
    assert isinstance(await refusal(refresh(platform, found)), TokenRejected)


async def test_of_many_who_refresh_at_once_all_get_a_pair_and_one_can_go_on(
    platform: Platform, owner: Any
) -> None:
    first = await log_in(platform, "dev1")
    pairs = await asyncio.gather(*(refresh(platform, first) for _ in range(10)))
    assert len({pair.refresh_token for pair in pairs}) == 10
    await age(platform, 11)
    unused = {
        row["token_hash"]
        for row in await owner.fetch("SELECT token_hash FROM refresh_tokens WHERE used_at IS NULL")
    }
    (live,) = [pair for pair in pairs if digest_of(pair.refresh_token) in unused]
    current = await refresh(platform, live)
    stale = next(pair for pair in pairs if pair is not live)
    assert isinstance(await refusal(refresh(platform, stale)), TokenRejected)
    assert isinstance(await refusal(refresh(platform, current)), TokenRejected)


@pytest.mark.parametrize("token", ["garbage", "rmt_x", "é", "x" * 512, "a.b", ".", ".b"])
async def test_what_is_no_refresh_token_is_rejected(platform: Platform, token: str) -> None:
    call = platform.identity.Refresh(pb.RefreshRequest(refresh_token=token))
    assert isinstance(await refusal(call), TokenRejected)


async def test_an_expired_session_and_a_deactivated_user_do_not_go_on(
    platform: Platform, owner: Any
) -> None:
    session = await log_in(platform, "dev2")
    await owner.execute("UPDATE users SET active = false WHERE username = 'dev2'")
    assert isinstance(await refusal(refresh(platform, session)), TokenRejected)
    await owner.execute("UPDATE users SET active = true WHERE username = 'dev2'")
    await owner.execute("UPDATE refresh_tokens SET expires_at = now() WHERE used_at IS NULL")
    assert isinstance(await refusal(refresh(platform, session)), TokenRejected)


async def test_log_out_ends_the_session_and_nothing_else(platform: Platform) -> None:
    mine, other = await log_in(platform, "dev1"), await log_in(platform, "dev1")
    metadata = bearer(mine.access_token)
    for events in (1, 0):
        answer = await platform.identity.Logout(pb.LogoutRequest(), metadata=metadata)
        assert len(answer.audit.event_ids) == events
    await forget(platform)
    assert isinstance(await refusal(who(platform, mine)), TokenRejected)
    assert isinstance(await refusal(refresh(platform, mine)), TokenRejected)
    assert await who(platform, other) == "dev1"


async def test_a_program_has_nothing_to_log_out_of(platform: Platform) -> None:
    metadata = await platform.program("viewer")
    call = platform.identity.Logout(pb.LogoutRequest(), metadata=metadata)
    assert isinstance(await refusal(call), NotPermitted)


async def test_no_secret_is_stored_or_recorded(platform: Platform, owner: Any) -> None:
    session = await refresh(platform, await log_in(platform, "dev1"))
    tables = ("outbox", "audit_logs", "idempotency_records", "sessions", "refresh_tokens")
    for table in tables:
        text = await owner.fetchval(f"SELECT string_agg(t::text, ' ') FROM {table} t") or ""
        for secret in (PASSWORD, session.refresh_token, session.access_token):
            assert secret not in text, table


async def test_a_hash_of_another_cost_is_replaced_at_log_in(platform: Platform, owner: Any) -> None:
    stored = "SELECT password_hash FROM users WHERE username = 'viewer1'"
    await owner.execute(
        "UPDATE users SET password_hash = $1 WHERE username = 'viewer1'",
        "$2b$05$abcdefghijklmnopqrstuu" + "x" * 31,
    )
    await refusal(log_in(platform, "viewer1"))
    assert (await owner.fetchval(stored)).startswith("$2b$05$")
    other = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(5)).decode()
    await owner.execute("UPDATE users SET password_hash = $1 WHERE username = 'viewer1'", other)
    await log_in(platform, "viewer1")
    assert (await owner.fetchval(stored)).startswith("$2b$04$")
    await log_in(platform, "viewer1")


async def test_a_session_id_of_nobody_is_nobody(platform: Platform) -> None:
    call = platform.identity.GetUser(
        pb.GetUserRequest(user=str(uuid4())), metadata=await platform.person("dev1")
    )
    assert (await refusal(call)).reason == "RESOURCE_NOT_FOUND"


async def test_a_session_says_where_it_comes_from_and_which_one_it_is(platform: Platform) -> None:
    identities = Identities(platform)
    user = await identities.person()
    first, second = [await identities.log_in(user.username) for _ in range(2)]
    answer = await identities.call("ListSessions", first)
    assert [one.current for one in answer.sessions] == [False, True, False]
    assert {one.user_id for one in answer.sessions} == {user.id}
    assert {one.ip_address for one in answer.sessions} == {"127.0.0.1"}
    assert all("grpc-python" in one.user_agent for one in answer.sessions)
    newest = answer.sessions[0]
    life = newest.expires_at.ToSeconds() - newest.created_at.ToSeconds()
    assert life == platform.settings.session_days * 86_400
    assert not newest.HasField("refreshed_at")
    await refresh(platform, second)
    answer = await identities.call("ListSessions", first, page_size=1)
    assert answer.sessions[0].HasField("refreshed_at")
    token = answer.next_page_token
    rest = await identities.call("ListSessions", first, page_size=2, page_token=token)
    assert [one.current for one in rest.sessions] == [True, False]
    assert rest.next_page_token == ""


async def test_what_is_over_is_not_listed(platform: Platform, owner: Any) -> None:
    identities = Identities(platform)
    user = await identities.person()
    session = await identities.log_in(user.username)
    await identities.call("Logout", session)
    answer = await identities.call("ListSessions", user=user.username)
    assert len(answer.sessions) == 1
    days = platform.settings.session_days
    await owner.execute(
        "UPDATE sessions SET created_at = now() - make_interval(days => $1) WHERE user_id = $2",
        int(days),
        user.id,
    )
    answer = await identities.call("ListSessions", user=user.username)
    assert len(answer.sessions) == 0


async def test_sessions_are_revoked_by_their_owner_or_an_admin(platform: Platform) -> None:
    identities = Identities(platform)
    user, stranger = await identities.person(), await identities.person()
    first, second = [await identities.log_in(user.username) for _ in range(2)]
    other = await identities.log_in(stranger.username)
    newest = (await identities.call("ListSessions", first)).sessions[0]
    denied = await identities.refused("ListSessions", other, user=user.username)
    assert isinstance(denied, NotPermitted)
    for session_id in (newest.id, str(uuid4())):
        error = await identities.refused("RevokeSession", other, session_id=session_id)
        assert isinstance(error, ResourceNotFound)
    rehearsed = {"session_id": newest.id, "validate_only": True}
    assert not (await identities.call("RevokeSession", first, **rehearsed)).audit.event_ids
    for events in (1, 0):
        answer = await identities.call("RevokeSession", first, session_id=newest.id)
        assert len(answer.audit.event_ids) == events
    await forget(platform)
    assert isinstance(await refusal(who(platform, second)), TokenRejected)
    assert isinstance(await refusal(refresh(platform, second)), TokenRejected)
    current = (await identities.call("ListSessions", user=user.id)).sessions[0]
    await identities.call("RevokeSession", session_id=current.id)
    await forget(platform)
    assert isinstance(await refusal(who(platform, first)), TokenRejected)
    log = await entries(platform, "session", newest.id)
    assert [entry.action for entry in log] == ["login", "revoke"]


async def test_a_program_has_no_sessions(platform: Platform) -> None:
    identities = Identities(platform)
    answer = await identities.call("ListSessions", await platform.program("viewer"))
    assert list(answer.sessions) == []
