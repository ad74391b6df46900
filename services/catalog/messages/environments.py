"""Between the messages of environments and the values of this service."""

from release_manager.catalog.v1 import catalog_pb2 as pb

from services.catalog.messages.times import timestamp
from services.catalog.operations.environments import NewEnvironment
from services.catalog.rules.resources import Environment, EnvironmentType

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
    )


def environment_created(value: Environment) -> pb.CreateEnvironmentResponse:
    """Return the answer to a new environment."""
    return pb.CreateEnvironmentResponse(environment=environment(value))
