"""A server as a program: `python -m tests.rpc.worker ADDRESS [COUNT]`."""

import asyncio
import os
import sys

from shared.log import configure_logging
from shared.rpc.run import run_workers, serve
from shared.rpc.server import RpcServer, ServerOptions, ServerUnusable
from tests.rpc.conftest import SERVICE
from tests.rpc.echo import EchoServicer, KnownTokens
from tests.rpc.protos import echo_pb2_grpc

ADDRESS = sys.argv[1] if len(sys.argv) > 1 else ""
COUNT = int(sys.argv[2]) if len(sys.argv) > 2 else 1


async def _main() -> None:
    configure_logging("info", "json")
    options = ServerOptions(address=ADDRESS, shares_port=COUNT > 1, grace_seconds=30)
    server = RpcServer(options, verifier=KnownTokens())
    servicer = EchoServicer(server.stopping)
    server.add(SERVICE, echo_pb2_grpc.add_EchoServiceServicer_to_server, servicer)
    await serve(server)


def worker(index: int) -> None:
    """Serve until told to stop; the index is told in the log only."""
    sys.stderr.write(f"worker {index} is {os.getpid()}\n")
    asyncio.run(_main())


if __name__ == "__main__":
    try:
        if COUNT == 1:
            worker(0)
        else:
            sys.exit(run_workers(worker, COUNT, ADDRESS))
    except ServerUnusable as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(2)
