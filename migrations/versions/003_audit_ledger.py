"""What makes `audit_logs` a ledger: one head, keys against doubles, one append function, walls.

Appending is a single statement, `SELECT … FROM audit_append(…)`: it locks the head row, decides for
each event whether it is new, gives new ones the next leaf index, computes the leaf and inserts. The
rows of `audit_logs` can afterwards neither be updated nor deleted nor truncated, and the service's
role has no right but to call the function.

Revision ID: 003
Revises: 002
"""

from alembic import op

revision = "003"
down_revision = "002"
branch_labels = None
depends_on = None

# fillfactor leaves room for the new versions of the one row, so that no index entry is ever made.
HEAD = """
CREATE TABLE audit_log_head (
    id smallint NOT NULL DEFAULT 1,
    origin text NOT NULL,
    epoch integer NOT NULL DEFAULT 0,
    next_index bigint NOT NULL DEFAULT 0,
    last_at timestamptz NOT NULL,
    CONSTRAINT pk_audit_log_head PRIMARY KEY (id),
    CONSTRAINT ck_audit_log_head_single CHECK (id = 1),
    CONSTRAINT ck_audit_log_head_next_index CHECK (next_index >= 0)
) WITH (fillfactor = 10)
"""

FIRST_HEAD = """
INSERT INTO audit_log_head (origin, last_at)
VALUES ('release-manager/audit', 'epoch'::timestamptz)
"""

KEYS = """
CREATE TABLE audit_event_keys (
    event_id uuid NOT NULL,
    producer text NOT NULL,
    aggregate text,
    aggregate_seq bigint,
    leaf_index bigint NOT NULL,
    audit_log_id uuid NOT NULL,
    request_mac bytea NOT NULL,
    created_at timestamptz NOT NULL,
    seen_at timestamptz NOT NULL,
    CONSTRAINT pk_audit_event_keys PRIMARY KEY (event_id),
    CONSTRAINT ck_audit_event_keys_aggregate
        CHECK ((aggregate IS NULL) = (aggregate_seq IS NULL)),
    CONSTRAINT ck_audit_event_keys_request_mac CHECK (octet_length(request_mac) = 32)
) WITH (fillfactor = 90)
"""

KEYS_AGGREGATE = """
CREATE UNIQUE INDEX uq_audit_event_keys_producer_aggregate_aggregate_seq
    ON audit_event_keys (producer, aggregate, aggregate_seq) WHERE aggregate IS NOT NULL
"""

REFUSE = """
CREATE FUNCTION audit_logs_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only: % refused', TG_TABLE_NAME, TG_OP
        USING ERRCODE = 'insufficient_privilege';
END $$
"""

REFUSE_ROWS = """
CREATE TRIGGER audit_logs_refuse_rows BEFORE UPDATE OR DELETE ON audit_logs
    FOR EACH ROW EXECUTE FUNCTION audit_logs_refuse()
"""

REFUSE_TRUNCATE = """
CREATE TRIGGER audit_logs_refuse_truncate BEFORE TRUNCATE ON audit_logs
    FOR EACH STATEMENT EXECUTE FUNCTION audit_logs_refuse()
"""

# ALWAYS: also where session_replication_role switches ordinary triggers off.
REFUSE_ALWAYS = (
    "ALTER TABLE audit_logs ENABLE ALWAYS TRIGGER audit_logs_refuse_rows",
    "ALTER TABLE audit_logs ENABLE ALWAYS TRIGGER audit_logs_refuse_truncate",
)

# The lowest id of a millisecond, whatever the leaf index: the bound of partitions.
ID_FLOOR = """
CREATE FUNCTION audit_id_floor(moment timestamptz) RETURNS uuid
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
    SELECT (
        lpad(to_hex(floor(extract(epoch FROM moment) * 1000)::bigint), 12, '0') || repeat('0', 20)
    )::uuid
$$
"""

