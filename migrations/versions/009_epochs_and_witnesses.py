"""Epochs of the ledger, and the checkpoints that its callers have seen.

An epoch is begun when entries that were signed are gone: the ledger goes on under another name, and
an entry says so. Only the function `audit_new_epoch` begins one, and only in its transaction may
tiles be cut back, to the size up to which the old tree holds. No service may call it.

Revision ID: 009
Revises: 008
"""

from alembic import op

from migrations.statements.retirement_008 import SIGNED

revision = "009"
down_revision = "008"
branch_labels = None
depends_on = None

EPOCHS = """
CREATE TABLE audit_epochs (
    epoch integer NOT NULL,
    origin text NOT NULL,
    leaf_index bigint,
    fork bigint,
    note text,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT pk_audit_epochs PRIMARY KEY (epoch),
    CONSTRAINT uq_audit_epochs_origin UNIQUE (origin),
    CONSTRAINT ck_audit_epochs_epoch CHECK (epoch >= 0),
    CONSTRAINT ck_audit_epochs_first
        CHECK ((epoch = 0) = (leaf_index IS NULL) AND (epoch = 0) = (fork IS NULL)),
    CONSTRAINT ck_audit_epochs_fork CHECK (fork BETWEEN 0 AND leaf_index)
)
"""

FIRST_EPOCH = "INSERT INTO audit_epochs (epoch, origin) SELECT epoch, origin FROM audit_log_head"

CHECKPOINTS = (
    "ALTER TABLE audit_checkpoints ADD COLUMN epoch integer NOT NULL DEFAULT 0",
    "ALTER TABLE audit_checkpoints DROP CONSTRAINT pk_audit_checkpoints",
    "ALTER TABLE audit_checkpoints"
    " ADD CONSTRAINT pk_audit_checkpoints PRIMARY KEY (epoch, tree_size)",
    "ALTER TABLE audit_checkpoints ADD CONSTRAINT fk_audit_checkpoints_epoch"
    " FOREIGN KEY (epoch) REFERENCES audit_epochs (epoch) ON DELETE RESTRICT",
)

GROW_ONLY = """
CREATE OR REPLACE FUNCTION merkle_tiles_grow_only() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    v_kept bigint;
BEGIN
    IF TG_OP = 'UPDATE' AND NEW.level = OLD.level AND NEW.tile = OLD.tile
       AND substring(NEW.hashes FOR octet_length(OLD.hashes)) = OLD.hashes THEN
        RETURN NEW;
    END IF;
    -- A new epoch, begun by this very transaction, takes the tree back to where it forks.
    SELECT greatest(0, least(256, (fork >> (8 * OLD.level)) - OLD.tile * 256)) INTO v_kept
    FROM audit_epochs WHERE xmin = pg_current_xact_id()::xid AND fork IS NOT NULL;
    IF TG_OP = 'DELETE' AND v_kept = 0 THEN
        RETURN OLD;
    END IF;
    IF TG_OP = 'UPDATE' AND NEW.level = OLD.level AND NEW.tile = OLD.tile
       AND NEW.hashes = substring(OLD.hashes FOR 32 * v_kept::integer) THEN
        RETURN NEW;
    END IF;
    RAISE EXCEPTION 'a tile only gets longer: % refused', TG_OP
        USING ERRCODE = 'insufficient_privilege';
END $$
"""

GROW_ONLY_BEFORE = """
CREATE OR REPLACE FUNCTION merkle_tiles_grow_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.level = OLD.level AND NEW.tile = OLD.tile
       AND substring(NEW.hashes FOR octet_length(OLD.hashes)) = OLD.hashes THEN
        RETURN NEW;
    END IF;
    RAISE EXCEPTION 'a tile only gets longer: % refused', TG_OP
        USING ERRCODE = 'insufficient_privilege';
END $$
"""

# What was signed in an earlier epoch may be of entries that are lost.
SIGNED_OF_EPOCH = """
CREATE OR REPLACE FUNCTION audit_signed_entries() RETURNS bigint LANGUAGE sql STABLE
SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT coalesce(max(c.tree_size), 0) FROM audit_checkpoints AS c
    WHERE c.epoch = (SELECT h.epoch FROM audit_log_head AS h)
$$
"""

# ALWAYS: also where session_replication_role switches ordinary triggers off.
TRIGGERS = (
    ("merkle_tiles", "refuse_rows", "DELETE", "ROW", "merkle_tiles_grow_only"),
    ("audit_epochs", "refuse_rows", "UPDATE OR DELETE", "ROW", "audit_logs_refuse"),
    ("audit_epochs", "refuse_truncate", "TRUNCATE", "STATEMENT", "audit_logs_refuse"),
)

# The arrays of one event, as `audit_append` takes them.
ARRAYS = (
    ("event_id", "uuid"),
    ("request_mac", "bytea"),
    ("salt", "bytea"),
    ("event_digest", "bytea"),
    ("occurred_at", "timestamptz"),
    ("user_id", "uuid"),
    ("action", "text"),
    ("resource_type", "text"),
    ("resource_id", "text"),
    ("details", "text"),
    ("ip_address", "text"),
    ("user_agent", "text"),
    ("category", "text"),
    ("producer", "text"),
    ("aggregate", "text"),
    ("aggregate_seq", "bigint"),
)
TYPES = ", ".join(f"{kind}[]" for _name, kind in ARRAYS)
DECLARED = ", ".join(f"p_{name} {kind}[]" for name, kind in ARRAYS)
GIVEN = ", ".join(f"p_{name}" for name, _kind in ARRAYS)

