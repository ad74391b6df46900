"""Output of stages as wire messages, and what requests ask of it."""

from uuid import UUID

from release_manager.deployment.v1 import output_pb2 as pb

from services.deployment.operations.outputs import Piece, Taken
from services.deployment.operations.tailing import Part, TailQuery
from shared.ids import parse_id


def piece(request: pb.AppendStageOutputRequest) -> Piece:
    """Return what a request appends."""
    return Piece(
        deployment_id=UUID(request.deployment),
        stage=request.stage,
        offset=request.offset,
        text=request.text,
        lease_token=UUID(request.lease_token) if request.lease_token else None,
    )


def taken(value: Taken) -> pb.AppendStageOutputResponse:
    """Answer AppendStageOutput."""
    return pb.AppendStageOutputResponse(attempt=value.attempt, next_offset=value.size)


def tail(request: pb.TailStageOutputRequest, caller: UUID) -> TailQuery:
    """Return which output a request asks for."""
    return TailQuery(
        caller=caller,
        stage=parse_id(request.stage) or request.stage,
        deployment_id=UUID(request.deployment) if request.deployment else None,
        attempt=request.attempt,
        start=request.from_offset,
        follow=request.follow,
    )


def part(value: Part) -> pb.TailStageOutputResponse:
    """Return a message of the stream."""
    return pb.TailStageOutputResponse(
        text=value.window.content.decode(),
        offset=value.window.start,
        next_offset=value.window.end,
        attempt=value.attempt,
        complete=value.complete,
    )
