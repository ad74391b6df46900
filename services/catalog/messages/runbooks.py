"""Between the messages of runbooks and the values of this service."""

from release_manager.catalog.v1 import catalog_pb2 as pb

from services.catalog.messages.times import timestamp
from services.catalog.operations.runbooks import NewRunbook, RunbookFilter
from services.catalog.rules.resources import Runbook


def new_runbook(request: pb.CreateRunbookRequest) -> NewRunbook:
    """Return the runbook that a request describes."""
    return NewRunbook(
        service=request.service,
        environment=request.environment,
        title=request.title,
        content=request.content,
        tags=tuple(request.tags),
    )


def runbook_filter(request: pb.ListRunbooksRequest) -> RunbookFilter:
    """Return which runbooks a request asks for."""
    return RunbookFilter(service=request.service, environment=request.environment, tag=request.tag)


def runbook(value: Runbook) -> pb.Runbook:
    """Return a runbook as a message."""
    return pb.Runbook(
        id=str(value.id),
        service_id=str(value.service_id),
        service=value.service,
        environment_id=str(value.environment_id or ""),
        environment=value.environment or "",
        title=value.title,
        content=value.content,
        tags=value.tags,
        created_by_id=str(value.created_by),
        created_by=value.author,
        etag=str(value.row_version),
        created_at=timestamp(value.created_at),
        updated_at=timestamp(value.updated_at),
    )


def runbook_created(value: Runbook) -> pb.CreateRunbookResponse:
    """Return the answer to a new runbook."""
    return pb.CreateRunbookResponse(runbook=runbook(value))
