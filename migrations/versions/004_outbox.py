"""The outbox (events on their way to the audit ledger) and the answers of repeatable calls.

Both are written in the transaction of the change they belong to. Rows of the outbox are kept for
a week after delivery, so that a ledger restored from a backup can be completed.

Revision ID: 004
Revises: 003
"""

from alembic import op

revision = "004"
down_revision = "003"
branch_labels = None
depends_on = None

UPGRADE = (
    """
    CREATE TABLE outbox (
        id bigint GENERATED ALWAYS AS IDENTITY,
        event_id uuid NOT NULL,
        producer text NOT NULL,
        aggregate text NOT NULL,
        aggregate_seq bigint NOT NULL,
        partition smallint NOT NULL,
        event jsonb NOT NULL,
        created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
        sent_at timestamptz,
        leaf_index bigint,
        attempts integer NOT NULL DEFAULT 0,
        last_error text,
        original jsonb,
        parked_at timestamptz,
        CONSTRAINT pk_outbox PRIMARY KEY (id),
        CONSTRAINT uq_outbox_event_id UNIQUE (event_id),
        CONSTRAINT uq_outbox_producer_aggregate_aggregate_seq
            UNIQUE (producer, aggregate, aggregate_seq),
        CONSTRAINT ck_outbox_aggregate_seq CHECK (aggregate_seq > 0),
        CONSTRAINT ck_outbox_sent CHECK (sent_at IS NULL OR leaf_index IS NOT NULL)
    )
    """,
    "CREATE INDEX ix_outbox_pending ON outbox (producer, partition, id) WHERE sent_at IS NULL",
    "CREATE INDEX ix_outbox_sent_at ON outbox (sent_at) WHERE sent_at IS NOT NULL",
    """
    CREATE TABLE idempotency_records (
        actor_id uuid NOT NULL,
        method text NOT NULL,
        request_id uuid NOT NULL,
        fingerprint bytea NOT NULL,
        response bytea,
        created_at timestamptz NOT NULL DEFAULT now(),
        touched_at timestamptz NOT NULL DEFAULT now(),
        CONSTRAINT pk_idempotency_records PRIMARY KEY (actor_id, method, request_id),
        CONSTRAINT fk_idempotency_records_actor_id
            FOREIGN KEY (actor_id) REFERENCES users (id) ON DELETE CASCADE
    )
    """,
    "CREATE INDEX ix_idempotency_records_created_at ON idempotency_records (created_at)",
    "GRANT SELECT, INSERT, UPDATE, DELETE ON outbox, idempotency_records"
    " TO rm_catalog, rm_deployment",
)


def upgrade() -> None:
    """Create both tables."""
    for statement in UPGRADE:
        op.execute(statement)


def downgrade() -> None:
    """Drop both tables, and with them what was not delivered."""
    op.execute("DROP TABLE idempotency_records")
    op.execute("DROP TABLE outbox")
