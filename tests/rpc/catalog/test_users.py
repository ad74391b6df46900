"""People: made, found, changed, deactivated and deleted; one of them always is an admin."""

import asyncio
from typing import Any
from uuid import uuid4

import asyncpg
import pytest
from google.protobuf.json_format import MessageToDict
from release_manager.audit.v1 import audit_pb2
from release_manager.catalog.v1 import catalog_pb2
from release_manager.common.v1 import access_pb2
from release_manager.identity.v1 import identity_pb2 as pb

from services.catalog.operations import people
from shared.errors import (
    EtagMismatch,
    ExpressionInvalid,
    LastAdmin,
    LoginRefused,
    ResourceArchived,
    ResourceExists,
    ResourceNotFound,
    ResourceReferenced,
    RoleRequired,
    TokenRejected,
    ValidationFailed,
)
from shared.setting_values import driver_url
from tests.rpc.catalog.conftest import entries, recorded
from tests.rpc.catalog.identities import FIRST, Identities
from tests.support.database import Databases
from tests.support.platform import Platform, running_platform

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest.fixture
def identities(platform: Platform) -> Identities:
    return Identities(platform)


async def forget(platform: Platform) -> None:
    """Wait until no service believes what the database said before."""
    await asyncio.sleep(platform.settings.user_cache_seconds + 0.1)


async def test_a_person_is_made_read_and_recorded(
    identities: Identities, platform: Platform
) -> None:
    answer = await identities.create(team="platform", full_name="Ada")
    user = answer.user
    assert (user.kind, user.active, user.etag) == (pb.USER_KIND_PERSON, True, "1")
    assert (user.team, user.full_name, user.password_change_required) == ("Platform", "Ada", True)
    for reference in (user.id, user.username, user.username.upper()):
        assert await identities.get(reference) == user
    (entry,) = await entries(platform, "user", user.id)
    assert (entry.action, entry.category) == ("create", audit_pb2.AUDIT_CATEGORY_SECURITY)
    after = MessageToDict(entry.details)["after"]
    assert (after["username"], after["role"]) == (user.username, "developer")
    assert "password" not in " ".join(after).replace("password_change_required", "")


async def test_a_name_or_address_is_taken_whatever_the_case(identities: Identities) -> None:
    user = (await identities.create()).user
    for facts in ({"username": user.username}, {"email": user.email.upper()}):
        error = await identities.refused_creation(**facts)
        assert isinstance(error, ResourceExists)


async def test_what_a_person_refers_to_is_there_and_in_use(identities: Identities) -> None:
    assert isinstance(await identities.refused_creation(team="nobody's"), ResourceNotFound)
    metadata = await identities.platform.person("admin")
    name = f"t{uuid4().hex[:8]}"
    catalog = identities.platform.catalog
    await catalog.CreateTeam(catalog_pb2.CreateTeamRequest(name=name), metadata=metadata)
    await catalog.ArchiveTeam(catalog_pb2.ArchiveTeamRequest(team=name), metadata=metadata)
    assert isinstance(await identities.refused_creation(team=name), ResourceArchived)


async def test_several_are_found_in_the_order_asked_for(identities: Identities) -> None:
    one, other = (await identities.create()).user, (await identities.create()).user
    wanted = [other.username.upper(), one.id, other.id]
    answer = await identities.call("BatchGetUsers", "viewer1", users=wanted)
    assert list(answer.users) == [other, one, other]
    error = await identities.refused("BatchGetUsers", users=[one.id, "nobody"])
    assert isinstance(error, ResourceNotFound)
    assert error.facts["resource"] == "nobody"


@pytest.mark.parametrize(
    ("expression", "names"),
    [
        ("role = ADMIN AND kind = PERSON", {"admin"}),
        ("role = LEAD AND kind = PERSON", {"lead1", "lead2"}),
        ('username = "dev*" AND email:"dev1@"', {"dev1"}),
        ('active = false AND username = "dev*"', set()),
        ('team = "platform" AND NOT username:"1" AND role != ADMIN AND kind = PERSON', None),
    ],
)
async def test_lists_are_filtered(
    identities: Identities, expression: str, names: set[str] | None
) -> None:
    answer = await identities.call("ListUsers", "viewer1", filter=expression)
    found = {user.username for user in answer.users}
    assert names is None or found == names


