"""What is refused of deployments, their stages, leases and outputs."""

from shared.domain_error import DomainError, Kind


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


class StaleRollback(DomainError, kind=Kind.CONFLICT):
    """Deployment {deployment} is no longer the latest in {environment}; deployment {latest} is.
    Look at that one and decide again whether to call ExecuteRollback.
    """


class LeaseLost(DomainError, kind=Kind.CONFLICT):
    """The lease of deployment {deployment} is not yours any more. Claim the deployment again with
    ClaimDeployment before you go on.
    """


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
