"""Policies of environments, version by version."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Select, and_, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from services.deployment.store import locks
from shared.db.keyset import Page, PageRequest, page, sorted_by
from shared.db.models.catalog import Environment
from shared.db.models.deployment import EnvironmentPolicy
from shared.db.models.identity import User
from shared.errors import ResourceArchived

_TICK: Final = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class PolicyRow:
    """A version of the policy of an environment.

    Of version 0, the default of the type, there is nothing but the environment.
    """

    environment_id: UUID
    environment: str
    environment_type: str
    version: int
    in_force: bool
    policy: Mapping[str, Any] | None = None
    published_by: UUID | None = None
    published_by_name: str | None = None
    reason: str | None = None
    created_at: datetime | None = None


async def find(
    tx: AsyncConnection, environment_id: UUID, version: int | None = None
) -> PolicyRow | None:
    """Return a version of the policy of an environment that exists; None is the one in force."""
    wanted = Environment.policy_version if version is None else version
    query = _query(wanted, outer=True).where(Environment.id == environment_id)
    row = PolicyRow(*(await tx.execute(query)).one())
    return None if row.version and row.policy is None else row


async def newest_first(
    tx: AsyncConnection, wanted: PageRequest, environment_id: UUID
) -> Page[PolicyRow]:
    """Return a page of the published versions of an environment."""
    number = EnvironmentPolicy.policy_version
    query = _query(number, outer=False).where(EnvironmentPolicy.environment_id == environment_id)
    found = await page(tx, query, sorted_by(number, descending=True), wanted)
    return found.map(lambda row: PolicyRow(*row[:10]))


async def hold_to_publish(tx: AsyncConnection, environment_id: UUID) -> datetime:
    """Take the environment, so that nobody else publishes and nothing starts or is decided there.

    Returns the moment from which a policy published now is in force: later than all starts under
    the one before, and than that was published. Raises ResourceNotFound and ResourceArchived.
    """
    moment = await locks.hold_environments(tx, environment_id)
    published = select(func.max(EnvironmentPolicy.created_at) + _TICK).where(
        EnvironmentPolicy.environment_id == environment_id
    )
    held = select(
        Environment.name,
        Environment.archived_at,
        func.greatest(moment, published.scalar_subquery()).label("moment"),
    ).where(Environment.id == environment_id)
    row = (await tx.execute(held)).one()
    if row.archived_at is not None:
        raise ResourceArchived(resource_type="environment", resource=row.name)
    found: datetime = row.moment
    return found


async def publish(
    tx: AsyncConnection,
    environment_id: UUID,
    version: int,
    now: datetime,
    **values: Any,  # noqa: ANN401
) -> int:
    """Insert the next version and put it in force; return its number in the ledger."""
    recorded = select(func.coalesce(func.max(EnvironmentPolicy.row_version), 0) + 1).where(
        EnvironmentPolicy.environment_id == environment_id
    )
    statement = insert(EnvironmentPolicy).values(
        environment_id=environment_id,
        policy_version=version,
        row_version=recorded.scalar_subquery(),
        created_at=now,
        updated_at=now,
        **values,
    )
    made = await tx.execute(statement.returning(EnvironmentPolicy.row_version))
    await tx.execute(
        update(Environment).where(Environment.id == environment_id).values(policy_version=version)
    )
    return made.scalar_one()


def _query(version: Any, *, outer: bool) -> Select[*tuple[Any, ...]]:  # noqa: ANN401  (column or number)
    """Select versions of policies as `PolicyRow` has them; `outer` also where there is no row."""
    this = and_(
        EnvironmentPolicy.environment_id == Environment.id,
        EnvironmentPolicy.policy_version == version,
    )
    number = func.coalesce(EnvironmentPolicy.policy_version, version)
    return (
        select(
            Environment.id,
            Environment.name,
            Environment.environment_type,
            number,
            number == Environment.policy_version,
            EnvironmentPolicy.policy,
            EnvironmentPolicy.published_by,
            User.username,
            EnvironmentPolicy.reason,
            EnvironmentPolicy.created_at,
        )
        .select_from(Environment)
        .join(EnvironmentPolicy, this, isouter=outer)
        .outerjoin(User, User.id == EnvironmentPolicy.published_by)
    )
