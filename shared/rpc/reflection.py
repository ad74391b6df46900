"""Reflection, `v1` and `v1alpha`, with the comments of the protos.

Python's descriptors have lost the comments, so files come from the descriptor set that
`protos/generate.py` writes beside the generated code; other files go out without comments. Both
versions of the protocol have the same messages under different names.
"""

from collections.abc import AsyncIterable, AsyncIterator, Iterable
from contextlib import suppress
from importlib.resources import files
from typing import Any

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, text_format
from google.protobuf.descriptor import FileDescriptor
from grpc_reflection.v1alpha import reflection_pb2
from grpc_reflection.v1alpha.reflection import aio

V1 = "grpc.reflection.v1.ServerReflection"
V1ALPHA = "grpc.reflection.v1alpha.ServerReflection"

FileProto = descriptor_pb2.FileDescriptorProto


def add_reflection(services: Iterable[str], server: grpc.aio.Server) -> None:
    """Serve both versions of reflection for `services` and for themselves."""
    servicer = Reflection((*services, V1, V1ALPHA))
    handler = grpc.stream_stream_rpc_method_handler(
        servicer.ServerReflectionInfo,
        request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
        response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    for name in (V1, V1ALPHA):
        generic = grpc.method_handlers_generic_handler(name, {"ServerReflectionInfo": handler})
        server.add_generic_rpc_handlers((generic,))


class Reflection(aio.ReflectionServicer):
    """The library's servicer over a pool that knows `v1`, answering with commented files."""

    def __init__(self, services: Iterable[str]) -> None:
        """Describe `services`, whose generated code must be imported."""
        services = tuple(services)
        super().__init__(services, _pool_of(services))  # type: ignore[no-untyped-call]
        bundled = files("release_manager").joinpath("descriptors.binpb").read_bytes()
        self._commented = {
            file.name: file.SerializeToString()
            for file in descriptor_pb2.FileDescriptorSet.FromString(bundled).file
        }

    async def ServerReflectionInfo(  # noqa: N802
        self, request_iterator: AsyncIterable[Any], unused_context: object
    ) -> AsyncIterator[Any]:
        """Answer each request; files are sent as the protos were written."""
        async for answer in super().ServerReflectionInfo(request_iterator, unused_context):
            if answer.HasField("file_descriptor_response"):
                found = answer.file_descriptor_response.file_descriptor_proto
                plain = list(found)
                del found[:]
                found.extend(
                    self._commented.get(FileProto.FromString(raw).name, raw) for raw in plain
                )
            yield answer

    def _file_containing_symbol(self, request: Any, fully_qualified_name: str) -> Any:  # noqa: ANN401
        """Answer for a method too, which the pool knows only as a part of its service."""
        symbol = fully_qualified_name
        with suppress(KeyError):
            symbol = self._pool.FindMethodByName(symbol).containing_service.full_name
        return super()._file_containing_symbol(request, symbol)  # type: ignore[no-untyped-call]


def _pool_of(services: Iterable[str]) -> descriptor_pool.DescriptorPool:
    """Return a pool of the files of `services`, and of `v1`, which no package brings yet."""
    pool = descriptor_pool.DescriptorPool()
    pool.Add(_version_1())
    added: set[str] = set()
    for service in services:
        if service != V1:
            found = descriptor_pool.Default().FindFileContainingSymbol(service)
            _add_with_dependencies(found, pool, added)
    return pool


def _add_with_dependencies(
    file: FileDescriptor, pool: descriptor_pool.DescriptorPool, added: set[str]
) -> None:
    if file.name in added:
        return
    added.add(file.name)
    for dependency in file.dependencies:
        _add_with_dependencies(dependency, pool, added)
    copy = FileProto()
    file.CopyToProto(copy)
    pool.Add(copy)


def _version_1() -> FileProto:
    """Return the file of `v1alpha` under the names of `v1`: their messages are the same."""
    alpha = FileProto()
    reflection_pb2.DESCRIPTOR.CopyToProto(alpha)
    text = text_format.MessageToString(alpha).replace("v1alpha", "v1")
    return text_format.Parse(text, FileProto())
