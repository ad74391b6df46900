"""The RPC that watches deployments: convert, call, convert."""

import asyncio
from dataclasses import dataclass

from release_manager.deployment.v1 import deployment_pb2 as pb

from services.deployment import messages_watching as messages
from services.deployment.watching.watching import Said, Watching
from shared.identity.actor import caller
from shared.outbox.rpcs import Context
from shared.rpc.permission import while_permitted


@dataclass(frozen=True, slots=True)
class Watch:
    """What serves watchers, and what is set when the server stops."""

    watching: Watching
    stopping: asyncio.Event


class WatchingRpcs:
    """Tells what changes."""

    _watch: Watch

    async def WatchDeployments(self, request: pb.WatchDeploymentsRequest, context: Context) -> None:
        """Stream deployments; written to the context, so that its end is not a generator's."""
        asked = messages.watched(request, caller().user_id)

        async def send(told: Said) -> None:
            await context.write(messages.said(told))

        with self._watch.watching.slots.taken(asked.caller):
            await while_permitted(self._watch.stopping, self._watch.watching.run(asked, send))
