"""A hold that is placed while the entries of a month are looked through ends that look.

The function looked again by itself, with the head row locked: appending waited for as long as that
took, an hour at most. Now its transaction is taken back, and who called looks again.

Revision ID: 030
Revises: 029
"""

from alembic import op

from migrations.statements.holds_008 import held
from migrations.statements.retirement_008 import MONTH_HELD as MONTH_HELD_BEFORE

revision = "030"
down_revision = "029"
branch_labels = None
depends_on = None

# Leaves the head row locked, so that no hold can be placed any more. The entries are looked through
# before that, because appending has to wait meanwhile.
MONTH_HELD = f"""
CREATE OR REPLACE FUNCTION audit_month_held(p_month date, OUT o_hold text, OUT o_leaf_index bigint)
LANGUAGE plpgsql AS $$
DECLARE
    v_from uuid := audit_id_floor(p_month::timestamptz);
    v_to uuid := audit_id_floor((p_month + interval '1 month')::timestamptz);
    v_seen uuid[] := ARRAY(SELECT h.id FROM audit_legal_holds AS h WHERE h.released_at IS NULL);
BEGIN
    IF cardinality(v_seen) > 0 THEN
        SELECT h.name, l.leaf_index INTO o_hold, o_leaf_index
        FROM audit_legal_holds AS h JOIN audit_logs AS l ON {held("h", "l")}
        WHERE l.id >= v_from AND l.id < v_to LIMIT 1;
    END IF;
    PERFORM FROM audit_log_head FOR UPDATE;
    IF o_hold IS NULL AND EXISTS (
        SELECT FROM audit_legal_holds AS h
        WHERE h.released_at IS NULL AND h.id <> ALL (v_seen)) THEN
        RAISE EXCEPTION 'a hold was placed while the entries of % were looked through', p_month
            USING ERRCODE = 'serialization_failure';
    END IF;
END $$
"""


def upgrade() -> None:
    """Replace the function; who may call it stays as it is."""
    op.execute(MONTH_HELD)


def downgrade() -> None:
    """Let it look again by itself."""
    op.execute(MONTH_HELD_BEFORE.replace("CREATE FUNCTION", "CREATE OR REPLACE FUNCTION"))
