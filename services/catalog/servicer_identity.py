"""The RPCs of IdentityService: convert, call, convert."""

from typing import Any
from uuid import UUID

from grpc.aio import ServicerContext
from release_manager.identity.v1 import identity_pb2 as pb
from release_manager.identity.v1 import identity_pb2_grpc

from services.catalog import messages_identity as messages
from services.catalog.operations import api_tokens, logins, service_accounts, sessions, users
from services.catalog.operations.sessions import Sessions
from shared.db.engine import Database
from shared.identity.actor import caller
from shared.identity.passwords import Passwords
from shared.outbox.change import Changes
from shared.rpc.pages import Paging

Context = ServicerContext[Any, Any]


class IdentityServicer(identity_pb2_grpc.IdentityServiceServicer):
    """Logs people in, and manages service accounts and their tokens."""

    def __init__(
        self,
        db: Database,
        changes: Changes,
        paging: Paging,
        *,
        passwords: Passwords,
        sessions: Sessions,
    ) -> None:
        """Read from `db`, change through `changes`."""
        self._db = db
        self._changes = changes
        self._paging = paging
        self._passwords = passwords
        self._sessions = sessions

    async def Login(self, request: pb.LoginRequest, _: Context) -> pb.LoginResponse:
        """Check a password and start a session."""
        attempt = await logins.attempt(
            self._db, self._passwords, request.username, request.password
        )
        return await self._changes.answer(
            request,
            pb.LoginResponse,
            lambda change: self._sessions.open(change, attempt),
            messages.logged_in,
            remember=False,
        )

    async def Refresh(self, request: pb.RefreshRequest, _: Context) -> pb.RefreshResponse:
        """Exchange a refresh token for a new pair."""
        return await self._changes.answer(
            request,
            pb.RefreshResponse,
            lambda change: self._sessions.refresh(change, request.refresh_token),
            messages.refreshed,
            remember=False,
        )

    async def Logout(self, request: pb.LogoutRequest, _: Context) -> pb.LogoutResponse:
        """End the caller's session."""
        return await self._changes.answer(
            request, pb.LogoutResponse, sessions.end, messages.logged_out
        )

    async def WhoAmI(self, _request: pb.WhoAmIRequest, _: Context) -> pb.WhoAmIResponse:
        """Return who the caller is."""
        actor = caller()
        return messages.who_am_i(actor, await users.get(self._db, str(actor.user_id)))

    async def GetUser(self, request: pb.GetUserRequest, _: Context) -> pb.GetUserResponse:
        """Return a user."""
        found = await users.get(self._db, request.user)
        return pb.GetUserResponse(user=messages.user(found))

    async def ListUsers(self, request: pb.ListUsersRequest, _: Context) -> pb.ListUsersResponse:
        """Return a page of users."""
        wanted = messages.user_filter(request)
        page = await users.page(self._db, wanted, self._paging.wanted(request))
        return pb.ListUsersResponse(
            users=map(messages.user, page.entries),
            next_page_token=self._paging.next_token(request, page),
        )

    async def CreateServiceAccount(
        self, request: pb.CreateServiceAccountRequest, _: Context
    ) -> pb.CreateServiceAccountResponse:
        """Create a service account and its user."""
        return await self._changes.answer(
            request,
            pb.CreateServiceAccountResponse,
            lambda change: service_accounts.create(change, messages.new_service_account(request)),
            messages.service_account_created,
        )

    async def GetServiceAccount(
        self, request: pb.GetServiceAccountRequest, _: Context
    ) -> pb.GetServiceAccountResponse:
        """Return a service account."""
        found = await service_accounts.get(self._db, request.service_account)
        return pb.GetServiceAccountResponse(service_account=messages.service_account(found))

    async def ListServiceAccounts(
        self, request: pb.ListServiceAccountsRequest, _: Context
    ) -> pb.ListServiceAccountsResponse:
        """Return a page of service accounts."""
        at = self._paging.wanted(request)
        page = await service_accounts.page(self._db, request.owner, at)
        return pb.ListServiceAccountsResponse(
            service_accounts=map(messages.service_account, page.entries),
            next_page_token=self._paging.next_token(request, page),
        )

    async def CreateApiToken(
        self, request: pb.CreateApiTokenRequest, _: Context
    ) -> pb.CreateApiTokenResponse:
        """Create an API token, shown in this answer alone."""
        shown = messages.api_token_created
        return await self._changes.answer(
            request,
            pb.CreateApiTokenResponse,
            lambda change: api_tokens.create(change, messages.new_api_token(request)),
            messages.api_token_rehearsed if request.validate_only else shown,
            remember=False,
        )

    async def ListApiTokens(
        self, request: pb.ListApiTokensRequest, _: Context
    ) -> pb.ListApiTokensResponse:
        """Return a page of API tokens, without the tokens themselves."""
        at = self._paging.wanted(request)
        page = await api_tokens.page(self._db, request.service_account, at)
        return pb.ListApiTokensResponse(
            api_tokens=map(messages.api_token, page.entries),
            next_page_token=self._paging.next_token(request, page),
        )

    async def RevokeApiToken(
        self, request: pb.RevokeApiTokenRequest, _: Context
    ) -> pb.RevokeApiTokenResponse:
        """End an API token."""
        return await self._changes.answer(
            request,
            pb.RevokeApiTokenResponse,
            lambda change: api_tokens.revoke(change, UUID(request.api_token_id)),
            messages.api_token_revoked,
        )
