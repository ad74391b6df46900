"""Between the messages of environments and the values of this service."""

from release_manager.catalog.v1 import catalog_pb2 as pb

from services.catalog.messages.times import timestamp
from services.catalog.operations.changing import Update
from services.catalog.operations.environments import NewEnvironment
from services.catalog.rules.resources import Environment, EnvironmentType
from services.catalog.store.reading import Listing
from shared.rpc.masks import changed_fields

TYPE = "ENVIRONMENT_TYPE_"


def new_environment(request: pb.CreateEnvironmentRequest) -> NewEnvironment:
    """Return the environment that a request describes; its type is validated to be there."""
    return NewEnvironment(
        name=request.name,
        environment_type=environment_type(request.type) or EnvironmentType.DEV,
        promotion_order=request.promotion_order,
        description=request.description,
    )


def environment_type(number: pb.EnvironmentType.ValueType) -> EnvironmentType | None:
    """Return the type behind a number, None for unspecified."""
    name = pb.EnvironmentType.Name(number).removeprefix(TYPE).lower()
    return EnvironmentType(name) if number else None


def environment(value: Environment) -> pb.Environment:
    """Return an environment as a message."""
    return pb.Environment(
        id=str(value.id),
        name=value.name,
        description=value.description,
        type=pb.EnvironmentType.Value(TYPE + value.environment_type.upper()),
        promotion_order=value.promotion_order,
        policy_version=value.policy_version,
        etag=str(value.row_version),
        created_at=timestamp(value.created_at),
        updated_at=timestamp(value.updated_at),
        archived_at=timestamp(value.archived_at),
    )


def environment_update(request: pb.UpdateEnvironmentRequest) -> Update:
    """Return what a request asks to change; raises ValidationFailed for its mask."""
    values = changed_fields(request, required=("name",))
    return Update(request.environment, values, request.etag)


def listing(request: pb.ListEnvironmentsRequest) -> Listing:
    """Return which environments a request asks for, and in which order."""
    return Listing(request.filter, request.order_by, request.show_archived)


def environment_created(value: Environment) -> pb.CreateEnvironmentResponse:
    """Return the answer to a new environment."""
    return pb.CreateEnvironmentResponse(environment=environment(value))


def environment_updated(value: Environment) -> pb.UpdateEnvironmentResponse:
    """Return the answer to a change."""
    return pb.UpdateEnvironmentResponse(environment=environment(value))


def environment_archived(value: Environment) -> pb.ArchiveEnvironmentResponse:
    """Return the answer to archiving."""
    return pb.ArchiveEnvironmentResponse(environment=environment(value))


def environment_unarchived(value: Environment) -> pb.UnarchiveEnvironmentResponse:
    """Return the answer to taking out of the archive."""
    return pb.UnarchiveEnvironmentResponse(environment=environment(value))


def environment_deleted(_: None) -> pb.DeleteEnvironmentResponse:
    """Return the answer to a deletion."""
    return pb.DeleteEnvironmentResponse()
