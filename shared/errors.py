"""Every error of the product, declared once: a reason, a kind and the facts it carries.

The docstring of an error is the sentence its caller reads, with the facts filled in; its name is
the reason on the wire (`ErrorReason` in `common/v1/errors.proto`; a test keeps both equal).
Rules and operations raise these and know nothing of gRPC: `shared.rpc.status` maps kinds to codes.
"""

import re
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum, auto
from typing import ClassVar


class Kind(StrEnum):
    """What went wrong, in terms a caller can act on; one kind is one gRPC status code."""

    INVALID = auto()
    UNAUTHENTICATED = auto()
    DENIED = auto()
    MISSING = auto()
    EXISTS = auto()
    PRECONDITION = auto()
    CONFLICT = auto()
    EXHAUSTED = auto()
    UNAVAILABLE = auto()
    DEADLINE = auto()
    RANGE = auto()
    INTERNAL = auto()


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """A field that breaks a rule: its path, what is wrong, and the id of the rule."""

    field: str
    description: str
    rule: str = ""


@dataclass(frozen=True, slots=True)
class GateViolation:
    """A gate that is not satisfied: its name, what it is about, why and what would satisfy it."""

    gate: str
    subject: str
    description: str


class DomainError(Exception):
    """Base of all errors of the product.

    `facts` are the values named in the docstring of the subclass, and any others that a program
    may want; all are strings on the wire. `fields`, `gates` and `retry_after` become
    `BadRequest`, `PreconditionFailure` and `RetryInfo`.
    """

    kind: ClassVar[Kind]
    reason: ClassVar[str]

    def __init_subclass__(cls) -> None:
        """Derive the reason from the class name: `SlotTaken` is `SLOT_TAKEN`."""
        cls.reason = re.sub(r"(?<!^)(?=[A-Z])", "_", cls.__name__).upper()

    def __init__(
        self,
        *,
        fields: tuple[FieldViolation, ...] = (),
        gates: tuple[GateViolation, ...] = (),
        retry_after: timedelta | None = None,
        **facts: object,
    ) -> None:
        """Fill the facts into the docstring; a fact the docstring names must be given."""
        self.facts = {name: str(value) for name, value in facts.items()}
        self.fields = fields
        self.gates = gates
        self.retry_after = retry_after
        sentence = " ".join((type(self).__doc__ or "").split())
        super().__init__(sentence.format_map(self.facts))


class ValidationFailed(DomainError):
    """The request breaks {count} of the documented rules: {first}. Correct the fields named in the
    details and send it again.
    """

    kind = Kind.INVALID


class MalformedRequest(DomainError):
    """The request could not be decoded as {message}. Check that client and server use the same
    protos.
    """

    kind = Kind.INVALID


class PageTokenInvalid(DomainError):
    """The page token does not belong to this query. Start again without a page token and keep
    every other argument unchanged between pages.
    """

    kind = Kind.INVALID


class RequestIdReused(DomainError):
    """Request id {request_id} was already used for a different request. Use a new UUID for each
    new request.
    """

    kind = Kind.INVALID


class CredentialsMissing(DomainError):
    """No credentials were sent. Log in with IdentityService/Login and send the access token as the
    metadata "authorization: Bearer TOKEN".
    """

    kind = Kind.UNAUTHENTICATED


class TokenRejected(DomainError):
    """The token is not valid here or has expired. Log in again, or refresh the session."""

    kind = Kind.UNAUTHENTICATED


class LoginRefused(DomainError):
    """The user name or password is wrong, or the account cannot log in now. Check both, wait a
    moment and try again.
    """

    kind = Kind.UNAUTHENTICATED


class RoleRequired(DomainError):
    """This call needs the role {required} or higher; you have {role}. Ask an administrator, or
    somebody with that role.
    """

    kind = Kind.DENIED


class ScopeRequired(DomainError):
    """This call needs a service account with the scope {scope}. Ask an administrator to add it to
    the account.
    """

    kind = Kind.DENIED


class NotPermitted(DomainError):
    """You may not {action} here: {because}."""

    kind = Kind.DENIED


class ResourceNotFound(DomainError):
    """There is no {resource_type} {resource}. Check the name or id; list what exists with the
    matching List call.
    """

    kind = Kind.MISSING


class ResourceExists(DomainError):
    """A {resource_type} {resource} already exists. Choose another name, or read the existing one."""

    kind = Kind.EXISTS


class ReleaseContentDiffers(DomainError):
    """Release {release} is already published with other content ({parts}). Publish the new
    content under a new version.
    """

    kind = Kind.EXISTS


class DeploymentExists(DomainError):
    """Release {release} is already {status} in {environment} as deployment {deployment}. Follow
    that deployment instead.
    """

    kind = Kind.EXISTS


class RollbackExists(DomainError):
    """A rollback of {service} in {environment} is already running as deployment {deployment}.
    Follow that one, or wait until it has ended.
    """

    kind = Kind.EXISTS


class DecisionExists(DomainError):
    """You have already decided {decision} on deployment {deployment}. A decision cannot be
    replaced by another one.
    """

    kind = Kind.EXISTS


class EventIdReused(DomainError):
    """Event id {event_id} is already in the ledger with other content, at index {leaf_index}. Use
    a new event id for a new event.
    """

    kind = Kind.EXISTS


class AggregateSequenceReused(DomainError):
    """Sequence {aggregate_seq} of {aggregate} is already in the ledger under event id {event_id}.
    Send each version of an aggregate under one event id.
    """

    kind = Kind.EXISTS


