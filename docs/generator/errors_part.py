"""The errors, by kind: reason, code, sentence and an example of the facts."""

import json
from functools import cache
from importlib.resources import files

from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet

from shared.domain_error import DomainError
from shared.rpc.status import CODES, errors_by_reason

PROTO = "release_manager/common/v1/errors.proto"
PREFIX = "ERROR_REASON_"
_ENUM_VALUE = 2  # EnumDescriptorProto.value


def errors_part() -> str:
    """Return a section for each code, the reasons in the order of the contract."""
    known = errors_by_reason()
    examples = _examples()
    sections = []
    for kind, code in CODES.items():
        mine = [known[reason] for reason in examples if known[reason].kind is kind]
        sections.append(f"## {code.name}\n")
        sections += [_entry(error, examples[error.reason]) for error in mine]
    return "\n".join(sections)


def _entry(error: type[DomainError], example: dict[str, str]) -> str:
    sentence = " ".join((error.__doc__ or "").split())
    lines = [f"### {error.reason}\n", f"> {sentence}\n"]
    if example:
        lines.append(f"Facts, as an example: `{json.dumps(example)}`\n")
    return "\n".join(lines)


@cache
def _examples() -> dict[str, dict[str, str]]:
    """Return the example of the facts of each reason, in the order of the enum."""
    raw = files("release_manager").joinpath("descriptors.binpb").read_bytes()
    described = next(file for file in FileDescriptorSet.FromString(raw).file if file.name == PROTO)
    values = described.enum_type[0].value
    place = [FileDescriptorProto.DESCRIPTOR.fields_by_name["enum_type"].number, 0, _ENUM_VALUE]
    found = {}
    for location in described.source_code_info.location:
        path = list(location.path)
        _, marker, example = location.leading_comments.partition("Example:")
        if path[:3] == place and len(path) == len(place) + 1 and marker:
            reason = values[path[3]].name.removeprefix(PREFIX)
            found[reason] = json.loads(" ".join(example.split()))
    return found
