"""The RPCs of service accounts: convert, call, convert."""

from release_manager.identity.v1 import identity_pb2 as pb

from services.catalog.messages_identity import service_accounts as messages
from services.catalog.operations import service_accounts
from services.catalog.servicer_identity.rpcs import Context, Rpcs


class ServiceAccountRpcs(Rpcs):
    """Manages service accounts."""

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

    async def UpdateServiceAccount(
        self, request: pb.UpdateServiceAccountRequest, _: Context
    ) -> pb.UpdateServiceAccountResponse:
        """Change a service account."""
        wanted = messages.service_account_update(request)
        return await self._changes.answer(
            request,
            pb.UpdateServiceAccountResponse,
            lambda change: service_accounts.update(change, wanted),
            messages.service_account_updated,
        )

    async def DeactivateServiceAccount(
        self, request: pb.DeactivateServiceAccountRequest, _: Context
    ) -> pb.DeactivateServiceAccountResponse:
        """Deactivate a service account."""
        return await self._changes.answer(
            request,
            pb.DeactivateServiceAccountResponse,
            lambda change: service_accounts.deactivate(
                change, request.service_account, request.etag
            ),
            messages.service_account_deactivated,
        )

    async def ReactivateServiceAccount(
        self, request: pb.ReactivateServiceAccountRequest, _: Context
    ) -> pb.ReactivateServiceAccountResponse:
        """Let a service account work again."""
        return await self._changes.answer(
            request,
            pb.ReactivateServiceAccountResponse,
            lambda change: service_accounts.reactivate(
                change, request.service_account, request.etag
            ),
            messages.service_account_reactivated,
        )
