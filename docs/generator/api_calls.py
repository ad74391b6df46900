"""What is to be known about a call: who may make it, how it may be repeated, how it can end."""

import re
from collections.abc import Iterator

from google.protobuf.descriptor_pb2 import DescriptorProto, MethodDescriptorProto, MethodOptions
from release_manager.common.v1 import access_pb2

from shared.rpc.status import errors_by_reason

_WORDS = re.compile(r"\b[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+\b")
_BACKLOG = {
    access_pb2.DURING_AUDIT_BACKLOG_REFUSE: "refused beyond the soft limit",
    access_pb2.DURING_AUDIT_BACKLOG_CONTINUE: "goes on beyond the soft limit, and is refused beyond"
    " the hard one",
    access_pb2.DURING_AUDIT_BACKLOG_ALLOW: "never refused",
}
_LIMITED = (access_pb2.DURING_AUDIT_BACKLOG_REFUSE, access_pb2.DURING_AUDIT_BACKLOG_CONTINUE)
# Fields of requests that bring a reason with them.
_REASONS = {
    "request_id": ("REQUEST_ID_REUSED",),
    "etag": ("ETAG_MISMATCH",),
    "page_token": ("PAGE_TOKEN_INVALID",),
    "filter": ("EXPRESSION_INVALID",),
    "order_by": ("EXPRESSION_INVALID",),
}
_TEXT = 9  # FieldDescriptorProto.TYPE_STRING
_BY_NAME = "name or id"


def who(method: MethodDescriptorProto) -> str:
    """Return who may make a call."""
    options = method.options.Extensions
    role, scope = options[access_pb2.required_role], options[access_pb2.required_scope]
    if role == access_pb2.ROLE_ANYONE:
        return "anybody, with or without a token"
    if role == access_pb2.ROLE_SERVICE_ACCOUNT:
        return f"service accounts with the scope `{scope}`, whatever their role"
    name = access_pb2.Role.Name(role).removeprefix("ROLE_").lower()
    above = "" if role == access_pb2.ROLE_ADMIN else " or higher"
    besides = f"; a service account needs the scope `{scope}` as well" if scope else ""
    return f"`{name}`{above}{besides}"


def during_backlog(method: MethodDescriptorProto) -> str:
    """Return what becomes of a call while the ledger lags; empty when it is no matter."""
    return _BACKLOG.get(method.options.Extensions[access_pb2.during_audit_backlog], "")


def repeating(method: MethodDescriptorProto, request: DescriptorProto) -> str:
    """Return how a call may be repeated."""
    if method.options.idempotency_level == MethodOptions.NO_SIDE_EFFECTS:
        return "at will: it changes nothing"
    if "request_id" in {field.name for field in request.field}:
        return "safe with the same `request_id`, which gets the first answer for 24 hours"
    return "it has no `request_id`; what a repeat does is said above"


def reasons(
    method: MethodDescriptorProto,
    request: DescriptorProto,
    comments: Iterator[str],
    *,
    has_rules: bool,
) -> list[str]:
    """Return the reasons with which a call can end, as far as the contract says so.

    `comments` are those of the method and of its request; `has_rules` says whether it has any.
    """
    known = errors_by_reason()
    texts = list(comments)
    options = method.options.Extensions
    found = ["VALIDATION_FAILED"] if has_rules else []
    if options[access_pb2.required_role] not in {
        *(access_pb2.ROLE_ANYONE, access_pb2.ROLE_VIEWER, access_pb2.ROLE_SERVICE_ACCOUNT)
    }:
        found.append("ROLE_REQUIRED")
    if options[access_pb2.required_scope]:
        found.append("SCOPE_REQUIRED")
    if any(_BY_NAME in text for text in texts):
        found.append("RESOURCE_NOT_FOUND")
    if options[access_pb2.during_audit_backlog] in _LIMITED:
        found.append("AUDIT_BACKLOG")
    for field in request.field:
        if field.name in {"filter", "order_by"} and field.type != _TEXT:
            continue
        found += _REASONS.get(field.name, ())
    found += [word for text in texts for word in _WORDS.findall(text) if word in known]
    order = {reason: number for number, reason in enumerate(known)}
    return sorted(set(found), key=order.__getitem__)
