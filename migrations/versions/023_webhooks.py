"""Webhooks: where events are sent, how far each one is in the ledger, and what came back.

No secret is stored: a webhook's secrets are derived from the installation's, its id, and the
number of its generation. How far it is lies in a row of its own, since it is no version of the
webhook. A role of its own writes all of it: it may append to the ledger, as it does with each
change, and reads nothing of it.

Revision ID: 023
Revises: 022
"""

from alembic import op

revision = "023"
down_revision = "022"
branch_labels = None
depends_on = None

ROLE = "rm_audit_notifier"
APPEND = (
    "audit_append(uuid[], bytea[], bytea[], bytea[], timestamptz[], uuid[], text[], text[], text[],"
    " text[], text[], text[], text[], text[], text[], bigint[])"
)

UPGRADE = (
    """
    CREATE TABLE webhooks (
        id uuid NOT NULL,
        name text NOT NULL,
        url text NOT NULL,
        event_types text[] NOT NULL DEFAULT '{}',
        environments text[] NOT NULL DEFAULT '{}',
        services text[] NOT NULL DEFAULT '{}',
        description text NOT NULL DEFAULT '',
        paused boolean NOT NULL DEFAULT false,
        paused_because text NOT NULL DEFAULT '',
        secret_generation integer NOT NULL DEFAULT 1,
        previous_secret_until timestamptz,
        row_version bigint NOT NULL DEFAULT 0,
        created_at timestamptz NOT NULL DEFAULT now(),
        updated_at timestamptz NOT NULL DEFAULT now(),
        CONSTRAINT pk_webhooks PRIMARY KEY (id),
        CONSTRAINT ck_webhooks_name CHECK (name <> ''),
        CONSTRAINT ck_webhooks_url CHECK (url <> ''),
        CONSTRAINT ck_webhooks_paused CHECK (paused OR paused_because = ''),
        CONSTRAINT ck_webhooks_secret_generation CHECK (
            secret_generation > 1 OR secret_generation = 1 AND previous_secret_until IS NULL
        )
    )
    """,
    "CREATE UNIQUE INDEX uq_webhooks_name ON webhooks (lower(name))",
    """
    CREATE TABLE webhook_progress (
        webhook_id uuid NOT NULL,
        next_index bigint NOT NULL,
        next_part smallint NOT NULL DEFAULT 0,
        failing_since timestamptz,
        delivered_at timestamptz,
        last_error text NOT NULL DEFAULT '',
        CONSTRAINT pk_webhook_progress PRIMARY KEY (webhook_id),
        CONSTRAINT fk_webhook_progress_webhook_id
            FOREIGN KEY (webhook_id) REFERENCES webhooks (id) ON DELETE CASCADE,
        CONSTRAINT ck_webhook_progress_next CHECK (next_index >= 0 AND next_part >= 0)
    )
    """,
    """
    CREATE TABLE webhook_deliveries (
        webhook_id uuid NOT NULL,
        leaf_index bigint NOT NULL,
        part smallint NOT NULL,
        event_id text NOT NULL,
        event_type text NOT NULL,
        state text NOT NULL,
        attempts integer NOT NULL,
        first_attempt_at timestamptz NOT NULL,
        last_attempt_at timestamptz NOT NULL,
        next_attempt_at timestamptz,
        status_code integer NOT NULL DEFAULT 0,
        error text NOT NULL DEFAULT '',
        latency_ms integer NOT NULL DEFAULT 0,
        CONSTRAINT pk_webhook_deliveries PRIMARY KEY (webhook_id, leaf_index, part),
        CONSTRAINT fk_webhook_deliveries_webhook_id
            FOREIGN KEY (webhook_id) REFERENCES webhooks (id) ON DELETE CASCADE,
        CONSTRAINT ck_webhook_deliveries_state CHECK (
            state IN ('delivered', 'retrying', 'given-up', 'refused')
        ),
        CONSTRAINT ck_webhook_deliveries_attempts CHECK (attempts > 0),
        CONSTRAINT ck_webhook_deliveries_next_attempt_at CHECK (
            (next_attempt_at IS NULL) = (state <> 'retrying')
        )
    )
    """,
    """
    CREATE INDEX ix_webhook_deliveries_last_attempt_at
        ON webhook_deliveries (last_attempt_at)
    """,
    """
    CREATE INDEX ix_webhook_deliveries_webhook_id_state_leaf_index
        ON webhook_deliveries (webhook_id, state, leaf_index)
    """,
    "CREATE TRIGGER touch_updated_at BEFORE UPDATE ON webhooks"
    " FOR EACH ROW EXECUTE FUNCTION touch_updated_at()",
)

CREATE_ROLE = f"""
DO $$ BEGIN
    CREATE ROLE {ROLE} NOLOGIN;
EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
END $$
"""

# Where the role is there already, only its maker may grant it; a login that has it needs no grant.
TAKE_ROLE = f"""
DO $$ BEGIN
    IF NOT pg_has_role(CURRENT_USER, '{ROLE}', 'MEMBER') THEN
        GRANT {ROLE} TO CURRENT_USER;
    END IF;
END $$
"""

DROP_ROLE = f"""
DO $$ BEGIN
    DROP ROLE {ROLE};
EXCEPTION WHEN dependent_objects_still_exist THEN NULL;
END $$
"""

GRANTS = (
    f"GRANT USAGE ON SCHEMA public TO {ROLE}",
    "GRANT SELECT, INSERT, UPDATE, DELETE ON webhooks, webhook_progress, webhook_deliveries"
    f" TO {ROLE}",
    # The answers of calls with a request id.
    f"GRANT SELECT, INSERT, UPDATE, DELETE ON idempotency_records TO {ROLE}",
    f"GRANT EXECUTE ON FUNCTION {APPEND} TO {ROLE}",
)


def upgrade() -> None:
    """Create the tables and the role that writes them."""
    for statement in (*UPGRADE, CREATE_ROLE, TAKE_ROLE, *GRANTS):
        op.execute(statement)


def downgrade() -> None:
    """Drop all of it; nothing is sent any more. What webhooks there were stays in the ledger."""
    op.execute(f"DROP OWNED BY {ROLE}")  # its rights in this database; it owns nothing
    op.execute(DROP_ROLE)
    for table in ("webhook_deliveries", "webhook_progress", "webhooks"):
        op.execute(f"DROP TABLE {table}")
