"""What watchers ask for and are told, as wire messages."""

from uuid import UUID

from release_manager.deployment.v1 import deployment_pb2 as pb

from services.deployment.messages_enums import KIND_WORD
from services.deployment.messages_resources import deployment
from services.deployment.messages_times import moment, timestamp
from services.deployment.operations.details import Detail
from services.deployment.watching.streams import State
from services.deployment.watching.watching import Said, Synced, WatchQuery


def watched(request: pb.WatchDeploymentsRequest, caller: UUID) -> WatchQuery:
    """Return what a request asks for."""
    return WatchQuery(
        caller=caller,
        service=request.service,
        environment=request.environment,
        release=request.release,
        deployed_by=request.deployed_by,
        kind=KIND_WORD.get(request.kind),
        deployments=tuple(map(UUID, request.deployments)),
        changed_since=moment(request, "changed_since"),
    )


def state(found: Detail) -> pb.WatchDeploymentsResponse:
    """Return the message about a deployment, which all who watch it are sent."""
    return pb.WatchDeploymentsResponse(deployment=deployment(found))


def said(told: Said) -> pb.WatchDeploymentsResponse:
    """Return the message for what a watcher is told."""
    if isinstance(told, State):
        message: pb.WatchDeploymentsResponse = told.message
        return message
    position = pb.WatchPosition(as_of=timestamp(told.as_of))
    if isinstance(told, Synced):
        return pb.WatchDeploymentsResponse(synced=position)
    return pb.WatchDeploymentsResponse(heartbeat=position)
