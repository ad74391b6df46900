"""Every error of the product, declared once: a reason, a kind and the facts it carries.

The docstring of an error is the sentence its caller reads, with the facts filled in, its name is
the reason on the wire (`ErrorReason` in `common/v1/errors.proto`; a test keeps both equal).
Rules and operations raise these and know nothing of gRPC: `shared.rpc.status` maps kinds to codes.
"""

from shared.domain_error import DomainError, Kind


class ValidationFailed(DomainError, kind=Kind.INVALID):
    """The request breaks {count} of the documented rules: {first}. Correct the fields named in the
    details and send it again.
    """


class MalformedRequest(DomainError, kind=Kind.INVALID):
    """The request is no {message}. Check that client and server use the same protos."""


class PageTokenInvalid(DomainError, kind=Kind.INVALID):
    """The page token does not belong to this query, or is older than two weeks. Start again without
    a page token and keep every other argument unchanged between pages.
    """


class RequestIdReused(DomainError, kind=Kind.INVALID):
    """Request id {request_id} was used for a different request. Use a new UUID for each one."""


class CredentialsMissing(DomainError, kind=Kind.UNAUTHENTICATED):
    """No credentials were sent. Log in with IdentityService/Login and send the access token as the
    metadata "authorization: Bearer TOKEN".
    """


class TokenRejected(DomainError, kind=Kind.UNAUTHENTICATED):
    """The token is not valid or expired. Call Login or Refresh; a program takes a new API token."""


class LoginRefused(DomainError, kind=Kind.UNAUTHENTICATED):
    """The user name or password is wrong, or the account cannot log in now. Check both, wait a
    moment and try again.
    """


class RoleRequired(DomainError, kind=Kind.DENIED):
    """This call needs the role {required} or higher; you have {role}. Ask somebody who has it."""


class ScopeRequired(DomainError, kind=Kind.DENIED):
    """This call needs a service account with the scope {scope}. Ask an administrator to add it with
    UpdateServiceAccount.
    """


class NotPermitted(DomainError, kind=Kind.DENIED):
    """You may not {action} here: {because}."""


class ResourceNotFound(DomainError, kind=Kind.MISSING):
    """There is no {resource_type} {resource}. Check the name or id; list what exists with the
    matching List call.
    """


class ResourceExists(DomainError, kind=Kind.EXISTS):
    """The {resource_type} {resource} already exists. Choose another name, or read that one."""


class ReleaseContentDiffers(DomainError, kind=Kind.EXISTS):
    """Release {release} is already published with other content ({parts}). Publish the new
    content under a new version.
    """


class DeploymentExists(DomainError, kind=Kind.EXISTS):
    """Release {release} is already {status} in {environment} as deployment {deployment}. Follow
    that one with GetDeployment, or stop it with CancelDeployment.
    """


class RollbackExists(DomainError, kind=Kind.EXISTS):
    """A rollback of {service} in {environment} is already running as deployment {deployment}.
    Follow that one with GetDeployment until it has ended.
    """


class DecisionExists(DomainError, kind=Kind.EXISTS):
    """You have already decided {decision} on deployment {deployment}. Take that back with
    RevokeApproval first.
    """


class EventIdReused(DomainError, kind=Kind.EXISTS):
    """Event id {event_id} is already in the ledger with other content, at index {leaf_index}. Use
    a new event id for a new event.
    """


class AggregateSequenceReused(DomainError, kind=Kind.EXISTS):
    """Sequence {aggregate_seq} of {aggregate} is already in the ledger under event id {event_id}.
    Send each version of an aggregate under one event id.
    """


class IllegalTransition(DomainError, kind=Kind.PRECONDITION):
    """{subject} is {status}, which does not allow {action}. Allowed now: {allowed}."""


class GateUnsatisfied(DomainError, kind=Kind.PRECONDITION):
    """The deployment cannot go ahead: {summary}. The details name each gate and what satisfies
    it.
    """


class NotEnoughApprovers(DomainError, kind=Kind.PRECONDITION):
    """{environment} needs {needed} approvers and only {eligible} people may approve this
    deployment. Have somebody else request it, or ask an administrator to add approvers.
    """


class StageOutOfOrder(DomainError, kind=Kind.PRECONDITION):
    """Stage {stage} cannot go to {status} before {blocking} has ended. Report the earlier stages
    with UpdatePipelineStage first.
    """


