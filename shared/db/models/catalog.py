"""Tables the catalog service owns, except those of `identity`."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Computed,
    ForeignKey,
    Index,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, TSVECTOR
from sqlalchemy.dialects.postgresql import UUID as PG_UUID
from sqlalchemy.orm import Mapped, mapped_column

from shared.db.schema import Row, Schema, Versioned

EMPTY = text("''")
EPOCH = "'1970-01-01 00:00:00+00'::timestamptz"
# What a search looks at. Names are split at hyphens too: "gateway" finds "api-gateway".
SERVICE_WORDS = """
    setweight(to_tsvector('simple', name || ' ' || translate(name, '-', ' ')), 'A')
    || setweight(to_tsvector('simple', description), 'B')
    || setweight(jsonb_to_tsvector('simple', labels, '["key", "string"]'), 'B')
    || setweight(to_tsvector('simple', translate(repository, '/.:-_', '     ')), 'C')
"""
RUNBOOK_WORDS = """
    setweight(to_tsvector('simple', title), 'A')
    || setweight(jsonb_to_tsvector('simple', tags, '["string"]'), 'A')
    || setweight(to_tsvector('simple', content), 'C')
"""


class Archivable(Versioned):
    """An aggregate that can be put away: hidden from lists, and nothing new can refer to it."""

    archived_at: Mapped[datetime | None]


class Team(Archivable, Schema):
    """People who own services together."""

    __tablename__ = "teams"
    __table_args__ = (
        Index("uq_teams_name", text("lower(name)"), unique=True),
        Index(None, "created_at"),
        Index(None, "updated_at"),
    )

    name: Mapped[str]
    description: Mapped[str] = mapped_column(server_default=EMPTY)


class Service(Archivable, Schema):
    """A piece of software that is released."""

    __tablename__ = "services"
    __table_args__ = (
        Index("uq_services_name", text("lower(name)"), unique=True),
        Index(None, "team_id"),
        Index(None, "owner_id"),
        Index(None, "lifecycle"),
        Index(None, "tier"),
        Index(None, "created_at"),
        Index(None, "updated_at"),
        Index(None, "labels", postgresql_using="gin"),
        Index(None, "words", postgresql_using="gin"),
        CheckConstraint("jsonb_typeof(labels) = 'object'", name="labels"),
        CheckConstraint("jsonb_typeof(links) = 'array'", name="links"),
        CheckConstraint("tier IN ('tier-1', 'tier-2', 'tier-3', 'tier-4')", name="tier"),
        CheckConstraint(
            "lifecycle IN ('experimental', 'production', 'deprecated')", name="lifecycle"
        ),
    )

    team_id: Mapped[UUID] = mapped_column(ForeignKey("teams.id", ondelete="RESTRICT"))
    owner_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="RESTRICT"))
    name: Mapped[str]
    description: Mapped[str] = mapped_column(server_default=EMPTY)
    repository: Mapped[str] = mapped_column(server_default=EMPTY)
    tier: Mapped[str] = mapped_column(server_default=text("'tier-3'"))
    lifecycle: Mapped[str] = mapped_column(server_default=text("'production'"))
    labels: Mapped[dict[str, str]] = mapped_column(JSONB, server_default=text("'{}'"))
    links: Mapped[list[dict[str, str]]] = mapped_column(JSONB, server_default=text("'[]'"))
    words: Mapped[Any] = mapped_column(TSVECTOR, Computed(SERVICE_WORDS, persisted=True))


class ServiceDependency(Schema):
    """What a service needs of another one: a version at least, any when it is empty."""

    __tablename__ = "service_dependencies"
    __table_args__ = (
        Index(None, "needs_id"),
        CheckConstraint("service_id <> needs_id", name="itself"),
    )

    service_id: Mapped[UUID] = mapped_column(
        ForeignKey("services.id", ondelete="CASCADE"), primary_key=True
    )
    needs_id: Mapped[UUID] = mapped_column(
        ForeignKey("services.id", ondelete="RESTRICT"), primary_key=True
    )
    minimum_version: Mapped[str] = mapped_column(server_default=EMPTY)


class Environment(Archivable, Schema):
    """A place where services run. `policy_version` 0 is the default policy of its type."""

    __tablename__ = "environments"
    __table_args__ = (
        Index("uq_environments_name", text("lower(name)"), unique=True),
        Index(None, "environment_type"),
        Index(None, "promotion_order"),
        Index(None, "created_at"),
        Index(None, "updated_at"),
        CheckConstraint("environment_type IN ('dev', 'staging', 'prod')", name="environment_type"),
        CheckConstraint("promotion_order >= 0", name="promotion_order"),
    )

    name: Mapped[str]
    environment_type: Mapped[str]
    promotion_order: Mapped[int]
    policy_version: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    description: Mapped[str] = mapped_column(server_default=EMPTY)


class Release(Archivable, Schema):
    """A version of a service, which `version_key` sorts by SemVer.

    `authors` are all people behind its creation, its publication, and what it is made of.
    """

    __tablename__ = "releases"
    __table_args__ = (
        UniqueConstraint("service_id", "version"),
        UniqueConstraint("id", "service_id"),
        Index(None, "service_id", "published_at"),
        Index(None, "service_id", "version_key"),
        Index(None, "version_key"),
        Index(None, "updated_at"),
        # Drafts have no time of publication, and are listed as if it were the earliest.
        Index("ix_releases_published_at", text(f"coalesce(published_at, {EPOCH})")),
        Index("ix_releases_commit_sha", text("lower(commit_sha)")),
        Index(None, "commit_time"),
        Index(None, "created_by"),
        Index(None, "status", "created_at"),
        Index(None, "created_at"),
        CheckConstraint(
            "status IN ('draft', 'published', 'promoted', 'rolled_back', 'abandoned')",
            name="status",
        ),
        CheckConstraint(
            "status IN ('draft', 'abandoned') OR (published_at IS NOT NULL"
            " AND commit_sha <> '' AND artifact_digest <> '')",
            name="published",
        ),
    )

    service_id: Mapped[UUID] = mapped_column(ForeignKey("services.id", ondelete="RESTRICT"))
    created_by: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="RESTRICT"))
    authors: Mapped[list[UUID]] = mapped_column(ARRAY(PG_UUID(as_uuid=True)))
    version: Mapped[str]
    version_key: Mapped[str] = mapped_column(
        Text(collation="C"), Computed("version_key(version)", persisted=True)
    )
    status: Mapped[str] = mapped_column(server_default=text("'draft'"))
    commit_sha: Mapped[str] = mapped_column(server_default=EMPTY)
    commit_time: Mapped[datetime | None]
    artifact_digest: Mapped[str] = mapped_column(server_default=EMPTY)
    notes: Mapped[str] = mapped_column(server_default=EMPTY)
    irreversible: Mapped[bool] = mapped_column(server_default=text("false"))
    published_at: Mapped[datetime | None]


class Runbook(Archivable, Schema):
    """What to do when something happens to a service, in one environment or in all.

    The row shows the published version, or the draft, version 0, of one that was never published.
    """

    __tablename__ = "runbooks"
    __table_args__ = (
        Index("uq_runbooks_service_id_title", "service_id", text("lower(title)"), unique=True),
        Index(None, "title"),
        Index("ix_runbooks_lower_title", text("lower(title)")),
        Index(None, "environment_id"),
        Index(None, "created_by"),
        Index(None, "tags", postgresql_using="gin", postgresql_ops={"tags": "jsonb_path_ops"}),
        Index(None, "created_at"),
        Index(None, "updated_at"),
        Index(None, "words", postgresql_using="gin"),
        CheckConstraint("jsonb_typeof(tags) = 'array'", name="tags"),
        CheckConstraint("(version > 0) = (published_at IS NOT NULL)", name="version"),
    )

    service_id: Mapped[UUID] = mapped_column(ForeignKey("services.id", ondelete="RESTRICT"))
    environment_id: Mapped[UUID | None] = mapped_column(
        ForeignKey("environments.id", ondelete="RESTRICT")
    )
    created_by: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="RESTRICT"))
    title: Mapped[str]
    content: Mapped[str]
    tags: Mapped[Any] = mapped_column(JSONB, server_default=text("'[]'"))
    version: Mapped[int] = mapped_column(server_default=text("0"))
    published_at: Mapped[datetime | None]
    words: Mapped[Any] = mapped_column(TSVECTOR, Computed(RUNBOOK_WORDS, persisted=True))


class RunbookVersion(Row, Schema):
    """A version of a runbook; version 0 is the draft."""

    __tablename__ = "runbook_versions"
    __table_args__ = (
        UniqueConstraint("runbook_id", "version"),
        Index(None, "environment_id"),
        Index(None, "created_by"),
        CheckConstraint(
            "version >= 0 AND (version > 0) = (published_at IS NOT NULL)", name="version"
        ),
        CheckConstraint("jsonb_typeof(tags) = 'array'", name="tags"),
    )

    runbook_id: Mapped[UUID] = mapped_column(ForeignKey("runbooks.id", ondelete="CASCADE"))
    version: Mapped[int]
    environment_id: Mapped[UUID | None] = mapped_column(
        ForeignKey("environments.id", ondelete="RESTRICT")
    )
    created_by: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="RESTRICT"))
    title: Mapped[str]
    content: Mapped[str]
    tags: Mapped[Any] = mapped_column(JSONB, server_default=text("'[]'"))
    published_at: Mapped[datetime | None]


class RunbookExecution(Row, Schema):
    """That somebody has worked through a version of a runbook, and how it went."""

    __tablename__ = "runbook_executions"
    __table_args__ = (
        Index(None, "runbook_id", "created_at"),
        Index(None, "environment_id"),
        Index(None, "deployment_id"),
        Index(None, "executed_by"),
        Index(None, "created_at"),
        CheckConstraint("version > 0", name="version"),
        CheckConstraint("outcome IN ('succeeded', 'failed', 'aborted')", name="outcome"),
        CheckConstraint("started_at <= finished_at", name="times"),
    )

    runbook_id: Mapped[UUID] = mapped_column(ForeignKey("runbooks.id", ondelete="RESTRICT"))
    version: Mapped[int]
    environment_id: Mapped[UUID | None] = mapped_column(
        ForeignKey("environments.id", ondelete="RESTRICT")
    )
    deployment_id: Mapped[UUID | None] = mapped_column(
        ForeignKey("deployments.id", ondelete="RESTRICT")
    )
    executed_by: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="RESTRICT"))
    outcome: Mapped[str]
    notes: Mapped[str] = mapped_column(server_default=EMPTY)
    started_at: Mapped[datetime]
    finished_at: Mapped[datetime]
