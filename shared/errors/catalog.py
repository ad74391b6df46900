"""What is refused of teams, people, services, environments, releases and runbooks."""

from shared.domain_error import DomainError, Kind


class ReleaseContentDiffers(DomainError, kind=Kind.EXISTS):
    """Release {release} is already published with other content ({parts}). Publish the new
    content under a new version.
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


class ResourceArchived(DomainError, kind=Kind.PRECONDITION):
    """The {resource_type} {resource} is archived. Take it out with its Unarchive call first."""


class LastAdmin(DomainError, kind=Kind.PRECONDITION):
    """{username} is the last active admin. Make somebody else an admin with UpdateUser first."""


class DependencyCircle(DomainError, kind=Kind.PRECONDITION):
    """The dependencies would go round in a circle: {circle}. Leave one of them out."""


class RunbookLacks(DomainError, kind=Kind.PRECONDITION):
    """The runbook {runbook} has no {what}. {remedy}"""
