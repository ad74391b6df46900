"""Between the messages of runbooks and the values of this service."""

from typing import Any

from release_manager.catalog.v1 import catalog_pb2 as pb

from services.catalog.messages.times import timestamp
from services.catalog.operations.changing import Update
from services.catalog.operations.runbooks import NewRunbook, RunbookChoice
from services.catalog.rules.resources import Runbook, RunbookVersion
from services.catalog.store.reading import Listing
from shared.rpc.masks import changed_fields


def new_runbook(request: pb.CreateRunbookRequest) -> NewRunbook:
    """Return the runbook that a request describes."""
    return NewRunbook(
        service=request.service,
        environment=request.environment,
        title=request.title,
        content=request.content,
        tags=tuple(request.tags),
    )


def runbook_update(request: pb.UpdateRunbookRequest) -> Update:
    """Return what a request asks to change; raises ValidationFailed for its mask."""
    values: dict[str, Any] = changed_fields(request, required=("title", "content"))
    if "tags" in values:
        values["tags"] = tuple(request.tags)
    return Update(request.runbook, values, request.etag)


def runbook_choice(request: pb.ListRunbooksRequest) -> RunbookChoice:
    """Return which runbooks a request asks for by names and choices."""
    return RunbookChoice(service=request.service, environment=request.environment, tag=request.tag)


def listing(request: pb.ListRunbooksRequest) -> Listing:
    """Return which runbooks a request asks for by expression, and in which order."""
    return Listing(request.filter, request.order_by, request.show_archived, request.query)


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
        archived_at=timestamp(value.archived_at),
        version=value.version,
        has_draft=value.has_draft,
        published_at=timestamp(value.published_at),
    )


def runbook_created(value: Runbook) -> pb.CreateRunbookResponse:
    """Return the answer to a new runbook."""
    return pb.CreateRunbookResponse(runbook=runbook(value))


def runbook_updated(value: Runbook) -> pb.UpdateRunbookResponse:
    """Return the answer to a change."""
    return pb.UpdateRunbookResponse(runbook=runbook(value))


def runbook_published(value: Runbook) -> pb.PublishRunbookResponse:
    """Return the answer to publishing."""
    return pb.PublishRunbookResponse(runbook=runbook(value))


def runbook_archived(value: Runbook) -> pb.ArchiveRunbookResponse:
    """Return the answer to archiving."""
    return pb.ArchiveRunbookResponse(runbook=runbook(value))


def runbook_unarchived(value: Runbook) -> pb.UnarchiveRunbookResponse:
    """Return the answer to taking out of the archive."""
    return pb.UnarchiveRunbookResponse(runbook=runbook(value))


def runbook_deleted(_: None) -> pb.DeleteRunbookResponse:
    """Return the answer to a deletion."""
    return pb.DeleteRunbookResponse()


def version(value: RunbookVersion) -> pb.RunbookVersion:
    """Return a version of a runbook as a message."""
    return pb.RunbookVersion(
        runbook_id=str(value.runbook_id),
        version=value.version,
        title=value.title,
        content=value.content,
        tags=value.tags,
        created_by_id=str(value.created_by),
        created_by=value.author,
        created_at=timestamp(value.created_at),
        published_at=timestamp(value.published_at),
    )
