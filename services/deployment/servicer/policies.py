"""The RPCs of policies: convert, call, convert."""

from release_manager.deployment.v1 import deployment_pb2 as pb

from services.deployment import messages_policies as messages
from services.deployment.operations import publishing
from shared.outbox.rpcs import Context, Rpcs


class PolicyRpcs(Rpcs):
    """Publishes and reads what environments ask of deployments."""

    async def GetPolicy(self, request: pb.GetPolicyRequest, _: Context) -> pb.GetPolicyResponse:
        """Return a version of a policy."""
        version = messages.wanted_version(request)
        found = await publishing.get(self._db, request.environment, version)
        return pb.GetPolicyResponse(
            policy=messages.policy_version(found), in_force=found.row.in_force
        )

    async def ListPolicyVersions(
        self, request: pb.ListPolicyVersionsRequest, _: Context
    ) -> pb.ListPolicyVersionsResponse:
        """Return a page of the published versions of an environment."""
        wanted = self._paging.wanted(request)
        page = await publishing.page(self._db, request.environment, wanted)
        return pb.ListPolicyVersionsResponse(
            versions=map(messages.policy_version, page.entries),
            next_page_token=self._paging.next_token(request, page),
        )

    async def PublishPolicy(
        self, request: pb.PublishPolicyRequest, _: Context
    ) -> pb.PublishPolicyResponse:
        """Publish the next version."""
        return await self._changes.answer(
            request,
            pb.PublishPolicyResponse,
            lambda change: publishing.publish(change, messages.publication(request)),
            messages.published,
        )
