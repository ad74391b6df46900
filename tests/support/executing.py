"""Executors for tests: claiming, driving, and times moved in the database instead of waited for."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from google.protobuf.message import Message
from release_manager.deployment.v1 import deployment_pb2, execution_pb2

from services.deployment.operations import deadlines
from shared.domain_error import DomainError
from tests.support.deployments import World
from tests.support.polling import eventually
from tests.support.publishing import publish


@dataclass
class Executor:
    """Somebody who drives deployments of a world under a name."""

    world: World
    who: str = "dev1"
    name: str = "runner-1"

    async def claim(self, deployment: str, **more: Any) -> execution_pb2.ClaimDeploymentResponse:
        """Claim a deployment."""
        request = execution_pb2.ClaimDeploymentRequest(
            deployment=deployment, executor=self.name, **more
        )
        answer: execution_pb2.ClaimDeploymentResponse = await self.world.call(
            self.who, "ClaimDeployment", request
        )
        return answer

    async def report(
        self, deployment: str, stage: str, status: str, token: str = "", **more: Any
    ) -> deployment_pb2.UpdatePipelineStageResponse:
        """Report a stage."""
        request = stage_report(deployment, stage, status, token, **more)
        answer: deployment_pb2.UpdatePipelineStageResponse = await self.world.call(
            self.who, "UpdatePipelineStage", request
        )
        return answer

    async def refused(self, method: str, request: Message) -> DomainError:
        """Return the error with which a call is refused."""
        return await self.world.refused(self.who, method, request)


def stage_report(
    deployment: str, stage: str, status: str, token: str = "", **more: Any
) -> deployment_pb2.UpdatePipelineStageRequest:
    """Return the report that a stage is `completed`, `failed` or `in_progress`."""
    return deployment_pb2.UpdatePipelineStageRequest(
        deployment=deployment,
        stage=stage,
        status=deployment_pb2.StageStatus.Value(f"STAGE_STATUS_{status.upper()}"),
        lease_token=token,
        **more,
    )


# Otherwise what is over would stand still, as when nobody could have reported or decided: also
# when a busy machine keeps the next look waiting.
LOOKED = (
    "WITH looked AS (UPDATE deadline_watch SET looked_at = now() + interval '1 minute',"
    " stood_still_until = NULL)"
)


async def pausing(world: World, place: str, **more: Any) -> None:
    """Publish a policy in which a failed stage pauses its deployment."""
    pause = deployment_pb2.ON_FAILURE_PAUSE
    await publish(world, place, deployment_pb2.Policy(on_failure=pause, **more))


async def promoted(world: World, app: str, place: str, version: str = "1") -> str:
    """Request a deployment with stages and return its id."""
    return (await world.promote(await world.release(f"{app}@{version}"), place)).id


@asynccontextmanager
async def nobody_looks(world: World) -> AsyncIterator[None]:
    """Keep the service from looking for what is due, which it would end and note that it looked."""
    async with world.database.acquire() as looking, looking.transaction():
        await looking.execute("SELECT pg_advisory_xact_lock($1)", deadlines.LOCK)
        yield


async def lease_is_over(world: World, deployment: str) -> None:
    """Let the time of a lease be over, as far as the database knows."""
    done = await world.database.execute(
        f"{LOOKED} UPDATE deployment_leases SET expires_at = now() - interval '1 second'"
        " WHERE deployment_id = $1",
        deployment,
    )
    assert done == "UPDATE 1"


async def overdue_since_all_were_away(world: World, deployment: str) -> None:
    """Let the time of a lease be over while nobody has looked for long, as after an outage.

    It is so until somebody looks: see `nobody_looks`.
    """
    done = await world.database.execute(
        "WITH away AS (UPDATE deadline_watch SET looked_at = now() - interval '1 hour')"
        " UPDATE deployment_leases SET expires_at = now() - interval '1 second'"
        " WHERE deployment_id = $1",
        deployment,
    )
    assert done == "UPDATE 1"


async def deadline_is_over(world: World, deployment: str) -> None:
    """Let the present status of a deployment have lasted for too long."""
    done = await world.database.execute(
        f"{LOOKED} UPDATE deployments SET deadline = now() - interval '1 second'"
        " WHERE id = $1 AND deadline IS NOT NULL",
        deployment,
    )
    assert done == "UPDATE 1"


async def stage_deadline_is_over(world: World, deployment: str, stage: str) -> None:
    """Let a stage have run for too long."""
    done = await world.database.execute(
        f"{LOOKED} UPDATE pipeline_stages SET deadline = now() - interval '1 second'"
        " WHERE deployment_id = $1 AND name = $2 AND deadline IS NOT NULL",
        deployment,
        stage,
    )
    assert done == "UPDATE 1"


async def becomes(world: World, deployment: str, status: str) -> deployment_pb2.Deployment:
    """Wait until a deployment is in a status, as nobody calls."""
    wanted = deployment_pb2.DeploymentStatus.Value(f"DEPLOYMENT_STATUS_{status}")

    async def in_it() -> deployment_pb2.Deployment | None:
        found = await world.get(deployment)
        return found if found.status == wanted else None

    return await eventually(in_it, 60, 0.2)


async def told_of(world: World, deployment: str) -> list[tuple[str, dict[str, Any]]]:
    """Return the action and the details of each entry about a deployment, in their order."""
    rows = await world.database.fetch(
        "SELECT event FROM outbox WHERE aggregate = $1 ORDER BY aggregate_seq",
        f"deployment:{deployment}",
    )
    events = [json.loads(row["event"]) for row in rows]
    return [(event["action"], event["details"]) for event in events]
