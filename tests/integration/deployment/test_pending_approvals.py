"""What waits for a person: only what their approval would help, the oldest first, page by page."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from release_manager.deployment.v1 import deployment_pb2 as pb

from services.deployment.operations import pending
from services.deployment.operations.pending import PendingQuery
from shared.db.engine import Database
from shared.db.keyset import PageRequest
from shared.errors import PageTokenInvalid, ResourceNotFound
from shared.identity.actor import Actor, Role
from tests.support.deployments import World
from tests.support.plans import statements_sent
from tests.support.publishing import publish

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def db(world: World) -> AsyncIterator[Database]:
    """The database as the service reads it."""
    found = Database(world.database_url, role="rm_deployment", application_name="reading")
    yield found
    await found.close()


async def waiting(world: World, who: str, **more: Any) -> list[str]:
    """Return the ids of all that waits for the caller, or whom the request names."""
    request = pb.ListPendingApprovalsRequest(**more)
    seen: list[str] = []
    while True:
        page = await world.call(who, "ListPendingApprovals", request)
        seen += [deployment.id for deployment in page.deployments]
        request.page_token = page.next_page_token
        if not page.next_page_token:
            return seen


async def wanted(world: World, app: str, place: str, count: int = 1) -> list[str]:
    """Request deployments of several releases to a place; return their ids."""
    releases = [await world.release(f"{app}@{number}") for number in range(count)]
    return [(await world.create(release, place)).id for release in releases]


async def policy(world: World, place: str, **asks: Any) -> None:
    """Let a place ask for approvals, and let requests wait behind one another."""
    asks = {"required_approvals": 1} | asks
    await publish(world, place, pb.Policy(**asks, queue=pb.QUEUE_MODE_QUEUE))


async def test_only_those_whose_approval_counts_see_it(world: World, place: str, app: str) -> None:
    await policy(world, place, required_approvals=2, author_may_approve=False)
    (made,) = await wanted(world, app, place)
    for person, sees in (("dev1", []), ("dev2", []), ("dev3", [made]), ("viewer1", [])):
        assert await waiting(world, person, environment=place) == sees
    await world.approve(made, "dev3")
    assert await waiting(world, "dev3", environment=place) == []
    assert await waiting(world, "lead1", environment=place) == [made]
    await world.approve(made, "lead1")
    assert await waiting(world, "lead2", environment=place) == []


async def test_where_only_a_lead_is_missing_others_have_nothing_to_do(
    world: World, place: str, app: str
) -> None:
    await policy(world, place, required_approvals=2, lead_required=True)
    (made,) = await wanted(world, app, place)
    await world.approve(made, "dev3")
    assert await waiting(world, "dev2", environment=place) == []
    assert await waiting(world, "lead2", environment=place) == [made]


async def test_somebody_else_may_ask_for_a_person(world: World, place: str, app: str) -> None:
    await policy(world, place)
    (made,) = await wanted(world, app, place)
    assert await waiting(world, "viewer1", approver="DEV3", environment=place) == [made]
    person = str(world.people["dev1"])
    assert await waiting(world, "viewer1", approver=person, environment=place) == []
    request = pb.ListPendingApprovalsRequest(approver="nobody")
    error = await world.refused("viewer1", "ListPendingApprovals", request)
    assert isinstance(error, ResourceNotFound)


async def test_it_can_be_narrowed_to_what_somebody_was_asked_for(
    world: World, place: str, app: str
) -> None:
    await policy(world, place)
    one, two = await world.release(f"{app}@1"), await world.release(f"{app}@2")
    request = pb.CreateDeploymentRequest(release=one, environment=place, approvers=["dev3"])
    asked = (await world.call("dev1", "CreateDeployment", request)).deployment.id
    other = (await world.create(two, place)).id
    assert await waiting(world, "dev3", service=app) == [asked, other]
    assert await waiting(world, "dev3", service=app, asked_only=True) == [asked]
    assert await waiting(world, "lead1", service=app, asked_only=True) == []


async def test_what_waits_no_longer_is_left_out(world: World, place: str, app: str) -> None:
    await policy(world, place)
    ended, stays = await wanted(world, app, place, 2)
    reject = pb.RejectDeploymentRequest(deployment=ended, comment="not today")
    await world.call("lead1", "RejectDeployment", reject)
    assert await waiting(world, "dev3", environment=place) == [stays]


async def test_entries_have_their_blockers(world: World, place: str, app: str) -> None:
    await policy(world, place)
    await wanted(world, app, place)
    request = pb.ListPendingApprovalsRequest(environment=place)
    (found,) = (await world.call("dev3", "ListPendingApprovals", request)).deployments
    assert [blocker.gate for blocker in found.blockers] == ["approval"]
    assert "dev3" in found.blockers[0].people


async def test_pages_hold_what_the_rules_choose_from_what_waits(
    world: World, place: str, app: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch of two among which one counts: pages are short, and together they are all of it."""
    monkeypatch.setattr(pending, "BATCH", 2)
    monkeypatch.setattr(pending, "MOST_BATCHES", 2)
    await policy(world, place)
    mine: list[str] = []
    others: list[str] = []
    for number in range(12):
        release = await world.release(f"{app}@{number}")
        who, ids = ("dev1", others) if number % 3 == 0 else ("dev3", mine)
        ids.append((await world.create(release, place, who)).id)
    assert await waiting(world, "dev3", environment=place, page_size=3) == others
    assert await waiting(world, "dev1", environment=place, page_size=3) == mine
    first = pb.ListPendingApprovalsRequest(environment=place, page_size=1)
    token = (await world.call("dev1", "ListPendingApprovals", first)).next_page_token
    foreign = pb.ListPendingApprovalsRequest(page_token=token)
    error = await world.refused("dev1", "ListPendingApprovals", foreign)
    assert isinstance(error, PageTokenInvalid)


async def test_a_page_takes_a_constant_number_of_queries(
    world: World, db: Database, place: str, app: str
) -> None:
    actor = Actor(world.people["dev3"], "dev3", Role.DEVELOPER)
    query = PendingQuery(PageRequest(100), environment=place)
    await policy(world, place)
    counts = []
    for number in (2, 8):
        await wanted(world, f"{app}n{number}", place, number)
        with statements_sent(db) as seen:
            page = await pending.page(db, query, actor)
        counts.append((len(page.entries), len(seen)))
    (few, before), (many, after) = counts
    assert (few, many) == (2, 10)
    assert before == after
