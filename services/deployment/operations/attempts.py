"""The attempts of stages, for reading."""

from dataclasses import dataclass
from uuid import UUID

from services.deployment.store import attempts, children
from services.deployment.store.attempts import AttemptRow
from shared.db.engine import Database
from shared.db.keyset import Page, PageRequest
from shared.errors import ResourceNotFound


@dataclass(frozen=True, slots=True)
class AttemptsQuery:
    """Which attempts to list; `stage` is None for all of the deployment."""

    page: PageRequest
    deployment_id: UUID
    stage: str | None = None


async def in_order(db: Database, query: AttemptsQuery) -> Page[AttemptRow]:
    """List attempts by stage and number; raises ResourceNotFound."""
    async with db.snapshot() as tx:
        stages = await children.stages(tx, query.deployment_id)
        if not stages and not await children.exists(tx, query.deployment_id):
            raise ResourceNotFound(resource_type="deployment", resource=query.deployment_id)
        if query.stage is not None and query.stage not in {stage.name for stage in stages}:
            raise ResourceNotFound(resource_type="stage", resource=query.stage)
        return await attempts.in_order(tx, query.page, query.deployment_id, query.stage)
