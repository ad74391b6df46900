"""Runbooks."""

from dataclasses import dataclass

from sqlalchemy import or_

from services.catalog.operations import creating, resolving
from services.catalog.operations.creating import first_version
from services.catalog.rules.resources import Runbook
from services.catalog.store import runbooks
from shared.db.engine import Database
from shared.db.keyset import Page, PageRequest
from shared.db.models import catalog as tables
from shared.errors import ResourceExists
from shared.outbox.change import Change


@dataclass(frozen=True, slots=True)
class NewRunbook:
    """A runbook to be made; an empty environment means all of them."""

    service: str
    environment: str
    title: str
    content: str
    tags: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RunbookFilter:
    """Which runbooks are asked for; empty asks for all."""

    service: str = ""
    environment: str = ""
    tag: str = ""


async def create(change: Change, new: NewRunbook) -> Runbook:
    """Make a runbook.

    Raises ResourceNotFound for service or environment, ResourceExists when the service has a
    runbook of this title already.
    """
    service = await resolving.service(change.tx, new.service)
    environment = None
    if new.environment:
        environment = await resolving.environment(change.tx, new.environment)
    runbook = Runbook(
        **first_version(change),
        service_id=service.id,
        service=service.name,
        environment_id=environment.id if environment else None,
        environment=environment.name if environment else None,
        title=new.title,
        content=new.content,
        tags=new.tags,
        created_by=change.actor.user_id,
        author=change.actor.username,
    )
    taken = ResourceExists(resource_type="runbook", resource=new.title)
    await creating.create(change, "runbook", runbook, {"uq_runbooks_service_id_title": taken})
    return runbook


async def get(db: Database, reference: str) -> Runbook:
    """Return a runbook by id."""
    async with db.snapshot() as tx:
        return await resolving.runbook(tx, reference)


async def page(db: Database, wanted: RunbookFilter, at: PageRequest) -> Page[Runbook]:
    """Return a page of the runbooks asked for; raises ResourceNotFound for the places named."""
    filters = []
    async with db.snapshot() as tx:
        if wanted.service:
            service = await resolving.service(tx, wanted.service)
            filters.append(tables.Runbook.service_id == service.id)
        if wanted.environment:
            place = tables.Runbook.environment_id
            environment = await resolving.environment(tx, wanted.environment)
            filters.append(or_(place == environment.id, place.is_(None)))
        if wanted.tag:
            filters.append(tables.Runbook.tags.contains([wanted.tag]))
        return await runbooks.listed(tx, filters, at)
