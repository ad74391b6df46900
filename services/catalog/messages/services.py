"""Between the messages of services and the values of this service."""

from collections.abc import Iterable
from typing import Any

from release_manager.catalog.v1 import catalog_pb2 as pb

from services.catalog.messages.times import timestamp
from services.catalog.operations.changing import Update
from services.catalog.operations.services import Need, NewService, ServiceChoice
from services.catalog.rules.resources import Service, ServiceLifecycle, ServiceTier
from services.catalog.store.reading import Listing
from shared.rpc.masks import changed_fields

LIFECYCLE = "SERVICE_LIFECYCLE_"


def new_service(request: pb.CreateServiceRequest) -> NewService:
    """Return the service that a request describes."""
    return NewService(
        name=request.name,
        team=request.team,
        owner=request.owner,
        description=request.description,
        repository=request.repository,
        tier=ServiceTier(request.tier or ServiceTier.TIER_3),
        lifecycle=_lifecycle(request.lifecycle) or ServiceLifecycle.PRODUCTION,
        labels=dict(request.labels),
        links=_links(request.links),
        needs=_needs(request.dependencies),
    )


def service_update(request: pb.UpdateServiceRequest) -> Update:
    """Return what a request asks to change; raises ValidationFailed for its mask."""
    required = ("name", "team", "owner", "tier", "lifecycle")
    values: dict[str, Any] = changed_fields(request, required=required)
    if "tier" in values:
        values["tier"] = ServiceTier(request.tier).stored
    if "lifecycle" in values:
        values["lifecycle"] = _lifecycle(request.lifecycle)
    if "labels" in values:
        values["labels"] = dict(request.labels)
    if "links" in values:
        values["links"] = _links(request.links)
    if "dependencies" in values:
        del values["dependencies"]
        values["needs"] = _needs(request.dependencies)
    return Update(request.service, values, request.etag)


def service_choice(request: pb.ListServicesRequest) -> ServiceChoice:
    """Return which services a request asks for by names and choices."""
    return ServiceChoice(
        team=request.team,
        owner=request.owner,
        tier=ServiceTier(request.tier) if request.tier else None,
        lifecycle=_lifecycle(request.lifecycle),
    )


def listing(request: pb.ListServicesRequest) -> Listing:
    """Return which services a request asks for by expression, and in which order."""
    return Listing(request.filter, request.order_by, request.show_archived, request.query)


def service(value: Service) -> pb.Service:
    """Return a service as a message."""
    return pb.Service(
        id=str(value.id),
        name=value.name,
        description=value.description,
        team_id=str(value.team_id),
        team=value.team,
        owner_id=str(value.owner_id),
        owner=value.owner,
        repository=value.repository,
        tier=pb.ServiceTier.Value(f"SERVICE_TIER_{ServiceTier.from_stored(value.tier)}"),
        lifecycle=pb.ServiceLifecycle.Value(LIFECYCLE + value.lifecycle.upper()),
        etag=str(value.row_version),
        created_at=timestamp(value.created_at),
        updated_at=timestamp(value.updated_at),
        archived_at=timestamp(value.archived_at),
        labels=value.labels,
        links=[pb.Link(title=link["title"], url=link["url"]) for link in value.links],
        dependencies=[
            pb.ServiceDependency(
                service=needed.service,
                service_id=str(needed.service_id),
                minimum_version=needed.minimum_version,
            )
            for needed in value.dependencies
        ],
    )


def service_created(value: Service) -> pb.CreateServiceResponse:
    """Return the answer to a new service."""
    return pb.CreateServiceResponse(service=service(value))


def service_updated(value: Service) -> pb.UpdateServiceResponse:
    """Return the answer to a change."""
    return pb.UpdateServiceResponse(service=service(value))


def service_archived(value: Service) -> pb.ArchiveServiceResponse:
    """Return the answer to archiving."""
    return pb.ArchiveServiceResponse(service=service(value))


def service_unarchived(value: Service) -> pb.UnarchiveServiceResponse:
    """Return the answer to taking out of the archive."""
    return pb.UnarchiveServiceResponse(service=service(value))


def service_deleted(_: None) -> pb.DeleteServiceResponse:
    """Return the answer to a deletion."""
    return pb.DeleteServiceResponse()


def _links(links: Iterable[pb.Link]) -> tuple[dict[str, str], ...]:
    return tuple({"title": link.title, "url": link.url} for link in links)


def _needs(dependencies: Iterable[pb.ServiceDependency]) -> tuple[Need, ...]:
    return tuple(Need(needed.service, needed.minimum_version) for needed in dependencies)


def _lifecycle(number: pb.ServiceLifecycle.ValueType) -> ServiceLifecycle | None:
    name = pb.ServiceLifecycle.Name(number).removeprefix(LIFECYCLE).lower()
    return ServiceLifecycle(name) if number else None
