"""Between the messages of service accounts and their tokens and the values of this service."""

from datetime import timedelta
from uuid import UUID

from release_manager.identity.v1 import identity_pb2 as pb

from services.catalog.messages.times import timestamp
from services.catalog.messages_identity.users import role
from services.catalog.operations.api_tokens import (
    IssuedApiToken,
    NewApiToken,
    RotatedApiToken,
    Rotation,
)
from services.catalog.operations.changing import Update
from services.catalog.operations.service_accounts import NewServiceAccount
from services.catalog.rules.resources import ApiToken, ServiceAccount
from shared.identity.actor import Role, caller
from shared.rpc.masks import changed_fields

DEFAULT_VALID_DAYS = 90
DEFAULT_OVERLAP_HOURS = 24


def new_service_account(request: pb.CreateServiceAccountRequest) -> NewServiceAccount:
    """Return the service account that a request describes."""
    return NewServiceAccount(
        name=request.name,
        description=request.description,
        owner=request.owner,
        role=Role(request.role),
        scopes=tuple(request.scopes),
    )


def service_account_update(request: pb.UpdateServiceAccountRequest) -> Update:
    """Return what a request asks to change; raises ValidationFailed for its mask."""
    values = changed_fields(request, required=("owner", "role"))
    if "role" in values:
        values["role"] = Role(values["role"]).stored
    return Update(request.service_account, values, request.etag)


def service_account(value: ServiceAccount) -> pb.ServiceAccount:
    """Return a service account as a message."""
    return pb.ServiceAccount(
        id=str(value.id),
        name=value.name,
        description=value.description,
        user_id=str(value.user_id),
        owner_id=str(value.owner_id),
        owner=value.owner,
        role=role(value.role),
        scopes=value.scopes,
        active=value.active,
        etag=str(value.row_version),
        created_at=timestamp(value.created_at),
        updated_at=timestamp(value.updated_at),
    )


def service_account_created(value: ServiceAccount) -> pb.CreateServiceAccountResponse:
    """Return the answer to a new service account."""
    return pb.CreateServiceAccountResponse(service_account=service_account(value))


def service_account_updated(value: ServiceAccount) -> pb.UpdateServiceAccountResponse:
    """Return the answer to a change."""
    return pb.UpdateServiceAccountResponse(service_account=service_account(value))


def service_account_deactivated(value: ServiceAccount) -> pb.DeactivateServiceAccountResponse:
    """Return the answer to a deactivation."""
    return pb.DeactivateServiceAccountResponse(service_account=service_account(value))


def service_account_reactivated(value: ServiceAccount) -> pb.ReactivateServiceAccountResponse:
    """Return the answer to a reactivation."""
    return pb.ReactivateServiceAccountResponse(service_account=service_account(value))


def new_api_token(request: pb.CreateApiTokenRequest) -> NewApiToken:
    """Return the API token that a request describes, made by the caller."""
    return NewApiToken(
        service_account=request.service_account,
        description=request.description,
        valid_for=timedelta(days=request.valid_days or DEFAULT_VALID_DAYS),
        created_by=caller().user_id,
    )


def rotation(request: pb.RotateApiTokenRequest) -> Rotation:
    """Return the rotation that a request describes, made by the caller."""
    given = request.HasField("overlap_hours")
    hours = request.overlap_hours if given else DEFAULT_OVERLAP_HOURS
    return Rotation(
        token_id=UUID(request.api_token_id),
        valid_for=timedelta(days=request.valid_days or DEFAULT_VALID_DAYS),
        overlap=timedelta(hours=hours),
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


def api_token_rotated(rotated: RotatedApiToken) -> pb.RotateApiTokenResponse:
    """Return the answer that alone shows the new API token."""
    return pb.RotateApiTokenResponse(
        api_token=api_token(rotated.issued.stored),
        token=rotated.issued.secret.text,
        replaced=api_token(rotated.replaced),
    )


def api_token_rotation_rehearsed(rotated: RotatedApiToken) -> pb.RotateApiTokenResponse:
    """Return the answer to a token that was not stored, and would be good for nothing."""
    return pb.RotateApiTokenResponse(
        api_token=api_token(rotated.issued.stored), replaced=api_token(rotated.replaced)
    )
