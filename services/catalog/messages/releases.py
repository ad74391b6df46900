"""Between the messages of releases and the values of this service."""

from release_manager.catalog.v1 import catalog_pb2 as pb

from services.catalog.messages.times import timestamp
from services.catalog.operations.releases import NewRelease, Publication, ReleaseFilter
from services.catalog.rules.releases import Content
from services.catalog.rules.resources import Release, ReleaseStatus

STATUS = "RELEASE_STATUS_"


def new_release(request: pb.CreateReleaseRequest) -> NewRelease:
    """Return the release that a request describes."""
    return NewRelease(
        service=request.service,
        version=request.version,
        commit_sha=request.commit,
        artifact_digest=request.artifact_digest,
        notes=request.notes,
        irreversible=request.irreversible,
    )


def publication(request: pb.PublishReleaseRequest) -> Publication:
    """Return what a request asks to publish."""
    irreversible = request.irreversible if request.HasField("irreversible") else None
    return Publication(
        release=request.release,
        content=Content(request.commit, request.artifact_digest, irreversible),
        etag=request.etag,
    )


def release_filter(request: pb.ListReleasesRequest) -> ReleaseFilter:
    """Return which releases a request asks for."""
    name = pb.ReleaseStatus.Name(request.status).removeprefix(STATUS).lower()
    status = ReleaseStatus(name) if request.status else None
    return ReleaseFilter(service=request.service, status=status)


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
    )


def release_created(value: Release) -> pb.CreateReleaseResponse:
    """Return the answer to a new release."""
    return pb.CreateReleaseResponse(release=release(value))


def release_published(value: Release) -> pb.PublishReleaseResponse:
    """Return the answer to a publication."""
    return pb.PublishReleaseResponse(release=release(value))