class StageResultFinal(DomainError, kind=Kind.PRECONDITION):
    """Stage {stage} has already ended as {status}, which cannot be changed. RetryStage tries a
    failed one again while the deployment is paused; else PromoteRelease makes a new one.
    """


class StagesDriveDeployment(DomainError, kind=Kind.PRECONDITION):
    """Deployment {deployment} has stages, which start and finish it. Call UpdatePipelineStage
    instead.
    """


class NothingDeployed(DomainError, kind=Kind.PRECONDITION):
    """Deployment {deployment} never touched {environment}. {running}"""


class NoStableRelease(DomainError, kind=Kind.PRECONDITION):
    """There is no earlier stable release of {service} in {environment} to go back to. {candidates}
    Deploy a release that works with PromoteRelease instead.
    """


class RollbackBlocked(DomainError, kind=Kind.PRECONDITION):
    """Going back from {release} is blocked, because it is flagged irreversible. Roll forward:
    deploy another release with PromoteRelease. A lead or an admin who knows that it can be undone
    calls ExecuteRollback with cross_irreversible.
    """


class TargetNeverDeployed(DomainError, kind=Kind.PRECONDITION):
    """Release {release} has never completed in {environment}. Name a release that has, or deploy
    this one with PromoteRelease.
    """


class SlotTaken(DomainError, kind=Kind.PRECONDITION):
    """{service} in {environment} is busy with deployment {deployment}, which is {status}. Wait for
    its end or stop it with CancelDeployment; a rollback stops it with preempt.
    """


class ReleaseIncomplete(DomainError, kind=Kind.PRECONDITION):
    """Release {release} cannot be published without {missing}. Give it to PublishRelease, or to
    UpdateRelease before.
    """


class ReleaseInUse(DomainError, kind=Kind.PRECONDITION):
    """Release {release} is {use} in {environment}, so it cannot be {wish} now. {remedy}"""


class ResourceReferenced(DomainError, kind=Kind.PRECONDITION):
    """The {resource_type} {resource} is still used by {used_by}. End that first; what cannot be
    deleted can be archived or deactivated.
    """


class ReferenceInactive(DomainError, kind=Kind.PRECONDITION):
    """The {resource_type} {resource} is not active. Choose an active one."""


class EventTooOld(DomainError, kind=Kind.PRECONDITION):
    """Event id {event_id} is older than the {horizon_days} days within which duplicates are
    recognized. Send the event under a new id.
    """


class EtagMismatch(DomainError, kind=Kind.CONFLICT):
    """The {resource_type} has changed since you read it: its version is {current}. Read it again
    with its Get call and repeat the change.
    """


class StaleRollback(DomainError, kind=Kind.CONFLICT):
    """Deployment {deployment} is no longer the latest in {environment}; deployment {latest} is.
    Look at that one and decide again whether to call ExecuteRollback.
    """


class ConcurrentChange(DomainError, kind=Kind.CONFLICT):
    """Somebody else is changing the same thing at this moment. Repeat the call with the same
    request id.
    """


class LeaseLost(DomainError, kind=Kind.CONFLICT):
    """The lease of deployment {deployment} is not yours any more. Claim the deployment again with
    ClaimDeployment before you go on.
    """


class LoginBusy(DomainError, kind=Kind.EXHAUSTED):
    """Too many people are logging in at this moment. Try again shortly."""


class AppendQueueFull(DomainError, kind=Kind.EXHAUSTED):
    """The ledger's queue is full. Repeat the call with the same event id after the delay in the
    details.
    """


class ExportSlotsTaken(DomainError, kind=Kind.EXHAUSTED):
    """{running} exports are running already. Wait until one ends."""


class DatabaseFull(DomainError, kind=Kind.EXHAUSTED):
    """The database has no space left. An operator must free some; nothing was changed."""


class TooManyConnections(DomainError, kind=Kind.EXHAUSTED):
    """The database accepts no more connections at this moment. Try again shortly."""


class AuditBacklog(DomainError, kind=Kind.UNAVAILABLE):
    """The audit service has not acknowledged changes for too long ({pending} wait), so new changes
    are refused. Try again later; an operator should look at the audit service.
    """


class DatabaseUnavailable(DomainError, kind=Kind.UNAVAILABLE):
    """The database cannot be reached at this moment. Try again shortly with the same request id."""


class AuditUnavailable(DomainError, kind=Kind.UNAVAILABLE):
    """The audit service cannot be reached at this moment. Try again shortly with the same event
    id.
    """


