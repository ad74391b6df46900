"""A receiver of webhooks: a real HTTP server that keeps what it gets and answers as it is told."""

import asyncio
import base64
import hashlib
import hmac
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web


@dataclass(frozen=True)
class Received:
    """A request: its path, its headers with names in lower case, and its body."""

    path: str
    headers: dict[str, str]
    body: bytes
    answered: int

    @property
    def id(self) -> str:
        """The id of the event."""
        return self.headers["webhook-id"]

    @property
    def event(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)

    def is_signed_with(self, secret: str, number: int = 0) -> bool:
        """Verify one of the signatures, from what the specification says and nothing else."""
        key = base64.b64decode(secret.removeprefix("whsec_"))
        seconds = self.headers["webhook-timestamp"]
        text = self.id.encode() + b"." + seconds.encode() + b"." + self.body
        made = base64.b64encode(hmac.new(key, text, hashlib.sha256).digest()).decode()
        return self.headers["webhook-signature"].split(" ")[number] == f"v1,{made}"


Choose = Callable[[int, Received], int]


@dataclass
class Receiver:
    """A server on loopback. `choose` says how the request of a number, from 0, is answered."""

    choose: Choose = lambda _number, _received: 204
    url: str = ""
    received: list[Received] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    seconds: float = 0.0
    under_way: int = 0
    most_under_way: int = 0
    arrived: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def taken(self) -> list[Received]:
        """What was answered with 2xx, in the order of arrival."""
        return [one for one in self.received if 200 <= one.answered < 300]

    async def got(self, number: int, seconds: float = 30.0) -> list[Received]:
        """Wait until so many requests were taken, and return these."""
        async with asyncio.timeout(seconds):
            while len(self.taken) < number:
                self.arrived.clear()
                await self.arrived.wait()
        return self.taken

    async def answer(self, request: web.Request) -> web.Response:
        """Keep a request, and answer it."""
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            body = await request.read()
            headers = {name.lower(): value for name, value in request.headers.items()}
            seen = Received(request.path, headers, body, 0)
            status = self.choose(len(self.received), seen)
            self.received.append(Received(request.path, headers, body, status))
            self.arrived.set()
            await asyncio.sleep(self.seconds)
            return web.Response(status=status, headers=self.headers, body=self.body)
        finally:
            self.under_way -= 1


@asynccontextmanager
async def receiving(choose: Choose | None = None) -> AsyncIterator[Receiver]:
    """Run a receiver."""
    receiver = Receiver() if choose is None else Receiver(choose)
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", receiver.answer)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    receiver.url = f"http://127.0.0.1:{port}/hook"
    try:
        yield receiver
    finally:
        await runner.cleanup()
