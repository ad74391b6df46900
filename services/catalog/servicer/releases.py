"""The RPCs of releases: convert, call, convert."""

from release_manager.catalog.v1 import catalog_pb2 as pb

from services.catalog.messages import releases as messages
from services.catalog.operations import releases
from shared.outbox.rpcs import Context, Rpcs


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
        page = await releases.page(
            self._db,
            messages.release_choice(request),
            messages.listing(request),
            self._paging.wanted(request),
        )
        return pb.ListReleasesResponse(
            releases=map(messages.release, page.entries),
            next_page_token=self._paging.next_token(request, page),
        )

    async def BatchGetReleases(
        self, request: pb.BatchGetReleasesRequest, _: Context
    ) -> pb.BatchGetReleasesResponse:
        """Return several releases."""
        found = await releases.each(self._db, request.releases)
        return pb.BatchGetReleasesResponse(releases=map(messages.release, found))

    async def UpdateRelease(
        self, request: pb.UpdateReleaseRequest, _: Context
    ) -> pb.UpdateReleaseResponse:
        """Change a release."""
        wanted = messages.release_update(request)
        return await self._changes.answer(
            request,
            pb.UpdateReleaseResponse,
            lambda change: releases.update(change, wanted),
            messages.release_updated,
        )

    async def ArchiveRelease(
        self, request: pb.ArchiveReleaseRequest, _: Context
    ) -> pb.ArchiveReleaseResponse:
        """Archive a release."""
        return await self._changes.answer(
            request,
            pb.ArchiveReleaseResponse,
            lambda change: releases.archive(change, request.release, request.etag),
            messages.release_archived,
        )

    async def UnarchiveRelease(
        self, request: pb.UnarchiveReleaseRequest, _: Context
    ) -> pb.UnarchiveReleaseResponse:
        """Take a release out of the archive."""
        return await self._changes.answer(
            request,
            pb.UnarchiveReleaseResponse,
            lambda change: releases.unarchive(change, request.release, request.etag),
            messages.release_unarchived,
        )

    async def DeleteRelease(
        self, request: pb.DeleteReleaseRequest, _: Context
    ) -> pb.DeleteReleaseResponse:
        """Delete a release."""
        return await self._changes.answer(
            request,
            pb.DeleteReleaseResponse,
            lambda change: releases.delete(change, request.release, request.etag),
            messages.release_deleted,
        )

    async def AbandonRelease(
        self, request: pb.AbandonReleaseRequest, _: Context
    ) -> pb.AbandonReleaseResponse:
        """Abandon a release."""
        return await self._changes.answer(
            request,
            pb.AbandonReleaseResponse,
            lambda change: releases.abandon(change, request.release, request.reason, request.etag),
            messages.release_abandoned,
        )

    async def CompareReleases(
        self, request: pb.CompareReleasesRequest, _: Context
    ) -> pb.CompareReleasesResponse:
        """Tell what lies between two releases."""
        found = await releases.compare(self._db, request.from_release, request.to_release)
        return messages.comparison(found)
