"""A crowd of watchers in a process of its own: `python -m benchmarks.crowd`.

It reads a JSON object from each line of its input, and answers each with one:
`{"address", "tokens", "service", "watchers"}` opens so many streams, shared out among the tokens;
`{"service", "changes"}` waits until every stream of that service has brought so many changes in
all, and answers with the moments of the last one, by the clock that all processes share.
"""

import asyncio
import json
import sys
import time
from collections import defaultdict
from typing import Any

import grpc
from release_manager.deployment.v1 import deployment_pb2 as pb

WATCH = "/release_manager.deployment.v1.DeploymentService/WatchDeployments"
STREAMS_A_CONNECTION = 100
# The first byte of a message tells what it is, which saves the crowd reading all of it.
DEPLOYMENT = (pb.WatchDeploymentsResponse.DEPLOYMENT_FIELD_NUMBER << 3) | 2
SYNCED = (pb.WatchDeploymentsResponse.SYNCED_FIELD_NUMBER << 3) | 2


class Watcher:
    """One stream: how many changes it has brought, and when the last one came."""

    def __init__(self, call: Any) -> None:  # noqa: ANN401  (a call of grpc)
        """Take the call."""
        self._call = call
        self.synced = asyncio.Event()
        self.changes = 0
        self.at = 0.0

    async def read(self, more: asyncio.Event) -> None:
        """Read until the end."""
        while (message := await self._call.read()) is not grpc.aio.EOF:
            if message[0] == SYNCED:
                self.synced.set()
            elif message[0] == DEPLOYMENT and self.synced.is_set():
                self.at = time.monotonic()
                self.changes += 1
                more.set()


class Crowd:
    """All watchers, by the service that they watch."""

    def __init__(self) -> None:
        """Begin with none."""
        self._watchers: dict[str, list[Watcher]] = defaultdict(list)
        self._more = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def open(self, asked: Any) -> dict[str, object]:  # noqa: ANN401  (JSON)
        """Open streams, and wait until each has the current state.

        One connection after the other: gRPC refuses some of a thousand calls that come at once.
        """
        began = time.monotonic()
        request = pb.WatchDeploymentsRequest(service=asked["service"]).SerializeToString()
        opened = self._watchers[asked["service"]]
        while len(opened) < asked["watchers"]:
            options = (("grpc.use_local_subchannel_pool", 1),)
            channel = grpc.aio.insecure_channel(asked["address"], options)
            token = asked["tokens"][len(opened) // STREAMS_A_CONNECTION]
            call: Any = channel.unary_stream(WATCH)
            metadata = (("authorization", f"Bearer {token}"),)
            more = min(STREAMS_A_CONNECTION, asked["watchers"] - len(opened))
            watchers = [Watcher(call(request, metadata=metadata)) for _ in range(more)]
            reading = [asyncio.create_task(watcher.read(self._more)) for watcher in watchers]
            synced = asyncio.gather(*(watcher.synced.wait() for watcher in watchers))
            ends: list[asyncio.Future[Any]] = [synced, *reading]
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            for task in reading:
                if task.done():  # refused: a crowd that lacks somebody proves nothing
                    task.result()
            await synced
            self._tasks += reading
            opened += watchers
        return {"seconds": time.monotonic() - began}

    async def moments(self, asked: Any) -> dict[str, object]:  # noqa: ANN401  (JSON)
        """Wait until all have so many changes; return when each had."""
        watchers = self._watchers[asked["service"]]
        while any(watcher.changes < asked["changes"] for watcher in watchers):
            self._more.clear()
            await self._more.wait()
        return {"at": [watcher.at for watcher in watchers]}


async def main() -> None:
    """Do what is asked until the input ends."""
    crowd = Crowd()
    while line := await asyncio.to_thread(sys.stdin.readline):
        asked = json.loads(line)
        answer = await (crowd.open(asked) if "watchers" in asked else crowd.moments(asked))
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
