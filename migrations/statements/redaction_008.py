"""Redaction, as revision 008 makes it: the function, and the trigger that decides."""

from migrations.statements.holds_008 import APPENDED, COUNT, DEFINER, TYPES, said

TAGS = (
    *("event_id", "occurred_at", "user_id", "action", "resource_type", "resource_id", "details"),
    *("ip_address", "user_agent", "category", "producer", "aggregate", "aggregate_seq"),
)
ALL_TAGS = f"ARRAY[{', '.join(repr(tag) for tag in TAGS)}]"
ERASABLE = "ARRAY['user_id', 'resource_id', 'details', 'ip_address', 'user_agent']"

# What a row is after the erasure of further fields: the one state that the trigger lets through.
# `p_commitments` are those of all fields, 32 bytes each.
REDACTED = f"""
CREATE FUNCTION audit_redacted(
    p_entry audit_logs, p_fields text[], p_commitments bytea, p_leaf_index bigint
) RETURNS audit_logs LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    v_fields jsonb;
    v_salts jsonb;
BEGIN
    SELECT coalesce(p_entry.redactions -> 'fields', '{{}}')
        || jsonb_object_agg(tag, encode(substr(p_commitments, 32 * n::integer - 31, 32), 'hex'))
    INTO v_fields
    FROM unnest({ALL_TAGS}) WITH ORDINALITY AS t(tag, n) WHERE tag = ANY (p_fields);
    SELECT jsonb_object_agg(tag, coalesce(
        p_entry.redactions -> 'salts' ->> tag,
        encode(substr(sha256(
            convert_to(E'audit.salt/v1\\n', 'UTF8') || p_entry.salt || convert_to(tag, 'UTF8')
        ), 1, 16), 'hex')))
    INTO v_salts
    FROM unnest({ALL_TAGS}) AS t(tag) WHERE NOT v_fields ? tag;
    IF 'user_id' = ANY (p_fields) THEN p_entry.user_id := NULL; END IF;
    IF 'resource_id' = ANY (p_fields) THEN p_entry.resource_id := ''; END IF;
    IF 'details' = ANY (p_fields) THEN p_entry.details := '{{}}'; END IF;
    IF 'ip_address' = ANY (p_fields) THEN p_entry.ip_address := NULL; END IF;
    IF 'user_agent' = ANY (p_fields) THEN p_entry.user_agent := NULL; END IF;
    p_entry.salt := NULL;
    p_entry.redactions :=
        jsonb_build_object('leaf', p_leaf_index, 'fields', v_fields, 'salts', v_salts);
    RETURN p_entry;
END $$
"""

# The commitments are told by a setting, as a trigger has no other ears. They are believed because
# their digest is the entry's, which nobody can bring about with others.
REDACT_ONLY = f"""
CREATE FUNCTION audit_logs_redact_only() RETURNS trigger LANGUAGE plpgsql
SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    v_given text := current_setting('release_manager.commitments', true);
    v_commitments bytea;
    v_erased jsonb;
    v_fields text[];
    v_entry audit_logs;
BEGIN
    IF jsonb_typeof(NEW.redactions -> 'fields') = 'object'
       AND jsonb_typeof(NEW.redactions -> 'leaf') = 'number'
       AND v_given ~ '^([0-9a-f]{{64}}){{{len(TAGS)}}}$'
       AND (OLD.producer <> 'audit' OR OLD.category <> 'change')
       AND audit_hold_on(OLD) IS NULL THEN
        v_commitments := decode(v_given, 'hex');
        v_erased := to_jsonb(ARRAY(SELECT jsonb_object_keys(NEW.redactions -> 'fields')));
        v_fields := ARRAY(
            SELECT jsonb_object_keys(NEW.redactions -> 'fields')
            EXCEPT SELECT jsonb_object_keys(OLD.redactions -> 'fields')
        );
        SELECT e.* INTO v_entry FROM audit_logs AS e
        WHERE e.leaf_index::text = NEW.redactions ->> 'leaf'
            AND e.leaf_index = (NEW.redactions -> 'leaf')::bigint;
        IF cardinality(v_fields) > 0 AND v_fields <@ {ERASABLE}
           AND sha256(convert_to(E'audit.event/v1\\n', 'UTF8') || v_commitments)
               = OLD.event_digest
           AND v_entry.leaf_index > coalesce((OLD.redactions -> 'leaf')::bigint, OLD.leaf_index)
           AND v_entry.producer = 'audit' AND v_entry.category = 'change'
           AND v_entry.action = 'redact' AND v_entry.resource_type = 'audit_log'
           AND v_entry.resource_id = OLD.id::text
           AND v_entry.details -> 'leaf_index' = to_jsonb(OLD.leaf_index)
           AND v_entry.details -> 'erased' @> v_erased
           AND v_erased @> (v_entry.details -> 'erased')
           AND to_jsonb(NEW)::text = to_jsonb(
               audit_redacted(OLD, v_fields, v_commitments, v_entry.leaf_index))::text THEN
            RETURN NEW;
        END IF;
    END IF;
    RAISE EXCEPTION '% is append-only: % refused', TG_TABLE_NAME, TG_OP
        USING ERRCODE = 'insufficient_privilege';
END $$
"""

