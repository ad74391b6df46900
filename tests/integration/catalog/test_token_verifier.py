"""Tokens are believed only as long as the database says so, and it is asked seldom."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest

from seed.rows import Connection
from shared.db.engine import Database
from shared.errors import (
    NotPermitted,
    ReferenceInactive,
    ResourceNotFound,
    ScopeRequired,
    TokenRejected,
)
from shared.identity.access_tokens import AccessTokens
from shared.identity.actor import ActorKind, Role
from shared.identity.keys import ensure_keys
from shared.identity.token_verifier import TokenVerifier
from shared.ids import new_id
from tests.support.plans import statements_sent
from tests.support.programs import add_program

KEEP = timedelta(seconds=2)
LIFETIME = timedelta(minutes=15)


class World:
    """A verifier whose clock the test moves, and what it needs to make tokens."""

    def __init__(self, url: str, db: Database, owner: Connection, directory: Path) -> None:
        self.url = url
        self.owner = owner
        self.now = datetime.now(UTC)
        keys = ensure_keys(directory)
        self.tokens = AccessTokens(keys, LIFETIME, lambda: self.now)
        self.verifier = TokenVerifier(db, keys, lambda: self.now, keep=KEEP)

    async def session(self, username: str) -> tuple[UUID, str]:
        """Start a session and return its id and an access token."""
        session_id = new_id()
        user_id = await self.owner.fetchval(
            "INSERT INTO sessions (id, user_id) SELECT $1, id FROM users WHERE username = $2"
            " RETURNING user_id",
            session_id,
            username,
        )
        return session_id, self.tokens.issue(user_id, session_id).text

    async def identify(self, token: str, **metadata: str) -> object:
        """Ask who calls; underscores in names of metadata stand for hyphens."""
        named = {name.replace("_", "-"): value for name, value in metadata.items()}
        return await self.verifier.identify({"authorization": f"Bearer {token}", **named})

    async def program(self, name: str, *scopes: str) -> str:
        """Make a service account and return its token."""
        return (await add_program(self.url, name, "developer", scopes)).token


@pytest.fixture
async def world(
    seeded_database_url: str, db: Database, owner: Connection, tmp_path: Path
) -> AsyncIterator[World]:
    made = World(seeded_database_url, db, owner, tmp_path)
    yield made
    await made.verifier.close()


async def test_a_session_is_a_person_with_the_role_of_the_row(world: World) -> None:
    session_id, token = await world.session("lead1")
    actor = await world.verifier.identify({"authorization": f"bearer {token}"})
    assert actor is not None
    assert (actor.username, actor.role, actor.kind) == ("lead1", Role.LEAD, ActorKind.PERSON)
    assert actor.session_id == session_id
    assert actor.people == {actor.user_id}


async def test_no_credentials_are_nobody(world: World) -> None:
    assert await world.verifier.identify({}) is None


@pytest.mark.parametrize(
    "given",
    ["", "Bearer", "Bearer ", "Basic YWRtaW46", "rmt_x", "Bearer rmt_x", "Bearer a b", "Bearer é"],
)
async def test_other_credentials_are_rejected(world: World, given: str) -> None:
    with pytest.raises(TokenRejected):
        await world.verifier.identify({"authorization": given})


async def test_two_credentials_are_rejected(world: World) -> None:
    _, token = await world.session("lead1")
    with pytest.raises(TokenRejected):
        await world.verifier.identify({"authorization": f"Bearer {token},Bearer {token}"})


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE users SET active = false WHERE username = 'lead1'",
        "UPDATE sessions SET revoked_at = now(), revoked_because = 'test'",
        "DELETE FROM sessions",
    ],
)
async def test_whoever_is_cut_off_is_out_within_two_seconds(world: World, change: str) -> None:
    _, token = await world.session("lead1")
    await world.identify(token)
    await world.owner.execute(change)
    world.now += KEEP
    with pytest.raises(TokenRejected):
        await world.identify(token)


async def test_a_new_role_counts_within_two_seconds(world: World) -> None:
    _, token = await world.session("lead1")
    await world.identify(token)
    await world.owner.execute("UPDATE users SET role = 'viewer' WHERE username = 'lead1'")
    world.now += KEEP
    actor = await world.identify(token)
    assert getattr(actor, "role", None) is Role.VIEWER


async def test_a_known_token_expires_too(world: World) -> None:
    _, token = await world.session("lead1")
    await world.identify(token)
    world.now += LIFETIME + timedelta(seconds=31)
    with pytest.raises(TokenRejected):
        await world.identify(token)


async def test_a_session_serves_its_own_user_only(world: World) -> None:
    session_id, _ = await world.session("lead1")
    admin = await world.owner.fetchval("SELECT id FROM users WHERE username = 'admin'")
    with pytest.raises(TokenRejected):
        await world.identify(world.tokens.issue(admin, session_id).text)


async def test_ordinary_calls_ask_the_database_once_in_two_seconds(
    world: World, db: Database
) -> None:
    _, token = await world.session("lead1")
    with statements_sent(db) as asked:
        await asyncio.gather(*(world.identify(token) for _ in range(100)))
        once = len(asked)
        world.now += KEEP / 2
        await world.identify(token)
        assert len(asked) == once
        world.now += KEEP
        await world.identify(token)
        assert len(asked) == 2 * once


@pytest.mark.parametrize("role", ["rm_catalog", "rm_deployment", "rm_audit_writer"])
async def test_every_service_may_verify_both_kinds_of_tokens(
    world: World, tmp_path: Path, role: str
) -> None:
    db = Database(world.url, role=role, application_name="test")
    verifier = TokenVerifier(db, ensure_keys(tmp_path), lambda: world.now)
    _, session = await world.session("dev1")
    program = await world.program("robot", "deploy")
    for token, name in ((session, "dev1"), (program, "robot")):
        actor = await verifier.identify({"authorization": f"Bearer {token}"})
        assert actor is not None
        assert actor.username == name
    await verifier.close()
    await db.close()
    assert await world.owner.fetchval("SELECT last_used_at FROM api_tokens") is not None


async def test_an_api_token_is_its_account_with_owner_and_scopes(world: World) -> None:
    actor = await world.identify(await world.program("robot", "deploy", "audit.write"))
    assert getattr(actor, "kind", None) is ActorKind.SERVICE
    assert getattr(actor, "scopes", None) == {"deploy", "audit.write"}
    owner = getattr(actor, "owner_id", None)
    assert owner is not None
    assert owner in getattr(actor, "people", ())


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE api_tokens SET revoked_at = now()",
        "UPDATE api_tokens SET expires_at = now() - interval '1 hour'",
        "UPDATE users SET active = false WHERE username = 'robot'",
    ],
)
async def test_an_api_token_ends_within_two_seconds(world: World, change: str) -> None:
    token = await world.program("robot")
    await world.identify(token)
    await world.owner.execute(change)
    world.now += KEEP
    with pytest.raises(TokenRejected):
        await world.identify(token)


async def test_the_use_of_a_token_is_noted_about_once_a_minute(world: World) -> None:
    token = await world.program("robot")
    seen = set()
    for _ in range(4):
        await asyncio.gather(*(world.identify(token) for _ in range(20)))
        await world.verifier.close()
        seen.add(await world.owner.fetchval("SELECT last_used_at FROM api_tokens"))
        world.now += timedelta(seconds=25)
    assert len(seen) == 2


async def test_an_account_with_the_scope_acts_for_a_person_by_name_or_id(world: World) -> None:
    token = await world.program("robot", "on_behalf_of")
    dev1 = await world.owner.fetchval("SELECT id FROM users WHERE username = 'dev1'")
    for name in ("dev1", "DEV1", str(dev1)):
        actor = await world.identify(token, x_on_behalf_of=name)
        assert getattr(actor, "on_behalf_of", None) == dev1
        assert dev1 in getattr(actor, "people", ())


async def test_nobody_else_acts_for_others_or_for_whom_there_is_not(world: World) -> None:
    _, person = await world.session("admin")
    plain = await world.program("plain")
    robot = await world.program("robot", "on_behalf_of")
    await world.owner.execute("UPDATE users SET active = false WHERE username = 'dev2'")
    for token, name, error in (
        (person, "dev1", NotPermitted),
        (plain, "dev1", ScopeRequired),
        (robot, "nobody", ResourceNotFound),
        (robot, "", ResourceNotFound),
        (robot, "x" * 10_000, ResourceNotFound),
        (robot, "dev2", ReferenceInactive),
        (robot, "plain", NotPermitted),
    ):
        with pytest.raises(error):
            await world.identify(token, x_on_behalf_of=name)
