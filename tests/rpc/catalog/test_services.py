"""Services: labels, links, what they need of each other, and what keeps them."""

import asyncio
from typing import Any

import pytest
import pytest_asyncio
from google.protobuf.json_format import MessageToDict
from release_manager.catalog.v1 import catalog_pb2 as pb
from release_manager.deployment.v1 import deployment_pb2

from shared.errors import (
    DependencyCircle,
    ReferenceInactive,
    ResourceArchived,
    ResourceNotFound,
    ResourceReferenced,
    ValidationFailed,
)
from tests.rpc.catalog.calls import Catalog, fresh
from tests.rpc.catalog.conftest import entries
from tests.rpc.catalog.test_teams import ROUNDS, outcome
from tests.support.platform import Platform
from tests.support.programs import execute

pytestmark = pytest.mark.asyncio(loop_scope="session")

LINKS = [pb.Link(title="board", url="https://boards.example.com/a?b=c#d")]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def catalog(platform: Platform) -> Catalog:
    return Catalog(platform)


def need(service: Any, version: str = "") -> pb.ServiceDependency:
    """Return the dependency on a service."""
    return pb.ServiceDependency(service=getattr(service, "id", service), minimum_version=version)


def needed(service: Any) -> list[tuple[str, str]]:
    """Return what a service needs, as the answer says it."""
    return [(one.service, one.minimum_version) for one in service.dependencies]


async def test_a_service_is_made_with_everything(catalog: Catalog) -> None:
    other = await catalog.make("service")
    made = await catalog.make(
        "service",
        labels={"lang": "go", "team.cost-center": "", "a_b": "A_b.c-D"},
        links=LINKS,
        dependencies=[need(other.name.upper(), "1.4.0")],
    )
    assert dict(made.labels) == {"lang": "go", "team.cost-center": "", "a_b": "A_b.c-D"}
    assert (list(made.links), needed(made)) == (LINKS, [(other.name, "1.4.0")])
    assert made.dependencies[0].service_id == other.id
    assert await catalog.get("service", made.id) == made
    (entry,) = await entries(catalog.platform, "service", made.id)
    after = MessageToDict(entry.details)["after"]
    assert after["labels"]["lang"] == "go"
    assert after["dependencies"][0]["minimum_version"] == "1.4.0"


async def test_labels_links_and_needs_are_replaced_as_a_whole(catalog: Catalog) -> None:
    first, second = await catalog.make("service"), await catalog.make("service")
    made = await catalog.make(
        "service", labels={"a": "1", "b": "2"}, links=LINKS, dependencies=[need(first)]
    )
    changed = await catalog.do(
        "Update", "service", made.id, labels={"c": "3"}, dependencies=[need(second, "2")]
    )
    assert (dict(changed.labels), list(changed.links)) == ({"c": "3"}, LINKS)
    assert needed(changed) == [(second.name, "2")]
    details = MessageToDict((await entries(catalog.platform, "service", made.id))[-1].details)
    assert (details["before"]["labels"], details["after"]["labels"]) == (
        {"a": "1", "b": "2"},
        {"c": "3"},
    )
    assert [one["service"] for one in details["before"]["dependencies"]] == [first.name]
    emptied = await catalog.do(
        "Update", "service", made.id, mask=["labels", "links", "dependencies"]
    )
    assert (dict(emptied.labels), list(emptied.links), needed(emptied)) == ({}, [], [])


async def test_the_same_needs_in_another_order_change_nothing(catalog: Catalog) -> None:
    names = sorted((fresh("a-"), fresh("aa"), fresh("a0"), fresh("ab-")))
    others = [await catalog.make("service", name=name) for name in names]
    made = await catalog.make("service", dependencies=map(need, others))
    assert [name for name, _ in needed(made)] == names
    same = await catalog.do("Update", "service", made.id, dependencies=map(need, others[::-1]))
    assert same == made


