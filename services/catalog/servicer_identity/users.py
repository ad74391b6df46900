"""The RPCs of users: convert, call, convert."""

from release_manager.identity.v1 import identity_pb2 as pb

from services.catalog.messages_identity import users as messages
from services.catalog.operations import passwords, people, users
from services.catalog.servicer_identity.rpcs import Context, Rpcs


class UserRpcs(Rpcs):
    """Manages people."""

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

    async def BatchGetUsers(
        self, request: pb.BatchGetUsersRequest, _: Context
    ) -> pb.BatchGetUsersResponse:
        """Return several users."""
        found = await users.each(self._db, request.users)
        return pb.BatchGetUsersResponse(users=map(messages.user, found))

    async def CreateUser(self, request: pb.CreateUserRequest, _: Context) -> pb.CreateUserResponse:
        """Create a person."""
        hashed = await passwords.hash_of(
            self._passwords,
            request.password,
            username=request.username,
            email=request.email,
            rehearsal=request.validate_only,
        )
        new = messages.new_user(request, hashed)
        return await self._changes.answer(
            request,
            pb.CreateUserResponse,
            lambda change: people.create(change, new),
            messages.user_created,
        )

    async def UpdateUser(self, request: pb.UpdateUserRequest, _: Context) -> pb.UpdateUserResponse:
        """Change a person."""
        wanted = messages.user_update(request)
        return await self._changes.answer(
            request,
            pb.UpdateUserResponse,
            lambda change: people.update(change, wanted),
            messages.user_updated,
        )

    async def DeactivateUser(
        self, request: pb.DeactivateUserRequest, _: Context
    ) -> pb.DeactivateUserResponse:
        """Deactivate a person."""
        return await self._changes.answer(
            request,
            pb.DeactivateUserResponse,
            lambda change: people.deactivate(change, request.user, request.etag),
            messages.user_deactivated,
        )

    async def ReactivateUser(
        self, request: pb.ReactivateUserRequest, _: Context
    ) -> pb.ReactivateUserResponse:
        """Let a person log in again."""
        return await self._changes.answer(
            request,
            pb.ReactivateUserResponse,
            lambda change: people.reactivate(change, request.user, request.etag),
            messages.user_reactivated,
        )

    async def ResetPassword(
        self, request: pb.ResetPasswordRequest, _: Context
    ) -> pb.ResetPasswordResponse:
        """Give a person a new first password."""
        hashed = await passwords.hash_for(
            self._db,
            self._passwords,
            request.user,
            request.password,
            rehearsal=request.validate_only,
        )
        return await self._changes.answer(
            request,
            pb.ResetPasswordResponse,
            lambda change: passwords.reset(change, request.user, hashed),
            messages.password_reset,
        )

    async def DeleteUser(self, request: pb.DeleteUserRequest, _: Context) -> pb.DeleteUserResponse:
        """Delete a person."""
        return await self._changes.answer(
            request,
            pb.DeleteUserResponse,
            lambda change: people.delete(change, request.user, request.etag),
            messages.user_deleted,
        )
