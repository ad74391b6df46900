"""OutputService: what stages print, taken in and given back."""

import asyncio

from release_manager.deployment.v1 import output_pb2 as pb
from release_manager.deployment.v1 import output_pb2_grpc

from services.deployment import messages_output as messages
from services.deployment.operations import outputs
from services.deployment.operations.tailing import Part, Tailing
from shared.db.engine import Database
from shared.identity.actor import caller
from shared.outbox.change import Changes
from shared.rpc.interceptors.around import Context
from shared.rpc.permission import while_permitted


class OutputServicer(output_pb2_grpc.OutputServiceServicer):
    """Takes in what stages print, and gives it back."""

    def __init__(self, db: Database, changes: Changes, stopping: asyncio.Event) -> None:
        """Read from `db`, append through `changes`, end streams when `stopping` is set."""
        self._changes = changes
        self._tailing = Tailing(db)
        self._stopping = stopping

    async def AppendStageOutput(
        self, request: pb.AppendStageOutputRequest, _: Context
    ) -> pb.AppendStageOutputResponse:
        """Append to the output of a stage; the offset is what makes it repeatable."""
        return await self._changes.answer(
            request,
            pb.AppendStageOutputResponse,
            lambda change: outputs.append(change, messages.piece(request)),
            messages.taken,
            remember=False,
        )

    async def TailStageOutput(  # type: ignore[override]  # the stubs know generators only
        self, request: pb.TailStageOutputRequest, context: Context
    ) -> None:
        """Stream the output of a stage; written to the context, so that no generator is left."""
        asked = messages.tail(request, caller().user_id)

        async def send(part: Part) -> None:
            await context.write(messages.part(part))

        with self._tailing.slots.taken(asked.caller):
            await while_permitted(self._stopping, self._tailing.run(asked, send))
