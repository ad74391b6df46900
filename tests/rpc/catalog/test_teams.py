"""Teams: what belongs to one keeps it, and nothing comes to belong to one in the archive."""

import asyncio
from typing import Any

import grpc
import pytest
import pytest_asyncio

from shared.errors import ResourceArchived, ResourceReferenced
from shared.rpc.status import from_rpc_error
from tests.rpc.catalog.calls import Catalog, fresh
from tests.rpc.catalog.identities import Identities
from tests.support.platform import Platform
from tests.support.programs import execute

pytestmark = pytest.mark.asyncio(loop_scope="session")

ROUNDS = 20


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def catalog(platform: Platform) -> Catalog:
    return Catalog(platform)


async def outcome(call: Any) -> Any:
    """Return the answer of a call, or the error that it ends with."""
    try:
        return await call
    except grpc.aio.AioRpcError as failure:
        return from_rpc_error(failure)


async def test_a_team_with_services_or_people_stays_in_use(catalog: Catalog) -> None:
    team = await catalog.make("team")
    service = await catalog.make("service", team=team.id)
    error = await catalog.refused("ArchiveTeam", team=team.id)
    assert isinstance(error, ResourceReferenced)
    assert error.facts == {
        "resource_type": "team",
        "resource": team.name,
        "used_by": "a service",
    }
    await catalog.do("Archive", "service", service.id)
    url = catalog.platform.database_url
    await execute(url, "UPDATE users SET team_id = $1 WHERE username = 'viewer2'", team.id)
    error = await catalog.refused("ArchiveTeam", team=team.id)
    assert isinstance(error, ResourceReferenced)
    assert error.facts["used_by"] == "an active person"
    await execute(url, "UPDATE users SET active = false WHERE username = 'viewer2'")
    assert (await catalog.do("Archive", "team", team.id)).HasField("archived_at")
    await execute(url, "UPDATE users SET active = true, team_id = NULL WHERE username = 'viewer2'")


async def test_nothing_comes_to_belong_to_an_archived_team(catalog: Catalog) -> None:
    team = await catalog.make("team")
    mine = await catalog.make("service", team=team.id)
    other = await catalog.make("service")
    await catalog.do("Archive", "service", mine.id)
    await catalog.do("Archive", "team", team.id)
    facts = {"resource_type": "team", "resource": team.name}
    for rpc, fields in (
        ("CreateService", {"name": fresh(), "team": team.name}),
        ("UpdateService", {"service": other.id, "team": team.id}),
        ("UnarchiveService", {"service": mine.id}),
    ):
        error = await catalog.refused(rpc, **fields)
        assert isinstance(error, ResourceArchived), rpc
        assert error.facts == facts
    await catalog.do("Unarchive", "team", team.id)
    await catalog.do("Unarchive", "service", mine.id)


async def test_nobody_comes_back_into_an_archived_team(catalog: Catalog) -> None:
    identities = Identities(catalog.platform)
    team = await catalog.make("team")
    user = (await identities.create(team=team.name)).user
    await identities.call("DeactivateUser", user=user.id)
    await catalog.do("Archive", "team", team.id)
    error = await identities.refused("ReactivateUser", user=user.id)
    assert isinstance(error, ResourceArchived)
    assert error.facts == {"resource_type": "team", "resource": team.name}
    await catalog.do("Unarchive", "team", team.id)
    assert (await identities.call("ReactivateUser", user=user.id)).user.active
    assert isinstance(await catalog.refused("ArchiveTeam", team=team.id), ResourceReferenced)
    await catalog.do("Update", "team", team.id, description="Still in use")


async def test_a_team_that_anything_refers_to_is_not_deleted(catalog: Catalog) -> None:
    team = await catalog.make("team")
    service = await catalog.make("service", team=team.id)
    await catalog.do("Archive", "service", service.id)
    error = await catalog.refused("DeleteTeam", team=team.id)
    assert isinstance(error, ResourceReferenced)
    assert error.facts["used_by"] == "a service"
    await catalog.do("Delete", "service", service.id)
    await catalog.do("Delete", "team", team.id)


async def test_a_service_has_its_team_by_the_present_name(catalog: Catalog) -> None:
    team = await catalog.make("team")
    service = await catalog.make("service", team=team.name)
    name = fresh("Renamed ")
    await catalog.do("Update", "team", team.id, name=name)
    assert (await catalog.get("service", service.id)).team == name
    assert (await catalog.get("service", service.id)).etag == "1"


async def test_a_team_is_never_archived_while_a_service_is_made_for_it(catalog: Catalog) -> None:
    ways = set()
    for number in range(ROUNDS):
        team = await catalog.make("team")
        calls = [
            catalog.call("ArchiveTeam", team=team.id),
            catalog.call("CreateService", name=fresh(), team=team.id),
        ]
        archived, created = await asyncio.gather(*map(outcome, calls[:: 1 if number % 2 else -1]))
        if number % 2 == 0:
            archived, created = created, archived
        refused = [isinstance(archived, ResourceReferenced), isinstance(created, ResourceArchived)]
        assert sorted(refused) == [False, True], (archived, created)
        ways.add(refused[0])
        state = await catalog.get("team", team.id)
        services = await catalog.listed("Services", team=team.id)
        assert state.HasField("archived_at") == (not services)
    assert ways


async def test_a_team_is_never_archived_while_a_service_comes_back(catalog: Catalog) -> None:
    for _ in range(ROUNDS):
        team = await catalog.make("team")
        service = await catalog.make("service", team=team.id)
        await catalog.do("Archive", "service", service.id)
        await asyncio.gather(
            outcome(catalog.call("UnarchiveService", service=service.id)),
            outcome(catalog.call("ArchiveTeam", team=team.id)),
        )
        state = await catalog.get("team", team.id)
        services = await catalog.listed("Services", team=team.id)
        assert state.HasField("archived_at") == (not services)


async def test_of_many_who_change_what_they_read_one_does(catalog: Catalog) -> None:
    team = await catalog.make("team")
    calls = [
        outcome(catalog.call("UpdateTeam", team=team.id, description=f"By {n}", etag="1"))
        for n in range(12)
    ]
    answers = await asyncio.gather(*calls)
    assert sum(hasattr(answer, "team") for answer in answers) == 1
    assert (await catalog.get("team", team.id)).etag == "2"


async def test_a_seeded_team_is_changed_like_any_other(catalog: Catalog) -> None:
    seeded = await catalog.get("team", "Frontend")
    assert seeded.etag == "0"
    answer = await catalog.call("UpdateTeam", team="frontend", description="New", etag="0")
    assert (answer.team.etag, len(answer.audit.leaf_indexes)) == ("1", 1)
    assert (await catalog.call("ReconcileAudit")).missing == 0
