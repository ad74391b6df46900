"""The RPCs of services: convert, call, convert."""

from release_manager.catalog.v1 import catalog_pb2 as pb

from services.catalog.messages import services as messages
from services.catalog.operations import services
from shared.outbox.rpcs import Context, Rpcs


class ServiceRpcs(Rpcs):
    """Manages services."""

    async def CreateService(
        self, request: pb.CreateServiceRequest, _: Context
    ) -> pb.CreateServiceResponse:
        """Create a service."""
        return await self._changes.answer(
            request,
            pb.CreateServiceResponse,
            lambda change: services.create(change, messages.new_service(request)),
            messages.service_created,
        )

    async def GetService(self, request: pb.GetServiceRequest, _: Context) -> pb.GetServiceResponse:
        """Return a service."""
        found = await services.get(self._db, request.service)
        return pb.GetServiceResponse(service=messages.service(found))

    async def ListServices(
        self, request: pb.ListServicesRequest, _: Context
    ) -> pb.ListServicesResponse:
        """Return a page of services."""
        page = await services.page(
            self._db,
            messages.service_choice(request),
            messages.listing(request),
            self._paging.wanted(request),
        )
        return pb.ListServicesResponse(
            services=map(messages.service, page.entries),
            next_page_token=self._paging.next_token(request, page),
        )

    async def BatchGetServices(
        self, request: pb.BatchGetServicesRequest, _: Context
    ) -> pb.BatchGetServicesResponse:
        """Return several services."""
        found = await services.each(self._db, request.services)
        return pb.BatchGetServicesResponse(services=map(messages.service, found))

    async def UpdateService(
        self, request: pb.UpdateServiceRequest, _: Context
    ) -> pb.UpdateServiceResponse:
        """Change a service."""
        wanted = messages.service_update(request)
        return await self._changes.answer(
            request,
            pb.UpdateServiceResponse,
            lambda change: services.update(change, wanted),
            messages.service_updated,
        )

    async def ArchiveService(
        self, request: pb.ArchiveServiceRequest, _: Context
    ) -> pb.ArchiveServiceResponse:
        """Archive a service."""
        return await self._changes.answer(
            request,
            pb.ArchiveServiceResponse,
            lambda change: services.archive(change, request.service, request.etag),
            messages.service_archived,
        )

    async def UnarchiveService(
        self, request: pb.UnarchiveServiceRequest, _: Context
    ) -> pb.UnarchiveServiceResponse:
        """Take a service out of the archive."""
        return await self._changes.answer(
            request,
            pb.UnarchiveServiceResponse,
            lambda change: services.unarchive(change, request.service, request.etag),
            messages.service_unarchived,
        )

    async def DeleteService(
        self, request: pb.DeleteServiceRequest, _: Context
    ) -> pb.DeleteServiceResponse:
        """Delete a service."""
        return await self._changes.answer(
            request,
            pb.DeleteServiceResponse,
            lambda change: services.delete(change, request.service, request.etag),
            messages.service_deleted,
        )
