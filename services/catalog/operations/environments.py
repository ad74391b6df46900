"""Environments."""

from dataclasses import dataclass, replace

from services.catalog.operations import changing, creating, resolving
from services.catalog.operations.changing import Update
from services.catalog.operations.creating import first_version
from services.catalog.rules.resources import Environment, EnvironmentType
from services.catalog.store import environments
from services.catalog.store.reading import Listing
from shared.db.engine import Database
from shared.db.keyset import Page, PageRequest
from shared.errors import ResourceExists, ResourceReferenced
from shared.outbox.change import Change

KIND = "environment"
_USED = {
    "fk_deployments_environment_id": "a deployment",
    "fk_runbooks_environment_id": "a runbook",
    "fk_runbook_versions_environment_id": "a version of a runbook",
    "fk_runbook_executions_environment_id": "an execution of a runbook",
    "fk_release_marks_environment_id": "a mark of a release",
    "fk_locks_environment_id": "a lock",
    "fk_freeze_window_subjects_environment_id": "a freeze window",
}


@dataclass(frozen=True, slots=True)
class NewEnvironment:
    """An environment to be made."""

    name: str
    environment_type: EnvironmentType
    promotion_order: int
    description: str


async def create(change: Change, new: NewEnvironment) -> Environment:
    """Make an environment under the default policy of its type; raises ResourceExists."""
    environment = Environment(
        **first_version(change),
        name=new.name,
        description=new.description,
        environment_type=new.environment_type,
        promotion_order=new.promotion_order,
        policy_version=0,
    )
    await creating.create(change, KIND, environment, _taken(new.name))
    return environment


async def update(change: Change, wanted: Update) -> Environment:
    """Change an environment.

    Raises ResourceNotFound, EtagMismatch, ResourceArchived, and ResourceExists for its name.
    """
    environment = await _to_change(change, wanted.reference, wanted.etag)
    changing.check_in_use(KIND, environment, environment.name)
    changed = replace(environment, **wanted.values)
    taken = _taken(changed.name)
    return await changing.store(change, KIND, "update", environment, changed, taken=taken)


async def archive(change: Change, reference: str, etag: str) -> Environment:
    """Archive an environment.

    Raises ResourceNotFound, EtagMismatch, and ResourceReferenced while a deployment to it is not
    finished.
    """
    environment = await _to_change(change, reference, etag)
    if await environments.has_unfinished(change.tx, environment):
        raise ResourceReferenced(
            resource_type=KIND,
            resource=environment.name,
            used_by="a deployment that is not finished",
        )
    return await changing.archive(change, KIND, environment)


async def unarchive(change: Change, reference: str, etag: str) -> Environment:
    """Take an environment out of the archive; raises ResourceNotFound and EtagMismatch."""
    return await changing.unarchive(change, KIND, await _to_change(change, reference, etag))


async def delete(change: Change, reference: str, etag: str) -> None:
    """Delete an environment; raises ResourceNotFound, EtagMismatch, ResourceReferenced."""
    environment = await _to_change(change, reference, etag)
    used = changing.referenced(KIND, environment.name, _USED)
    await changing.delete(change, KIND, environment, used)


async def get(db: Database, reference: str) -> Environment:
    """Return an environment by name or id."""
    async with db.snapshot() as tx:
        return await resolving.environment(tx, reference)


async def page(
    db: Database, environment_type: EnvironmentType | None, wanted: Listing, at: PageRequest
) -> Page[Environment]:
    """Return a page of the environments asked for; raises ExpressionInvalid."""
    async with db.snapshot() as tx:
        return await environments.listed(tx, environment_type, wanted, at)


async def _to_change(change: Change, reference: str, etag: str) -> Environment:
    environment = await resolving.environment_to_change(change.tx, reference)
    changing.check_etag(KIND, environment, etag)
    return environment


def _taken(name: str) -> dict[str, ResourceExists]:
    return {"uq_environments_name": ResourceExists(resource_type=KIND, resource=name)}
