"""Filters and orders of the lists of deployments, approvals and rollbacks."""

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
import pytest_asyncio
from release_manager.deployment.v1 import deployment_pb2 as pb

from docs.generate import FOLDER
from services.deployment.store.fields import APPROVALS, DEPLOYMENTS, ROLLBACKS
from shared.db.filtering import Fields
from shared.errors import ExpressionInvalid, PageTokenInvalid
from tests.support.deployments import World

pytestmark = pytest.mark.asyncio(loop_scope="session")


@dataclass
class Past:
    """What was done: v1 completed, v2 failed and undone by a rollback, v3 waits for Staging."""

    first: pb.Deployment
    failed: pb.Deployment
    back: pb.Deployment
    waiting: pb.Deployment

    def names(self, found: Any) -> list[str]:
        """Return what a list has, by the names of the fields here."""
        known = {one.id: name for name, one in vars(self).items()}
        return [known[entry.id] for entry in found]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def past(world: World) -> AsyncIterator[Past]:
    for number in (1, 2, 3):
        await world.release(f"filtered@{number}")
    first = await world.deployed("filtered@1")
    failed = await world.create("filtered@2", "dev", "dev2")
    await world.start(failed.id)
    await world.finish(failed.id, "failed")
    back = (await world.roll_back(failed.id)).deployment
    await world.run_stages(back.id, "deploy", "smoke_test")
    await world.deployed(await world.release("other@1"))
    waiting = await world.create("filtered@1", "staging", "dev3")
    await world.approve(waiting.id, "lead1")
    yield Past(first, failed, back, waiting)


FILTERS = {
    "status = ROLLED_BACK OR status = PENDING": ["waiting", "failed"],
    "NOT status = COMPLETED": ["waiting", "failed"],
    "kind = ROLLBACK": ["back"],
    'release = "filtered@1" AND environment = dev': ["back", "first"],
    'release != "filtered@1"': ["failed"],
    'release = "filtered@77"': [],
    'team = "Team filtered" AND environment_type = STAGING': ["waiting"],
    'digest = "SHA256:filtered2"': ["failed"],
    "deployed_by = dev2 OR deployed_by = dev3": ["waiting", "failed"],
    "failure_class = FAILED AND failure_cause = REPORTED": ["failed"],
    "NOT failure_class = FAILED": ["waiting", "back", "first"],
    "rollback_of:*": ["back"],
    "rolled_back_by:*": ["failed"],
    "superseded_by:*": [],
    "NOT started_at:*": ["waiting"],
    'deployed_at > "2020-01-01T00:00:00Z" AND completed_at:*': ["back", "failed", "first"],
    'started_at < "2020-01-01T00:00:00Z"': [],
}


@pytest.mark.parametrize(("text", "names"), FILTERS.items(), ids=list(FILTERS))
async def test_deployments_pass_a_filter(
    world: World, past: Past, text: str, names: list[str]
) -> None:
    request = pb.ListDeploymentsRequest(service="filtered", filter=text)
    found = await world.call("viewer1", "ListDeployments", request)
    assert past.names(found.deployments) == names


async def test_deployments_are_found_by_who_undid_them(world: World, past: Past) -> None:
    for text, name in (
        (f'rolled_back_by = "{past.back.id}"', "failed"),
        (f'rollback_of = "{past.failed.id}"', "back"),
        (f'release = "{past.failed.release_id}"', "failed"),
    ):
        request = pb.ListDeploymentsRequest(filter=text)
        found = await world.call("viewer1", "ListDeployments", request)
        assert past.names(found.deployments) == [name]


