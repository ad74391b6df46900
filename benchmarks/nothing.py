"""A service and, on the same server, an RPC that does nothing.

`python -m benchmarks.nothing` is `python -m services.audit` with one service more, whose method
takes and returns an empty message behind the same interceptors; `benchmarks.catalog_nothing` is the
same for the catalog. Neither is part of the product.
"""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool
from google.protobuf.empty_pb2 import DESCRIPTOR as EMPTY_FILE
from google.protobuf.empty_pb2 import Empty
from release_manager.common.v1 import access_pb2

from services.audit.app import audit_server
from shared.rpc.program import ServerOf, run_service
from shared.rpc.server import RpcServer
from shared.settings import Settings

PACKAGE, SERVICE, METHOD = "benchmarks.v1", "NothingService", "DoNothing"
FULL_NAME = f"{PACKAGE}.{SERVICE}"
DO_NOTHING = f"/{FULL_NAME}/{METHOD}"
SCOPE = "audit.write"


def main() -> int:
    """Serve until a signal."""
    return run_service(partial(and_nothing, audit_server), lambda settings: settings.audit_address)


@asynccontextmanager
async def and_nothing(server_of: ServerOf, settings: Settings) -> AsyncIterator[RpcServer]:
    """Provide a server with the service that does nothing."""
    _describe()
    async with server_of(settings) as server:
        server.add(FULL_NAME, _add_to_server, None)
        yield server


def _describe() -> None:
    """Make the service known, as generated code would; callable by whoever may log actions."""
    file = descriptor_pb2.FileDescriptorProto(
        name="benchmarks/v1/nothing.proto",
        package=PACKAGE,
        syntax="proto3",
        dependency=[EMPTY_FILE.name, access_pb2.DESCRIPTOR.name],
    )
    method = file.service.add(name=SERVICE).method.add(
        name=METHOD,
        input_type=f".{Empty.DESCRIPTOR.full_name}",
        output_type=f".{Empty.DESCRIPTOR.full_name}",
    )
    method.options.Extensions[access_pb2.required_role] = access_pb2.ROLE_SERVICE_ACCOUNT
    method.options.Extensions[access_pb2.required_scope] = SCOPE
    descriptor_pool.Default().Add(file)


def _add_to_server(_servicer: object, server: grpc.aio.Server) -> None:
    handler = grpc.unary_unary_rpc_method_handler(
        _do_nothing, Empty.FromString, Empty.SerializeToString
    )
    server.add_generic_rpc_handlers(
        [grpc.method_handlers_generic_handler(FULL_NAME, {METHOD: handler})]
    )


async def _do_nothing(_request: Empty, _context: Any) -> Empty:  # noqa: ANN401
    return Empty()


if __name__ == "__main__":
    sys.exit(main())
