"""Between the messages of services and the values of this service."""

from release_manager.catalog.v1 import catalog_pb2 as pb

from services.catalog.messages.times import timestamp
from services.catalog.operations.services import NewService, ServiceFilter
from services.catalog.rules.resources import Service, ServiceLifecycle, ServiceTier

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
    )


def service_filter(request: pb.ListServicesRequest) -> ServiceFilter:
    """Return which services a request asks for."""
    return ServiceFilter(
        team=request.team,
        owner=request.owner,
        tier=ServiceTier(request.tier) if request.tier else None,
        lifecycle=_lifecycle(request.lifecycle),
    )


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
    )


def service_created(value: Service) -> pb.CreateServiceResponse:
    """Return the answer to a new service."""
    return pb.CreateServiceResponse(service=service(value))


def _lifecycle(number: pb.ServiceLifecycle.ValueType) -> ServiceLifecycle | None:
    name = pb.ServiceLifecycle.Name(number).removeprefix(LIFECYCLE).lower()
    return ServiceLifecycle(name) if number else None