NEW_EPOCH = f"""
CREATE FUNCTION audit_new_epoch(
    p_epoch integer, p_origin text, p_fork bigint, p_note text, {DECLARED}
) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    v_head audit_log_head;
    v_entry record;
BEGIN
    SELECT * INTO STRICT v_head FROM audit_log_head FOR UPDATE;
    IF p_epoch <= v_head.epoch OR p_fork NOT BETWEEN 0 AND v_head.next_index
       OR cardinality(p_event_id) <> 1 OR p_action[1] <> 'epoch' THEN
        RAISE EXCEPTION 'epoch % cannot follow % at %', p_epoch, v_head.epoch, p_fork
            USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    -- Keys that outlived their entries would keep lost events from being delivered again.
    DELETE FROM audit_event_keys WHERE leaf_index >= v_head.next_index;
    SELECT * INTO STRICT v_entry FROM audit_append_batch({GIVEN}, NULL);
    IF v_entry.o_outcome <> 'appended' THEN
        RAISE EXCEPTION 'the entry of epoch % is there already', p_epoch
            USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    INSERT INTO audit_epochs (epoch, origin, leaf_index, fork, note)
    VALUES (p_epoch, p_origin, v_entry.o_leaf_index, p_fork, p_note);
    UPDATE audit_log_head SET epoch = p_epoch, origin = p_origin;
    DELETE FROM merkle_tiles WHERE tile * 256 >= p_fork >> (8 * level);
    UPDATE merkle_tiles
    SET hashes = substring(hashes FOR 32 * ((p_fork >> (8 * level)) - tile * 256)::integer)
    WHERE octet_length(hashes) > 32 * ((p_fork >> (8 * level)) - tile * 256);
    RETURN v_entry.o_leaf_index;
END $$
"""
SIGNATURE = f"audit_new_epoch(integer, text, bigint, text, {TYPES})"

WITNESSED = """
CREATE TABLE witnessed_checkpoints (
    producer text NOT NULL,
    origin text NOT NULL,
    tree_size bigint NOT NULL,
    root bytea NOT NULL,
    note text NOT NULL,
    seen_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT pk_witnessed_checkpoints PRIMARY KEY (producer, origin),
    CONSTRAINT ck_witnessed_checkpoints_tree_size CHECK (tree_size >= 0),
    CONSTRAINT ck_witnessed_checkpoints_root CHECK (octet_length(root) = 32)
)
"""

GRANTS = (
    "GRANT SELECT ON audit_epochs TO rm_audit_integrator, rm_audit_reader",
    "GRANT SELECT, INSERT, UPDATE ON witnessed_checkpoints TO rm_catalog, rm_deployment",
)


def upgrade() -> None:
    """Make both tables, the function that begins an epoch, and the door in the wall of tiles."""
    made = (EPOCHS, FIRST_EPOCH, *CHECKPOINTS, SIGNED_OF_EPOCH, GROW_ONLY, NEW_EPOCH, WITNESSED)
    for statement in made:
        op.execute(statement)
    op.execute(f"REVOKE ALL ON FUNCTION {SIGNATURE} FROM PUBLIC")
    op.execute("DROP TRIGGER merkle_tiles_refuse_rows ON merkle_tiles")
    for table, name, events, each, function in TRIGGERS:
        op.execute(
            f"CREATE TRIGGER {table}_{name} BEFORE {events} ON {table}"
            f" FOR EACH {each} EXECUTE FUNCTION {function}()"
        )
        op.execute(f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER {table}_{name}")
    for statement in GRANTS:
        op.execute(statement)


def downgrade() -> None:
    """Drop both tables; refused by the primary key where two epochs signed one size."""
    op.execute("DROP TABLE witnessed_checkpoints")
    op.execute(f"DROP FUNCTION {SIGNATURE}")
    op.execute("DROP TRIGGER merkle_tiles_refuse_rows ON merkle_tiles")
    op.execute(
        "CREATE TRIGGER merkle_tiles_refuse_rows BEFORE DELETE ON merkle_tiles"
        " FOR EACH ROW EXECUTE FUNCTION audit_logs_refuse()"
    )
    op.execute("ALTER TABLE merkle_tiles ENABLE ALWAYS TRIGGER merkle_tiles_refuse_rows")
    op.execute(GROW_ONLY_BEFORE)
    op.execute("ALTER FUNCTION merkle_tiles_grow_only() RESET search_path")
    op.execute("ALTER TABLE audit_checkpoints DROP CONSTRAINT fk_audit_checkpoints_epoch")
    op.execute("ALTER TABLE audit_checkpoints DROP CONSTRAINT pk_audit_checkpoints")
    op.execute("ALTER TABLE audit_checkpoints DROP COLUMN epoch")
    op.execute(
        "ALTER TABLE audit_checkpoints ADD CONSTRAINT pk_audit_checkpoints PRIMARY KEY (tree_size)"
    )
    op.execute("DROP TABLE audit_epochs")
    op.execute(SIGNED)
