"""The committed descriptor set, which has what the generated code has lost: the comments."""

from functools import cache
from importlib.resources import files

from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet

ENUM_TYPE = FileDescriptorProto.DESCRIPTOR.fields_by_name["enum_type"].number
ENUM_VALUE = 2  # EnumDescriptorProto.value


@cache
def described(path: str) -> FileDescriptorProto:
    """Return the description of a proto file by its import path."""
    raw = files("release_manager").joinpath("descriptors.binpb").read_bytes()
    return next(file for file in FileDescriptorSet.FromString(raw).file if file.name == path)


def comments_of(path: str, enum: str) -> dict[str, str]:
    """Return the comment of each value of an enum at the top level of a file."""
    file = described(path)
    index = next(n for n, found in enumerate(file.enum_type) if found.name == enum)
    values = file.enum_type[index].value
    return {
        values[location.path[3]].name: location.leading_comments
        for location in file.source_code_info.location
        if list(location.path[:3]) == [ENUM_TYPE, index, ENUM_VALUE] and len(location.path) == 4
    }
