"""Policies of environments, version by version, and releases marked bad.

An environment without a row of its own follows the default policy of its type, version 0.

Revision ID: 006
Revises: 005
"""

from alembic import op

revision = "006"
down_revision = "005"
branch_labels = None
depends_on = None

UPGRADE = (
    """
    CREATE TABLE environment_policies (
        id uuid NOT NULL,
        environment_id uuid NOT NULL,
        policy_version bigint NOT NULL,
        policy jsonb NOT NULL,
        published_by uuid,
        created_at timestamptz NOT NULL DEFAULT now(),
        updated_at timestamptz NOT NULL DEFAULT now(),
        CONSTRAINT pk_environment_policies PRIMARY KEY (id),
        CONSTRAINT fk_environment_policies_environment_id
            FOREIGN KEY (environment_id) REFERENCES environments (id) ON DELETE CASCADE,
        CONSTRAINT fk_environment_policies_published_by
            FOREIGN KEY (published_by) REFERENCES users (id) ON DELETE RESTRICT,
        CONSTRAINT uq_environment_policies_environment_id_policy_version
            UNIQUE (environment_id, policy_version),
        CONSTRAINT ck_environment_policies_policy_version CHECK (policy_version > 0),
        CONSTRAINT ck_environment_policies_policy CHECK (jsonb_typeof(policy) = 'object')
    )
    """,
    "CREATE INDEX ix_environment_policies_published_by ON environment_policies (published_by)",
    """
    CREATE TABLE release_marks (
        id uuid NOT NULL,
        release_id uuid NOT NULL,
        environment_id uuid,
        reason text NOT NULL,
        marked_by uuid NOT NULL,
        deployment_id uuid,
        cleared_at timestamptz,
        cleared_by uuid,
        cleared_because text,
        created_at timestamptz NOT NULL DEFAULT now(),
        updated_at timestamptz NOT NULL DEFAULT now(),
        CONSTRAINT pk_release_marks PRIMARY KEY (id),
        CONSTRAINT fk_release_marks_release_id
            FOREIGN KEY (release_id) REFERENCES releases (id) ON DELETE RESTRICT,
        CONSTRAINT fk_release_marks_environment_id
            FOREIGN KEY (environment_id) REFERENCES environments (id) ON DELETE RESTRICT,
        CONSTRAINT fk_release_marks_marked_by
            FOREIGN KEY (marked_by) REFERENCES users (id) ON DELETE RESTRICT,
        CONSTRAINT fk_release_marks_deployment_id
            FOREIGN KEY (deployment_id) REFERENCES deployments (id) ON DELETE RESTRICT,
        CONSTRAINT fk_release_marks_cleared_by
            FOREIGN KEY (cleared_by) REFERENCES users (id) ON DELETE RESTRICT,
        CONSTRAINT ck_release_marks_cleared CHECK ((cleared_at IS NULL) = (cleared_by IS NULL))
    )
    """,
    "CREATE UNIQUE INDEX uq_release_marks_current ON release_marks (release_id, environment_id)"
    " NULLS NOT DISTINCT WHERE cleared_at IS NULL",
    "CREATE INDEX ix_release_marks_environment_id ON release_marks (environment_id)",
    "CREATE INDEX ix_release_marks_marked_by ON release_marks (marked_by)",
    "CREATE INDEX ix_release_marks_deployment_id ON release_marks (deployment_id)",
    "CREATE INDEX ix_release_marks_cleared_by ON release_marks (cleared_by)",
    "GRANT SELECT, INSERT, UPDATE, DELETE ON environment_policies, release_marks TO rm_deployment",
)

TABLES = ("environment_policies", "release_marks")


def upgrade() -> None:
    """Create both tables."""
    for statement in UPGRADE:
        op.execute(statement)
    for table in TABLES:
        op.execute(
            f"CREATE TRIGGER touch_updated_at BEFORE UPDATE ON {table} "
            "FOR EACH ROW EXECUTE FUNCTION touch_updated_at()"
        )


def downgrade() -> None:
    """Drop both tables; every environment follows the default of its type again."""
    for table in reversed(TABLES):
        op.execute(f"DROP TABLE {table}")
    op.execute("UPDATE environments SET policy_version = 0 WHERE policy_version > 0")