async def test_lists_are_sorted_and_say_what_they_cannot_read(identities: Identities) -> None:
    asked = {"order_by": "username desc", "filter": "kind = PERSON AND email:example"}
    answer = await identities.call("ListUsers", "viewer1", **asked)
    names = [user.username for user in answer.users]
    assert names == sorted(names, reverse=True)
    for wrong in ({"filter": "password_hash = x"}, {"order_by": "email"}):
        assert isinstance(await identities.refused("ListUsers", **wrong), ExpressionInvalid)


async def test_a_person_without_a_team_is_not_in_that_team(identities: Identities) -> None:
    user = (await identities.create()).user
    for expression, found in (('NOT team = "platform"', [user]), ('team = "platform"', [])):
        wanted = f'{expression} AND username = "{user.username}"'
        answer = await identities.call("ListUsers", "viewer1", filter=wanted)
        assert list(answer.users) == found


async def test_a_person_is_changed_as_the_mask_says(
    identities: Identities, platform: Platform
) -> None:
    user = (await identities.create(team="platform")).user
    change = {"user": user.id, "full_name": "Grace", "role": access_pb2.ROLE_LEAD}
    changed = (await identities.call("UpdateUser", **change, etag="1")).user
    assert (changed.full_name, changed.role, changed.etag) == ("Grace", access_pb2.ROLE_LEAD, "2")
    emptied = (await identities.call("UpdateUser", user=user.id, mask=["team"])).user
    assert (emptied.team, emptied.team_id, emptied.full_name) == ("", "", "Grace")
    same = await identities.call("UpdateUser", user=user.id, full_name="Grace")
    assert (same.user.etag, len(same.audit.event_ids)) == ("3", 0)
    log = await entries(platform, "user", user.id)
    details = [MessageToDict(entry.details) for entry in log]
    assert details[1]["before"]["role"] == "developer"
    assert details[1]["after"] == {"full_name": "Grace", "role": "lead"}
    assert isinstance(await identities.refused("UpdateUser", **change, etag="1"), EtagMismatch)
    wrong = {"user": user.id, "mask": ["role"]}
    assert isinstance(await identities.refused("UpdateUser", **wrong), ValidationFailed)
    taken = {"user": user.id, "email": "dev1@example.com"}
    assert isinstance(await identities.refused("UpdateUser", **taken), ResourceExists)


async def test_a_role_takes_effect_within_two_seconds(
    identities: Identities, platform: Platform
) -> None:
    user = await identities.person()
    session = await identities.log_in(user.username)
    refused = await identities.refused("CreateUser", session, **new_user())
    assert isinstance(refused, RoleRequired)
    await identities.call("UpdateUser", user=user.id, role=access_pb2.ROLE_ADMIN)
    await forget(platform)
    await identities.call("CreateUser", session, **new_user())
    await identities.call("UpdateUser", user=user.id, role=access_pb2.ROLE_VIEWER)
    await forget(platform)
    refused = await identities.refused("CreateUser", session, **new_user())
    assert isinstance(refused, RoleRequired)


def new_user() -> dict[str, Any]:
    name = f"n{uuid4().hex[:12]}"
    mail = f"{name}@people.example.com"
    return {"username": name, "email": mail, "role": 1, "password": FIRST}


async def test_deactivation_ends_all_sessions_for_good(
    identities: Identities, platform: Platform
) -> None:
    user = await identities.person()
    sessions = [await identities.log_in(user.username) for _ in range(3)]
    answer = await identities.call("DeactivateUser", user=user.username)
    assert not answer.user.active
    assert len(answer.audit.event_ids) == 1 + 3 + 1  # the user, these, and that of the first change
    again = await identities.call("DeactivateUser", user=user.username)
    assert len(again.audit.event_ids) == 0
    await forget(platform)
    for session in sessions:
        assert isinstance(await identities.refused("WhoAmI", session), TokenRejected)
    login = {"username": user.username, "password": "second words to enter"}
    assert isinstance(await identities.refused("Login", None, **login), LoginRefused)
    assert (await identities.call("ReactivateUser", user=user.id)).user.active
    await forget(platform)
    for session in sessions:
        assert isinstance(await identities.refused("WhoAmI", session), TokenRejected)
        token = {"refresh_token": session.refresh_token}
        assert isinstance(await identities.refused("Refresh", None, **token), TokenRejected)
    await identities.log_in(user.username)
    actions = [entry.action for entry in await entries(platform, "user", user.id)]
    assert actions == ["create", "change_password", "deactivate", "reactivate"]


