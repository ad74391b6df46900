"""A valid request for every RPC of the identity service; changes are only rehearsed."""

from google.protobuf.message import Message
from release_manager.common.v1 import access_pb2
from release_manager.identity.v1 import identity_pb2 as identity

from tests.support.platform import PASSWORD
from tests.support.things_made import Made

NEW_PASSWORD = "words that nobody tries"


def identity_requests(made: Made, session_id: str) -> dict[str, Message]:
    """Return a request that each method accepts, by its name; `session_id` is that of a session."""
    return _sessions(session_id) | _users(made) | _changed_users() | _accounts(made) | _tokens(made)


def _sessions(session_id: str) -> dict[str, Message]:
    return {
        "Login": identity.LoginRequest(username="viewer2", password=PASSWORD),
        "Refresh": identity.RefreshRequest(refresh_token="a" * 43),
        "Logout": identity.LogoutRequest(),
        "WhoAmI": identity.WhoAmIRequest(),
        # It cannot be rehearsed; let a program ask, which has no password.
        "ChangePassword": identity.ChangePasswordRequest(
            current_password=PASSWORD, new_password=NEW_PASSWORD
        ),
        "ListSessions": identity.ListSessionsRequest(),
        "RevokeSession": identity.RevokeSessionRequest(session_id=session_id, validate_only=True),
    }


def _users(made: Made) -> dict[str, Message]:
    return {
        "GetUser": identity.GetUserRequest(user="dev1"),
        "ListUsers": identity.ListUsersRequest(),
        "BatchGetUsers": identity.BatchGetUsersRequest(users=["dev1", "lead1"]),
        "CreateUser": identity.CreateUserRequest(
            username="corpus-new",
            email="corpus@example.com",
            role=access_pb2.ROLE_VIEWER,
            team="Platform",
            password=NEW_PASSWORD,
            validate_only=True,
        ),
        "DeleteUser": identity.DeleteUserRequest(user=made.unused.user, validate_only=True),
    }


def _changed_users() -> dict[str, Message]:
    return {
        "UpdateUser": identity.UpdateUserRequest(user="dev3", full_name="Dee", validate_only=True),
        "DeactivateUser": identity.DeactivateUserRequest(user="dev3", validate_only=True),
        "ReactivateUser": identity.ReactivateUserRequest(user="dev3", validate_only=True),
        "ResetPassword": identity.ResetPasswordRequest(
            user="dev3", password=NEW_PASSWORD, validate_only=True
        ),
    }


def _accounts(made: Made) -> dict[str, Message]:
    account = made.account
    return {
        "CreateServiceAccount": identity.CreateServiceAccountRequest(
            name="corpus-program", owner="dev1", role=access_pb2.ROLE_VIEWER, validate_only=True
        ),
        "GetServiceAccount": identity.GetServiceAccountRequest(service_account=account),
        "ListServiceAccounts": identity.ListServiceAccountsRequest(),
        "UpdateServiceAccount": identity.UpdateServiceAccountRequest(
            service_account=account, description="For the corpus", validate_only=True
        ),
        "DeactivateServiceAccount": identity.DeactivateServiceAccountRequest(
            service_account=account, validate_only=True
        ),
        "ReactivateServiceAccount": identity.ReactivateServiceAccountRequest(
            service_account=account, validate_only=True
        ),
    }


def _tokens(made: Made) -> dict[str, Message]:
    return {
        "CreateApiToken": identity.CreateApiTokenRequest(
            service_account=made.account, description="rehearsal", validate_only=True
        ),
        "ListApiTokens": identity.ListApiTokensRequest(service_account=made.account),
        "RevokeApiToken": identity.RevokeApiTokenRequest(
            api_token_id=made.token, validate_only=True
        ),
        "RotateApiToken": identity.RotateApiTokenRequest(
            api_token_id=made.token, validate_only=True
        ),
    }
