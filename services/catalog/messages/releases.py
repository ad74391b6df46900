"""Between the messages of releases and the values of this service."""

from release_manager.catalog.v1 import catalog_pb2 as pb

from services.catalog.messages.times import moment, timestamp
from services.catalog.operations.changing import Update
from services.catalog.operations.releases import (
    Comparison,
    NewRelease,
    Publication,
    ReleaseChoice,
)
from services.catalog.rules.releases import Content
from services.catalog.rules.resources import Release, ReleaseStatus
from services.catalog.store.reading import Listing
from shared.rpc.masks import changed_fields

STATUS = "RELEASE_STATUS_"


def new_release(request: pb.CreateReleaseRequest) -> NewRelease:
    """Return the release that a request describes."""
    return NewRelease(
        service=request.service,
        version=request.version,
        commit_sha=request.commit,
        commit_time=moment(request.commit_time) if request.HasField("commit_time") else None,
        artifact_digest=request.artifact_digest,
        notes=request.notes,
        irreversible=request.irreversible,
    )


def publication(request: pb.PublishReleaseRequest) -> Publication:
    """Return what a request asks to publish."""
    irreversible = request.irreversible if request.HasField("irreversible") else None
    return Publication(
        release=request.release,
        content=Content(
            request.commit,
            request.artifact_digest,
            irreversible,
            moment(request.commit_time) if request.HasField("commit_time") else None,
        ),
        etag=request.etag,
    )


def release_update(request: pb.UpdateReleaseRequest) -> Update:
    """Return what a request asks to change; raises ValidationFailed for its mask."""
    values = changed_fields(request)
    if "commit" in values:
        values["commit_sha"] = values.pop("commit")
    if "commit_time" in values:
        sent = request.HasField("commit_time")
        values["commit_time"] = moment(request.commit_time) if sent else None
    return Update(request.release, values, request.etag)


def release_choice(request: pb.ListReleasesRequest) -> ReleaseChoice:
    """Return which releases a request asks for by names and choices."""
    name = pb.ReleaseStatus.Name(request.status).removeprefix(STATUS).lower()
    status = ReleaseStatus(name) if request.status else None
    return ReleaseChoice(service=request.service, status=status)


def listing(request: pb.ListReleasesRequest) -> Listing:
    """Return which releases a request asks for by expression, and in which order."""
    return Listing(request.filter, request.order_by, request.show_archived)


def release(value: Release) -> pb.Release:
    """Return a release as a message."""
    return pb.Release(
        id=str(value.id),
        service_id=str(value.service_id),
        service=value.service,
        version=value.version,
        status=pb.ReleaseStatus.Value(STATUS + value.status.upper()),
        commit=value.commit_sha,
        artifact_digest=value.artifact_digest,
        notes=value.notes,
        irreversible=value.irreversible,
        created_by_id=str(value.created_by),
        created_by=value.author,
        published_at=timestamp(value.published_at),
        name=value.name,
        etag=str(value.row_version),
        created_at=timestamp(value.created_at),
        updated_at=timestamp(value.updated_at),
        archived_at=timestamp(value.archived_at),
        commit_time=timestamp(value.commit_time),
    )


def release_created(value: Release) -> pb.CreateReleaseResponse:
    """Return the answer to a new release."""
    return pb.CreateReleaseResponse(release=release(value))


def release_published(value: Release) -> pb.PublishReleaseResponse:
    """Return the answer to a publication."""
    return pb.PublishReleaseResponse(release=release(value))


def release_updated(value: Release) -> pb.UpdateReleaseResponse:
    """Return the answer to a change."""
    return pb.UpdateReleaseResponse(release=release(value))


def release_abandoned(value: Release) -> pb.AbandonReleaseResponse:
    """Return the answer to abandoning."""
    return pb.AbandonReleaseResponse(release=release(value))


def release_archived(value: Release) -> pb.ArchiveReleaseResponse:
    """Return the answer to archiving."""
    return pb.ArchiveReleaseResponse(release=release(value))


def release_unarchived(value: Release) -> pb.UnarchiveReleaseResponse:
    """Return the answer to taking out of the archive."""
    return pb.UnarchiveReleaseResponse(release=release(value))


def release_deleted(_: None) -> pb.DeleteReleaseResponse:
    """Return the answer to a deletion."""
    return pb.DeleteReleaseResponse()


def comparison(value: Comparison) -> pb.CompareReleasesResponse:
    """Return what lies between two releases as a message."""
    return pb.CompareReleasesResponse(
        backwards=value.backwards,
        releases=map(release, value.releases),
        total=value.total,
        irreversible=value.irreversible,
    )