async def test_what_is_wrong_with_needs_is_named(catalog: Catalog) -> None:
    made, other = await catalog.make("service"), await catalog.make("service")
    for needs, field in (
        ([need(made)], "dependencies[0].service"),
        ([need(other), need(made.name)], "dependencies[1].service"),
        ([need(other), need(other.name.upper(), "2")], "dependencies[1].service"),
    ):
        error = await catalog.refused("UpdateService", service=made.id, dependencies=needs)
        assert isinstance(error, ValidationFailed)
        assert [violation.field for violation in error.fields] == [field]
    error = await catalog.refused("UpdateService", service=made.id, dependencies=[need("no")])
    assert isinstance(error, ResourceNotFound)
    await catalog.do("Archive", "service", other.id)
    for rpc, fields in (
        ("UpdateService", {"service": made.id}),
        ("CreateService", {"name": fresh(), "team": "Platform"}),
    ):
        error = await catalog.refused(rpc, **fields, dependencies=[need(other)])
        assert isinstance(error, ResourceArchived)


async def test_needs_go_round_in_no_circle(catalog: Catalog) -> None:
    last = await catalog.make("service")
    middle = await catalog.make("service", dependencies=[need(last)])
    first = await catalog.make("service", dependencies=[need(middle), need(last)])
    error = await catalog.refused("UpdateService", service=last.id, dependencies=[need(first)])
    assert isinstance(error, DependencyCircle)
    circle = [last.name, first.name, middle.name, last.name]
    short = [last.name, first.name, last.name]
    assert error.facts["circle"].split(" > ") in (circle, short)
    assert needed(await catalog.get("service", last.id)) == []


async def test_two_changes_at_once_close_no_circle(catalog: Catalog) -> None:
    for _ in range(ROUNDS):
        one, two = await catalog.make("service"), await catalog.make("service")
        answers = await asyncio.gather(
            outcome(catalog.call("UpdateService", service=one.id, dependencies=[need(two)])),
            outcome(catalog.call("UpdateService", service=two.id, dependencies=[need(one)])),
        )
        refused = [answer for answer in answers if isinstance(answer, DependencyCircle)]
        assert len(refused) == 1, answers
        both = [await catalog.get("service", service.id) for service in (one, two)]
        assert sum(len(service.dependencies) for service in both) == 1


async def test_limits_of_labels_and_links(catalog: Catalog) -> None:
    good: dict[str, Any]
    for good in (
        {"labels": {f"k{n}": "v" * 63 for n in range(32)}},
        {"links": [pb.Link(title="t" * 63, url="http://example.com/" + "x" * 900)] * 20},
    ):
        await catalog.make("service", **good)
    for bad in (
        {"labels": {f"k{n}": "" for n in range(33)}},
        {"labels": {"Upper": "x"}},
        {"labels": {"": "x"}},
        {"labels": {"a": "two words"}},
        {"labels": {"a": "v" * 64}},
        {"links": LINKS * 21},
        {"links": [pb.Link(title="", url="https://example.com")]},
        {"links": [pb.Link(title=" ", url="https://example.com")]},
        {"links": [pb.Link(title="ftp", url="ftp://example.com")]},
        {"links": [pb.Link(title="script", url="javascript:alert(1)")]},
        {"links": [pb.Link(title="space", url="https://example.com/a b")]},
        {"dependencies": [need("a", "not a version")]},
        {"dependencies": [pb.ServiceDependency(minimum_version="1")]},
    ):
        given: dict[str, Any] = {"name": fresh(), "team": "Platform", **bad}
        assert isinstance(await catalog.refused("CreateService", **given), ValidationFailed), bad


