"""What an entry of the ledger tells others: the events that a webhook sends for it.

A pure function of the entry, so an event has the same id and content whenever it is sent. An entry
has as many events as there is to tell: the last stage that completes also completes its deployment.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final


class EventType(StrEnum):
    """What can happen, in the spelling of the database and of `WebhookEventType` without prefix."""

    DEPLOYMENT_REQUESTED = "deployment-requested"
    DEPLOYMENT_APPROVAL_REQUIRED = "deployment-approval-required"
    DEPLOYMENT_APPROVED = "deployment-approved"
    DEPLOYMENT_REJECTED = "deployment-rejected"
    DEPLOYMENT_APPROVAL_REVOKED = "deployment-approval-revoked"
    DEPLOYMENT_STARTED = "deployment-started"
    DEPLOYMENT_COMPLETED = "deployment-completed"
    DEPLOYMENT_FAILED = "deployment-failed"
    DEPLOYMENT_PAUSED = "deployment-paused"
    DEPLOYMENT_RESUMED = "deployment-resumed"
    DEPLOYMENT_CANCELLING = "deployment-cancelling"
    DEPLOYMENT_CANCELLED = "deployment-cancelled"
    DEPLOYMENT_EXPIRED = "deployment-expired"
    DEPLOYMENT_SUPERSEDED = "deployment-superseded"
    DEPLOYMENT_ROLLED_BACK = "deployment-rolled-back"
    STAGE_STARTED = "stage-started"
    STAGE_FINISHED = "stage-finished"
    STAGE_SKIPPED = "stage-skipped"
    SERVICE_DEPLOYED = "service-deployed"
    SERVICE_ROLLED_BACK = "service-rolled-back"
    RELEASE_PUBLISHED = "release-published"
    RELEASE_ABANDONED = "release-abandoned"
    RELEASE_MARKED_BAD = "release-marked-bad"
    RELEASE_MARK_CLEARED = "release-mark-cleared"
    LOCK_CREATED = "lock-created"
    LOCK_RELEASED = "lock-released"
    FREEZE_CHANGED = "freeze-changed"
    GATE_OVERRIDDEN = "gate-overridden"
    POLICY_PUBLISHED = "policy-published"
    WEBHOOK_CHANGED = "webhook-changed"


@dataclass(frozen=True, slots=True)
class Told:
    """What is read of an entry of the ledger."""

    leaf_index: int
    event_id: str
    occurred_at: datetime
    user_id: str
    producer: str
    action: str
    resource_type: str
    resource_id: str
    details: Mapping[str, Any]

    def of(self, *path: str) -> str:
        """Return a text inside of the details, "" where there is none."""
        found: Any = self.details
        for name in path:
            found = found.get(name) if isinstance(found, Mapping) else None
        return found if isinstance(found, str) else ""


@dataclass(frozen=True, slots=True)
class Happening:
    """One event of an entry; `part` counts those of the same entry from 0."""

    type: EventType
    part: int
    entry: Told

    @property
    def id(self) -> str:
        """The id of the event, which is the same whenever it is sent."""
        return self.entry.event_id + (f".{self.part}" if self.part else "")

    @property
    def release(self) -> str:
        """The release that it is about, as `auth@1.4.0`, or ""."""
        return self.entry.of("release")

    @property
    def service(self) -> str:
        """The name of the service that it is about, or ""."""
        return self.release.rpartition("@")[0] or self._place[0]

    @property
    def environment(self) -> str:
        """The name of the environment that it is about, or ""."""
        named = self.entry.of("environment") or self._place[1]
        return "" if named == EVERYWHERE else named

    @property
    def _place(self) -> tuple[str, str]:
        """Service and environment of a lock, whose entry has them in words; "" is all."""
        words = self.entry.of("place")
        service, within, environment = words.rpartition(" in ")
        if not within:
            service, environment = words.removesuffix(f" {EVERYWHERE}"), ""
        return "" if service == EVERYTHING else service, environment


# As entries tell that something is about all environments, and all services.
EVERYWHERE: Final = "everywhere"
EVERYTHING: Final = "everything"

# By what the details say of a deployment's status after it.
_ENDED_AS: Final = {
    "completed": EventType.DEPLOYMENT_COMPLETED,
    "failed": EventType.DEPLOYMENT_FAILED,
    "paused": EventType.DEPLOYMENT_PAUSED,
    "cancelling": EventType.DEPLOYMENT_CANCELLING,
    "cancelled": EventType.DEPLOYMENT_CANCELLED,
    "rejected": EventType.DEPLOYMENT_REJECTED,
    "expired": EventType.DEPLOYMENT_EXPIRED,
    "superseded": EventType.DEPLOYMENT_SUPERSEDED,
    "rolled_back": EventType.DEPLOYMENT_ROLLED_BACK,
}
# By what an entry of a deployment that stays as it is says was done.
_DECIDED: Final = {
    "approve": EventType.DEPLOYMENT_APPROVED,
    "revoke_approval": EventType.DEPLOYMENT_APPROVAL_REVOKED,
}
_STAGES: Final = {
    "in-progress": EventType.STAGE_STARTED,
    "completed": EventType.STAGE_FINISHED,
    "failed": EventType.STAGE_FINISHED,
    "skipped": EventType.STAGE_SKIPPED,
    "ignored": EventType.STAGE_SKIPPED,
}
# By the kind of thing and what was done; ANY is whatever was.
ANY: Final = "*"
_OTHERS: Final = {
    ("release", "publish"): EventType.RELEASE_PUBLISHED,
    ("release", "abandon"): EventType.RELEASE_ABANDONED,
    ("release", "mark_bad"): EventType.RELEASE_MARKED_BAD,
    ("release", "clear_bad"): EventType.RELEASE_MARK_CLEARED,
    ("lock", "lock"): EventType.LOCK_CREATED,
    ("lock", "unlock"): EventType.LOCK_RELEASED,
    ("freeze_window", ANY): EventType.FREEZE_CHANGED,
    ("gate_override", ANY): EventType.GATE_OVERRIDDEN,
    ("policy", "publish"): EventType.POLICY_PUBLISHED,
    ("webhook", ANY): EventType.WEBHOOK_CHANGED,
}
# A webhook that fails would tell others of each event that it gave up, and they of theirs.
NOT_TOLD: Final = frozenset({("webhook", "give_up")})
OWN_PRODUCERS: Final = frozenset({"audit", "catalog", "deployment"})


def happenings(entry: Told) -> Sequence[Happening]:
    """Return the events of an entry, in the order in which they happened.

    Only entries of the product's own services have any: whoever else may append to the ledger must
    not be able to say that something was deployed.
    """
    if entry.producer not in OWN_PRODUCERS or (entry.resource_type, entry.action) in NOT_TOLD:
        return ()
    types = _deployment(entry) if entry.resource_type == "deployment" else _other(entry)
    return tuple(Happening(kind, part, entry) for part, kind in enumerate(types))


def _other(entry: Told) -> Iterator[EventType]:
    kind = _OTHERS.get((entry.resource_type, entry.action)) or _OTHERS.get(
        (entry.resource_type, ANY)
    )
    if kind is not None:
        yield kind


def _deployment(entry: Told) -> Iterator[EventType]:
    before, after = entry.of("before", "status"), entry.of("after", "status")
    if after == "pending" and not before:
        yield from _requested(entry)
        return
    if after == "in-progress" and before == "pending":
        yield EventType.DEPLOYMENT_STARTED
    elif after == "in-progress" and before == "paused":
        yield EventType.DEPLOYMENT_RESUMED
    yield from _stage(entry)
    if after != before and (ended := _ENDED_AS.get(after)):
        yield ended
        if after == "completed":
            was_back = entry.of("kind") == "rollback"
            yield EventType.SERVICE_ROLLED_BACK if was_back else EventType.SERVICE_DEPLOYED
    elif after == before and (decided := _DECIDED.get(entry.action)):
        yield decided


def _requested(entry: Told) -> Iterator[EventType]:
    yield EventType.DEPLOYMENT_REQUESTED
    required = entry.details.get("approvals_required")
    if isinstance(required, int | float) and required > 0:
        yield EventType.DEPLOYMENT_APPROVAL_REQUIRED


def _stage(entry: Told) -> Iterator[EventType]:
    was, now = entry.of("stage_before"), entry.of("stage_after")
    if was == now:
        return
    if was == "pending" and now in {"completed", "failed"}:  # began and ended at once
        yield EventType.STAGE_STARTED
    if kind := _STAGES.get(now):
        yield kind


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a webhook sends; an empty set wants everything."""

    types: frozenset[str] = frozenset()
    environments: frozenset[str] = frozenset()
    services: frozenset[str] = frozenset()

    @classmethod
    def of(
        cls, types: Sequence[str], environments: Sequence[str], services: Sequence[str]
    ) -> "Wanted":
        """Return it, with names in one case."""
        return cls(
            frozenset(types),
            frozenset(name.casefold() for name in environments),
            frozenset(name.casefold() for name in services),
        )

    def takes(self, event: Happening) -> bool:
        """Tell whether an event is sent. One that names no service or environment concerns all."""
        return (
            (not self.types or event.type in self.types)
            and _is_in(event.environment, self.environments)
            and _is_in(event.service, self.services)
        )


def _is_in(name: str, wanted: frozenset[str]) -> bool:
    return not name or not wanted or name.casefold() in wanted