ENSURE_PARTITIONS = """
CREATE FUNCTION audit_ensure_partitions(first_month date, months integer) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, public, pg_temp SET timezone = 'UTC' AS $$
DECLARE
    month timestamptz;
    partition text;
    made integer := 0;
BEGIN
    IF months NOT BETWEEN 1 AND 120 OR first_month < DATE '2000-01-01'
       OR first_month + make_interval(months => months) > now() + interval '2 years' THEN
        RAISE EXCEPTION 'partitions for % months from % are out of reason', months, first_month
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    PERFORM pg_advisory_xact_lock(hashtext('audit_ensure_partitions'));
    FOR step IN 0 .. months - 1 LOOP
        month := date_trunc('month', first_month::timestamp) + make_interval(months => step);
        partition := to_char(month, '"audit_logs_y"YYYY"m"MM');
        CONTINUE WHEN to_regclass('public.' || partition) IS NOT NULL;
        EXECUTE format(
            'CREATE TABLE public.%I PARTITION OF public.audit_logs FOR VALUES FROM (%L) TO (%L)',
            partition, audit_id_floor(month), audit_id_floor(month + interval '1 month'));
        -- The row trigger comes from the parent, this one does not.
        EXECUTE format(
            'CREATE TRIGGER audit_logs_refuse_truncate BEFORE TRUNCATE ON public.%I'
            ' FOR EACH STATEMENT EXECUTE FUNCTION public.audit_logs_refuse()', partition);
        EXECUTE format(
            'ALTER TABLE public.%I ENABLE ALWAYS TRIGGER audit_logs_refuse_truncate', partition);
        made := made + 1;
    END LOOP;
    RETURN made;
END $$
"""

# The arrays of one batch: element i of each belongs to event i.
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
ALL_GIVEN = ", ".join(f"p_{name}" for name, _kind in ARRAYS)
ONE_GIVEN = ", ".join(f"p_{name}[i:i]" for name, _kind in ARRAYS)
NAMES = ", ".join(name for name, _kind in ARRAYS)

RESULT = """TABLE (
    o_position integer, o_outcome text, o_leaf_index bigint, o_audit_log_id uuid,
    o_created_at timestamptz, o_event_id uuid
)"""

