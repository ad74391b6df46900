"""Environments, read and locked."""

from sqlalchemy import exists, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from services.catalog.rules.resources import Environment, EnvironmentType
from services.catalog.store import reading
from services.catalog.store.deployments import unfinished
from services.catalog.store.reading import Listing, Query, one
from shared.db.filtering import ChoiceField, Fields, MomentField, NumberField, TextField
from shared.db.keyset import Page, PageRequest, sorted_by
from shared.db.models import catalog as tables
from shared.db.models.deployment import Deployment
from shared.ids import parse_id

_environment = tables.Environment
_QUERY = select(
    _environment.id,
    _environment.name,
    _environment.description,
    _environment.environment_type,
    _environment.promotion_order,
    _environment.policy_version,
    _environment.archived_at,
    _environment.row_version,
    _environment.created_at,
    _environment.updated_at,
)
_NAME = func.lower(_environment.name)
_FIELDS = Fields(
    filters={
        "name": TextField(_environment.name),
        "description": TextField(_environment.description),
        "type": ChoiceField(
            _environment.environment_type, {one.name: one.value for one in EnvironmentType}
        ),
        "promotion_order": NumberField(_environment.promotion_order),
        "created_at": MomentField(_environment.created_at),
        "updated_at": MomentField(_environment.updated_at),
    },
    orders={
        "promotion_order": _environment.promotion_order,
        "name": _NAME,
        "created_at": _environment.created_at,
        "updated_at": _environment.updated_at,
    },
    unique=_environment.id,
    default=sorted_by(_environment.promotion_order),
)


async def find(tx: AsyncConnection, reference: str) -> Environment | None:
    """Return the environment with this id or, without regard to case, name."""
    return await one(tx, Environment, _named(reference))


async def find_locked(tx: AsyncConnection, reference: str) -> Environment | None:
    """Return the environment like `find`, and keep everybody else from changing it."""
    return await one(tx, Environment, _named(reference).with_for_update())


async def find_shared(tx: AsyncConnection, reference: str) -> Environment | None:
    """Return the environment like `find`, and keep it as it is until the transaction ends."""
    return await one(tx, Environment, _named(reference).with_for_update(read=True))


async def listed(
    tx: AsyncConnection,
    environment_type: EnvironmentType | None,
    wanted: Listing,
    at: PageRequest,
) -> Page[Environment]:
    """Return a page of the environments asked for, in promotion order unless asked otherwise."""
    query = _QUERY if wanted.show_archived else _QUERY.where(_environment.archived_at.is_(None))
    if environment_type is not None:
        query = query.where(_environment.environment_type == environment_type)
    return await reading.listed(tx, Environment, query, _FIELDS, wanted, at)


async def has_unfinished(tx: AsyncConnection, environment: Environment) -> bool:
    """Say whether a deployment to an environment is not finished."""
    open_ones = select(Deployment.id).where(Deployment.environment_id == environment.id)
    return bool(await tx.scalar(select(exists(open_ones.where(unfinished())))))


def _named(reference: str) -> Query:
    environment_id = parse_id(reference)
    if environment_id is not None:
        return _QUERY.where(_environment.id == environment_id)
    return _QUERY.where(func.lower(reference) == _NAME)
