"""What waits for a person: deployments that their approval would bring nearer to the start."""

from dataclasses import dataclass
from typing import Final

from services.deployment.operations import examine, facts
from services.deployment.operations.details import Detail
from services.deployment.operations.scanning import chosen_page
from services.deployment.rules import approvals
from services.deployment.rules.approvals import ApprovalStatus, Person
from services.deployment.store import dossiers, references
from services.deployment.store.dossiers import Dossier, WaitingFilter
from shared.db.engine import Database
from shared.db.keyset import Page, PageRequest
from shared.identity.actor import Actor

BATCH: Final = 100
"""How many deployments are looked at together."""
MOST_BATCHES: Final = 20
"""How often for one page. A page that is not full by then goes on behind the last one looked at."""


@dataclass(frozen=True, slots=True)
class PendingQuery:
    """Whose approvals to list, and where; empty is any, for `approver` the caller."""

    page: PageRequest
    approver: str = ""
    service: str = ""
    environment: str = ""
    asked_only: bool = False


async def page(db: Database, query: PendingQuery, actor: Actor) -> Page[Detail]:
    """List what waits for a person, the oldest request first; raises ResourceNotFound."""
    async with db.snapshot() as tx:
        person_id = actor.user_id
        if query.approver:
            person_id = (await references.user(tx, query.approver)).id
        service = await references.service(tx, query.service) if query.service else None
        place = await references.environment(tx, query.environment) if query.environment else None
        chosen = WaitingFilter(
            service_id=None if service is None else service.id,
            environment_id=None if place is None else place.id,
            asked=person_id if query.asked_only else None,
        )
        person = (await examine.possible_approvers(tx)).get(person_id)
        if person is None:
            return Page(())
        found = await chosen_page(
            lambda after: dossiers.waiting_oldest_first(tx, PageRequest(BATCH, after), chosen),
            lambda dossier: dossier if _counts(dossier, person) else None,
            dossiers.position,
            query.page,
            most=MOST_BATCHES,
        )
        cases = await examine.several(tx, found.entries)
        return Page(tuple(Detail(case) for case in cases), found.last)


def _counts(dossier: Dossier, person: Person) -> bool:
    """Say whether an approval by this person would bring the deployment nearer to its start."""
    asked = facts.approval_facts(dossier, {person.id: person})
    if approvals.status(asked, dossier.moment) is not ApprovalStatus.PENDING:
        return False
    useful = approvals.can_still_approve(asked, dossier.moment)
    return person.id in {one.id for one in useful}
