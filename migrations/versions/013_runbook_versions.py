"""Runbooks in versions, with a draft beside the published one, and what came of working with them.

`runbooks` shows the published version, or the draft of one that was never published; all versions
are in `runbook_versions`, the draft as version 0. What is there already becomes version 1.

Revision ID: 013
Revises: 012
"""

from alembic import op

revision = "013"
down_revision = "012"
branch_labels = None
depends_on = None

UPGRADE = (
    """
    ALTER TABLE runbooks
        ADD COLUMN version integer NOT NULL DEFAULT 0,
        ADD COLUMN published_at timestamptz,
        ADD CONSTRAINT ck_runbooks_version CHECK ((version > 0) = (published_at IS NOT NULL))
    """,
    # The trigger that keeps updated_at would say that all of them were changed now.
    "ALTER TABLE runbooks DISABLE TRIGGER USER",
    "UPDATE runbooks SET version = 1, published_at = created_at",
    "ALTER TABLE runbooks ENABLE TRIGGER USER",
    """
    ALTER TABLE runbooks ADD COLUMN words tsvector NOT NULL GENERATED ALWAYS AS (
        setweight(to_tsvector('simple', title), 'A')
        || setweight(jsonb_to_tsvector('simple', tags, '["string"]'), 'A')
        || setweight(to_tsvector('simple', content), 'C')
    ) STORED
    """,
    "CREATE INDEX ix_runbooks_words ON runbooks USING gin (words)",
    "CREATE INDEX ix_runbooks_lower_title ON runbooks (lower(title))",
    """
    CREATE TABLE runbook_versions (
        id uuid NOT NULL,
        runbook_id uuid NOT NULL,
        version integer NOT NULL,
        environment_id uuid,
        created_by uuid NOT NULL,
        title text NOT NULL,
        content text NOT NULL,
        tags jsonb NOT NULL DEFAULT '[]',
        published_at timestamptz,
        created_at timestamptz NOT NULL DEFAULT now(),
        updated_at timestamptz NOT NULL DEFAULT now(),
        CONSTRAINT pk_runbook_versions PRIMARY KEY (id),
        CONSTRAINT fk_runbook_versions_runbook_id
            FOREIGN KEY (runbook_id) REFERENCES runbooks (id) ON DELETE CASCADE,
        CONSTRAINT fk_runbook_versions_environment_id
            FOREIGN KEY (environment_id) REFERENCES environments (id) ON DELETE RESTRICT,
        CONSTRAINT fk_runbook_versions_created_by
            FOREIGN KEY (created_by) REFERENCES users (id) ON DELETE RESTRICT,
        CONSTRAINT uq_runbook_versions_runbook_id_version UNIQUE (runbook_id, version),
        CONSTRAINT ck_runbook_versions_version
            CHECK (version >= 0 AND (version > 0) = (published_at IS NOT NULL)),
        CONSTRAINT ck_runbook_versions_tags CHECK (jsonb_typeof(tags) = 'array')
    )
    """,
    "CREATE INDEX ix_runbook_versions_environment_id ON runbook_versions (environment_id)",
    "CREATE INDEX ix_runbook_versions_created_by ON runbook_versions (created_by)",
    """
    INSERT INTO runbook_versions (id, runbook_id, version, environment_id, created_by, title,
        content, tags, published_at, created_at, updated_at)
    SELECT id, id, 1, environment_id, created_by, title, content, tags, created_at, created_at,
        created_at
    FROM runbooks
    """,
    """
    CREATE TABLE runbook_executions (
        id uuid NOT NULL,
        runbook_id uuid NOT NULL,
        version integer NOT NULL,
        environment_id uuid,
        deployment_id uuid,
        executed_by uuid NOT NULL,
        outcome text NOT NULL,
        notes text NOT NULL DEFAULT '',
        started_at timestamptz NOT NULL,
        finished_at timestamptz NOT NULL,
        created_at timestamptz NOT NULL DEFAULT now(),
        updated_at timestamptz NOT NULL DEFAULT now(),
        CONSTRAINT pk_runbook_executions PRIMARY KEY (id),
        CONSTRAINT fk_runbook_executions_runbook_id
            FOREIGN KEY (runbook_id) REFERENCES runbooks (id) ON DELETE RESTRICT,
        CONSTRAINT fk_runbook_executions_environment_id
            FOREIGN KEY (environment_id) REFERENCES environments (id) ON DELETE RESTRICT,
        CONSTRAINT fk_runbook_executions_deployment_id
            FOREIGN KEY (deployment_id) REFERENCES deployments (id) ON DELETE RESTRICT,
        CONSTRAINT fk_runbook_executions_executed_by
            FOREIGN KEY (executed_by) REFERENCES users (id) ON DELETE RESTRICT,
        CONSTRAINT ck_runbook_executions_version CHECK (version > 0),
        CONSTRAINT ck_runbook_executions_outcome
            CHECK (outcome IN ('succeeded', 'failed', 'aborted')),
        CONSTRAINT ck_runbook_executions_times CHECK (started_at <= finished_at)
    )
    """,
    """
    CREATE INDEX ix_runbook_executions_runbook_id_created_at
        ON runbook_executions (runbook_id, created_at)
    """,
    "CREATE INDEX ix_runbook_executions_environment_id ON runbook_executions (environment_id)",
    "CREATE INDEX ix_runbook_executions_deployment_id ON runbook_executions (deployment_id)",
    "CREATE INDEX ix_runbook_executions_executed_by ON runbook_executions (executed_by)",
    "CREATE INDEX ix_runbook_executions_created_at ON runbook_executions (created_at)",
    *(
        f"CREATE TRIGGER touch_updated_at BEFORE UPDATE ON {table}"
        " FOR EACH ROW EXECUTE FUNCTION touch_updated_at()"
        for table in ("runbook_versions", "runbook_executions")
    ),
    "GRANT SELECT, INSERT, UPDATE, DELETE ON runbook_versions, runbook_executions TO rm_catalog",
    "GRANT SELECT (deployment_id, name, stage_order, status) ON pipeline_stages TO rm_catalog",
)
DOWNGRADE = (
    "REVOKE SELECT (deployment_id, name, stage_order, status) ON pipeline_stages FROM rm_catalog",
    "DROP TABLE runbook_executions",
    "DROP TABLE runbook_versions",
    "DROP INDEX ix_runbooks_lower_title",
    "ALTER TABLE runbooks DROP COLUMN words, DROP COLUMN version, DROP COLUMN published_at",
)


def upgrade() -> None:
    """Make the tables, and version 1 of every runbook."""
    for statement in UPGRADE:
        op.execute(statement)


def downgrade() -> None:
    """Drop them; what is published stays, drafts and older versions are lost."""
    for statement in DOWNGRADE:
        op.execute(statement)