async def test_a_service_that_is_used_is_not_deleted(catalog: Catalog) -> None:
    service = await catalog.make("service")
    dependent = await catalog.make("service", dependencies=[need(service)])
    release = await catalog.make("release", service=service.name)
    runbook = await catalog.make("runbook", service=service.name)
    seen = set()
    for kind, thing in (("service", dependent), ("release", release), ("runbook", runbook)):
        error = await catalog.refused("DeleteService", service=service.id)
        assert isinstance(error, ResourceReferenced)
        seen.add(error.facts["used_by"])
        await catalog.do("Delete", kind, thing.id)
    assert seen <= {"a release", "a runbook", "another service, which needs it"}
    await catalog.do("Delete", "service", service.id)


async def test_what_a_deleted_service_needed_is_free(catalog: Catalog) -> None:
    other = await catalog.make("service")
    service = await catalog.make("service", dependencies=[need(other)])
    await catalog.do("Delete", "service", service.id)
    await catalog.do("Delete", "service", other.id)


async def test_nothing_new_refers_to_an_archived_service(catalog: Catalog) -> None:
    service = await catalog.make("service")
    await catalog.do("Archive", "service", service.id)
    for rpc, fields in (
        ("CreateRelease", {"version": "1.0.0"}),
        ("CreateRunbook", {"title": "T", "content": "C"}),
    ):
        error = await catalog.refused(rpc, service=service.name, **fields)
        assert isinstance(error, ResourceArchived)
        assert error.facts == {"resource_type": "service", "resource": service.name}


async def test_a_service_is_not_archived_while_it_is_deployed(catalog: Catalog) -> None:
    service = await catalog.make("service")
    release = await catalog.published(service.name, "1.0.0")
    how = {"metadata": await catalog.platform.person("admin")}
    made = await catalog.platform.deployment.CreateDeployment(
        deployment_pb2.CreateDeploymentRequest(release=release.name, environment="Dev"), **how
    )
    error = await catalog.refused("ArchiveService", service=service.id)
    assert isinstance(error, ResourceReferenced)
    assert error.facts["used_by"] == "a deployment that is not finished"
    await catalog.platform.deployment.CancelDeployment(
        deployment_pb2.CancelDeploymentRequest(deployment=made.deployment.id, reason="test"), **how
    )
    assert (await catalog.do("Archive", "service", service.id)).HasField("archived_at")


async def test_an_owner_is_active_when_named_and_stays_afterwards(catalog: Catalog) -> None:
    service = await catalog.make("service", owner="viewer2")
    url = catalog.platform.database_url
    await execute(url, "UPDATE users SET active = false WHERE username = 'viewer2'")
    changed = await catalog.do("Update", "service", service.id, description="Kept")
    assert changed.owner == "viewer2"
    other = await catalog.make("service")
    error = await catalog.refused("UpdateService", service=other.id, owner="viewer2")
    assert isinstance(error, ReferenceInactive)
    moved = await catalog.do("Update", "service", service.id, owner="dev1", team="Frontend")
    assert (moved.owner, moved.team, moved.etag) == ("dev1", "Frontend", "3")
    await execute(url, "UPDATE users SET active = true WHERE username = 'viewer2'")


async def test_nothing_comes_to_refer_to_a_service_after_it_was_archived(
    catalog: Catalog, owner: Any
) -> None:
    """Events are written under the locks of their changes, so their order tells who came first."""
    for _ in range(ROUNDS):
        one, two = await catalog.make("service"), await catalog.make("service")
        archived, *others = await asyncio.gather(
            outcome(catalog.call("ArchiveService", service=one.id)),
            outcome(catalog.call("CreateRelease", service=one.id, version="1.0.0")),
            outcome(catalog.call("UpdateService", service=two.id, dependencies=[need(one)])),
        )
        assert hasattr(archived, "service"), archived
        (last,) = archived.audit.event_ids
        order = "SELECT id FROM outbox WHERE event_id = $1"
        for answer in others:
            if not isinstance(answer, ResourceArchived):
                (event,) = answer.audit.event_ids
                assert await owner.fetchval(order, event) < await owner.fetchval(order, last)
