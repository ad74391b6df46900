"""The Merkle tree over the ledger: its tiles, its signed checkpoints, and the role that makes them.

A tile only ever gets longer and a full one never changes; checkpoints are added and never changed.
The integrator reads nothing of an entry but its place and its leaf.

Revision ID: 007
Revises: 006
"""

from alembic import op

revision = "007"
down_revision = "006"
branch_labels = None
depends_on = None

ROLE = "rm_audit_integrator"

# Hashes do not compress, and are read by their beginnings too.
TILES = """
CREATE TABLE merkle_tiles (
    level smallint NOT NULL,
    tile bigint NOT NULL,
    hashes bytea STORAGE EXTERNAL NOT NULL,
    CONSTRAINT pk_merkle_tiles PRIMARY KEY (level, tile),
    CONSTRAINT ck_merkle_tiles_place CHECK (level BETWEEN 0 AND 7 AND tile >= 0),
    CONSTRAINT ck_merkle_tiles_hashes
        CHECK (octet_length(hashes) BETWEEN 32 AND 8192 AND octet_length(hashes) % 32 = 0)
)
"""

CHECKPOINTS = """
CREATE TABLE audit_checkpoints (
    tree_size bigint NOT NULL,
    root bytea NOT NULL,
    note text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT pk_audit_checkpoints PRIMARY KEY (tree_size),
    CONSTRAINT ck_audit_checkpoints_tree_size CHECK (tree_size >= 0),
    CONSTRAINT ck_audit_checkpoints_root CHECK (octet_length(root) = 32)
)
"""

GROW_ONLY = """
CREATE FUNCTION merkle_tiles_grow_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.level = OLD.level AND NEW.tile = OLD.tile
       AND substring(NEW.hashes FOR octet_length(OLD.hashes)) = OLD.hashes THEN
        RETURN NEW;
    END IF;
    RAISE EXCEPTION 'a tile only gets longer: % refused', TG_OP
        USING ERRCODE = 'insufficient_privilege';
END $$
"""

# ALWAYS: also where session_replication_role switches ordinary triggers off.
TRIGGERS = (
    ("merkle_tiles", "grow_only", "UPDATE", "ROW", "merkle_tiles_grow_only"),
    ("merkle_tiles", "refuse_rows", "DELETE", "ROW", "audit_logs_refuse"),
    ("merkle_tiles", "refuse_truncate", "TRUNCATE", "STATEMENT", "audit_logs_refuse"),
    ("audit_checkpoints", "refuse_rows", "UPDATE OR DELETE", "ROW", "audit_logs_refuse"),
    ("audit_checkpoints", "refuse_truncate", "TRUNCATE", "STATEMENT", "audit_logs_refuse"),
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
    f"GRANT SELECT ON audit_log_head TO {ROLE}",
    f"GRANT SELECT (leaf_index, leaf_hash) ON audit_logs TO {ROLE}",
    f"GRANT SELECT, INSERT ON merkle_tiles TO {ROLE}",
    f"GRANT UPDATE (hashes) ON merkle_tiles TO {ROLE}",
    f"GRANT SELECT, INSERT ON audit_checkpoints TO {ROLE}",
    "GRANT SELECT ON merkle_tiles, audit_checkpoints TO rm_audit_reader",
)


def upgrade() -> None:
    """Make the tables, their walls, and the role."""
    for statement in (TILES, CHECKPOINTS, GROW_ONLY):
        op.execute(statement)
    op.execute("REVOKE ALL ON FUNCTION merkle_tiles_grow_only() FROM PUBLIC")
    for table, name, events, each, function in TRIGGERS:
        op.execute(
            f"CREATE TRIGGER {table}_{name} BEFORE {events} ON {table}"
            f" FOR EACH {each} EXECUTE FUNCTION {function}()"
        )
        op.execute(f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER {table}_{name}")
    for statement in (CREATE_ROLE, TAKE_ROLE, *GRANTS):
        op.execute(statement)


def downgrade() -> None:
    """Drop the tables; the tree can be built again from the leaves, its checkpoints cannot."""
    op.execute(f"DROP OWNED BY {ROLE}")  # its rights in this database; it owns nothing
    op.execute(DROP_ROLE)
    op.execute("DROP TABLE audit_checkpoints")
    op.execute("DROP TABLE merkle_tiles")
    op.execute("DROP FUNCTION merkle_tiles_grow_only()")
