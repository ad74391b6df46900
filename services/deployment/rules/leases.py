"""Leases: who drives a deployment, until when, and what becomes of one whose executor is lost.

A lease is a fencing token with a time. Whoever holds the token, under the account that claimed,
drives the deployment until that time, which each sign of life moves on. Only the clock of the
database ends a lease, never silence that somebody has noticed.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from services.deployment.rules.lifecycle import Action, DeploymentStatus, on_request
from shared.errors import IllegalTransition, LeaseHeld, LeaseLost

USUAL: Final = timedelta(minutes=5)
CLAIMABLE: Final = frozenset({DeploymentStatus.PENDING, DeploymentStatus.IN_PROGRESS})
WHEN_LOST: Final = {
    DeploymentStatus.IN_PROGRESS: Action.FAIL,
    DeploymentStatus.CANCELLING: Action.CONFIRM_CANCELLED,
}
"""What a lost lease does; where nothing has started it merely ends."""


@dataclass(frozen=True, slots=True)
class Lease:
    """That `executor`, under the account `holder_id`, drives `deployment_id` until `expires_at`."""

    deployment_id: UUID
    token: UUID
    executor: str
    holder_id: UUID
    holder: str
    duration: timedelta
    claimed_at: datetime
    expires_at: datetime

    def is_over(self, now: datetime) -> bool:
        """Say whether its time has passed, whether or not that was carried out yet."""
        return now >= self.expires_at

    @property
    def held(self) -> LeaseHeld:
        """The refusal of what somebody else wants to do meanwhile."""
        until = self.expires_at.isoformat(timespec="seconds").replace("+00:00", "Z")
        return LeaseHeld(
            deployment=self.deployment_id, executor=self.executor, holder=self.holder, until=until
        )

    def against(self, account: UUID, now: datetime) -> LeaseHeld | None:
        """Return the refusal of what `account` wants to do, None if it holds the lease itself."""
        return None if self.is_over(now) or account == self.holder_id else self.held


def check_claimable(
    deployment_id: UUID,
    status: DeploymentStatus,
    lease: Lease | None,
    now: datetime,
    *,
    touched: bool = True,
) -> None:
    """Return if a deployment can be claimed; raises IllegalTransition or LeaseHeld.

    `touched` says whether it reached its environment, on which depends what can be done instead.
    """
    if status not in CLAIMABLE:
        raise IllegalTransition(
            subject=f"Deployment {deployment_id}",
            status=status,
            action="claim",
            allowed=on_request(status, touched=touched),
        )
    if lease is not None and not lease.is_over(now):
        raise lease.held


def check_token(
    deployment_id: UUID, lease: Lease | None, token: UUID | None, account: UUID, now: datetime
) -> None:
    """Return if `account` may drive a deployment with the token it has sent, None for none.

    Raises LeaseHeld when a token is needed, LeaseLost when the one that was sent is not, or no
    longer, that of the lease.
    """
    if token is None:
        if lease is not None and not lease.is_over(now):
            raise lease.held
        return
    if lease is None or lease.token != token or lease.holder_id != account or lease.is_over(now):
        raise LeaseLost(deployment=deployment_id)
