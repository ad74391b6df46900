"""Working with runbooks: what came of it, and which one may help now."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from sqlalchemy.ext.asyncio import AsyncConnection

from services.catalog.operations import changing, resolving
from services.catalog.operations.recording import aggregate, bounded_text
from services.catalog.rules.resources import (
    Environment,
    Runbook,
    RunbookExecution,
    RunbookOutcome,
    Service,
)
from services.catalog.rules.suggestions import Situation, Suggestion, ranked
from services.catalog.store import runbook_executions, runbooks
from services.catalog.store.reading import Listing
from services.catalog.store.runbook_executions import ExecutionFilter
from services.catalog.store.runbooks import RunbookFilter
from services.catalog.store.writing import add, raise_version
from shared.db.engine import Database
from shared.db.keyset import Page, PageRequest
from shared.db.models import catalog as tables
from shared.domain_error import FieldViolation
from shared.errors import ResourceNotFound, RunbookLacks, ValidationFailed
from shared.ids import new_id, parse_id
from shared.outbox.change import Change
from shared.outbox.events import Event

MOST_CONSIDERED = 1_000
CLOCKS_APART = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class NewExecution:
    """An execution to be recorded; a time that is None is now, an empty reference names nothing."""

    runbook: str
    outcome: RunbookOutcome
    notes: str
    environment: str
    deployment_id: str
    started_at: datetime | None
    finished_at: datetime | None


@dataclass(frozen=True, slots=True)
class ExecutionChoice:
    """Which executions are asked for, by names or ids; empty asks for all."""

    runbook: str = ""
    service: str = ""
    deployment_id: str = ""


@dataclass(frozen=True, slots=True)
class Occasion:
    """What has happened: a failed deployment, or a service, an environment and a stage."""

    deployment_id: str = ""
    service: str = ""
    environment: str = ""
    stage: str = ""


async def record(change: Change, new: NewExecution) -> RunbookExecution:
    """Record an execution of the published version; it is a version of the runbook's aggregate.

    Raises ResourceNotFound and ResourceArchived for what it names, RunbookLacks when nothing was
    published, and ValidationFailed for times in the wrong order or in the future.
    """
    started_at, finished_at = _times(change, new)
    place = None
    if new.environment:
        place = await resolving.environment_to_use(change.tx, new.environment)
    runbook = await resolving.runbook_to_change(change.tx, new.runbook)
    changing.check_in_use("runbook", runbook, runbook.title)
    if runbook.version == runbooks.DRAFT:
        raise RunbookLacks(
            runbook=runbook.title,
            what="published version",
            remedy="Publish it with PublishRunbook first.",
        )
    deployment_id = parse_id(new.deployment_id)
    if deployment_id is not None and not await runbook_executions.has_deployment(
        change.tx, deployment_id, runbook.service_id
    ):
        raise ResourceNotFound(resource_type="deployment", resource=new.deployment_id)
    execution = RunbookExecution(
        id=new_id(),
        runbook_id=runbook.id,
        version=runbook.version,
        environment_id=place.id if place else None,
        deployment_id=deployment_id,
        outcome=new.outcome,
        notes=new.notes,
        executed_by=change.actor.user_id,
        executor=change.actor.username,
        started_at=started_at,
        finished_at=finished_at,
        created_at=change.now,
    )
    await add(
        change.tx,
        tables.RunbookExecution,
        change.now,
        id=execution.id,
        runbook_id=execution.runbook_id,
        version=execution.version,
        environment_id=execution.environment_id,
        deployment_id=execution.deployment_id,
        executed_by=execution.executed_by,
        outcome=execution.outcome,
        notes=execution.notes,
        started_at=execution.started_at,
        finished_at=execution.finished_at,
    )
    await _record(change, runbook, execution)
    return execution


async def page(db: Database, choice: ExecutionChoice, at: PageRequest) -> Page[RunbookExecution]:
    """Return a page of the executions asked for; raises ResourceNotFound for what is named."""
    async with db.snapshot() as tx:
        runbook = await resolving.runbook(tx, choice.runbook) if choice.runbook else None
        service = await resolving.service(tx, choice.service) if choice.service else None
        deployment_id = parse_id(choice.deployment_id)
        if deployment_id and not await runbook_executions.has_deployment(tx, deployment_id):
            raise ResourceNotFound(resource_type="deployment", resource=choice.deployment_id)
        chosen = ExecutionFilter(
            runbook_id=runbook.id if runbook else None,
            service_id=service.id if service else None,
            deployment_id=deployment_id,
        )
        return await runbook_executions.listed(tx, chosen, at)


async def suggest(db: Database, occasion: Occasion) -> list[Suggestion]:
    """Return at most ten published runbooks that may help, the most fitting first.

    Raises ResourceNotFound for what is named.
    """
    async with db.snapshot() as tx:
        service, place, stage = await _situation(tx, occasion)
        chosen = RunbookFilter(service.id, place.id if place else None)
        found = await runbooks.listed(tx, chosen, Listing(), PageRequest(MOST_CONSIDERED))
        recent = await runbook_executions.recent(tx, [one.id for one in found.entries])
        situation = Situation(service.name, place.name if place else None, stage or None)
        # Lists have no content, which is what a suggestion is for.
        return [
            replace(suggestion, runbook=await _whole(tx, suggestion.runbook))
            for suggestion in ranked(situation, found.entries, recent)
        ]


async def _situation(
    tx: AsyncConnection, occasion: Occasion
) -> tuple[Service, Environment | None, str]:
    """Return the service, environment and stage of an occasion; raises ResourceNotFound."""
    if not occasion.deployment_id:
        service = await resolving.service(tx, occasion.service)
        named = occasion.environment
        return service, await resolving.environment(tx, named) if named else None, occasion.stage
    deployment_id = parse_id(occasion.deployment_id)
    failed = deployment_id and await runbook_executions.failed_at(tx, deployment_id)
    if not failed:
        raise ResourceNotFound(resource_type="deployment", resource=occasion.deployment_id)
    service = await resolving.service(tx, str(failed.service_id))
    place = await resolving.environment(tx, str(failed.environment_id))
    return service, place, occasion.stage or failed.stage or ""


async def _record(change: Change, runbook: Runbook, execution: RunbookExecution) -> None:
    version, _ = await raise_version(change.tx, tables.Runbook, runbook.id)
    change.record(
        Event(
            action="execute",
            aggregate=aggregate("runbook", runbook.id),
            aggregate_seq=version,
            resource_type="runbook",
            resource_id=str(runbook.id),
            details={
                "execution_id": execution.id,
                "version": execution.version,
                "outcome": execution.outcome,
                "notes": bounded_text(execution.notes),
                "environment_id": execution.environment_id,
                "deployment_id": execution.deployment_id,
            },
        )
    )


async def _whole(tx: AsyncConnection, runbook: Runbook) -> Runbook:
    return await runbooks.find(tx, runbook.id) or runbook


def _times(change: Change, new: NewExecution) -> tuple[datetime, datetime]:
    started_at, finished_at = new.started_at or change.now, new.finished_at or change.now
    wrong = None
    if finished_at > change.now + CLOCKS_APART:
        wrong = FieldViolation("finished_at", "must not be in the future")
    elif started_at > finished_at:
        wrong = FieldViolation("started_at", "must not be after finished_at")
    if wrong is not None:
        first = f"{wrong.field} {wrong.description}"
        raise ValidationFailed(count=1, first=first, fields=(wrong,))
    return started_at, finished_at
