"""What a client learns by reflection alone, as `grpcurl describe` does: a symbol, asked by name.

Files are put together in a pool that has never seen the generated code, so that options are read
only by what was served beside them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import grpc
from google.protobuf import descriptor_pool, message_factory
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc_reflection.v1alpha import reflection_pb2

REFLECTION = "/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo"
# FileDescriptorProto, DescriptorProto and their kin: the numbers of what can have a comment.
_MESSAGE, _ENUM, _SERVICE = 4, 5, 6
_FIELD, _METHOD, _VALUE = 2, 2, 2


@dataclass
class Described:
    """What is known of files; `comments` are by full name."""

    pool: descriptor_pool.DescriptorPool = field(default_factory=descriptor_pool.DescriptorPool)
    files: dict[str, FileDescriptorProto] = field(default_factory=dict)
    comments: dict[str, str] = field(default_factory=dict)

    def add(self, raw_files: Sequence[bytes]) -> None:
        """Take files as they were served, in any order."""
        for raw in raw_files:
            file = FileDescriptorProto.FromString(raw)
            if file.name not in self.files:
                self.files[file.name] = file
                self.comments.update(_comments(file))

    def link(self) -> None:
        """Put all files together; raises KeyError when one that is imported was not served."""
        done: set[str] = set()
        for name in sorted(self.files):
            self._link(name, done)

    def options(self, given: Any) -> Any:
        """Return options as this pool alone reads them; `given` are those of any other pool."""
        found = self.pool.FindMessageTypeByName(given.DESCRIPTOR.full_name)
        return message_factory.GetMessageClass(found).FromString(given.SerializeToString())

    def _link(self, name: str, done: set[str]) -> None:
        if name in done:
            return
        done.add(name)
        for imported in self.files[name].dependency:
            self._link(imported, done)
        self.pool.Add(self.files[name])


async def described(channel: grpc.aio.Channel, symbols: Sequence[str], version: str) -> Described:
    """Ask for symbols one by one and return what was learned; raises KeyError for an unknown one.

    What the answers import and do not bring is asked for as well, by the names of files.
    """
    rpc: Any = channel.stream_stream(
        REFLECTION.format(version=version),
        request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
        response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
    )
    request = reflection_pb2.ServerReflectionRequest
    learned = Described()
    asked = [request(file_containing_symbol=symbol) for symbol in symbols]
    while asked:
        async for answer in rpc(iter(asked)):
            if answer.HasField("error_response"):
                raise KeyError(answer.original_request)
            learned.add(answer.file_descriptor_response.file_descriptor_proto)
        imported = {name for file in learned.files.values() for name in file.dependency}
        asked = [request(file_by_filename=name) for name in sorted(imported - learned.files.keys())]
    learned.link()
    return learned


def _comments(file: FileDescriptorProto) -> Iterator[tuple[str, str]]:
    for location in file.source_code_info.location:
        name = _name(file, tuple(location.path))
        if name and location.leading_comments.strip():
            yield f"{file.package}.{name}", location.leading_comments.strip()


def _name(file: FileDescriptorProto, path: tuple[int, ...]) -> str:
    """Return the name of a message, field, enum, value, service or method; empty for the rest."""
    kinds: dict[int, tuple[Any, int]] = {
        _MESSAGE: (file.message_type, _FIELD),
        _ENUM: (file.enum_type, _VALUE),
        _SERVICE: (file.service, _METHOD),
    }
    if len(path) not in {2, 4} or path[0] not in kinds:
        return ""
    things, part = kinds[path[0]]
    thing = things[path[1]]
    if len(path) == 2:
        return str(thing.name)
    if path[2] != part:
        return ""
    parts = {_MESSAGE: "field", _ENUM: "value", _SERVICE: "method"}
    return f"{thing.name}.{getattr(thing, parts[path[0]])[path[3]].name}"