# One batch without two events of the same key. The lock is a statement of its own, so that the
# next one sees every key committed while this one waited; the clock is read under the lock, so that
# `created_at` never goes back along the order.
INSERT_BATCH = f"""
CREATE FUNCTION audit_append_batch({DECLARED}, p_created_at timestamptz[])
RETURNS {RESULT}
LANGUAGE plpgsql AS $$
DECLARE
    v_next bigint;
    v_now timestamptz;
BEGIN
    SELECT next_index, last_at INTO STRICT v_next, v_now FROM audit_log_head FOR UPDATE;
    v_now := greatest(clock_timestamp(), v_now);
    RETURN QUERY
    WITH given AS MATERIALIZED (
        SELECT * FROM unnest({ALL_GIVEN}, p_created_at) WITH ORDINALITY
            AS g({NAMES}, created_at, position)
    ), known AS MATERIALIZED (
        SELECT g.*, coalesce(k.event_id, a.event_id) AS known_event,
            coalesce(k.leaf_index, a.leaf_index) AS known_index,
            coalesce(k.audit_log_id, a.audit_log_id) AS known_id,
            coalesce(k.created_at, a.created_at) AS known_at,
            CASE WHEN k.request_mac = g.request_mac THEN 'duplicate'
                 WHEN k.event_id IS NOT NULL THEN 'event_id_reused'
                 WHEN a.event_id IS NOT NULL THEN 'aggregate_sequence_reused'
                 ELSE 'appended' END AS outcome
        FROM given AS g
        LEFT JOIN LATERAL (
            SELECT * FROM audit_event_keys AS e WHERE e.event_id = g.event_id LIMIT 1
        ) AS k ON true
        LEFT JOIN LATERAL (
            SELECT * FROM audit_event_keys AS e
            WHERE e.producer = g.producer AND e.aggregate = g.aggregate
                AND e.aggregate_seq = g.aggregate_seq LIMIT 1
        ) AS a ON k.event_id IS NULL
    ), placed AS MATERIALIZED (
        SELECT k.*, coalesce(k.created_at, v_now) AS at,
            (extract(epoch FROM coalesce(k.created_at, v_now)) * 1000000)::bigint AS micros,
            v_next + count(*) FILTER (WHERE outcome = 'appended') OVER (ORDER BY position) - 1
                AS leaf_index
        FROM known AS k
    ), fresh AS MATERIALIZED (
        -- A UUIDv7: milliseconds, microseconds within them times 4, leaf index.
        SELECT p.*, (
            lpad(to_hex(micros / 1000), 12, '0') || to_hex(28672 + micros % 1000 * 4)
            || to_hex((-9223372036854775808) | leaf_index)
        )::uuid AS id
        FROM placed AS p WHERE outcome = 'appended'
    ), entries AS (
        INSERT INTO audit_logs (id, leaf_index, event_id, user_id, action, resource_type,
            resource_id, details, ip_address, user_agent, category, producer, aggregate,
            aggregate_seq, occurred_at, created_at, updated_at, salt, event_digest, leaf_hash)
        SELECT id, leaf_index, event_id, user_id, action, resource_type,
            resource_id, details::jsonb, ip_address::inet, user_agent, category, producer,
            aggregate, aggregate_seq, occurred_at, at, at, salt, event_digest,
            sha256(
                '\\x00'::bytea || convert_to(E'audit.leaf/v1\\n', 'UTF8') || int8send(leaf_index)
                || int8send(micros) || event_digest
            )
        FROM fresh
    ), keys AS (
        INSERT INTO audit_event_keys
        SELECT event_id, producer, aggregate, aggregate_seq, leaf_index, id, request_mac, at, v_now
        FROM fresh
    ), touched AS (
        -- An answer that says "already there" commits a write too: it must not be given by a
        -- server whose commits no longer count.
        UPDATE audit_event_keys AS e SET seen_at = v_now FROM placed AS p
        WHERE e.event_id = p.known_event
    ), head AS (
        UPDATE audit_log_head AS h
        SET next_index = f.last_index + 1, last_at = greatest(f.last_at, h.last_at)
        FROM (SELECT max(leaf_index) AS last_index, max(at) AS last_at FROM fresh) AS f
        WHERE f.last_index IS NOT NULL
    )
    SELECT p.position::integer, p.outcome, p.known_index, p.known_id, p.known_at, p.known_event
    FROM placed AS p WHERE p.outcome <> 'appended'
    UNION ALL
    SELECT f.position::integer, f.outcome, f.leaf_index, f.id, f.at, f.event_id FROM fresh AS f;
END $$
"""

# The settings keep the plan at index probes: it is made once for each session, often when the
# tables are still empty.
CALLED_SAFELY = """LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
SET plan_cache_mode = force_generic_plan"""

# Any batch. One that holds two events of the same key goes event by event, in its one transaction.
APPEND = f"""
CREATE FUNCTION audit_append({DECLARED}) RETURNS {RESULT} {CALLED_SAFELY} AS $$
DECLARE
    v_alone boolean := cardinality(p_event_id) = 1;
BEGIN
    -- An entry is acknowledged after a synced commit, whatever the session was told.
    IF current_setting('synchronous_commit') IN ('off', 'local') THEN
        PERFORM set_config('synchronous_commit', 'on', true);
    END IF;
    IF NOT v_alone THEN
        SELECT count(DISTINCT g.e) = count(*)
            AND count(DISTINCT (g.p, g.a, g.s)) FILTER (WHERE g.a IS NOT NULL) = count(g.a)
        INTO v_alone
        FROM unnest(p_event_id, p_producer, p_aggregate, p_aggregate_seq) AS g(e, p, a, s);
    END IF;
    IF v_alone THEN
        RETURN QUERY SELECT * FROM audit_append_batch({ALL_GIVEN}, NULL);
        RETURN;
    END IF;
    FOR i IN 1 .. cardinality(p_event_id) LOOP
        RETURN QUERY SELECT i, b.o_outcome, b.o_leaf_index, b.o_audit_log_id, b.o_created_at,
            b.o_event_id FROM audit_append_batch({ONE_GIVEN}, NULL) AS b;
    END LOOP;
END $$
"""

