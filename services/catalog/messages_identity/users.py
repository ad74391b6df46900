"""Between the messages of users and the values of this service."""

from release_manager.common.v1 import access_pb2
from release_manager.identity.v1 import identity_pb2 as pb

from services.catalog.messages.times import timestamp
from services.catalog.operations.changing import Update
from services.catalog.operations.people import NewUser
from services.catalog.operations.users import UserFilter
from services.catalog.rules.resources import User
from services.catalog.store.reading import Listing
from shared.identity.actor import Actor, ActorKind, Role
from shared.rpc.masks import changed_fields

_KINDS = {ActorKind.PERSON: pb.USER_KIND_PERSON, ActorKind.SERVICE: pb.USER_KIND_SERVICE}
_ACTOR_KINDS = {number: kind for kind, number in _KINDS.items()}


def user(value: User) -> pb.User:
    """Return a user as a message."""
    return pb.User(
        id=str(value.id),
        username=value.username,
        email=value.email,
        full_name=value.full_name,
        role=role(value.role),
        active=value.active,
        kind=_KINDS[ActorKind(value.kind)],
        team_id=str(value.team_id or ""),
        team=value.team or "",
        etag=str(value.row_version),
        created_at=timestamp(value.created_at),
        updated_at=timestamp(value.updated_at),
        password_change_required=value.password_change_required,
    )


def role(stored: str) -> access_pb2.Role.ValueType:
    """Return the number of a role that the database spells `stored`."""
    return access_pb2.Role.Value(f"ROLE_{stored.upper()}")


def user_filter(request: pb.ListUsersRequest) -> UserFilter:
    """Return which users a request asks for."""
    return UserFilter(
        team=request.team,
        role=Role(request.role) if request.role else None,
        kind=_ACTOR_KINDS.get(request.kind),
        active=request.active if request.HasField("active") else None,
        listing=Listing(request.filter, request.order_by),
    )


def new_user(request: pb.CreateUserRequest, password_hash: str) -> NewUser:
    """Return the person that a request describes."""
    return NewUser(
        username=request.username,
        email=request.email,
        full_name=request.full_name,
        role=Role(request.role),
        team=request.team,
        password_hash=password_hash,
    )


def user_update(request: pb.UpdateUserRequest) -> Update:
    """Return what a request asks to change; raises ValidationFailed for its mask."""
    values = changed_fields(request, required=("email", "role"))
    if "role" in values:
        values["role"] = Role(values["role"]).stored
    return Update(request.user, values, request.etag)


def user_created(value: User) -> pb.CreateUserResponse:
    """Return the answer to a new user."""
    return pb.CreateUserResponse(user=user(value))


def user_updated(value: User) -> pb.UpdateUserResponse:
    """Return the answer to a change."""
    return pb.UpdateUserResponse(user=user(value))


def user_deactivated(value: User) -> pb.DeactivateUserResponse:
    """Return the answer to a deactivation."""
    return pb.DeactivateUserResponse(user=user(value))


def user_reactivated(value: User) -> pb.ReactivateUserResponse:
    """Return the answer to a reactivation."""
    return pb.ReactivateUserResponse(user=user(value))


def password_reset(value: User) -> pb.ResetPasswordResponse:
    """Return the answer to a new first password."""
    return pb.ResetPasswordResponse(user=user(value))


def user_deleted(_: None) -> pb.DeleteUserResponse:
    """Return the answer to a deletion."""
    return pb.DeleteUserResponse()


def who_am_i(actor: Actor, value: User) -> pb.WhoAmIResponse:
    """Return who the caller is and what it may do."""
    return pb.WhoAmIResponse(
        user=user(value),
        scopes=sorted(actor.scopes),
        on_behalf_of=str(actor.on_behalf_of or ""),
    )
