"""The RPCs of releases: convert, call, convert."""

from release_manager.catalog.v1 import catalog_pb2 as pb

from services.catalog.messages import releases as messages
from services.catalog.operations import releases
from services.catalog.servicer.rpcs import Context, Rpcs


class ReleaseRpcs(Rpcs):
    """Manages releases."""

    async def CreateRelease(
        self, request: pb.CreateReleaseRequest, _: Context
    ) -> pb.CreateReleaseResponse:
        """Create a release as a draft."""
        return await self._changes.answer(
            request,
            pb.CreateReleaseResponse,
            lambda change: releases.create(change, messages.new_release(request)),
            messages.release_created,
        )

    async def PublishRelease(
        self, request: pb.PublishReleaseRequest, _: Context
    ) -> pb.PublishReleaseResponse:
        """Publish a draft."""
        return await self._changes.answer(
            request,
            pb.PublishReleaseResponse,
            lambda change: releases.publish(change, messages.publication(request)),
            messages.release_published,
        )

    async def GetRelease(self, request: pb.GetReleaseRequest, _: Context) -> pb.GetReleaseResponse:
        """Return a release."""
        found = await releases.get(self._db, request.release)
        return pb.GetReleaseResponse(release=messages.release(found))

    async def ListReleases(
        self, request: pb.ListReleasesRequest, _: Context
    ) -> pb.ListReleasesResponse:
        """Return a page of releases."""
        wanted = messages.release_filter(request)
        page = await releases.page(self._db, wanted, self._paging.wanted(request))
        return pb.ListReleasesResponse(
            releases=map(messages.release, page.entries),
            next_page_token=self._paging.next_token(request, page),
        )
