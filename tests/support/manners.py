"""The manners that all RPCs share, and which of them a method has: read from its descriptor.

Where a method has not what all of its kind have, it stands in `EXCEPTIONS` with the reason. A test
keeps that list as short as it can be: what is not lacking any more fails as well as what is.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from buf.validate import validate_pb2
from google.protobuf.descriptor import FieldDescriptor, MethodDescriptor
from google.protobuf.descriptor_pb2 import MethodOptions
from release_manager.common.v1 import access_pb2

from tests.support.platform import product_methods

READING_VERBS: Final = (
    *("BatchGet", "Compare", "Diff", "Explain", "Export", "Follow", "Get", "List", "Plan"),
    *("Suggest", "Tail", "Verify", "Watch", "WhoAmI"),
)
_EVENTS = "the id of each event makes it repeatable, and there is nothing to try out"
_NO_SECRET_KEPT = "its answer holds a secret, which is not kept for a repeat"
_SAME_END = "the end is the same however often it is asked for"
_PASSWORD = "no password allows it twice, and nothing is to be tried out with one"
_REPAIR = "it may be repeated at any time, and changes nothing but what is missing"
_LEDGER = "a repeat finds what the first call made and changes nothing more"
_PLACED = "the place that the text has makes it repeatable, and there is nothing to try out"
_ADDS = "it adds something; nothing that was read before is changed"
_ONE_WAY = "there is one way to end it, and nothing else of it can change"
_SENDS = "it sends something, and is called to send it once more"
_NEW_SECRET = "a secret is replaced whatever it was"

EXCEPTIONS: Final[Mapping[str, Mapping[str, str]]] = {
    "request_id": {
        "AuditService/LogAction": _EVENTS,
        "AuditService/LogActions": _EVENTS,
        "RetentionService/RedactAuditLog": _LEDGER,
        "RetentionService/RetireAuditLogs": _LEDGER,
        "RetentionService/CreateLegalHold": _LEDGER,
        "RetentionService/ReleaseLegalHold": _LEDGER,
        "NotificationService/CreateWebhook": _NO_SECRET_KEPT,
        "NotificationService/RotateWebhookSecret": _NO_SECRET_KEPT,
        "NotificationService/TestWebhook": _SENDS,
        "NotificationService/RedeliverWebhookEvent": _SENDS,
        "IdentityService/Login": _NO_SECRET_KEPT,
        "IdentityService/Refresh": _NO_SECRET_KEPT,
        "IdentityService/Logout": _SAME_END,
        "IdentityService/ChangePassword": _PASSWORD,
        "IdentityService/CreateApiToken": _NO_SECRET_KEPT,
        "IdentityService/RotateApiToken": _NO_SECRET_KEPT,
        "CatalogService/ReconcileAudit": _REPAIR,
        "DeploymentService/ReconcileAudit": _REPAIR,
        "ExecutionService/RenewLease": "a repeat renews once more, which is what it is for",
        "OutputService/AppendStageOutput": _PLACED,
    },
    "validate_only": {
        "AuditService/LogAction": _EVENTS,
        "AuditService/LogActions": _EVENTS,
        "NotificationService/TestWebhook": "it is the trying out",
        "IdentityService/Login": "there is nothing to try out but the password",
        "IdentityService/Refresh": "there is nothing to try out but the token",
        "IdentityService/Logout": _SAME_END,
        "IdentityService/ChangePassword": _PASSWORD,
        "CatalogService/ReconcileAudit": _REPAIR,
        "DeploymentService/ReconcileAudit": _REPAIR,
        "OutputService/AppendStageOutput": _PLACED,
    },
    "etag": {
        "RetentionService/RedactAuditLog": "entries have no versions",
        "RetentionService/ReleaseLegalHold": _ONE_WAY,
        "NotificationService/TestWebhook": "it changes nothing",
        "IdentityService/RevokeSession": _ONE_WAY,
        "IdentityService/ResetPassword": _NEW_SECRET,
        "IdentityService/CreateApiToken": _ADDS,
        "IdentityService/RevokeApiToken": _ONE_WAY,
        "IdentityService/RotateApiToken": _NEW_SECRET,
        "CatalogService/RecordRunbookExecution": _ADDS,
        "DeploymentService/RecordDeploymentMetrics": _ADDS,
        "DeploymentService/PublishPolicy": "it has expected_version, since policies are numbered",
        "DeploymentService/MarkReleaseBad": "a mark is not part of the release's version",
        "DeploymentService/ClearReleaseBad": "a mark is not part of the release's version",
        "ExecutionService/RenewLease": "a sign of life is no new version",
        "RestrictionService/ReleaseLock": _ONE_WAY,
        "RestrictionService/OverrideGate": _ADDS,
        "OutputService/AppendStageOutput": _ADDS,
    },
    "update_mask": {
        "DeploymentService/UpdatePipelineStage": "it reports a step of a state machine",
    },
}

# Texts that name something, by an id or a name: what is named must be there, or NOT_FOUND.
_REFERENCES = """
    api_token_id approval approver approvers author compared_with deployed_by deployment
    deployment_id deployment_metric deployments environment environments exempt_services
    from_release id legal_hold lock owner pipeline_stage release releases rollback runbook
    service service_account services session_id stage target_release team teams to_release user
    users webhook window
"""
REFERENCES: Final = frozenset(_REFERENCES.split())
# All other texts, numbers and ids by which nothing is looked up.
_WORDS = """
    action aggregate aggregates artifact_digest closes_at comment commit content current_password
    description email etag event_id exception_dates executor fields filter first_opens_at full_name
    ip_address known_checkpoint lease_token minimum_version month name new_password notes opens_at
    order_by output page_token password producer query reason refresh_token repository request_id
    resource_id resource_type resume_token rule scopes service_id strict_stages tag tags text
    time_zone title unit url user_agent username version
"""
WORDS: Final = frozenset(_WORDS.split())


def called(method: MethodDescriptor) -> str:
    """Return the name of a method with its service's, which is enough to tell them apart."""
    return f"{method.containing_service.name}/{method.name}"


def methods_that(have: str = "", *, verbs: Sequence[str] = ()) -> Sequence[str]:
    """Return the methods whose requests have a field, or whose names begin with one of the verbs.

    They are full names in order, so that every process makes the same tests of them.
    """
    return sorted(
        name
        for name, method in product_methods().items()
        if (not have or have in method.input_type.fields_by_name)
        and (not verbs or method.name.startswith(tuple(verbs)))
    )


def only_reads(method: MethodDescriptor) -> bool:
    """Say whether the contract states that a method has no effect."""
    return bool(method.GetOptions().idempotency_level == MethodOptions.NO_SIDE_EFFECTS)


def required_role(method: MethodDescriptor) -> int:
    """Return the role that a method asks of its caller."""
    return int(method.GetOptions().Extensions[access_pb2.required_role])


def subject(method: MethodDescriptor) -> FieldDescriptor | None:
    """Return the field that names what a request is about: its first one, if it names anything."""
    fields = method.input_type.fields
    return fields[0] if fields and fields[0].name in REFERENCES else None


def references(method: MethodDescriptor) -> Sequence[str]:
    """Return the fields of a request that name something which must be there."""
    return [field.name for field in method.input_type.fields if field.name in REFERENCES]


def takes_ids_only(field: FieldDescriptor) -> bool:
    """Say whether a field takes the UUID of a thing and no name."""
    rules = field.GetOptions().Extensions[validate_pb2.field]
    return bool((rules.repeated.items if field.is_repeated else rules).string.uuid)
