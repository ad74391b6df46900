"""Between the messages of marks and the values of this service."""

from release_manager.deployment.v1 import deployment_pb2 as pb

from services.deployment.messages_ids import id_text
from services.deployment.messages_times import timestamp
from services.deployment.operations.marks import Mark, MarksQuery
from services.deployment.store.marks import MarkRow
from shared.db.keyset import PageRequest


def named(request: pb.MarkReleaseBadRequest | pb.ClearReleaseBadRequest) -> Mark:
    """Return the mark that a request makes or takes away."""
    return Mark(request.release, request.environment, request.reason)


def marks(request: pb.ListReleaseMarksRequest, page: PageRequest) -> MarksQuery:
    """Return which marks a request asks for."""
    return MarksQuery(
        page=page,
        release=request.release,
        service=request.service,
        environment=request.environment,
        also_cleared=request.show_cleared,
    )


def mark(value: MarkRow) -> pb.ReleaseMark:
    """Return a mark."""
    return pb.ReleaseMark(
        id=str(value.id),
        release_id=str(value.release_id),
        release=f"{value.service}@{value.version}",
        environment_id=id_text(value.environment_id),
        environment=value.environment or "",
        reason=value.reason,
        marked_by_id=str(value.marked_by),
        marked_by=value.marked_by_name,
        deployment_id=id_text(value.deployment_id),
        created_at=timestamp(value.created_at),
        cleared_at=timestamp(value.cleared_at),
        cleared_by=value.cleared_by_name or "",
        cleared_because=value.cleared_because or "",
    )


def marked(value: MarkRow) -> pb.MarkReleaseBadResponse:
    """Answer MarkReleaseBad."""
    return pb.MarkReleaseBadResponse(mark=mark(value))


def cleared(value: MarkRow) -> pb.ClearReleaseBadResponse:
    """Answer ClearReleaseBad."""
    return pb.ClearReleaseBadResponse(mark=mark(value))