class IllegalTransition(DomainError):
    """{subject} is {status}, which does not allow {action}. Allowed now: {allowed}."""

    kind = Kind.PRECONDITION


class GateUnsatisfied(DomainError):
    """The deployment cannot go ahead: {summary}. The details name each gate and what satisfies it."""

    kind = Kind.PRECONDITION


class NotEnoughApprovers(DomainError):
    """{environment} needs {needed} approvers and only {eligible} people may approve this
    deployment. Have somebody else request it, or ask an administrator to add approvers.
    """

    kind = Kind.PRECONDITION


class StageOutOfOrder(DomainError):
    """Stage {stage} cannot go to {status} before {blocking} has ended. Update the earlier stages
    first.
    """

    kind = Kind.PRECONDITION


class StageResultFinal(DomainError):
    """Stage {stage} has already ended as {status}. The result of a finished attempt cannot be
    changed.
    """

    kind = Kind.PRECONDITION


class StagesDriveDeployment(DomainError):
    """Deployment {deployment} has stages, which start and finish it. Call UpdatePipelineStage
    instead.
    """

    kind = Kind.PRECONDITION


class NothingDeployed(DomainError):
    """Deployment {deployment} never touched {environment}. {running}"""

    kind = Kind.PRECONDITION


class NoStableRelease(DomainError):
    """There is no earlier stable release of {service} in {environment} to go back to. {candidates}"""

    kind = Kind.PRECONDITION


class RollbackBlocked(DomainError):
    """Going back from {release} is blocked, because it is flagged irreversible. Roll forward with
    a new release.
    """

    kind = Kind.PRECONDITION


class TargetNeverDeployed(DomainError):
    """Release {release} has never completed in {environment}. Name a release that has, or deploy
    it in the ordinary way.
    """

    kind = Kind.PRECONDITION


class SlotTaken(DomainError):
    """{service} in {environment} is busy with deployment {deployment}, which is {status}. Wait for
    it, cancel it, or repeat the call with preempt.
    """

    kind = Kind.PRECONDITION


class ReleaseIncomplete(DomainError):
    """Release {release} cannot be published without {missing}. Create the release with it, then
    publish.
    """

    kind = Kind.PRECONDITION


class ReleaseInUse(DomainError):
    """Release {release} is {use} in {environment}. It cannot be abandoned now."""

    kind = Kind.PRECONDITION


class ResourceReferenced(DomainError):
    """{resource_type} {resource} is still used by {used_by}."""

    kind = Kind.PRECONDITION


class ReferenceInactive(DomainError):
    """The {resource_type} {resource} is not active. Choose an active one."""

    kind = Kind.PRECONDITION


class EventTooOld(DomainError):
    """Event id {event_id} is older than the {horizon_days} days within which duplicates are
    recognized. Send the event under a new id.
    """

    kind = Kind.PRECONDITION


class EtagMismatch(DomainError):
    """The {resource_type} has changed since you read it: its version is {current}. Read it again
    and repeat the change.
    """

    kind = Kind.CONFLICT


class StaleRollback(DomainError):
    """Deployment {deployment} is no longer the latest in {environment}; deployment {latest} is.
    Look at that one and decide again.
    """

    kind = Kind.CONFLICT


class ConcurrentChange(DomainError):
    """Somebody else is changing the same thing at this moment. Repeat the call with the same
    request id.
    """

    kind = Kind.CONFLICT


class LeaseLost(DomainError):
    """The lease of deployment {deployment} is not yours any more. Claim the deployment again
    before you go on.
    """

    kind = Kind.CONFLICT


class LoginBusy(DomainError):
    """Too many people are logging in at this moment. Try again shortly."""

    kind = Kind.EXHAUSTED


class AppendQueueFull(DomainError):
    """The ledger's queue is full. Repeat the call with the same event id after the delay in the
    details.
    """

    kind = Kind.EXHAUSTED


class ExportSlotsTaken(DomainError):
    """{running} exports are running already. Wait until one ends."""

    kind = Kind.EXHAUSTED


class DatabaseFull(DomainError):
    """The database has no space left. An operator must free some; nothing was changed."""

    kind = Kind.EXHAUSTED


class TooManyConnections(DomainError):
    """The database accepts no more connections at this moment. Try again shortly."""

    kind = Kind.EXHAUSTED


class AuditBacklog(DomainError):
    """The audit service has not acknowledged changes for too long ({pending} wait), so new changes
    are refused. Try again later; an operator should look at the audit service.
    """

    kind = Kind.UNAVAILABLE


class DatabaseUnavailable(DomainError):
    """The database cannot be reached at this moment. Try again shortly with the same request id."""

    kind = Kind.UNAVAILABLE


class AuditUnavailable(DomainError):
    """The audit service cannot be reached at this moment. Try again shortly with the same event
    id.
    """

    kind = Kind.UNAVAILABLE


class ServerStopping(DomainError):
    """This server is shutting down. Repeat the call; a stream continues from its last position."""

    kind = Kind.UNAVAILABLE


class DeadlineTooShort(DomainError):
    """The deadline leaves no time to do the work. Repeat the call with a longer one and the same
    request id.
    """

    kind = Kind.DEADLINE


class DeadlineExceeded(DomainError):
    """The call was not finished before its deadline. Repeat it with the same request id and a
    longer deadline.
    """

    kind = Kind.DEADLINE


class PositionOutOfRange(DomainError):
    """The position {position} is beyond the end of the ledger, which has {size} entries."""

    kind = Kind.RANGE


class UnexpectedError(DomainError):
    """Something failed that should not have. Quote request {request_id} to the operators of this
    service.
    """

    kind = Kind.INTERNAL
