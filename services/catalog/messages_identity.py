"""Between the messages of `identity.v1` and the values of this service."""

from datetime import timedelta

from release_manager.common.v1 import access_pb2
from release_manager.identity.v1 import identity_pb2 as pb

from services.catalog.messages.times import timestamp
from services.catalog.operations.api_tokens import IssuedApiToken, NewApiToken
from services.catalog.operations.service_accounts import NewServiceAccount
from services.catalog.operations.sessions import Started
from services.catalog.operations.users import UserFilter
from services.catalog.rules.resources import ApiToken, ServiceAccount, User
from shared.identity.actor import Actor, ActorKind, Role, caller

DEFAULT_VALID_DAYS = 90
_KINDS = {ActorKind.PERSON: pb.USER_KIND_PERSON, ActorKind.SERVICE: pb.USER_KIND_SERVICE}
_ACTOR_KINDS = {number: kind for kind, number in _KINDS.items()}


def user(value: User) -> pb.User:
    """Return a user as a message."""
    return pb.User(
        id=str(value.id),
        username=value.username,
        email=value.email,
        full_name=value.full_name,
        role=_role(value.role),
        active=value.active,
        kind=_KINDS[ActorKind(value.kind)],
        team_id=str(value.team_id or ""),
        team=value.team or "",
        etag=str(value.row_version),
        created_at=timestamp(value.created_at),
        updated_at=timestamp(value.updated_at),
    )


def user_filter(request: pb.ListUsersRequest) -> UserFilter:
    """Return which users a request asks for."""
    return UserFilter(
        team=request.team,
        role=Role(request.role) if request.role else None,
        kind=_ACTOR_KINDS.get(request.kind),
        active=request.active if request.HasField("active") else None,
    )


def logged_in(started: Started | None) -> pb.LoginResponse:
    """Return the answer to a log-in."""
    return pb.LoginResponse(session=_session(started))


def refreshed(started: Started | None) -> pb.RefreshResponse:
    """Return the answer to a refresh."""
    return pb.RefreshResponse(session=_session(started))


def logged_out(_: None) -> pb.LogoutResponse:
    """Return the answer to a log-out."""
    return pb.LogoutResponse()


def who_am_i(actor: Actor, value: User) -> pb.WhoAmIResponse:
    """Return who the caller is and what it may do."""
    return pb.WhoAmIResponse(
        user=user(value),
        scopes=sorted(actor.scopes),
        on_behalf_of=str(actor.on_behalf_of or ""),
    )


def new_service_account(request: pb.CreateServiceAccountRequest) -> NewServiceAccount:
    """Return the service account that a request describes."""
    return NewServiceAccount(
        name=request.name,
        description=request.description,
        owner=request.owner,
        role=Role(request.role),
        scopes=tuple(request.scopes),
    )


def service_account(value: ServiceAccount) -> pb.ServiceAccount:
    """Return a service account as a message."""
    return pb.ServiceAccount(
        id=str(value.id),
        name=value.name,
        description=value.description,
        user_id=str(value.user_id),
        owner_id=str(value.owner_id),
        owner=value.owner,
        role=_role(value.role),
        scopes=value.scopes,
        active=value.active,
        etag=str(value.row_version),
        created_at=timestamp(value.created_at),
        updated_at=timestamp(value.updated_at),
    )


def service_account_created(value: ServiceAccount) -> pb.CreateServiceAccountResponse:
    """Return the answer to a new service account."""
    return pb.CreateServiceAccountResponse(service_account=service_account(value))


def new_api_token(request: pb.CreateApiTokenRequest) -> NewApiToken:
    """Return the API token that a request describes, made by the caller."""
    return NewApiToken(
        service_account=request.service_account,
        description=request.description,
        valid_for=timedelta(days=request.valid_days or DEFAULT_VALID_DAYS),
        created_by=caller().user_id,
    )


def api_token(value: ApiToken) -> pb.ApiToken:
    """Return what is stored of an API token as a message."""
    return pb.ApiToken(
        id=str(value.id),
        service_account_id=str(value.service_account_id),
        description=value.description,
        prefix=value.prefix,
        expires_at=timestamp(value.expires_at),
        revoked_at=timestamp(value.revoked_at),
        last_used_at=timestamp(value.last_used_at),
        created_at=timestamp(value.created_at),
    )


def api_token_created(issued: IssuedApiToken) -> pb.CreateApiTokenResponse:
    """Return the answer that alone shows an API token."""
    return pb.CreateApiTokenResponse(api_token=api_token(issued.stored), token=issued.secret.text)


def api_token_rehearsed(issued: IssuedApiToken) -> pb.CreateApiTokenResponse:
    """Return the answer to a token that was not stored, and would be good for nothing."""
    return pb.CreateApiTokenResponse(api_token=api_token(issued.stored))


def api_token_revoked(value: ApiToken) -> pb.RevokeApiTokenResponse:
    """Return the answer to a revocation."""
    return pb.RevokeApiTokenResponse(api_token=api_token(value))


def _session(started: Started | None) -> pb.Session | None:
    """Return a session as a message; None for a refusal, whose answer nobody sees."""
    if started is None:
        return None
    return pb.Session(
        access_token=started.access.text,
        access_token_expires_at=timestamp(started.access.expires_at),
        refresh_token=started.refresh.text,
        refresh_token_expires_at=timestamp(started.ends_at),
        user=user(started.user),
    )


def _role(stored: str) -> access_pb2.Role.ValueType:
    return access_pb2.Role.Value(f"ROLE_{stored.upper()}")
