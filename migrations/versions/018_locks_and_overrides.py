"""Locks, under which nothing starts, and overrides, which let a deployment past a gate.

`ends_at` is when a lock ends or has ended, the end of time when nothing ends it: what is in force
is found by this one column. An approval remembers how many overrides its deployment had.

Revision ID: 018
Revises: 017
"""

from alembic import op

revision = "018"
down_revision = "017"
branch_labels = None
depends_on = None

UPGRADE = (
    """
    CREATE TABLE locks (
        id uuid NOT NULL,
        service_id uuid,
        environment_id uuid,
        reason text NOT NULL,
        includes_rollbacks boolean NOT NULL DEFAULT false,
        locked_by uuid NOT NULL,
        expires_at timestamptz,
        released_at timestamptz,
        released_by uuid,
        released_because text,
        ends_at timestamptz NOT NULL GENERATED ALWAYS AS (
            coalesce(least(released_at, expires_at), 'infinity'::timestamptz)
        ) STORED,
        row_version bigint NOT NULL DEFAULT 0,
        created_at timestamptz NOT NULL DEFAULT now(),
        updated_at timestamptz NOT NULL DEFAULT now(),
        CONSTRAINT pk_locks PRIMARY KEY (id),
        CONSTRAINT fk_locks_service_id
            FOREIGN KEY (service_id) REFERENCES services (id) ON DELETE RESTRICT,
        CONSTRAINT fk_locks_environment_id
            FOREIGN KEY (environment_id) REFERENCES environments (id) ON DELETE RESTRICT,
        CONSTRAINT fk_locks_locked_by
            FOREIGN KEY (locked_by) REFERENCES users (id) ON DELETE RESTRICT,
        CONSTRAINT fk_locks_released_by
            FOREIGN KEY (released_by) REFERENCES users (id) ON DELETE RESTRICT,
        CONSTRAINT ck_locks_reason CHECK (reason <> ''),
        CONSTRAINT ck_locks_expires_at CHECK (expires_at > created_at),
        CONSTRAINT ck_locks_released CHECK (
            (released_at IS NULL) = (released_by IS NULL)
            AND (released_at IS NULL) = (released_because IS NULL)
            AND (released_at IS NULL OR released_at >= created_at)
        )
    )
    """,
    "CREATE INDEX ix_locks_service_id ON locks (service_id)",
    "CREATE INDEX ix_locks_environment_id ON locks (environment_id)",
    "CREATE INDEX ix_locks_locked_by ON locks (locked_by)",
    "CREATE INDEX ix_locks_released_by ON locks (released_by)",
    "CREATE INDEX ix_locks_ends_at ON locks (ends_at)",
    "CREATE INDEX ix_locks_created_at ON locks (created_at)",
    """
    CREATE TABLE gate_overrides (
        id uuid NOT NULL,
        deployment_id uuid NOT NULL,
        gate text NOT NULL,
        reason text NOT NULL,
        author_id uuid NOT NULL,
        authors uuid[] NOT NULL,
        row_version bigint NOT NULL DEFAULT 0,
        created_at timestamptz NOT NULL DEFAULT now(),
        updated_at timestamptz NOT NULL DEFAULT now(),
        CONSTRAINT pk_gate_overrides PRIMARY KEY (id),
        CONSTRAINT fk_gate_overrides_deployment_id
            FOREIGN KEY (deployment_id) REFERENCES deployments (id) ON DELETE CASCADE,
        CONSTRAINT fk_gate_overrides_author_id
            FOREIGN KEY (author_id) REFERENCES users (id) ON DELETE RESTRICT,
        CONSTRAINT uq_gate_overrides_deployment_id_gate UNIQUE (deployment_id, gate),
        CONSTRAINT ck_gate_overrides_gate CHECK (
            gate IN ('promotion_order', 'soak', 'dependency', 'freeze', 'lock', 'queue')
        ),
        CONSTRAINT ck_gate_overrides_reason CHECK (reason <> ''),
        CONSTRAINT ck_gate_overrides_authors CHECK (author_id = ANY (authors))
    )
    """,
    "CREATE INDEX ix_gate_overrides_author_id ON gate_overrides (author_id)",
    "CREATE INDEX ix_gate_overrides_created_at ON gate_overrides (created_at)",
    *(
        f"CREATE TRIGGER touch_updated_at BEFORE UPDATE ON {table}"
        " FOR EACH ROW EXECUTE FUNCTION touch_updated_at()"
        for table in ("locks", "gate_overrides")
    ),
    "ALTER TABLE approvals ADD COLUMN overrides_version bigint NOT NULL DEFAULT 0",
    # A lock is only ever released, and an override stays as it was given.
    "GRANT SELECT, INSERT ON locks, gate_overrides TO rm_deployment",
    """
    GRANT UPDATE (released_at, released_by, released_because, row_version, updated_at)
        ON locks TO rm_deployment
    """,
    "CREATE INDEX ix_deployments_started_at ON deployments (started_at)",
)
DOWNGRADE = (
    "DROP INDEX ix_deployments_started_at",
    "ALTER TABLE approvals DROP COLUMN overrides_version",
    "DROP TABLE gate_overrides",
    "DROP TABLE locks",
)


def upgrade() -> None:
    """Create both tables, and let approvals remember the overrides of their moment."""
    for statement in UPGRADE:
        op.execute(statement)


def downgrade() -> None:
    """Drop them; approvals given under overrides count as if there had been none."""
    for statement in DOWNGRADE:
        op.execute(statement)
