"""Reading: views, lists and the board, each in a number of queries that does not grow."""

from collections.abc import AsyncIterator, Callable
from typing import Any
from uuid import UUID

import pytest
import pytest_asyncio
from google.protobuf.message import Message
from release_manager.deployment.v1 import deployment_pb2 as pb

from services.deployment.operations import board, details, inspect
from services.deployment.operations.board import BoardQuery
from services.deployment.operations.details import Depth
from services.deployment.operations.inspect import DeploymentsQuery
from shared.db.engine import Database
from shared.db.keyset import PageRequest
from shared.errors import PageTokenInvalid, ResourceNotFound
from shared.ids import new_id
from tests.support.deployments import STAGES, World
from tests.support.plans import statements_sent

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def db(world: World) -> AsyncIterator[Database]:
    """The database as the service reads it."""
    found = Database(world.database_url, role="rm_deployment", application_name="reading")
    yield found
    await found.close()


async def test_a_view_says_how_much_to_return(world: World, app: str) -> None:
    made = await world.promote(await world.release(f"{app}@1"), "dev")
    figures = [
        pb.NewDeploymentMetric(name="error_rate", value=0.25, unit="%"),
        pb.NewDeploymentMetric(name="duration", value=12.5, unit="s"),
    ]
    request = pb.RecordDeploymentMetricsRequest(deployment=made.id, metrics=figures)
    recorded = await world.call("dev1", "RecordDeploymentMetrics", request)
    assert [metric.name for metric in recorded.metrics] == ["error_rate", "duration"]
    basic, stages, full = [await world.get(made.id, view) for view in ("BASIC", "STAGES", "FULL")]
    assert not basic.stages
    assert [stage.name for stage in stages.stages] == list(STAGES)
    assert not stages.metrics
    assert {metric.name: metric.value for metric in full.metrics} == {
        "error_rate": 0.25,
        "duration": 12.5,
    }
    assert full.etag == "2"
    one = pb.GetDeploymentMetricRequest(deployment_metric=recorded.metrics[0].id)
    answer = await world.call("viewer1", "GetDeploymentMetric", one)
    assert answer.deployment_metric == recorded.metrics[0]


async def test_views_take_a_constant_number_of_queries(
    world: World, db: Database, app: str
) -> None:
    await world.deployed(await world.release(f"{app}@1"))
    waiting = await world.create(f"{app}@1", "staging")
    for depth, most in ((Depth.ALONE, 3), (Depth.STAGES, 4), (Depth.EVERYTHING, 6)):
        with statements_sent(db) as seen:
            await details.read(db, UUID(waiting.id), depth)
        assert len(seen) <= most, seen


async def test_lists_take_a_constant_number_of_queries(
    world: World, db: Database, app: str
) -> None:
    async def count(read: Callable[[], Any]) -> int:
        with statements_sent(db) as seen:
            await read()
        return len(seen)

    reads = (
        lambda: inspect.deployments(db, DeploymentsQuery(PageRequest(100))),
        lambda: board.cells(db, BoardQuery(PageRequest(100))),
    )
    await world.deployed(await world.release(f"{app}@1"))
    before = [await count(read) for read in reads]
    for number in range(2, 6):
        await world.deployed(await world.release(f"{app}@{number}"))
        await world.create(f"{app}@{number}", "staging")
    assert [await count(read) for read in reads] == before
    assert before == [4, 5]


async def test_pages_follow_one_another(world: World, app: str) -> None:
    for number in range(5):
        await world.deployed(await world.release(f"{app}@{number}"))
    seen: list[str] = []
    request = pb.ListDeploymentsRequest(service=app.upper(), environment="DEV", page_size=2)
    while True:
        page = await world.call("viewer1", "ListDeployments", request)
        seen += [found.release for found in page.deployments]
        request.page_token = page.next_page_token
        if not page.next_page_token:
            break
    assert seen == [f"{app}@{number}" for number in reversed(range(5))]
    first = await world.call("viewer1", "ListDeployments", pb.ListDeploymentsRequest(page_size=2))
    foreign = pb.ListDeploymentsRequest(service=app, page_token=first.next_page_token)
    assert isinstance(await world.refused("viewer1", "ListDeployments", foreign), PageTokenInvalid)


async def test_lists_filter(world: World, app: str) -> None:
    release = await world.release(f"{app}@1")
    done = await world.deployed(release)
    for request in (
        pb.ListDeploymentsRequest(release=release),
        pb.ListDeploymentsRequest(service=app, status=pb.DEPLOYMENT_STATUS_COMPLETED),
        pb.ListDeploymentsRequest(service=app, kind=pb.DEPLOYMENT_KIND_DEPLOY),
        pb.ListDeploymentsRequest(service=app, deployed_by="DEV1"),
    ):
        found = await world.call("viewer1", "ListDeployments", request)
        assert [entry.id for entry in found.deployments] == [done.id]
    nothing = pb.ListDeploymentsRequest(service=app, status=pb.DEPLOYMENT_STATUS_FAILED)
    assert not (await world.call("viewer1", "ListDeployments", nothing)).deployments


