"""What the contract promises about every RPC, read from its descriptors."""

from collections.abc import Iterator

import pytest
from google.protobuf.descriptor import Descriptor, MethodDescriptor
from release_manager.audit.v1 import audit_pb2, notifications_pb2, retention_pb2
from release_manager.catalog.v1 import catalog_pb2
from release_manager.common.v1 import access_pb2
from release_manager.common.v1.audit_receipt_pb2 import AuditReceipt
from release_manager.deployment.v1 import (
    deployment_pb2,
    execution_pb2,
    output_pb2,
    restrictions_pb2,
)
from release_manager.identity.v1 import identity_pb2

from tests.support.manners import READING_VERBS

# The ledger itself keeps no outbox: the entry is part of the change. The id of an event is its
# request id, and what is erased, dropped or held is so only once.
LEDGER_WRITES = {
    *("LogAction", "LogActions"),
    *("RedactAuditLog", "RetireAuditLogs", "CreateLegalHold", "ReleaseLegalHold"),
    *("CreateWebhook", "UpdateWebhook", "DeleteWebhook", "RotateWebhookSecret"),
    *("TestWebhook", "RedeliverWebhookEvent"),
}
# A repair that may be repeated at any time and makes no entries of its own.
REPAIRS = {"ReconcileAudit"}
# An end that is the same however often it is asked for, a change that no password allows twice, and
# a text whose place says whether it is there already, and a sign of life.
REPEATABLE = {"Logout", "ChangePassword", "AppendStageOutput", "RenewLease"}


def _methods() -> Iterator[MethodDescriptor]:
    for module in (
        audit_pb2,
        notifications_pb2,
        retention_pb2,
        catalog_pb2,
        deployment_pb2,
        execution_pb2,
        restrictions_pb2,
        identity_pb2,
        output_pb2,
    ):
        for service in module.DESCRIPTOR.services_by_name.values():
            yield from service.methods


METHODS = list(_methods())
CHANGES = [
    method
    for method in METHODS
    if not method.name.startswith(READING_VERBS) and method.name not in LEDGER_WRITES
]


def _called(method: MethodDescriptor) -> str:
    return str(method.full_name).removeprefix("release_manager.")


def _has_secret(message: Descriptor) -> bool:
    return any(
        field.GetOptions().Extensions[access_pb2.sensitive]
        or (field.message_type is not None and _has_secret(field.message_type))
        for field in message.fields
        if field.message_type is None or field.message_type.file.package.startswith("release_")
    )


@pytest.mark.parametrize("method", METHODS, ids=_called)
def test_every_rpc_says_who_may_call_it(method: MethodDescriptor) -> None:
    options = method.GetOptions().Extensions

    role = options[access_pb2.required_role]

    assert role != access_pb2.ROLE_UNSPECIFIED
    if role == access_pb2.ROLE_SERVICE_ACCOUNT:
        assert options[access_pb2.required_scope]


@pytest.mark.parametrize("method", METHODS, ids=_called)
def test_every_change_says_what_happens_during_an_audit_backlog(method: MethodDescriptor) -> None:
    treatment = method.GetOptions().Extensions[access_pb2.during_audit_backlog]

    stated = treatment != access_pb2.DURING_AUDIT_BACKLOG_UNSPECIFIED

    assert stated == (method in CHANGES)


def test_who_has_to_decide_can_as_long_as_the_time_to_decide_goes_on() -> None:
    """Waits for decisions end beyond the soft limit as before, but not beyond the hard one."""
    deciding = {"ApproveDeployment", "RejectDeployment", "RevokeApproval"}
    treated = {
        method.name: method.GetOptions().Extensions[access_pb2.during_audit_backlog]
        for method in CHANGES
        if method.name in deciding
    }

    assert treated == dict.fromkeys(deciding, access_pb2.DURING_AUDIT_BACKLOG_CONTINUE)


@pytest.mark.parametrize("method", CHANGES, ids=_called)
def test_every_change_answers_with_its_audit_receipt(method: MethodDescriptor) -> None:
    receipt = method.output_type.fields_by_name.get("audit")

    if method.name not in REPAIRS:
        assert receipt is not None
        assert receipt.message_type is AuditReceipt.DESCRIPTOR


@pytest.mark.parametrize("method", CHANGES, ids=_called)
def test_every_change_can_be_repeated_unless_its_answer_is_a_secret(
    method: MethodDescriptor,
) -> None:
    repeatable = "request_id" in method.input_type.fields_by_name

    assert repeatable != (_has_secret(method.output_type) or method.name in REPAIRS | REPEATABLE)


@pytest.mark.parametrize("method", METHODS, ids=_called)
def test_every_rpc_has_messages_of_its_own(method: MethodDescriptor) -> None:
    assert method.input_type.name == f"{method.name}Request"
    assert method.output_type.name == f"{method.name}Response"
