"""What lists of the ledger are found by: an index for each filter, in the order of the ledger.

Each filter that is an equality has an index that ends in `leaf_index`, so that a page is the first
rows of an index whatever is asked for. `details` have an inverted index, for containment.

Building them takes about a minute for each five million entries, during which nothing is appended:
producers keep their events and deliver them afterwards.

Revision ID: 010
Revises: 009
"""

from alembic import op

revision = "010"
down_revision = "009"
branch_labels = None
depends_on = None

ORDERED = ("category", "producer", "resource_type", "resource_id")

# New entries wait in a list that every search reads and that one append in some hundreds empties:
# short, so that neither takes long. Without the list, appending takes half as long again.
DETAILS = """
CREATE INDEX ix_audit_logs_details ON audit_logs USING gin (details jsonb_path_ops)
    WITH (gin_pending_list_limit = 512)
"""

# In no order, and at most so many, so it is bounded by the months that the ids span. Only the
# inverted index can answer: an index scan in order would walk to the matches instead, and plans for
# any range of ids would combine it with the primary key of a whole month. `+ 0` keeps the index of
# places out.
DETAILS_MATCHES = """
CREATE FUNCTION audit_details_matches(
    p_details jsonb, p_first_id uuid, p_end_id uuid, p_first_leaf bigint, p_end_leaf bigint,
    p_at_most integer
) RETURNS uuid[]
LANGUAGE plpgsql STABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, public, pg_temp SET plan_cache_mode = force_custom_plan
SET enable_bitmapscan = on SET enable_seqscan = off SET enable_indexscan = off AS $$
BEGIN
    RETURN ARRAY(
        SELECT id FROM audit_logs
        WHERE details @> p_details AND id >= p_first_id AND id < p_end_id
            AND leaf_index + 0 >= p_first_leaf AND leaf_index + 0 < p_end_leaf
        LIMIT p_at_most
    );
END $$
"""
SIGNATURE = "audit_details_matches(jsonb, uuid, uuid, bigint, bigint, integer)"


def upgrade() -> None:
    """Make the indexes, and the search for details."""
    for column in ORDERED:
        op.execute(
            f"CREATE INDEX ix_audit_logs_{column}_leaf_index ON audit_logs ({column}, leaf_index)"
        )
    op.execute(DETAILS)
    op.execute(DETAILS_MATCHES)
    op.execute(f"REVOKE ALL ON FUNCTION {SIGNATURE} FROM PUBLIC")
    op.execute(f"GRANT EXECUTE ON FUNCTION {SIGNATURE} TO rm_audit_reader")


def downgrade() -> None:
    """Undo both."""
    op.execute(f"DROP FUNCTION {SIGNATURE}")
    for name in ("details", *(f"{column}_leaf_index" for column in ORDERED)):
        op.execute(f"DROP INDEX ix_audit_logs_{name}")
