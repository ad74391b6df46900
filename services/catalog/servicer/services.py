"""The RPCs of services: convert, call, convert."""

from release_manager.catalog.v1 import catalog_pb2 as pb

from services.catalog.messages import services as messages
from services.catalog.operations import services
from services.catalog.servicer.rpcs import Context, Rpcs


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
        wanted = messages.service_filter(request)
        page = await services.page(self._db, wanted, self._paging.wanted(request))
        return pb.ListServicesResponse(
            services=map(messages.service, page.entries),
            next_page_token=self._paging.next_token(request, page),
        )