# Past times, for the entries that come with a new installation. Not granted to any service.
APPEND_PAST = f"""
CREATE FUNCTION audit_append_past({DECLARED}, p_created_at timestamptz[])
RETURNS {RESULT} {CALLED_SAFELY} AS $$
DECLARE
    v_next bigint;
BEGIN
    SELECT next_index INTO STRICT v_next FROM audit_log_head FOR UPDATE;
    IF v_next > 0 THEN
        RAISE EXCEPTION 'past entries need an empty ledger, this one holds %', v_next
            USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    IF (SELECT bool_or(t.at IS NULL OR t.at < t.before OR t.at > clock_timestamp())
        FROM (SELECT at, lag(at) OVER (ORDER BY n) AS before
              FROM unnest(p_created_at) WITH ORDINALITY AS c(at, n)) AS t)
       OR cardinality(p_created_at) IS DISTINCT FROM cardinality(p_event_id) THEN
        RAISE EXCEPTION 'past times must be given for each entry, in order and not in the future'
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    RETURN QUERY SELECT * FROM audit_append_batch({ALL_GIVEN}, p_created_at);
END $$
"""

SIGNATURES = {
    "audit_append_past": f"{TYPES}, timestamptz[]",
    "audit_append": TYPES,
    "audit_append_batch": f"{TYPES}, timestamptz[]",
    "audit_ensure_partitions": "date, integer",
    "audit_id_floor": "timestamptz",
    "audit_logs_refuse": "",
}
FUNCTIONS = (
    *(REFUSE, ID_FLOOR, ENSURE_PARTITIONS),
    *(INSERT_BATCH, APPEND, APPEND_PAST),
)

KEY_COLUMNS = "event_id, producer, aggregate, aggregate_seq, leaf_index, audit_log_id, created_at"
GRANTS = (
    f"GRANT EXECUTE ON FUNCTION audit_append({TYPES}) TO rm_audit_writer",
    "GRANT EXECUTE ON FUNCTION audit_ensure_partitions(date, integer) TO rm_audit_writer",
    "GRANT SELECT ON audit_logs, audit_log_head TO rm_audit_reader",
    f"GRANT SELECT ({KEY_COLUMNS}) ON audit_event_keys TO rm_audit_reader",
)

DROP_PARTITIONS = """
DO $$
DECLARE
    partition regclass;
BEGIN
    FOR partition IN SELECT inhrelid FROM pg_inherits WHERE inhparent = 'audit_logs'::regclass LOOP
        EXECUTE format('DROP TABLE %s', partition);
    END LOOP;
END $$
"""


def upgrade() -> None:
    """Make the head, the keys, the functions, the walls, the first partitions and the grants."""
    for statement in (HEAD, FIRST_HEAD, KEYS, KEYS_AGGREGATE, *FUNCTIONS):
        op.execute(statement)
    for name, types in SIGNATURES.items():
        op.execute(f"REVOKE ALL ON FUNCTION {name}({types}) FROM PUBLIC")
    for statement in (REFUSE_ROWS, REFUSE_TRUNCATE, *REFUSE_ALWAYS, *GRANTS):
        op.execute(statement)
    op.execute("SELECT audit_ensure_partitions((now() - interval '2 months')::date, 6)")


def downgrade() -> None:
    """Drop everything that `upgrade` made, and every entry with its partition."""
    op.execute("REVOKE ALL ON audit_logs FROM rm_audit_reader")
    op.execute(DROP_PARTITIONS)
    op.execute("DROP TRIGGER audit_logs_refuse_rows ON audit_logs")
    op.execute("DROP TRIGGER audit_logs_refuse_truncate ON audit_logs")
    for name, types in SIGNATURES.items():
        op.execute(f"DROP FUNCTION {name}({types})")
    op.execute("DROP TABLE audit_event_keys")
    op.execute("DROP TABLE audit_log_head")
