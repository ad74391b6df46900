"""What any call may be refused with: what it says, who makes it, what it names, and when."""

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


class IllegalTransition(DomainError, kind=Kind.PRECONDITION):
    """{subject} is {status}, which does not allow {action}. Allowed now: {allowed}."""


class EtagMismatch(DomainError, kind=Kind.CONFLICT):
    """The {resource_type} has changed since you read it: its version is {current}. Read it again
    with its Get call and repeat the change.
    """


class ConcurrentChange(DomainError, kind=Kind.CONFLICT):
    """Somebody else is changing the same thing at this moment. Repeat the call with the same
    request id.
    """


class LoginBusy(DomainError, kind=Kind.EXHAUSTED):
    """Too many people are logging in at this moment. Try again shortly."""


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


class UnexpectedError(DomainError, kind=Kind.INTERNAL):
    """Something failed that should not have. Quote request {request_id} to the operators of this
    service.
    """


class ExpressionInvalid(DomainError, kind=Kind.INVALID):
    """The expression in {field} cannot be read at character {position}: {problem}."""


class PasswordChangeRequired(DomainError, kind=Kind.DENIED):
    """The password must be changed first. Call ChangePassword, and go on two seconds later."""