# Old versions of a row lie in its file until a vacuum; from its first redaction on, a partition
# gets one as soon as there is any. Settings, because a vacuum cannot run inside of a function; not
# at any price, because a vacuum that runs at this moment has the lock.
VACUUMED = """
    BEGIN
        PERFORM set_config('lock_timeout', '50ms', true);
        EXECUTE format(
            'ALTER TABLE %s SET (autovacuum_vacuum_threshold = 0,'
            ' autovacuum_vacuum_scale_factor = 0, vacuum_index_cleanup = on,'
            ' toast.autovacuum_vacuum_threshold = 0, toast.autovacuum_vacuum_scale_factor = 0)',
            v_partition);
    EXCEPTION WHEN lock_not_available THEN NULL;
    END;"""

REDACT = f"""
CREATE FUNCTION audit_redact({TYPES}, bigint, text[], bytea,
    OUT o_outcome text, OUT o_leaf_index bigint, OUT o_hold text)
{DEFINER} AS $$
DECLARE
    v_target bigint := ${COUNT + 1};
    v_fields text[] := ${COUNT + 2};
    v_commitments bytea := ${COUNT + 3};
    v_entry audit_logs;
    v_after audit_logs;
    v_erased jsonb;
    v_leaf bigint;
    v_partition regclass;
BEGIN
    PERFORM FROM audit_log_head FOR UPDATE;
    SELECT e.* INTO v_entry FROM audit_logs AS e WHERE e.leaf_index = v_target;
    IF NOT FOUND THEN
        o_outcome := 'gone';
        RETURN;
    END IF;
    o_hold := audit_hold_on(v_entry);
    IF o_hold IS NOT NULL THEN
        o_outcome := 'held';
        RETURN;
    END IF;
    v_erased := to_jsonb(
        v_fields || ARRAY(SELECT jsonb_object_keys(v_entry.redactions -> 'fields')));
    -- Somebody else has erased some in between.
    IF jsonb_array_length(v_erased) <> jsonb_array_length($10[1]::jsonb -> 'erased')
       OR NOT v_erased <@ ($10[1]::jsonb -> 'erased')
       OR coalesce(v_entry.redactions -> 'fields', '{{}}') ?| v_fields THEN
        o_outcome := 'changed';
        RETURN;
    END IF;
    {said("redact", "audit_log", "v_entry.id::text")};
    {APPENDED};
    v_after := audit_redacted(v_entry, v_fields, v_commitments, v_leaf);
    PERFORM set_config('release_manager.commitments', encode(v_commitments, 'hex'), true);
    UPDATE audit_logs SET user_id = v_after.user_id, resource_id = v_after.resource_id,
        details = v_after.details, ip_address = v_after.ip_address,
        user_agent = v_after.user_agent, salt = v_after.salt, redactions = v_after.redactions
    WHERE id = v_entry.id RETURNING tableoid::regclass INTO STRICT v_partition;
    {VACUUMED}
    o_outcome := 'redacted';
    o_leaf_index := v_leaf;
END $$
"""
