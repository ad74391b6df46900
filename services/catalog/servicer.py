"""The RPCs of CatalogService: convert, call, convert."""

from typing import Any

from grpc.aio import ServicerContext
from release_manager.catalog.v1 import catalog_pb2 as pb
from release_manager.catalog.v1 import catalog_pb2_grpc

from services.catalog import messages
from services.catalog.operations import environments, releases, runbooks, services, teams
from shared.db.engine import Database
from shared.outbox.change import Changes
from shared.outbox.reconcile import Reconciler
from shared.rpc.pages import Paging

Context = ServicerContext[Any, Any]


class CatalogServicer(catalog_pb2_grpc.CatalogServiceServicer):
    """Manages teams, services, environments, releases and runbooks."""

    def __init__(
        self, db: Database, changes: Changes, paging: Paging, reconciler: Reconciler
    ) -> None:
        """Read from `db`, change through `changes`."""
        self._db = db
        self._changes = changes
        self._paging = paging
        self._reconciler = reconciler

    async def CreateTeam(self, request: pb.CreateTeamRequest, _: Context) -> pb.CreateTeamResponse:
        """Create a team."""
        return await self._changes.answer(
            request,
            pb.CreateTeamResponse,
            lambda change: teams.create(change, messages.new_team(request)),
            messages.team_created,
        )

    async def GetTeam(self, request: pb.GetTeamRequest, _: Context) -> pb.GetTeamResponse:
        """Return a team."""
        found = await teams.get(self._db, request.team)
        return pb.GetTeamResponse(team=messages.team(found))

    async def ListTeams(self, request: pb.ListTeamsRequest, _: Context) -> pb.ListTeamsResponse:
        """Return a page of teams."""
        page = await teams.page(self._db, self._paging.wanted(request))
        return pb.ListTeamsResponse(
            teams=map(messages.team, page.entries),
            next_page_token=self._paging.next_token(request, page),
        )

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
        wanted = messages.environment_type(request.type)
        page = await environments.page(self._db, wanted, self._paging.wanted(request))
        return pb.ListEnvironmentsResponse(
            environments=map(messages.environment, page.entries),
            next_page_token=self._paging.next_token(request, page),
        )

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

    async def CreateRunbook(
        self, request: pb.CreateRunbookRequest, _: Context
    ) -> pb.CreateRunbookResponse:
        """Create a runbook."""
        return await self._changes.answer(
            request,
            pb.CreateRunbookResponse,
            lambda change: runbooks.create(change, messages.new_runbook(request)),
            messages.runbook_created,
        )

    async def GetRunbook(self, request: pb.GetRunbookRequest, _: Context) -> pb.GetRunbookResponse:
        """Return a runbook."""
        found = await runbooks.get(self._db, request.runbook)
        return pb.GetRunbookResponse(runbook=messages.runbook(found))

    async def ListRunbooks(
        self, request: pb.ListRunbooksRequest, _: Context
    ) -> pb.ListRunbooksResponse:
        """Return a page of runbooks, without their content."""
        wanted = messages.runbook_filter(request)
        page = await runbooks.page(self._db, wanted, self._paging.wanted(request))
        return pb.ListRunbooksResponse(
            runbooks=map(messages.runbook, page.entries),
            next_page_token=self._paging.next_token(request, page),
        )

    async def ReconcileAudit(
        self, _request: pb.ReconcileAuditRequest, _: Context
    ) -> pb.ReconcileAuditResponse:
        """Compare every version with the ledger and send again what is missing."""
        return messages.reconciled(await self._reconciler.reconcile())
