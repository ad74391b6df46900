"""The RPCs of API tokens: convert, call, convert."""

from uuid import UUID

from release_manager.identity.v1 import identity_pb2 as pb

from services.catalog.messages_identity import service_accounts as messages
from services.catalog.operations import api_tokens
from services.catalog.servicer_identity.rpcs import Context, Rpcs


class ApiTokenRpcs(Rpcs):
    """Manages the API tokens of service accounts; no answer with a token in it is stored."""

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

    async def RotateApiToken(
        self, request: pb.RotateApiTokenRequest, _: Context
    ) -> pb.RotateApiTokenResponse:
        """Replace an API token by a new one, shown in this answer alone."""
        shown = messages.api_token_rotated
        return await self._changes.answer(
            request,
            pb.RotateApiTokenResponse,
            lambda change: api_tokens.rotate(change, messages.rotation(request)),
            messages.api_token_rotation_rehearsed if request.validate_only else shown,
            remember=False,
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
