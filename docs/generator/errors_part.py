"""The errors, by kind: reason, code, sentence and an example of the facts."""

import json

from docs.generator.contract import protos
from shared.domain_error import DomainError
from shared.rpc.status import CODES, errors_by_reason

PROTO = "release_manager/common/v1/errors.proto"
PREFIX = "ERROR_REASON_"


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


def _examples() -> dict[str, dict[str, str]]:
    """Return the example of the facts of each reason, in the order of the enum."""
    (proto,) = (proto for proto in protos() if proto.file.name == PROTO)
    found = {}
    for number, value in enumerate(proto.file.enum_type[0].value):
        _, marker, example = proto.of_enum(0, number).partition("Example:")
        if marker:
            found[value.name.removeprefix(PREFIX)] = json.loads(" ".join(example.split()))
    return found