@pytest.mark.parametrize(
    ("order", "names"),
    [
        ("deployed_at", ["first", "failed", "back", "waiting"]),
        ("deployed_at desc", ["waiting", "back", "failed", "first"]),
        ("started_at", ["waiting", "first", "failed", "back"]),
        ("completed_at desc, deployed_at", ["back", "failed", "first", "waiting"]),
    ],
)
async def test_deployments_come_in_an_order_on_every_page(
    world: World, past: Past, order: str, names: list[str]
) -> None:
    request = pb.ListDeploymentsRequest(service="filtered", order_by=order, page_size=1)
    found: list[Any] = []
    while True:
        page = await world.call("viewer1", "ListDeployments", request)
        found += page.deployments
        request.page_token = page.next_page_token
        if not page.next_page_token:
            break
    assert past.names(found) == names


async def test_a_token_belongs_to_its_filter_and_order(world: World, past: Past) -> None:
    usual: dict[str, Any] = {"service": "filtered", "filter": "NOT kind = ROLLBACK", "page_size": 1}
    first = pb.ListDeploymentsRequest(**usual)
    page = await world.call("viewer1", "ListDeployments", first)
    assert past.names(page.deployments) == ["waiting"]
    for change in ({"filter": "kind = ROLLBACK"}, {"order_by": "deployed_at"}):
        other = pb.ListDeploymentsRequest(**(usual | change), page_token=page.next_page_token)
        error = await world.refused("viewer1", "ListDeployments", other)
        assert isinstance(error, PageTokenInvalid)


async def test_approvals_and_rollbacks_pass_a_filter(world: World, past: Past) -> None:
    for text, many in (
        ("service = filtered AND environment = staging AND status = APPROVED", 1),
        (f'deployment = "{past.waiting.id}" AND approver = lead1 AND decided_at:*', 1),
        ("service = filtered AND NOT decided_at:*", 0),
    ):
        asked = pb.ListApprovalsRequest(filter=text, order_by="created_at")
        approvals = (await world.call("viewer1", "ListApprovals", asked)).approvals
        assert len(approvals) == many, text
    for text, many in (
        ('service = filtered AND team = "Team filtered" AND status = COMPLETED', 1),
        (f'deployment = "{past.failed.id}" AND initiated_by = dev1 AND completed_at:*', 1),
        ("service = filtered AND environment_type = PROD", 0),
    ):
        wanted = pb.ListRollbacksRequest(filter=text, order_by="created_at desc")
        rollbacks = (await world.call("viewer1", "ListRollbacks", wanted)).rollbacks
        assert len(rollbacks) == many, text


@pytest.mark.parametrize(
    ("method", "field", "text"),
    [
        ("ListDeployments", "filter", "approval_status = PENDING"),
        ("ListDeployments", "filter", "release = filtered"),
        ("ListDeployments", "filter", "release > filtered@1"),
        ("ListDeployments", "filter", "rollback_of = nothing"),
        ("ListDeployments", "filter", "status = DONE"),
        ("ListDeployments", "order_by", "status"),
        ("ListApprovals", "filter", "comment = yes"),
        ("ListApprovals", "order_by", "decided_at"),
        ("ListRollbacks", "filter", "reason : x"),
        ("ListRollbacks", "order_by", "completed_at"),
    ],
)
async def test_what_is_not_known_is_refused(
    world: World, method: str, field: str, text: str
) -> None:
    request = getattr(pb, f"{method}Request")(**{field: text})
    error = await world.refused("viewer1", method, request)
    assert isinstance(error, ExpressionInvalid)
    assert error.facts["field"] == field


@pytest.mark.parametrize(
    ("method", "fields"),
    [("Deployments", DEPLOYMENTS), ("Approvals", APPROVALS), ("Rollbacks", ROLLBACKS)],
    ids=["deployments", "approvals", "rollbacks"],
)
async def test_the_page_names_every_field(method: str, fields: Fields) -> None:
    page = (FOLDER / "filters.md").read_text(encoding="utf-8")
    section = page.split("## Fields of deployments\n")[1].split("\n## ")[0]
    (row,) = (line for line in section.splitlines() if line.startswith(f"| `List{method}`"))
    _, _, filters, orders, _ = row.split("|")
    assert re.findall(r"`(\w+)`", filters) == list(fields.filters)
    assert re.findall(r"`(\w+)`", orders) == list(fields.orders)