async def test_stages_are_listed_in_their_order_without_output(world: World, app: str) -> None:
    made = await world.promote(await world.release(f"{app}@1"), "dev")
    report = pb.UpdatePipelineStageRequest(
        deployment=made.id, stage="build", status=pb.STAGE_STATUS_COMPLETED, output="built"
    )
    stage = (await world.call("dev1", "UpdatePipelineStage", report)).stage
    request = pb.ListPipelineStagesRequest(deployment=made.id, page_size=3)
    page = await world.call("viewer1", "ListPipelineStages", request)
    assert [entry.order for entry in page.pipeline_stages] == [1, 2, 3]
    assert page.pipeline_stages[0].output == ""
    request.page_token = page.next_page_token
    rest = await world.call("viewer1", "ListPipelineStages", request)
    assert [entry.name for entry in rest.pipeline_stages] == ["deploy", "smoke_test"]
    one = pb.GetPipelineStageRequest(pipeline_stage=stage.id)
    assert (await world.call("viewer1", "GetPipelineStage", one)).pipeline_stage.output == "built"


async def test_what_is_not_there_is_said_by_name(world: World) -> None:
    missing = str(new_id())
    status = pb.GetEnvironmentStatusRequest(service=missing, environment="dev")
    reads: list[tuple[str, Message]] = [
        ("GetDeployment", pb.GetDeploymentRequest(deployment=missing)),
        ("GetApproval", pb.GetApprovalRequest(approval=missing)),
        ("GetRollback", pb.GetRollbackRequest(rollback=missing)),
        ("GetPipelineStage", pb.GetPipelineStageRequest(pipeline_stage=missing)),
        ("GetDeploymentMetric", pb.GetDeploymentMetricRequest(deployment_metric=missing)),
        ("ListPipelineStages", pb.ListPipelineStagesRequest(deployment=missing)),
        ("ListDeployments", pb.ListDeploymentsRequest(service=missing)),
        ("ListRollbacks", pb.ListRollbacksRequest(environment=missing)),
        ("ListApprovals", pb.ListApprovalsRequest(approver=missing)),
        ("GetEnvironmentStatus", status),
    ]
    for method, request in reads:
        error = await world.refused("viewer1", method, request)
        assert isinstance(error, ResourceNotFound), method
        assert error.facts["resource"] == missing
    changes: list[tuple[str, Message]] = [
        ("StartDeployment", pb.StartDeploymentRequest(deployment=missing)),
        ("ExecuteRollback", pb.ExecuteRollbackRequest(deployment=missing, reason="gone")),
        ("CreateDeployment", pb.CreateDeploymentRequest(release="x@1", environment="dev")),
        ("PromoteRelease", pb.PromoteReleaseRequest(release="not-a-release", environment="dev")),
    ]
    for method, request in changes:
        assert isinstance(await world.refused("dev1", method, request), ResourceNotFound), method


async def test_the_board_tells_what_runs(world: World, app: str) -> None:
    async def cell() -> pb.EnvironmentStatus:
        request = pb.GetEnvironmentStatusRequest(service=app, environment="dev")
        answer: pb.GetEnvironmentStatusResponse = await world.call(
            "viewer1", "GetEnvironmentStatus", request
        )
        return answer.status

    first, second = await world.release(f"{app}@1"), await world.release(f"{app}@2")
    assert (await cell()).health == pb.HEALTH_NOTHING_DEPLOYED
    done = await world.deployed(first)
    healthy = await cell()
    assert healthy.health == pb.HEALTH_HEALTHY
    assert healthy.live_release == first
    assert healthy.live_deployment_id == done.id
    made = await world.promote(second, "dev")
    assert list((await cell()).pending_deployment_ids) == [made.id]
    await world.run_stages(made.id, "build", "test", "security_scan")
    deploying = await cell()
    assert deploying.health == pb.HEALTH_DEPLOYING
    assert deploying.target_release == second
    await world.stage(made.id, "deploy", "failed")
    broken = await cell()
    assert broken.health == pb.HEALTH_DEGRADED
    assert broken.last_failed_deployment_id == made.id
    rollback = await world.roll_back(made.id)
    back = await cell()
    assert back.health == pb.HEALTH_ROLLING_BACK
    assert back.target_release == first
    assert back.live_release == first
    await world.run_stages(rollback.deployment.id, "deploy", "smoke_test")
    mended = await cell()
    assert mended.health == pb.HEALTH_HEALTHY
    assert mended.live_deployment_id == rollback.deployment.id


async def test_the_board_is_ordered_and_paged(world: World, app: str) -> None:
    await world.deployed(await world.release(f"{app}@1"))
    await world.create(f"{app}@1", "staging")
    request = pb.ListEnvironmentStatusesRequest(service=app, page_size=1)
    first = await world.call("viewer1", "ListEnvironmentStatuses", request)
    request.page_token = first.next_page_token
    second = await world.call("viewer1", "ListEnvironmentStatuses", request)
    places = [first.statuses[0].environment, second.statuses[0].environment]
    assert places == ["Dev", "Staging"]
    assert not second.next_page_token


async def test_the_ledger_has_everything(world: World, app: str) -> None:
    await world.deployed(await world.release(f"{app}@1"))
    answer = await world.call("admin", "ReconcileAudit", pb.ReconcileAuditRequest())
    assert answer.aggregates > 0
    assert answer.missing == 0
    for aggregate, sequences in world.ledger.sequences().items():
        assert sequences == list(range(1, len(sequences) + 1)), aggregate


async def test_a_rehearsal_stores_nothing(world: World, app: str) -> None:
    release = await world.release(f"{app}@1")
    request = pb.PromoteReleaseRequest(release=release, environment="dev", validate_only=True)
    answer = await world.call("dev1", "PromoteRelease", request)
    assert len(answer.deployment.stages) == 5
    assert not answer.audit.event_ids
    kept = await world.database.fetchrow(
        "SELECT (SELECT count(*) FROM deployments WHERE service_id = $1), status FROM releases"
        " WHERE service_id = $1",
        world.services[app],
    )
    assert kept is not None
    assert tuple(kept) == (0, "published")
