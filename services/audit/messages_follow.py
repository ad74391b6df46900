"""Followed entries as wire messages, and requests as the entries about reading tell them."""

import json

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from release_manager.audit.v1 import audit_pb2 as pb

from services.audit.reading.following import Batch

# Details of an entry may be 20 levels deep, and so may the details of a filter inside of them.
DEEPEST = 15
TOKENS = frozenset({"page_token", "resume_token"})


def followed(batch: Batch) -> pb.FollowAuditLogsResponse:
    """Return entries, or how far a stream is."""
    answer = pb.FollowAuditLogsResponse(audit_logs=batch.entries, next_index=batch.next_index)
    if batch.checkpoint is not None:
        answer.checkpoint.tree_size = batch.checkpoint.size
        answer.checkpoint.root = batch.checkpoint.root
        answer.checkpoint.note = batch.checkpoint.note
    return answer


def asked(request: Message) -> dict[str, object]:
    """Return what a request asks for, in JSON types that an entry can hold.

    Of a token, which is of use to its owner only, it says that there was one.
    """
    fields = MessageToDict(request, preserving_proto_field_name=True)
    given: dict[str, object] = {"filter": {}}
    for name, value in fields.items():
        field = request.DESCRIPTOR.fields_by_name[name]
        if name in TOKENS:
            given["resumed"] = True
        elif field.cpp_type == FieldDescriptor.CPPTYPE_INT64:
            given[name] = getattr(request, name)  # JSON has it as a string
        else:
            given[name] = _storable(value, DEEPEST)
    return given


def _storable(value: object, levels: int) -> object:
    """Return a JSON value that an entry can hold; what is nested too deep becomes its text."""
    if isinstance(value, dict | list) and not levels:
        return json.dumps(value)
    if isinstance(value, dict):
        return {name: _storable(item, levels - 1) for name, item in value.items()}
    if isinstance(value, list):
        return [_storable(item, levels - 1) for item in value]
    return value
