"""A servicer that does what the request says, and callers who are known by their token."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from datetime import timedelta
from typing import Any
from uuid import UUID

import grpc

from shared.domain_error import FieldViolation, GateViolation
from shared.errors import (
    DatabaseUnavailable,
    GateUnsatisfied,
    NotPermitted,
    ResourceNotFound,
    SlotTaken,
    TokenRejected,
    ValidationFailed,
)
from shared.identity.actor import Actor, ActorKind, Role, current_call
from shared.rpc.stopping import unless_stopping
from tests.rpc.protos.echo_pb2 import EchoRequest, EchoResponse

SECRET = "SELECT * FROM users -- /etc/passwd"
Context = grpc.aio.ServicerContext[Any, Any]

ACTORS = {role.stored: Actor(UUID(int=role), role.stored, role) for role in Role} | {
    "program": Actor(
        UUID(int=9),
        "program",
        Role.LEAD,
        ActorKind.SERVICE,
        scopes=frozenset({"echo.write"}),
        owner_id=UUID(int=4),
    ),
    "lead program": Actor(
        UUID(int=10), "robot", Role.LEAD, ActorKind.SERVICE, scopes=frozenset({"echo.lead"})
    ),
}


class KnownTokens:
    """A verifier whose tokens are the names of the actors."""

    async def identify(self, metadata: Mapping[str, str]) -> Actor | None:
        authorization = metadata.get("authorization")
        if authorization is None:
            return None
        actor = ACTORS.get(authorization.removeprefix("Bearer "))
        if actor is None:
            raise TokenRejected
        return actor


class EchoServicer:
    """Each method answers with the request's text and what it knows of the call."""

    def __init__(self, stopping: asyncio.Event) -> None:
        self.entered = 0
        self.cancelled = 0
        self.failures = 0
        self.cleaned_up_in: set[str] = set()
        self._stopping = stopping

    async def _act(self, request: EchoRequest) -> EchoResponse:
        self.entered += 1
        act = request.act
        if act == "crash":
            raise ValueError(SECRET)
        if act == "group":
            async with asyncio.TaskGroup() as group:
                group.create_task(self._missing())
        if act == "missing":
            await self._missing()
        if act == "wait":
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                self.cancelled += 1
                raise
        if act == "flaky" and self.failures:
            self.failures -= 1
            raise DatabaseUnavailable
        if act == "nap":
            await asyncio.sleep(0.3)
        if act == "cancelled task":
            task = asyncio.ensure_future(asyncio.sleep(60))
            asyncio.get_running_loop().call_soon(task.cancel)
            await task
        if act == "until stopping":
            await unless_stopping(self._stopping, asyncio.sleep(60))
        self._refuse(act, request.text)
        return self._answer(request)

    async def _missing(self) -> None:
        raise ResourceNotFound(resource_type="release", resource="auth@1.4.0")

    def _refuse(self, act: str, text: str) -> None:
        if act == "taken":
            raise SlotTaken(
                service="auth",
                environment="prod",
                deployment=UUID(int=1),
                status="paused",
                retry_after=timedelta(seconds=1.5),
            )
        if act == "gates":
            gates = (GateViolation("approval", "auth@1.4.0", "1 of 2 approvals given"),)
            raise GateUnsatisfied(summary="approval: 1 of 2 approvals given", gates=gates)
        if act == "echo in error":
            raise ResourceNotFound(resource_type="release", resource=text)
        if act == "not yours":
            raise NotPermitted(action="cancel this", because="it belongs to another person")
        if act == "many":
            fields = tuple(FieldViolation(f"tags[{n}]", "x" * 500, "r") for n in range(200))
            raise ValidationFailed(count=200, first="tags[0]: é" + "é" * 2000, fields=fields)

    def _answer(self, request: EchoRequest) -> EchoResponse:
        call = current_call.get()
        return EchoResponse(
            text=request.text,
            actor=call.actor.username if call.actor else "",
            request_id=call.request_id,
            ip_address=call.ip_address or "",
            user_agent=call.user_agent or "",
        )

    async def Say(self, request: EchoRequest, _context: Context) -> EchoResponse:
        if request.act == "not a message":
            return "text"  # type: ignore[return-value]  # the mistake under test
        return await self._act(request)

    SayOpenly = SayAsLead = SayAsProgram = SayNothing = Say

    async def Yield(self, request: EchoRequest, _context: Context) -> AsyncIterator[EchoResponse]:
        task = asyncio.current_task()
        try:
            yield self._answer(EchoRequest(text="first"))
            yield await self._act(request)
        finally:
            self.cleaned_up_in.add("same" if asyncio.current_task() is task else "other")

    async def Write(self, request: EchoRequest, context: Context) -> None:
        await context.write(self._answer(EchoRequest(text="first")))
        await context.write(await self._act(request))

    async def Gather(self, requests: AsyncIterator[EchoRequest], _context: Context) -> EchoResponse:
        texts = [(await self._act(request)).text async for request in requests]
        return self._answer(EchoRequest(text=",".join(texts)))

    async def GatherRead(self, _requests: object, context: Context) -> EchoResponse:
        texts = []
        while (request := await context.read()) is not grpc.aio.EOF:
            texts.append((await self._act(request)).text)
        return self._answer(EchoRequest(text=",".join(texts)))

    async def Chat(
        self, requests: AsyncIterator[EchoRequest], _context: Context
    ) -> AsyncIterator[EchoResponse]:
        async for request in requests:
            yield await self._act(request)

    async def ChatWrite(self, _requests: object, context: Context) -> None:
        while (request := await context.read()) is not grpc.aio.EOF:
            await context.write(await self._act(request))
