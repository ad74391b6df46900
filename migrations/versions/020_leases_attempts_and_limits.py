"""Leases of executors, attempts of stages, and when running work ends by itself.

A deployment has at most one lease, and its row is there as long as the lease is. The token fences:
what comes with an old one is refused. `deadline` is when a deployment that runs, is paused or is to
stop leaves that status without a call, and when a running stage does.

Revision ID: 020
Revises: 019
"""

from alembic import op

revision = "020"
down_revision = "019"
branch_labels = None
depends_on = None

UPGRADE = (
    """
    CREATE TABLE deployment_leases (
        id uuid NOT NULL,
        deployment_id uuid NOT NULL,
        token uuid NOT NULL,
        executor text NOT NULL,
        holder_id uuid NOT NULL,
        duration_seconds integer NOT NULL,
        claimed_at timestamptz NOT NULL,
        expires_at timestamptz NOT NULL,
        created_at timestamptz NOT NULL DEFAULT now(),
        updated_at timestamptz NOT NULL DEFAULT now(),
        CONSTRAINT pk_deployment_leases PRIMARY KEY (id),
        CONSTRAINT fk_deployment_leases_deployment_id
            FOREIGN KEY (deployment_id) REFERENCES deployments (id) ON DELETE CASCADE,
        CONSTRAINT fk_deployment_leases_holder_id
            FOREIGN KEY (holder_id) REFERENCES users (id) ON DELETE RESTRICT,
        CONSTRAINT uq_deployment_leases_deployment_id UNIQUE (deployment_id),
        CONSTRAINT ck_deployment_leases_executor CHECK (executor <> ''),
        CONSTRAINT ck_deployment_leases_duration CHECK (duration_seconds > 0)
    )
    """,
    "CREATE INDEX ix_deployment_leases_expires_at ON deployment_leases (expires_at)",
    "CREATE INDEX ix_deployment_leases_holder_id ON deployment_leases (holder_id)",
    """
    ALTER TABLE pipeline_stages
        ADD COLUMN attempt integer NOT NULL DEFAULT 1,
        ADD COLUMN reason text NOT NULL DEFAULT '',
        ADD COLUMN deadline timestamptz,
        ADD CONSTRAINT ck_pipeline_stages_attempt CHECK (attempt > 0)
    """,
    """
    CREATE INDEX ix_pipeline_stages_deadline ON pipeline_stages (deadline)
        WHERE status = 'in-progress'
    """,
    """
    CREATE TABLE stage_attempts (
        id uuid NOT NULL,
        stage_id uuid NOT NULL,
        attempt integer NOT NULL,
        status text NOT NULL,
        output text NOT NULL DEFAULT '',
        executor text NOT NULL DEFAULT '',
        started_by uuid,
        ended_by uuid,
        reason text NOT NULL DEFAULT '',
        started_at timestamptz NOT NULL,
        completed_at timestamptz,
        created_at timestamptz NOT NULL DEFAULT now(),
        updated_at timestamptz NOT NULL DEFAULT now(),
        CONSTRAINT pk_stage_attempts PRIMARY KEY (id),
        CONSTRAINT fk_stage_attempts_stage_id
            FOREIGN KEY (stage_id) REFERENCES pipeline_stages (id) ON DELETE CASCADE,
        CONSTRAINT fk_stage_attempts_started_by
            FOREIGN KEY (started_by) REFERENCES users (id) ON DELETE RESTRICT,
        CONSTRAINT fk_stage_attempts_ended_by
            FOREIGN KEY (ended_by) REFERENCES users (id) ON DELETE RESTRICT,
        CONSTRAINT uq_stage_attempts_stage_id_attempt UNIQUE (stage_id, attempt),
        CONSTRAINT ck_stage_attempts_attempt CHECK (attempt > 0),
        CONSTRAINT ck_stage_attempts_status CHECK (
            status IN ('in-progress', 'completed', 'failed', 'aborted')
        ),
        CONSTRAINT ck_stage_attempts_times CHECK (
            (status = 'in-progress') = (completed_at IS NULL)
        )
    )
    """,
    "CREATE INDEX ix_stage_attempts_started_by ON stage_attempts (started_by)",
    "CREATE INDEX ix_stage_attempts_ended_by ON stage_attempts (ended_by)",
    # What has begun was the first attempt; who made it stands in the ledger only.
    """
    INSERT INTO stage_attempts (id, stage_id, attempt, status, started_at, completed_at)
        SELECT gen_random_uuid(), id, 1, status, started_at, completed_at
        FROM pipeline_stages
        WHERE started_at IS NOT NULL
            AND status IN ('in-progress', 'completed', 'failed', 'aborted')
            AND (status = 'in-progress') = (completed_at IS NULL)
    """,
    "ALTER TABLE deployments ADD COLUMN deadline timestamptz",
    # Nobody bounded what runs already: it gets the usual day, from now on.
    """
    UPDATE deployments SET deadline = now() + interval '24 hours'
        WHERE status IN ('in-progress', 'paused', 'cancelling')
    """,
    """
    CREATE INDEX ix_deployments_deadline ON deployments (deadline)
        WHERE status IN ('in-progress', 'paused', 'cancelling')
    """,
    """
    CREATE INDEX ix_deployments_expires ON deployments (LEAST(decide_by, start_by))
        WHERE status = 'pending'
    """,
    *(
        f"CREATE TRIGGER touch_updated_at BEFORE UPDATE ON {table}"
        " FOR EACH ROW EXECUTE FUNCTION touch_updated_at()"
        for table in ("deployment_leases", "stage_attempts")
    ),
    # A lease that has ended leaves nothing behind: its story stands in the ledger.
    "GRANT SELECT, INSERT, DELETE ON deployment_leases TO rm_deployment",
    "GRANT UPDATE (expires_at, updated_at) ON deployment_leases TO rm_deployment",
    "GRANT SELECT, INSERT ON stage_attempts TO rm_deployment",
    """
    GRANT UPDATE (status, output, ended_by, reason, completed_at, updated_at)
        ON stage_attempts TO rm_deployment
    """,
)
DOWNGRADE = (
    "DROP INDEX ix_deployments_expires",
    "DROP INDEX ix_deployments_deadline",
    "ALTER TABLE deployments DROP COLUMN deadline",
    "DROP TABLE stage_attempts",
    "DROP INDEX ix_pipeline_stages_deadline",
    """
    ALTER TABLE pipeline_stages
        DROP COLUMN deadline, DROP COLUMN reason, DROP COLUMN attempt
    """,
    "DROP TABLE deployment_leases",
)


def upgrade() -> None:
    """Create leases and attempts, and give what runs a deadline."""
    for statement in UPGRADE:
        op.execute(statement)


def downgrade() -> None:
    """Drop them; nothing that runs ends by itself then."""
    for statement in DOWNGRADE:
        op.execute(statement)
