"""Overrides of gates: found, made, listed, and as facts of a deployment."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ScalarSelect, Select, func, insert, select
from sqlalchemy.dialects.postgresql import aggregate_order_by
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.orm import aliased

from shared.db.keyset import Page, PageRequest, page, sorted_by
from shared.db.models.catalog import Environment, Release, Service
from shared.db.models.deployment import Deployment
from shared.db.models.identity import User
from shared.db.models.restrictions import GateOverride


@dataclass(frozen=True, slots=True)
class OverrideRow:
    """That a deployment was let past a gate."""

    id: UUID
    deployment_id: UUID
    service: str
    version: str
    environment: str
    gate: str
    reason: str
    author_id: UUID
    author: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class OverrideFilter:
    """Which overrides to list; None is any."""

    deployment_id: UUID | None = None
    service_id: UUID | None = None
    environment_id: UUID | None = None
    author_id: UUID | None = None
    gate: str | None = None


async def find(tx: AsyncConnection, deployment_id: UUID, gate: str) -> OverrideRow | None:
    """Return the override of a gate for a deployment, None when it was not overridden."""
    query = _QUERY.where(GateOverride.deployment_id == deployment_id, GateOverride.gate == gate)
    row = (await tx.execute(query)).one_or_none()
    return None if row is None else OverrideRow(*row)


async def add(
    tx: AsyncConnection,
    now: datetime,
    overrides: Sequence[tuple[UUID, str, str]],
    **shared: Any,  # noqa: ANN401  (columns of all of them)
) -> None:
    """Insert overrides in their only version: id, gate and reason of each."""
    if not overrides:
        return
    times = {"created_at": now, "updated_at": now}
    rows = [
        {"id": override_id, "gate": gate, "reason": reason, "row_version": 1, **times, **shared}
        for override_id, gate, reason in overrides
    ]
    await tx.execute(insert(GateOverride), rows)


async def newest_first(
    tx: AsyncConnection, wanted: PageRequest, chosen: OverrideFilter
) -> Page[OverrideRow]:
    """Return a page of overrides."""
    conditions = (
        (GateOverride.deployment_id, chosen.deployment_id),
        (Deployment.service_id, chosen.service_id),
        (Deployment.environment_id, chosen.environment_id),
        (GateOverride.author_id, chosen.author_id),
        (GateOverride.gate, chosen.gate),
    )
    query = _QUERY.where(*(column == value for column, value in conditions if value is not None))
    key = (GateOverride.created_at, GateOverride.id)
    found = await page(tx, query, sorted_by(*key, descending=True), wanted)
    return found.map(lambda row: OverrideRow(*row[:10]))


def of_deployment(subject: type[Deployment]) -> ScalarSelect[Any]:
    """Return the overrides of a deployment as JSON, in the order in which they were given."""
    author = aliased(User)
    entry = func.jsonb_build_object(
        *("id", GateOverride.id, "gate", GateOverride.gate, "reason", GateOverride.reason),
        *("author_id", author.id, "author", author.username, "authors", GateOverride.authors),
        *("created_at", GateOverride.created_at),
    )
    in_order = aggregate_order_by(entry, GateOverride.created_at, GateOverride.id)
    return (
        select(func.coalesce(func.jsonb_agg(in_order), func.jsonb_build_array()))
        .select_from(GateOverride)
        .join(author, author.id == GateOverride.author_id)
        .where(GateOverride.deployment_id == subject.id)
        .correlate(subject)
        .scalar_subquery()
    )


def _query() -> Select[*tuple[Any, ...]]:
    return (
        select(
            GateOverride.id,
            GateOverride.deployment_id,
            Service.name,
            Release.version,
            Environment.name,
            GateOverride.gate,
            GateOverride.reason,
            GateOverride.author_id,
            User.username,
            GateOverride.created_at,
        )
        .select_from(GateOverride)
        .join(Deployment, Deployment.id == GateOverride.deployment_id)
        .join(Service, Service.id == Deployment.service_id)
        .join(Release, Release.id == Deployment.release_id)
        .join(Environment, Environment.id == Deployment.environment_id)
        .join(User, User.id == GateOverride.author_id)
    )


_QUERY = _query()
