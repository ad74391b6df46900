"""Output of stages in chunks: what AppendStageOutput takes in, and TailStageOutput gives back.

A chunk is never changed. `start_byte` is its place in the output of its attempt, so the chunks of
an attempt follow on one another, and any place is found by the key.

Revision ID: 021
Revises: 020
"""

from alembic import op

revision = "021"
down_revision = "020"
branch_labels = None
depends_on = None

UPGRADE = (
    """
    CREATE TABLE stage_output_chunks (
        stage_id uuid NOT NULL,
        attempt integer NOT NULL,
        start_byte bigint NOT NULL,
        size_bytes integer NOT NULL,
        content text NOT NULL,
        created_at timestamptz NOT NULL DEFAULT now(),
        CONSTRAINT pk_stage_output_chunks PRIMARY KEY (stage_id, attempt, start_byte),
        CONSTRAINT fk_stage_output_chunks_stage_id
            FOREIGN KEY (stage_id) REFERENCES pipeline_stages (id) ON DELETE CASCADE,
        CONSTRAINT ck_stage_output_chunks_place CHECK (attempt > 0 AND start_byte >= 0),
        CONSTRAINT ck_stage_output_chunks_size CHECK (
            size_bytes > 0 AND size_bytes = octet_length(content)
        )
    )
    """,
    """
    ALTER TABLE pipeline_stages
        ADD COLUMN appended_bytes bigint NOT NULL DEFAULT 0,
        ADD COLUMN counted_bytes bigint NOT NULL DEFAULT 0,
        ADD CONSTRAINT ck_pipeline_stages_appended_bytes
            CHECK (appended_bytes >= 0 AND counted_bytes >= appended_bytes)
    """,
    "GRANT SELECT, INSERT ON stage_output_chunks TO rm_deployment",
)
DOWNGRADE = (
    """
    ALTER TABLE pipeline_stages DROP COLUMN counted_bytes, DROP COLUMN appended_bytes
    """,
    "DROP TABLE stage_output_chunks",
)


def upgrade() -> None:
    """Create the chunks, and count on each stage what was appended to its newest attempt."""
    for statement in UPGRADE:
        op.execute(statement)


def downgrade() -> None:
    """Drop them; of what was appended, the end stays in the output of the stages."""
    for statement in DOWNGRADE:
        op.execute(statement)