async def test_only_who_has_done_nothing_is_deleted(
    identities: Identities, platform: Platform, owner: Any
) -> None:
    unused = (await identities.create()).user
    assert isinstance(
        await identities.refused("DeleteUser", user=unused.id, etag="7"), EtagMismatch
    )
    await identities.call("DeleteUser", user=unused.id, etag="1")
    assert isinstance(await identities.refused("GetUser", user=unused.id), ResourceNotFound)
    log = await entries(platform, "user", unused.id)
    assert [entry.action for entry in log] == ["create", "delete"]
    assert MessageToDict(log[1].details)["before"]["username"] == unused.username
    used = [(await identities.person()).username, "dev1", "lead1"]
    tried = (await identities.create()).user.username
    wrong = {"username": tried, "password": "something else"}
    await identities.refused("Login", None, **wrong)
    await recorded(owner)
    for name in [*used, tried]:
        assert isinstance(await identities.refused("DeleteUser", user=name), ResourceReferenced)


async def test_every_reference_to_a_user_has_a_name(owner: Any) -> None:
    rows = await owner.fetch(
        "SELECT conname FROM pg_constraint WHERE confrelid = 'users'::regclass"
        " AND confdeltype = 'r' AND conparentid = 0"
    )
    assert {row[0] for row in rows} == set(people.USED_BY)


async def test_a_program_is_no_person(identities: Identities, platform: Platform) -> None:
    await platform.program("viewer")
    for rpc in ("UpdateUser", "DeactivateUser", "ReactivateUser", "DeleteUser"):
        assert isinstance(await identities.refused(rpc, user="test-viewer"), ValidationFailed)
    reset = {"user": "test-viewer", "password": FIRST}
    assert isinstance(await identities.refused("ResetPassword", **reset), ValidationFailed)


async def test_the_last_admin_stays_one(identities: Identities) -> None:
    demoted = {"user": "admin", "role": access_pb2.ROLE_LEAD}
    deactivated = {"user": "admin"}
    assert isinstance(await identities.refused("UpdateUser", **demoted), LastAdmin)
    assert isinstance(await identities.refused("DeactivateUser", **deactivated), LastAdmin)
    program = await identities.platform.program("admin")
    assert isinstance(await identities.refused("DeleteUser", program, user="admin"), LastAdmin)
    renamed = await identities.call("UpdateUser", user="admin", full_name="The admin")
    assert renamed.user.role == access_pb2.ROLE_ADMIN


async def test_admins_who_leave_at_the_same_moment_leave_one(databases: Databases) -> None:
    with databases.fresh(seeded=True) as url:
        async with running_platform(url) as platform:
            identities = Identities(platform)
            program = await platform.program("admin")
            for _ in range(3):
                names = ["admin"]
                for _ in range(3):
                    made = await identities.create(program, role=access_pb2.ROLE_ADMIN)
                    names.append(made.user.username)
                calls = [
                    identities.call("DeactivateUser", program, user=name)
                    if number % 2
                    else identities.call(
                        "UpdateUser", program, user=name, role=access_pb2.ROLE_VIEWER
                    )
                    for number, name in enumerate(names)
                ]
                done = await asyncio.gather(*calls, return_exceptions=True)
                assert sum(isinstance(outcome, Exception) for outcome in done) == 1
                connection = await asyncpg.connect(driver_url(url))
                left = await connection.fetchval(
                    "SELECT count(*) FROM users WHERE role = 'admin' AND active AND kind = 'person'"
                )
                assert left == 1
                await connection.execute(
                    "UPDATE users SET role = 'viewer' WHERE kind = 'person';"
                    "UPDATE users SET role = 'admin', active = true WHERE username = 'admin'"
                )
                await connection.close()
