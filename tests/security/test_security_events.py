"""What concerns security is in the ledger, each once (OWASP ASVS 16.3.1 to 16.3.4).

Each event is driven as its cause would drive it, and then counted in the ledger: exactly one entry
of category `security` (or, for exports, `access`), about the right person or thing, with what an
investigator asks for. Denied calls of all services are among them; that a flood of them is told as
a number, with none dropped, is shown in `tests/unit/test_floods.py`.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import asyncpg
import pytest
import pytest_asyncio
from release_manager.audit.v1 import audit_pb2
from release_manager.catalog.v1 import catalog_pb2
from release_manager.common.v1 import access_pb2
from release_manager.deployment.v1 import deployment_pb2

from shared.setting_values import driver_url
from tests.rpc.catalog.conftest import refusal
from tests.rpc.catalog.identities import SECOND, THIRD, Identities
from tests.support.platform import AUDIT, CATALOG, DEPLOYMENT, Platform, bearer
from tests.support.polling import eventually

pytestmark = pytest.mark.asyncio(loop_scope="session")

SECONDS_TO_ARRIVE = 10.0
QUIET_S = 0.5
SENT = "SELECT count(*) = 0 FROM outbox WHERE sent_at IS NULL"
LOCKING = 5


@dataclass(frozen=True)
class Wanted:
    """An entry that must be there once: its action, and what its details have."""

    action: str
    details: Mapping[str, object] = field(default_factory=dict)
    category: str = "security"
    resource_type: str | None = None

    def is_told_by(self, row: Mapping[str, Any]) -> bool:
        told = json.loads(row["details"])
        return (
            (row["action"], row["category"]) == (self.action, self.category)
            and self.resource_type in {None, row["resource_type"]}
            and all(told.get(name) == value for name, value in self.details.items())
        )


@dataclass
class Scene:
    """The running product, and a person with a session of their own."""

    platform: Platform
    identities: Identities
    user: Any
    session: Any
    owner: Any

    async def entries(self) -> list[Mapping[str, Any]]:
        """Return the entries that this person, or somebody about this person, caused."""
        found = await self.owner.fetch(
            "SELECT action, category, resource_type, resource_id, user_id, details::text AS details"
            " FROM audit_logs WHERE user_id = $1 OR resource_id = $1::text"
            " OR details->>'username' = $2 ORDER BY leaf_index",
            self.user.id,
            self.user.username,
        )
        return [dict(row) for row in found]


@pytest_asyncio.fixture(loop_scope="session")
async def scene(platform: Platform) -> Any:
    identities = Identities(platform)
    user = await identities.person(role=access_pb2.ROLE_LEAD)
    session = await identities.log_in(user.username)
    owner = await asyncpg.connect(driver_url(platform.database_url))
    yield Scene(platform, identities, user, session, owner)
    await owner.close()


async def wrong(scene: Scene, times: int = 1) -> None:
    for _ in range(times):
        await scene.identities.refused(
            "Login", None, username=scene.user.username, password="wrong words"
        )


async def refresh_twice(scene: Scene) -> None:
    """Use a refresh token long after it was exchanged, as a thief would."""
    token = scene.session.refresh_token
    await scene.identities.call("Refresh", None, refresh_token=token)
    await scene.owner.execute(
        "UPDATE refresh_tokens SET used_at = used_at - interval '1 minute'"
        " WHERE used_at IS NOT NULL"
    )
    await scene.identities.refused("Refresh", None, refresh_token=token)


async def export(scene: Scene) -> None:
    wanted = audit_pb2.AuditLogFilter(user=scene.user.username)
    request = audit_pb2.ExportAuditLogsRequest(filter=wanted)
    who = bearer(scene.session.access_token)
    async for _ in scene.platform.audit.ExportAuditLogs(request, metadata=who):
        pass


def by_admin(rpc: str, **fields: Any) -> Callable[[Scene], Awaitable[object]]:
    return lambda scene: scene.identities.call(rpc, user=scene.user.id, **fields)


CHANGES: Mapping[str, tuple[Callable[[Scene], Awaitable[object]], tuple[Wanted, ...]]] = {
    "a log-in": (
        lambda scene: scene.identities.log_in(scene.user.username),
        (Wanted("login", resource_type="session"),),
    ),
    "a wrong password": (wrong, (Wanted("login_refused", {"reason": "wrong password"}),)),
    "a lock": (lambda scene: wrong(scene, LOCKING), (Wanted("lock", {"lock": "delay"}),)),
    "a log-out": (
        lambda scene: scene.identities.call("Logout", scene.session),
        (Wanted("logout", resource_type="session"),),
    ),
    "a stolen refresh token": (
        refresh_twice,
        (Wanted("revoke", {"reason": "refresh_token_reused"}, resource_type="session"),),
    ),
    "another role": (
        by_admin("UpdateUser", role=access_pb2.ROLE_VIEWER, mask=["role"]),
        (Wanted("update", resource_type="user"),),
    ),
    "a deactivation": (by_admin("DeactivateUser"), (Wanted("deactivate", resource_type="user"),)),
    "a password set anew": (
        by_admin("ResetPassword", password=THIRD),
        (Wanted("reset_password", resource_type="user"),),
    ),
    "a password changed": (
        lambda scene: scene.identities.call(
            "ChangePassword", scene.session, current_password=SECOND, new_password=THIRD
        ),
        (Wanted("change_password", resource_type="user"),),
    ),
    "an export": (
        export,
        (Wanted("export", category="access"), Wanted("export_done", category="access")),
    ),
}


async def new_entries(
    scene: Scene, before: int, wanted: tuple[Wanted, ...]
) -> list[Mapping[str, Any]]:
    """Return the entries since then, once the wanted ones are there and no more come."""

    async def all_are_told() -> bool:
        found = (await scene.entries())[before:]
        return all(any(one.is_told_by(row) for row in found) for one in wanted)

    await eventually(all_are_told, SECONDS_TO_ARRIVE)
    await asyncio.sleep(QUIET_S)
    return (await scene.entries())[before:]


@pytest.mark.parametrize("name", CHANGES)
async def test_it_is_in_the_ledger_once(scene: Scene, name: str) -> None:
    drive, wanted = CHANGES[name]
    before = await settled(scene)
    await drive(scene)
    found = await new_entries(scene, before, wanted)
    for one in wanted:
        assert sum(one.is_told_by(row) for row in found) == 1, [dict(row) for row in found]


async def settled(scene: Scene) -> int:
    """Return how many entries there are when those of the scene itself have come."""
    await eventually(lambda: scene.owner.fetchval(SENT), SECONDS_TO_ARRIVE)
    return len(await new_entries(scene, 0, (Wanted("login"),)))


async def test_an_export_says_who_by_what_filter_and_how_many(scene: Scene) -> None:
    wanted = CHANGES["an export"][1]
    before = await settled(scene)
    await export(scene)
    begun, ended = [
        row
        for row in await new_entries(scene, before, wanted)
        if row["action"] in {"export", "export_done"}
    ]
    assert str(begun["user_id"]) == str(ended["user_id"]) == scene.user.id
    assert json.loads(begun["details"])["filter"] == {"user": scene.user.username}
    details = json.loads(ended["details"])
    # As many as the ledger had about them when it began: no read traces, which are not asked for.
    counted = await scene.owner.fetchval(
        "SELECT count(*) FROM audit_logs WHERE user_id = $1 AND category <> 'access'"
        " AND leaf_index < $2",
        scene.user.id,
        details["tree_size"],
    )
    assert (details["reason"], details["rows"]) == ("COMPLETE", counted)


async def told(scene: Scene, count: int, query: str, *values: object) -> list[Any]:
    """Return what a query finds, once it finds so many rows and no more come."""

    async def so_many() -> bool:
        return len(await scene.owner.fetch(query, *values)) >= count

    await eventually(so_many, SECONDS_TO_ARRIVE)
    await asyncio.sleep(QUIET_S)
    return list(await scene.owner.fetch(query, *values))


async def test_tokens_of_programs_are_told_once_each(scene: Scene) -> None:
    call = scene.identities.call
    name = f"ci-{uuid4().hex[:10]}"
    facts = {"name": name, "owner": "dev1", "role": access_pb2.ROLE_VIEWER}
    account = (await call("CreateServiceAccount", **facts)).service_account
    made = await call("CreateApiToken", service_account=name, description="for a test")
    rotated = await call("RotateApiToken", api_token_id=made.api_token.id)
    await call("RevokeApiToken", api_token_id=rotated.api_token.id)
    # A rotation is told of both: the old token, whose end is set, and the new one.
    expected = [
        ("service_account", "create"),
        *(("api_token", action) for action in ("create", "create", "rotate", "revoke")),
    ]
    query = (
        "SELECT action, resource_type, category, details::text AS details, resource_id"
        " FROM audit_logs WHERE aggregate = $1 ORDER BY leaf_index"
    )
    rows = await told(scene, len(expected), query, f"service_account:{account.id}")
    assert [(row["resource_type"], row["action"]) for row in rows] == expected
    assert {row["category"] for row in rows} == {"security"}
    old, new = made.api_token.id, rotated.api_token.id
    assert [row["resource_id"] for row in rows[1:]] == [old, new, old, new]


# A call of each service that a viewer may not make.
DENIED: Mapping[str, object] = {
    f"/{AUDIT}/ListAuditLogs": audit_pb2.ListAuditLogsRequest(),
    f"/{CATALOG}/CreateTeam": catalog_pb2.CreateTeamRequest(name="Denied"),
    f"/{DEPLOYMENT}/CreateDeployment": deployment_pb2.CreateDeploymentRequest(
        release="gateway@1", environment="dev"
    ),
}


@pytest.mark.parametrize("method", DENIED)
async def test_a_denied_call_is_told_once_however_often_it_is_repeated(
    platform: Platform, scene: Scene, method: str
) -> None:
    """Within a minute there is one entry; it counts those that came before it was written."""
    person = await Identities(platform).person(role=access_pb2.ROLE_VIEWER)
    session = await Identities(platform).log_in(person.username)
    for _ in range(10):
        answer = await platform.ask(method, DENIED[method], bearer(session.access_token))  # type: ignore[arg-type]
        assert answer.reason == "ROLE_REQUIRED"
    query = (
        "SELECT resource_type, resource_id, details::text AS details FROM audit_logs"
        " WHERE action = 'call_denied' AND user_id = $1"
    )
    [row] = await told(scene, 1, query, person.id)
    details = json.loads(row["details"])
    assert (row["resource_type"], row["resource_id"]) == ("rpc", method)
    assert details["reason"] == "ROLE_REQUIRED"
    assert details["count"] <= 10


async def test_a_token_that_is_none_is_told(platform: Platform, scene: Scene) -> None:
    query = (
        "SELECT id FROM audit_logs WHERE action = 'call_denied' AND user_id IS NULL"
        " AND resource_id = $1"
    )
    method = f"/{AUDIT}/GetCheckpoint"
    error = await refusal(
        platform.audit.GetCheckpoint(
            audit_pb2.GetCheckpointRequest(), metadata=bearer("rmt_" + "x" * 43)
        )
    )
    assert error.reason == "TOKEN_REJECTED"
    assert len(await told(scene, 1, query, method)) == 1
