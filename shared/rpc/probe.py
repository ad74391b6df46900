"""Is a server serving? The standard health check, asked once.

`python -m shared.rpc.probe HOST:PORT` answers with its exit code, as container platforms want.
"""

import asyncio
import sys

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from shared.rpc.tls import Tls, channel_credentials
from shared.settings import Settings, settings_or_exit

PROBE_SECONDS = 2.0


async def is_serving(address: str, settings: Settings) -> bool:
    """Ask the server at `host:port` for its overall health; False also when nobody answers."""
    async with _channel(address, settings) as channel:
        try:
            answer = await health_pb2_grpc.HealthStub(channel).Check(
                health_pb2.HealthCheckRequest(), timeout=PROBE_SECONDS
            )
        except grpc.aio.AioRpcError:
            return False
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


def _channel(address: str, settings: Settings) -> grpc.aio.Channel:
    # Every probe looks afresh: a shared connection would wait out the back-off of an earlier one.
    options = [("grpc.use_local_subchannel_pool", 1)]
    if settings.tls_certificate is None:
        return grpc.aio.insecure_channel(address, options)
    tls = Tls(settings.tls_certificate, settings.tls_key, settings.tls_server_ca)
    return grpc.aio.secure_channel(address, channel_credentials(tls), options)


def main() -> int:
    """Probe the address in the arguments: 0 when it serves, 1 when not, 2 without an address."""
    if len(sys.argv) != 2:  # noqa: PLR2004  (the program and one address)
        print("Usage: python -m shared.rpc.probe HOST:PORT", file=sys.stderr)  # noqa: T201
        return 2
    return 0 if asyncio.run(is_serving(sys.argv[1], settings_or_exit())) else 1


if __name__ == "__main__":
    sys.exit(main())
