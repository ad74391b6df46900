"""Who may approve, which decisions count at a given moment, and what follows from them.

Nothing here is stored: the status of an approval is computed from the decisions each time. A
decision is bound to what its author saw (digest, policy version, overrides); when that changes it
is void from then on and may be given again.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final
from uuid import UUID

from services.deployment.rules.overrides import Override
from services.deployment.rules.policy import Policy
from shared.errors import NotEnoughApprovers
from shared.identity.actor import ActorKind, Role

AFTER_STANDSTILL: Final = timedelta(hours=1)
"""How long people have at least to decide once they can again, unless they never have so long."""


class Outcome(StrEnum):
    """What an approvals row says; the values are the stored spelling.

    A void approval that was given anew is `EXPIRED`; its author's new row counts instead. Rows of
    people who were asked and did not decide are `PENDING`, or `EXPIRED` without a decision.
    """

    PENDING = "pending"
    APPROVED = "approved"
    REJECTED = "rejected"
    EXPIRED = "expired"
    REVOKED = "revoked"


class ApprovalStatus(StrEnum):
    """The approval of a deployment as a whole, computed."""

    NOT_REQUIRED = "not_required"
    PENDING = "pending"
    APPROVED = "approved"
    REJECTED = "rejected"
    EXPIRED = "expired"


class Void(StrEnum):
    """Why a decision counts no longer."""

    REVOKED = "revoked"
    DIGEST_CHANGED = "the release's digest changed"
    POLICY_CHANGED = "the policy changed"
    OVERRIDES_CHANGED = "the overrides changed"
    VALIDITY_ENDED = "its validity ended"
    APPROVER_UNQUALIFIED = "its author may not approve any more"


@dataclass(frozen=True, slots=True)
class Person:
    """A user as the rules see one.

    `demoted_at` is when they last lost a role or ceased to be active; what was before is not known.
    """

    id: UUID
    role: Role
    active: bool = True
    kind: ActorKind = ActorKind.PERSON
    username: str = ""
    demoted_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """One decided row of a deployment's approvals, with what it was bound to when it was given.

    Rows without a moment of decision (people who were only asked) are no decisions.
    """

    approver_id: UUID
    role: Role
    outcome: Outcome
    decided_at: datetime
    digest: str
    policy_version: int
    overrides_version: int = 0
    revoked_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class ApprovalFacts:
    """Everything that decides about the approval of one deployment.

    `requester` and `authors` are everybody behind the request and behind the release. `people`
    holds at least all approvers; for the eligible ones, all users. `exempt` marks a rollback.
    `overrides` are those of the deployment in the order in which they were given. Until
    `stood_still_until` nobody could decide; the deployment has waited beyond that moment.
    """

    deployment: str
    environment: str
    policy: Policy
    digest: str
    requested_at: datetime
    requester: frozenset[UUID]
    authors: frozenset[UUID]
    people: Mapping[UUID, Person]
    decisions: tuple[Decision, ...] = field(default=())
    exempt: bool = False
    overrides: tuple[Override, ...] = ()
    stood_still_until: datetime | None = None

    @property
    def required(self) -> int:
        """How many distinct people must approve."""
        return 0 if self.exempt else self.policy.required_approvals

    @property
    def overrides_version(self) -> int:
        """How often the overrides have changed: one is only ever added."""
        return len(self.overrides)


def may_decide(person: Person, facts: ApprovalFacts) -> str | None:
    """Return why `person` may not approve or reject this deployment; None if they may.

    No role is exempt, admins included.
    """
    policy = facts.policy
    if person.kind is not ActorKind.PERSON:
        return "service accounts never approve; a person has to"
    if not person.active:
        return "the account is not active"
    if person.role < max(policy.minimum_role, Role.DEVELOPER):
        return f"approvers need the role {policy.minimum_role.stored} or higher"
    if person.id in facts.requester and not policy.requester_may_approve:
        return "whoever is behind a request does not approve it; somebody else has to"
    if person.id in facts.authors and not policy.author_may_approve:
        place = facts.environment
        return f"whoever is behind a release does not approve it for {place}; others have to"
    return None


def void(decision: Decision, facts: ApprovalFacts) -> tuple[Void, datetime] | None:
    """Return why and since when an approval is void, or will be; None if nothing ends it.

    Where the moment is not known, it counts as void from the start.
    """
    policy, given = facts.policy, decision.decided_at
    ends: list[tuple[Void, datetime]] = []
    if decision.outcome is Outcome.REVOKED:
        ends.append((Void.REVOKED, decision.revoked_at or given))
    if decision.digest != facts.digest:
        ends.append((Void.DIGEST_CHANGED, given))
    if decision.policy_version != policy.version:
        ends.append((Void.POLICY_CHANGED, policy.since or given))
    if decision.overrides_version != facts.overrides_version:
        unseen = facts.overrides[decision.overrides_version :]
        ends.append((Void.OVERRIDES_CHANGED, unseen[0].given_at if unseen else given))
    if policy.valid_for is not None:
        ends.append((Void.VALIDITY_ENDED, given + policy.valid_for))
    if decision.outcome is Outcome.EXPIRED and not ends:
        ends.append((Void.VALIDITY_ENDED, given))
    person = facts.people.get(decision.approver_id)
    if person is None or may_decide(person, facts) is not None:
        demoted = person.demoted_at if person is not None else None
        ends.append((Void.APPROVER_UNQUALIFIED, demoted or given))
    return min(ends, key=lambda end: end[1], default=None)


def counted(facts: ApprovalFacts, at: datetime) -> tuple[Decision, ...]:
    """Return the approvals that count at the moment `at`: one per person, the newest."""
    newest: dict[UUID, Decision] = {}
    for decision in sorted(_given(facts), key=lambda given: given.decided_at):
        ended = void(decision, facts)
        if decision.decided_at <= at and (ended is None or at < ended[1]):
            newest[decision.approver_id] = decision
    return tuple(newest.values())


def satisfied(facts: ApprovalFacts, at: datetime) -> bool:
    """Tell whether the approvals that count at `at` are what the policy asks for.

    One decision counts in every rule it fulfils: a lead is one of the number and the lead.
    """
    return len(counted(facts, at)) >= facts.required and not lead_missing(facts, at)


def lead_missing(facts: ApprovalFacts, at: datetime) -> bool:
    """Tell whether a lead or admin must be among the approvers and none is, at `at`.

    Such an approver decided as a lead or admin and is one at that moment. For each override it must
    be one who has no part in it.
    """
    return bool(_leads_wanted(facts, at))


def status(facts: ApprovalFacts, now: datetime) -> ApprovalStatus:
    """Return the approval of the deployment as a whole.

    Of a deployment that has left pending, ask with the moment it did: what counted then, not what
    has become void since, let it start. Of people only the last loss is known: one who had lost a
    role by then and has it back since, or loses it once more, counts as if it had never been lost.
    """
    if facts.required == 0:
        return ApprovalStatus.NOT_REQUIRED
    if any(decision.outcome is Outcome.REJECTED for decision in facts.decisions):
        return ApprovalStatus.REJECTED
    if satisfied(facts, now):
        return ApprovalStatus.APPROVED
    deadline = decide_by(facts, now)
    late = deadline is not None and now >= deadline
    return ApprovalStatus.EXPIRED if late else ApprovalStatus.PENDING


def decide_by(facts: ApprovalFacts, now: datetime) -> datetime | None:
    """Return when the wait for decisions ends; None if none are required or nothing bounds it.

    The clock starts with the request, or with the policy or the last override when these are
    newer, and anew whenever a decision becomes void or its author loses a role or the account,
    also when they get it back. Once it has run out without the approvals of that moment, nothing
    else starts it again.
    """
    within = facts.policy.decide_within
    if facts.required == 0 or within is None:
        return None
    restarts = sorted(moment for moment in _losses(facts) if moment <= now)
    since = facts.policy.since
    begun = facts.requested_at if since is None else max(facts.requested_at, since)
    begun = max([begun, *(override.given_at for override in facts.overrides)])
    deadline = begun + within
    if facts.stood_still_until is not None:
        deadline = max(deadline, facts.stood_still_until + min(within, AFTER_STANDSTILL))
    for moment in restarts:
        if moment >= deadline and not satisfied(facts, deadline):
            break
        deadline = max(deadline, moment + within)
    return deadline


def valid_until(facts: ApprovalFacts, now: datetime) -> datetime | None:
    """Return when the approval of now stops being enough by itself; None if it is not, or never."""
    if facts.required == 0 or not satisfied(facts, now):
        return None
    ends = (void(decision, facts) for decision in counted(facts, now))
    moments = sorted(end[1] for end in ends if end is not None)
    return next((moment for moment in moments if not satisfied(facts, moment)), None)


def look_again(facts: ApprovalFacts, now: datetime) -> datetime | None:
    """Return when at the latest to look again whether the time to decide has passed.

    None if nothing bounds it. An approval that is enough can end at any moment, also unforeseen;
    the clock starts anew then, so whoever looks once in the time to decide misses nothing.
    """
    within = facts.policy.decide_within
    if within is None or facts.required == 0 or not satisfied(facts, now):
        return decide_by(facts, now)
    ends = valid_until(facts, now)
    return now + within if ends is None else min(ends, now + within)


def eligible(facts: ApprovalFacts) -> tuple[Person, ...]:
    """Return everybody among `people` who may decide on this deployment."""
    return tuple(person for person in facts.people.values() if may_decide(person, facts) is None)


def check_satisfiable(facts: ApprovalFacts) -> None:
    """Raise NotEnoughApprovers if no set of people could ever fulfil the policy."""
    candidates = eligible(facts)
    if len(candidates) < facts.required:
        raise NotEnoughApprovers(
            environment=facts.environment, needed=facts.required, eligible=len(candidates)
        )
    leads = {person.id for person in candidates if person.role >= Role.LEAD}
    for excluded in _excluded_leads(facts):
        if not leads - excluded:
            needed = f"a lead or admin among its {facts.required}"
            if excluded:
                needed += " who is not the author of an override"
            raise NotEnoughApprovers(environment=facts.environment, needed=needed, eligible=0)


def can_still_approve(facts: ApprovalFacts, now: datetime) -> tuple[Person, ...]:
    """Return the people whose approval would bring the deployment nearer to its start."""
    approvals = counted(facts, now)
    if satisfied(facts, now):
        return ()
    wanted = _leads_wanted(facts, now)
    leads_only = bool(wanted) and facts.required - len(approvals) <= 1
    decided = {decision.approver_id for decision in approvals}

    def helps(person: Person) -> bool:
        as_lead = person.role >= Role.LEAD and any(person.id not in one for one in wanted)
        return as_lead or not leads_only

    return tuple(person for person in eligible(facts) if person.id not in decided and helps(person))


def _given(facts: ApprovalFacts) -> Iterable[Decision]:
    given = (Outcome.APPROVED, Outcome.REVOKED, Outcome.EXPIRED)
    return (decision for decision in facts.decisions if decision.outcome in given)


def _not_as_lead(decision: Decision, facts: ApprovalFacts) -> datetime | None:
    """Return since when an approval is not that of a lead or admin; None if it is."""
    person = facts.people.get(decision.approver_id)
    if person is None or decision.role < Role.LEAD:
        return decision.decided_at
    return None if person.role >= Role.LEAD else person.demoted_at or decision.decided_at


def _losses(facts: ApprovalFacts) -> Iterable[datetime]:
    """Return when approvals that had counted ceased to, or their authors lost something.

    Also where the loss was made good, which takes no time away that it has given, and where it was
    none to this approval, as that of an admin who is a lead now: rather too much time to decide
    than too little.
    """
    for decision in _given(facts):
        ended = void(decision, facts)
        if ended is not None:
            yield ended[1]
        person = facts.people.get(decision.approver_id)
        lost = person.demoted_at if person is not None else None
        if lost is None or lost <= decision.decided_at:
            continue
        if ended is None or lost < ended[1]:
            yield lost


def _excluded_leads(facts: ApprovalFacts) -> tuple[frozenset[UUID], ...]:
    """Return who may not be the lead, once for each time that one is asked for."""
    if facts.required == 0 or not facts.policy.lead_required:
        return ()
    return tuple(override.authors for override in facts.overrides) or (frozenset(),)


def _leads_wanted(facts: ApprovalFacts, at: datetime) -> list[frozenset[UUID]]:
    """Return who may not be the lead, for each time that one is asked for and has not approved."""
    leads = {
        decision.approver_id
        for decision in counted(facts, at)
        if (ended := _not_as_lead(decision, facts)) is None or at < ended
    }
    return [excluded for excluded in _excluded_leads(facts) if not leads - excluded]
