"""Runbooks: drafts and versions, what came of working with them, and which are suggested."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
import pytest_asyncio
from google.protobuf.json_format import MessageToDict
from google.protobuf.timestamp_pb2 import Timestamp
from release_manager.catalog.v1 import catalog_pb2 as pb
from release_manager.deployment.v1 import deployment_pb2

from shared.errors import (
    ResourceArchived,
    ResourceExists,
    ResourceNotFound,
    ResourceReferenced,
    RunbookLacks,
    ValidationFailed,
)
from tests.rpc.catalog.calls import Catalog, fresh
from tests.rpc.catalog.conftest import entries
from tests.rpc.catalog.test_releases import deploy
from tests.support.platform import Platform
from tests.support.programs import execute

pytestmark = pytest.mark.asyncio(loop_scope="session")

SUCCEEDED, FAILED = pb.RUNBOOK_OUTCOME_SUCCEEDED, pb.RUNBOOK_OUTCOME_FAILED


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def catalog(platform: Platform) -> Catalog:
    return Catalog(platform)


def moment(ago: timedelta) -> Timestamp:
    """Return the time so long ago, to the microsecond."""
    made = Timestamp()
    made.FromDatetime(datetime.now(UTC) - ago)
    return made


async def ran(catalog: Catalog, runbook: Any, outcome: int = SUCCEEDED, **fields: Any) -> Any:
    """Record an execution and return it."""
    answer = await catalog.call(
        "RecordRunbookExecution", "dev1", runbook=runbook.id, outcome=outcome, **fields
    )
    return answer.execution


async def test_a_runbook_is_drafted_and_published_again_and_again(catalog: Catalog) -> None:
    title, place = fresh(), "Dev"
    made = await catalog.make("runbook", "dev1", title=title, content="One", tags=["a"])
    assert (made.version, made.has_draft, made.HasField("published_at")) == (0, False, False)
    drafted = await catalog.do("Update", "runbook", made.id, content="Two")
    assert (drafted.version, drafted.content, drafted.etag) == (0, "Two", "2")

    first = await catalog.do("Publish", "runbook", made.id, etag="2")
    assert (first.version, first.content, first.etag) == (1, "Two", "3")
    assert first.HasField("published_at")
    assert isinstance(await catalog.refused("PublishRunbook", runbook=made.id), RunbookLacks)

    begun = await catalog.do("Update", "runbook", made.id, content="Three", environment=place)
    assert (begun.version, begun.content, begun.has_draft, begun.etag) == (1, "Two", True, "4")
    more = await catalog.do("Update", "runbook", made.id, title=f"{title} new", tags=["b"])
    assert (more.title, list(more.tags), more.has_draft, more.etag) == (title, ["a"], True, "5")
    assert await catalog.get("runbook", made.id) == more
    draft = await catalog.get("runbook", made.id, draft=True)
    told = (draft.title, draft.content, list(draft.tags), draft.environment, draft.version)
    assert told == (f"{title} new", "Three", ["b"], place, 0)

    second = await catalog.do("Publish", "runbook", made.id)
    told = (second.title, second.content, list(second.tags), second.environment, second.version)
    assert told == (f"{title} new", "Three", ["b"], place, 2)
    assert (second.has_draft, second.etag) == (False, "6")
    assert await catalog.get("runbook", made.id) == second
    old = await catalog.get("runbook", made.id, version=1)
    assert (old.title, old.content, list(old.tags), old.environment) == (title, "Two", ["a"], "")
    for asked, what in (({"version": 3}, "version 3"), ({"draft": True}, "draft")):
        error = await catalog.refused("GetRunbook", runbook=made.id, **asked)
        assert isinstance(error, RunbookLacks)
        assert error.facts["what"] == what
    log = [entry.action for entry in await entries(catalog.platform, "runbook", made.id)]
    assert log == ["create", "update", "publish", "update", "update", "publish"]


async def test_versions_are_listed_from_the_draft_to_the_oldest(catalog: Catalog) -> None:
    made = await catalog.make("runbook", "dev1", content="0")
    for number in range(1, 4):
        await catalog.do("Publish", "runbook", made.id, "dev2")
        await catalog.do(
            "Update", "runbook", made.id, ("dev1", "dev3")[number % 2], content=str(number)
        )
    for size in (1, 2, 50):
        versions = await catalog.listed("RunbookVersions", runbook=made.id, page_size=size)
        assert [one.version for one in versions] == [0, 3, 2, 1]
        assert [one.content for one in versions] == ["3", "2", "1", "0"]
    assert [one.created_by for one in versions] == ["dev3", "dev1", "dev3", "dev1"]
    assert [one.HasField("published_at") for one in versions] == [False, True, True, True]
    error = await catalog.refused("ListRunbookVersions", runbook=str(uuid4()))
    assert isinstance(error, ResourceNotFound)


async def test_the_entry_of_a_draft_tells_what_changed_in_it(catalog: Catalog) -> None:
    made = await catalog.make("runbook", content="One")
    await catalog.do("Publish", "runbook", made.id)
    await catalog.do("Update", "runbook", made.id, content="Two")
    last = (await entries(catalog.platform, "runbook", made.id))[-1]
    details = MessageToDict(last.details)
    told = {name: details[name] for name in ("draft", "before", "after")}
    assert told == {"draft": True, "before": {"content": "One"}, "after": {"content": "Two"}}


async def test_a_draft_equal_to_the_published_version_changes_nothing(catalog: Catalog) -> None:
    made = await catalog.make("runbook", content="One")
    published = await catalog.do("Publish", "runbook", made.id)
    answer = await catalog.call("UpdateRunbook", runbook=made.id, content="One")
    assert (answer.runbook, list(answer.audit.event_ids)) == (published, [])
    await catalog.do("Update", "runbook", made.id, content="Two")
    back = await catalog.do("Update", "runbook", made.id, content="One")
    assert (back.has_draft, back.etag) == (True, "4")


async def test_a_title_can_be_taken_until_it_is_published(catalog: Catalog) -> None:
    first, second, title = fresh(), fresh(), fresh()
    one = await catalog.make("runbook", title=first)
    two = await catalog.make("runbook", title=second)
    for runbook in (one, two):
        await catalog.do("Publish", "runbook", runbook.id)
        await catalog.do("Update", "runbook", runbook.id, title=title)
    await catalog.do("Publish", "runbook", one.id)
    error = await catalog.refused("PublishRunbook", runbook=two.id)
    assert isinstance(error, ResourceExists)
    assert error.facts == {"resource_type": "runbook", "resource": title}
    error = await catalog.refused("UpdateRunbook", runbook=two.id, title=title.upper(), content="x")
    assert isinstance(error, ResourceExists)
    await catalog.make("runbook", title=first)
    await catalog.make("runbook", title=title, service="gateway")


async def test_what_was_published_is_not_deleted(catalog: Catalog) -> None:
    made = await catalog.make("runbook")
    await catalog.do("Publish", "runbook", made.id)
    error = await catalog.refused("DeleteRunbook", runbook=made.id)
    assert isinstance(error, ResourceReferenced)
    assert error.facts["resource"] == made.title


async def test_an_environment_of_a_draft_can_be_taken_away(catalog: Catalog) -> None:
    made = await catalog.make("runbook", environment="Prod")
    changed = await catalog.do("Update", "runbook", made.id, mask=["environment"])
    assert (changed.environment, changed.environment_id) == ("", "")
    await catalog.do("Update", "runbook", made.id, mask=["tags"], tags=["b", "a"])
    assert list((await catalog.get("runbook", made.id)).tags) == ["b", "a"]


async def test_an_execution_is_of_the_published_version(catalog: Catalog) -> None:
    made = await catalog.make("runbook")
    error = await catalog.refused("RecordRunbookExecution", runbook=made.id, outcome=FAILED)
    assert isinstance(error, RunbookLacks)
    assert error.facts["what"] == "published version"
    await catalog.do("Publish", "runbook", made.id)
    started, finished = moment(timedelta(hours=2)), moment(timedelta(hours=1))
    times = {"started_at": started, "finished_at": finished}
    execution = await ran(catalog, made, FAILED, environment="PROD", notes="It was DNS", **times)
    assert (execution.version, execution.outcome, execution.notes) == (1, FAILED, "It was DNS")
    assert (execution.started_at, execution.finished_at) == (started, finished)
    assert execution.executed_by == "dev1"
    assert execution.environment_id
    assert await catalog.listed("RunbookExecutions", runbook=made.id) == [execution]
    last = (await entries(catalog.platform, "runbook", made.id))[-1]
    assert (last.action, last.aggregate_seq) == ("execute", 3)
    details = MessageToDict(last.details)
    assert (details["execution_id"], details["outcome"]) == (execution.id, "failed")
    assert (await catalog.get("runbook", made.id)).etag == "3"
    await catalog.do("Archive", "runbook", made.id)
    error = await catalog.refused("RecordRunbookExecution", runbook=made.id, outcome=FAILED)
    assert isinstance(error, ResourceArchived)


async def test_an_execution_is_in_the_past_and_ends_after_it_begins(catalog: Catalog) -> None:
    made = await catalog.make("runbook")
    await catalog.do("Publish", "runbook", made.id)
    hour = timedelta(hours=1)
    for times, field in (
        ({"started_at": moment(-hour)}, "started_at"),
        ({"finished_at": moment(-hour)}, "finished_at"),
        ({"started_at": moment(hour), "finished_at": moment(2 * hour)}, "started_at"),
        ({"started_at": moment(-2 * hour), "finished_at": moment(-hour)}, "finished_at"),
    ):
        error = await catalog.refused(
            "RecordRunbookExecution", runbook=made.id, outcome=SUCCEEDED, **times
        )
        assert isinstance(error, ValidationFailed)
        assert [violation.field for violation in error.fields] == [field]
    short = await ran(catalog, made)
    assert short.started_at == short.finished_at
    long_ago = Timestamp(seconds=-62_135_596_800)  # the first that a message can hold
    assert (await ran(catalog, made, started_at=long_ago)).started_at.ToMicroseconds() == (
        long_ago.ToMicroseconds() + 1
    )
    begun = await ran(catalog, made, started_at=moment(hour))
    assert begun.started_at.ToNanoseconds() < begun.finished_at.ToNanoseconds()


async def test_an_execution_is_about_a_deployment_of_its_service(catalog: Catalog) -> None:
    service, foreign = await catalog.make("service"), await catalog.make("service")
    made = await catalog.make("runbook", service=service.name)
    await catalog.do("Publish", "runbook", made.id)
    own, other = [
        await deploy(catalog, await catalog.published(one.name, "1.0.0"))
        for one in (service, foreign)
    ]
    for deployment in (other, str(uuid4())):
        error = await catalog.refused(
            "RecordRunbookExecution", runbook=made.id, outcome=FAILED, deployment_id=deployment
        )
        assert isinstance(error, ResourceNotFound)
        assert error.facts == {"resource_type": "deployment", "resource": deployment}
    about = await ran(catalog, made, deployment_id=own)
    plain = await ran(catalog, made)
    assert about.deployment_id == own
    assert await catalog.listed("RunbookExecutions", deployment_id=own) == [about]
    assert await catalog.listed("RunbookExecutions", service=service.name) == [plain, about]
    both = await catalog.listed("RunbookExecutions", runbook=made.id, page_size=1)
    assert both == [plain, about]
    assert await catalog.listed("RunbookExecutions", service=foreign.name) == []


async def suggested(catalog: Catalog, **asked: Any) -> list[Any]:
    """Return suggestions."""
    return list((await catalog.call("SuggestRunbooks", "viewer1", **asked)).suggestions)


async def test_suggestions_fit_and_say_why(catalog: Catalog) -> None:
    service = (await catalog.make("service")).name
    facts: tuple[tuple[str, str, list[str], bool], ...] = (
        ("anywhere", "", [], True),
        ("proven", "", [], True),
        ("failing", "", [], True),
        ("here", "Prod", [], True),
        ("tagged", "", ["smoke_test"], True),
        ("both", "Prod", ["smoke_test", "x"], True),
        ("elsewhere", "Dev", ["smoke_test"], True),
        ("draft", "Prod", ["smoke_test"], False),
        ("put away", "Prod", ["smoke_test"], True),
    )
    made = {}
    for title, environment, tags, published in facts:
        given = {"title": title, "environment": environment, "tags": tags}
        made[title] = await catalog.make("runbook", service=service, **given)
        if published:
            await catalog.do("Publish", "runbook", made[title].id)
    await catalog.do("Archive", "runbook", made["put away"].id)
    for title, outcomes in (("proven", [SUCCEEDED] * 2 + [FAILED]), ("failing", [FAILED])):
        for outcome in outcomes:
            await ran(catalog, made[title], outcome)
    asked = {"service": service, "environment": "prod", "stage": "smoke_test"}
    found = await suggested(catalog, **asked)
    titles = [one.runbook.title for one in found]
    assert titles == ["both", "tagged", "here", "proven", "anywhere", "failing"]
    why = {one.runbook.title: one.because for one in found}
    assert why["both"] == (f"It is for {service} in Prod and has the tag of the stage, smoke_test.")
    assert why["anywhere"] == f"It is for {service} in every environment."
    counts = {one.runbook.title: (one.recent_successes, one.recent_executions) for one in found}
    assert (counts["proven"], counts["failing"], counts["here"]) == ((2, 3), (0, 1), (0, 0))
    assert {one.runbook.content for one in found} == {"Stay calm."}
    anywhere = [one.runbook.title for one in await suggested(catalog, service=service)]
    assert "elsewhere" in anywhere
    assert "draft" not in anywhere


async def test_at_most_ten_are_suggested_and_twenty_executions_count(catalog: Catalog) -> None:
    service = (await catalog.make("service")).name
    for number in range(12):
        made = await catalog.make("runbook", service=service, title=f"Number {number:02}")
        await catalog.do("Publish", "runbook", made.id)
    for number in range(22):
        await ran(catalog, made, SUCCEEDED if number else FAILED)
    found = await suggested(catalog, service=service)
    assert len(found) == 10
    assert (found[0].recent_successes, found[0].recent_executions) == (20, 20)
    assert found[0].runbook.id == made.id


async def test_a_failed_deployment_brings_its_service_environment_and_stage(
    catalog: Catalog,
) -> None:
    service = await catalog.make("service")
    release = await catalog.published(service.name, "1.0.0")
    how = {"metadata": await catalog.platform.person("admin")}
    answer = await catalog.platform.deployment.PromoteRelease(
        deployment_pb2.PromoteReleaseRequest(release=release.name, environment="Dev"), **how
    )
    deployment = answer.deployment.id
    stages = await catalog.platform.deployment.ListPipelineStages(
        deployment_pb2.ListPipelineStagesRequest(deployment=deployment), **how
    )
    stage = stages.pipeline_stages[0].name
    for title, tags in (("general", []), ("of the stage", [stage])):
        made = await catalog.make("runbook", service=service.name, title=title, tags=tags)
        await catalog.do("Publish", "runbook", made.id)
    before = await suggested(catalog, deployment_id=deployment)
    assert "tag" not in before[0].because
    await execute(
        catalog.platform.database_url,
        "UPDATE pipeline_stages SET status = 'failed', started_at = now(), completed_at = now()"
        " WHERE deployment_id = $1 AND name = $2",
        deployment,
        stage,
    )
    first, second = await suggested(catalog, deployment_id=deployment)
    assert (first.runbook.title, second.runbook.title) == ("of the stage", "general")
    assert stage in first.because


async def test_suggestions_are_for_something(catalog: Catalog) -> None:
    for fields in ({}, {"service": "auth", "deployment_id": str(uuid4())}):
        error = await catalog.refused("SuggestRunbooks", **fields)
        assert isinstance(error, ValidationFailed)
    for fields, kind in (
        ({"service": "nothing"}, "service"),
        ({"service": "auth", "environment": "nothing"}, "environment"),
        ({"deployment_id": str(uuid4())}, "deployment"),
    ):
        error = await catalog.refused("SuggestRunbooks", **fields)
        assert isinstance(error, ResourceNotFound)
        assert error.facts["resource_type"] == kind


async def test_an_execution_is_recorded_once_and_never_by_a_rehearsal(catalog: Catalog) -> None:
    made = await catalog.make("runbook")
    await catalog.do("Publish", "runbook", made.id)
    await ran(catalog, made, validate_only=True)
    assert await catalog.listed("RunbookExecutions", runbook=made.id) == []
    request_id = str(uuid4())
    first, again = [await ran(catalog, made, request_id=request_id) for _ in range(2)]
    assert first == again
    assert await catalog.listed("RunbookExecutions", runbook=made.id) == [first]
