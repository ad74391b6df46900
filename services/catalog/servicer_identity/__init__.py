"""IdentityService: the RPCs of people, of their sessions, and of service accounts."""

from release_manager.identity.v1 import identity_pb2_grpc

from services.catalog.servicer_identity.api_tokens import ApiTokenRpcs
from services.catalog.servicer_identity.service_accounts import ServiceAccountRpcs
from services.catalog.servicer_identity.sessions import SessionRpcs
from services.catalog.servicer_identity.users import UserRpcs


class IdentityServicer(
    SessionRpcs,
    UserRpcs,
    ServiceAccountRpcs,
    ApiTokenRpcs,
    identity_pb2_grpc.IdentityServiceServicer,
):
    """Logs people in, and manages people, service accounts and their tokens."""
