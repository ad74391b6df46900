"""The RPCs of sessions: convert, call, convert."""

from functools import partial
from uuid import UUID

from release_manager.identity.v1 import identity_pb2 as pb

from services.catalog.messages_identity import sessions as messages
from services.catalog.messages_identity.users import who_am_i
from services.catalog.operations import sessions, users
from services.catalog.servicer_identity.rpcs import Context, Rpcs
from shared.identity.actor import caller


class SessionRpcs(Rpcs):
    """Logs people in and out, and lets them change their passwords."""

    async def Login(self, request: pb.LoginRequest, _: Context) -> pb.LoginResponse:
        """Check a password and start a session."""
        attempt = await self._log_ins.attempt(request.username, request.password)
        async with attempt.refused_in_step():
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
        return who_am_i(actor, await users.get(self._db, str(actor.user_id)))

    async def ChangePassword(
        self, request: pb.ChangePasswordRequest, _: Context
    ) -> pb.ChangePasswordResponse:
        """Change the caller's password."""
        attempt, hashed = await self._password_change.attempt(
            caller(), request.current_password, request.new_password
        )
        return await self._changes.answer(
            request,
            pb.ChangePasswordResponse,
            lambda change: self._password_change.store(change, attempt, hashed),
            messages.password_changed,
            remember=False,
        )

    async def ListSessions(
        self, request: pb.ListSessionsRequest, _: Context
    ) -> pb.ListSessionsResponse:
        """Return a page of sessions."""
        actor, at = caller(), self._paging.wanted(request)
        page = await self._sessions.page(self._db, actor, request.user, at)
        lifetime = self._sessions.lifetime
        shown = partial(messages.session, lifetime=lifetime, actor=actor)
        return pb.ListSessionsResponse(
            sessions=map(shown, page.entries),
            next_page_token=self._paging.next_token(request, page),
        )

    async def RevokeSession(
        self, request: pb.RevokeSessionRequest, _: Context
    ) -> pb.RevokeSessionResponse:
        """End a session."""
        return await self._changes.answer(
            request,
            pb.RevokeSessionResponse,
            lambda change: sessions.revoke(change, UUID(request.session_id)),
            messages.session_revoked,
        )
