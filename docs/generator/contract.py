"""The contract with its comments, from the descriptor set that reflection serves too."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import PurePosixPath

from buf.validate import validate_pb2
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
)
from release_manager.common.v1 import access_pb2

OURS = "release_manager/"
# Their options are read by the extensions that importing them makes known.
EXTENDED_BY = (validate_pb2.DESCRIPTOR, access_pb2.DESCRIPTOR)
_PACKAGE = (FileDescriptorProto.DESCRIPTOR.fields_by_name["package"].number,)
_MESSAGES = FileDescriptorProto.DESCRIPTOR.fields_by_name["message_type"].number
_ENUMS = FileDescriptorProto.DESCRIPTOR.fields_by_name["enum_type"].number
_SERVICES = FileDescriptorProto.DESCRIPTOR.fields_by_name["service"].number
# DescriptorProto.field, .oneof_decl, EnumDescriptorProto.value and ServiceDescriptorProto.method.
_FIELD, _ONEOF, _VALUE, _METHOD = 2, 8, 2, 2

Place = tuple[int, ...]


@dataclass(frozen=True)
class Proto:
    """A proto file; comments are asked for by the numbers of what they belong to."""

    file: FileDescriptorProto
    comments: dict[Place, str]

    @property
    def name(self) -> str:
        """Its name without folder and suffix, such as `audit`."""
        return PurePosixPath(self.file.name).stem

    def of_package(self) -> str:
        """Return the comment of the file."""
        return self.comments.get(_PACKAGE, "")

    def of_service(self, service: int, method: int | None = None) -> str:
        """Return the comment of a service, or of one of its methods."""
        return self._comment(_SERVICES, service, _METHOD, method)

    def of_message(self, message: int, field: int | None = None) -> str:
        """Return the comment of a message, or of one of its fields."""
        return self._comment(_MESSAGES, message, _FIELD, field)

    def of_oneof(self, message: int, oneof: int) -> str:
        """Return the comment of a choice between fields of a message."""
        return self._comment(_MESSAGES, message, _ONEOF, oneof)

    def of_enum(self, enum: int, value: int | None = None) -> str:
        """Return the comment of an enum, or of one of its values."""
        return self._comment(_ENUMS, enum, _VALUE, value)

    def _comment(self, kind: int, number: int, part: int, index: int | None) -> str:
        place = (kind, number) if index is None else (kind, number, part, index)
        return self.comments.get(place, "")


@cache
def protos() -> tuple[Proto, ...]:
    """Return the proto files of the product, by name."""
    raw = files("release_manager").joinpath("descriptors.binpb").read_bytes()
    found = [f for f in FileDescriptorSet.FromString(raw).file if f.name.startswith(OURS)]
    return tuple(
        Proto(file, dict(_comments(file))) for file in sorted(found, key=lambda file: file.name)
    )


def types_of(proto: Proto) -> Iterator[DescriptorProto | EnumDescriptorProto]:
    """Yield the messages and enums of a file."""
    yield from proto.file.message_type
    yield from proto.file.enum_type


def type_of(field: FieldDescriptorProto) -> str:
    """Return the type of a field, by its full name where it is a message or an enum."""
    if field.type_name:
        return field.type_name.removeprefix(".")
    return FieldDescriptorProto.Type.Name(field.type).removeprefix("TYPE_").lower()


def entry_of(message: DescriptorProto, field: FieldDescriptorProto) -> DescriptorProto | None:
    """Return the type of the pairs of a map, None for any other field."""
    name = field.type_name.rpartition(".")[2]
    for nested in message.nested_type:
        if nested.name == name and nested.options.map_entry:
            return nested
    return None


def _comments(file: FileDescriptorProto) -> Iterator[tuple[Place, str]]:
    for location in file.source_code_info.location:
        if location.leading_comments:
            lines = (line.strip() for line in location.leading_comments.splitlines())
            yield tuple(location.path), "\n".join(lines).strip()
