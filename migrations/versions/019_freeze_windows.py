"""Freeze windows: when nothing may start, or only then, and whom that concerns.

What a window is about stands in a table of its own, so that nothing can be deleted while a window
names it: without its last service a window would concern every service.

Revision ID: 019
Revises: 018
"""

from alembic import op

revision = "019"
down_revision = "018"
branch_labels = None
depends_on = None

UPGRADE = (
    """
    CREATE TABLE freeze_windows (
        id uuid NOT NULL,
        name text NOT NULL,
        kind text NOT NULL,
        reason text NOT NULL,
        time_zone text NOT NULL,
        schedule jsonb NOT NULL,
        environment_types text[] NOT NULL DEFAULT '{}',
        includes_rollbacks boolean NOT NULL DEFAULT false,
        exception_dates date[] NOT NULL DEFAULT '{}',
        archived_at timestamptz,
        row_version bigint NOT NULL DEFAULT 0,
        created_at timestamptz NOT NULL DEFAULT now(),
        updated_at timestamptz NOT NULL DEFAULT now(),
        CONSTRAINT pk_freeze_windows PRIMARY KEY (id),
        CONSTRAINT ck_freeze_windows_name CHECK (name <> ''),
        CONSTRAINT ck_freeze_windows_kind CHECK (kind IN ('deny', 'allow')),
        CONSTRAINT ck_freeze_windows_reason CHECK (reason <> ''),
        CONSTRAINT ck_freeze_windows_schedule CHECK (
            num_nonnulls(schedule -> 'once', schedule -> 'weekly', schedule -> 'recurring') = 1
            AND schedule - '{once,weekly,recurring}'::text[] = '{}'
        ),
        CONSTRAINT ck_freeze_windows_environment_types CHECK (
            environment_types <@ '{dev,staging,prod}'::text[]
        )
    )
    """,
    "CREATE UNIQUE INDEX uq_freeze_windows_name ON freeze_windows (lower(name))",
    """
    CREATE TABLE freeze_window_subjects (
        id uuid NOT NULL,
        freeze_window_id uuid NOT NULL,
        service_id uuid,
        team_id uuid,
        environment_id uuid,
        exempt boolean NOT NULL DEFAULT false,
        created_at timestamptz NOT NULL DEFAULT now(),
        updated_at timestamptz NOT NULL DEFAULT now(),
        CONSTRAINT pk_freeze_window_subjects PRIMARY KEY (id),
        CONSTRAINT fk_freeze_window_subjects_freeze_window_id
            FOREIGN KEY (freeze_window_id) REFERENCES freeze_windows (id) ON DELETE CASCADE,
        CONSTRAINT fk_freeze_window_subjects_service_id
            FOREIGN KEY (service_id) REFERENCES services (id) ON DELETE RESTRICT,
        CONSTRAINT fk_freeze_window_subjects_team_id
            FOREIGN KEY (team_id) REFERENCES teams (id) ON DELETE RESTRICT,
        CONSTRAINT fk_freeze_window_subjects_environment_id
            FOREIGN KEY (environment_id) REFERENCES environments (id) ON DELETE RESTRICT,
        CONSTRAINT uq_freeze_window_subjects_freeze_window_id_service_id
            UNIQUE (freeze_window_id, service_id),
        CONSTRAINT uq_freeze_window_subjects_freeze_window_id_team_id
            UNIQUE (freeze_window_id, team_id),
        CONSTRAINT uq_freeze_window_subjects_freeze_window_id_environment_id
            UNIQUE (freeze_window_id, environment_id),
        CONSTRAINT ck_freeze_window_subjects_one CHECK (
            num_nonnulls(service_id, team_id, environment_id) = 1
        ),
        CONSTRAINT ck_freeze_window_subjects_exempt CHECK (NOT exempt OR service_id IS NOT NULL)
    )
    """,
    *(
        f"CREATE INDEX ix_freeze_window_subjects_{column} ON freeze_window_subjects ({column})"
        for column in ("service_id", "team_id", "environment_id")
    ),
    *(
        f"CREATE TRIGGER touch_updated_at BEFORE UPDATE ON {table}"
        " FOR EACH ROW EXECUTE FUNCTION touch_updated_at()"
        for table in ("freeze_windows", "freeze_window_subjects")
    ),
    "GRANT SELECT, INSERT ON freeze_windows TO rm_deployment",
    """
    GRANT UPDATE (
        name, kind, reason, time_zone, schedule, environment_types, includes_rollbacks,
        exception_dates, archived_at, row_version, updated_at
    ) ON freeze_windows TO rm_deployment
    """,
    # A window gets its subjects anew when they change.
    "GRANT SELECT, INSERT, DELETE ON freeze_window_subjects TO rm_deployment",
)
DOWNGRADE = ("DROP TABLE freeze_window_subjects", "DROP TABLE freeze_windows")


def upgrade() -> None:
    """Create both tables."""
    for statement in UPGRADE:
        op.execute(statement)


def downgrade() -> None:
    """Drop them; nothing is frozen then."""
    for statement in DOWNGRADE:
        op.execute(statement)
