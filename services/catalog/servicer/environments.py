"""The RPCs of environments: convert, call, convert."""

from release_manager.catalog.v1 import catalog_pb2 as pb

from services.catalog.messages import environments as messages
from services.catalog.operations import environments
from shared.outbox.rpcs import Context, Rpcs


class EnvironmentRpcs(Rpcs):
    """Manages environments."""

    async def CreateEnvironment(
        self, request: pb.CreateEnvironmentRequest, _: Context
    ) -> pb.CreateEnvironmentResponse:
        """Create an environment."""
        return await self._changes.answer(
            request,
            pb.CreateEnvironmentResponse,
            lambda change: environments.create(change, messages.new_environment(request)),
            messages.environment_created,
        )

    async def GetEnvironment(
        self, request: pb.GetEnvironmentRequest, _: Context
    ) -> pb.GetEnvironmentResponse:
        """Return an environment."""
        found = await environments.get(self._db, request.environment)
        return pb.GetEnvironmentResponse(environment=messages.environment(found))

    async def ListEnvironments(
        self, request: pb.ListEnvironmentsRequest, _: Context
    ) -> pb.ListEnvironmentsResponse:
        """Return a page of environments."""
        page = await environments.page(
            self._db,
            messages.environment_type(request.type),
            messages.listing(request),
            self._paging.wanted(request),
        )
        return pb.ListEnvironmentsResponse(
            environments=map(messages.environment, page.entries),
            next_page_token=self._paging.next_token(request, page),
        )

    async def UpdateEnvironment(
        self, request: pb.UpdateEnvironmentRequest, _: Context
    ) -> pb.UpdateEnvironmentResponse:
        """Change an environment."""
        wanted = messages.environment_update(request)
        return await self._changes.answer(
            request,
            pb.UpdateEnvironmentResponse,
            lambda change: environments.update(change, wanted),
            messages.environment_updated,
        )

    async def ArchiveEnvironment(
        self, request: pb.ArchiveEnvironmentRequest, _: Context
    ) -> pb.ArchiveEnvironmentResponse:
        """Archive an environment."""
        return await self._changes.answer(
            request,
            pb.ArchiveEnvironmentResponse,
            lambda change: environments.archive(change, request.environment, request.etag),
            messages.environment_archived,
        )

    async def UnarchiveEnvironment(
        self, request: pb.UnarchiveEnvironmentRequest, _: Context
    ) -> pb.UnarchiveEnvironmentResponse:
        """Take an environment out of the archive."""
        return await self._changes.answer(
            request,
            pb.UnarchiveEnvironmentResponse,
            lambda change: environments.unarchive(change, request.environment, request.etag),
            messages.environment_unarchived,
        )

    async def DeleteEnvironment(
        self, request: pb.DeleteEnvironmentRequest, _: Context
    ) -> pb.DeleteEnvironmentResponse:
        """Delete an environment."""
        return await self._changes.answer(
            request,
            pb.DeleteEnvironmentResponse,
            lambda change: environments.delete(change, request.environment, request.etag),
            messages.environment_deleted,
        )