class ServerStopping(DomainError, kind=Kind.UNAVAILABLE):
    """This server is shutting down. Repeat the call; a stream continues from its last position."""


class DeadlineTooShort(DomainError, kind=Kind.DEADLINE):
    """The deadline leaves no time to do the work. Repeat the call with a longer one and the same
    request id.
    """


class DeadlineExceeded(DomainError, kind=Kind.DEADLINE):
    """The call was not finished before its deadline. Repeat it with the same request id and a
    longer deadline.
    """


class PositionOutOfRange(DomainError, kind=Kind.RANGE):
    """The position {position} is beyond the end of the ledger, or of the tree asked for, which has
    {size} entries. Take a smaller one; where the ledger had more before, tell the operators.
    """


class UnexpectedError(DomainError, kind=Kind.INTERNAL):
    """Something failed that should not have. Quote request {request_id} to the operators of this
    service.
    """


class SigningStopped(DomainError, kind=Kind.UNAVAILABLE):
    """The ledger holds {size} entries, but signs no checkpoints at this moment: {problem}. An
    operator must look at it; what was appended is stored.
    """


class ExportChanged(DomainError, kind=Kind.PRECONDITION):
    """An entry of the export was redacted or retired since it began, at position {position}. Export
    again from the start.
    """


class FollowSlotsTaken(DomainError, kind=Kind.EXHAUSTED):
    """{running} streams are followed already. Close one, or wait until one ends."""


class WebhooksTaken(DomainError, kind=Kind.EXHAUSTED):
    """There are {most} webhooks already. Delete one with DeleteWebhook, or let one serve both."""


class EntryRetired(DomainError, kind=Kind.PRECONDITION):
    """The entry at {position} was retired with its month by the entry at {retired_by}; its leaf is
    still in the tree. Go on from {next_index}.
    """


class UnderLegalHold(DomainError, kind=Kind.PRECONDITION):
    """The legal hold {hold} covers the entry at {position}. Release the hold first."""


class NotRetirable(DomainError, kind=Kind.PRECONDITION):
    """The month {month} cannot be retired: {because}."""


class NotRedactable(DomainError, kind=Kind.PRECONDITION):
    """The entry at {position} cannot be redacted: {because}."""


class ExpressionInvalid(DomainError, kind=Kind.INVALID):
    """The expression in {field} cannot be read at character {position}: {problem}."""


class ResourceArchived(DomainError, kind=Kind.PRECONDITION):
    """The {resource_type} {resource} is archived. Take it out with its Unarchive call first."""


class LastAdmin(DomainError, kind=Kind.PRECONDITION):
    """{username} is the last active admin. Make somebody else an admin with UpdateUser first."""


class DependencyCircle(DomainError, kind=Kind.PRECONDITION):
    """The dependencies would go round in a circle: {circle}. Leave one of them out."""


class PasswordChangeRequired(DomainError, kind=Kind.DENIED):
    """The password must be changed first. Call ChangePassword, and go on two seconds later."""


class RunbookLacks(DomainError, kind=Kind.PRECONDITION):
    """The runbook {runbook} has no {what}. {remedy}"""


class LeaseHeld(DomainError, kind=Kind.PRECONDITION):
    """Deployment {deployment} is claimed by {executor} ({holder}) until {until}. Send the token of
    that lease, wait until it ends, or stop the deployment with CancelDeployment.
    """


class OutputOffset(DomainError, kind=Kind.CONFLICT):
    """Offset {offset} does not go on with the output of stage {stage}, which has {size} bytes:
    {problem}. Send what comes next with AppendStageOutput at offset {size}.
    """


class OutputFull(DomainError, kind=Kind.EXHAUSTED):
    """The output of stage {stage} has {size} of at most {limit} bytes, of which each call takes at
    least {least}. Store the rest elsewhere, and with AppendStageOutput say where in the {left}
    bytes that are left.
    """


class OutputMixed(DomainError, kind=Kind.PRECONDITION):
    """The output of stage {stage} comes by {call}, in {size} bytes so far, and by nothing else
    until the attempt has ended. {remedy}
    """


class OutputOutOfRange(DomainError, kind=Kind.RANGE):
    """Offset {offset} is beyond the output of attempt {attempt} at stage {stage}, which has {size}
    bytes. Call TailStageOutput with a smaller one.
    """
