"""Retirement of months, as revision 008 makes it: announced by an entry first, then dropped."""

from migrations.statements.holds_008 import APPENDED, COUNT, DEFINER, TYPES, held, said

SAID = said(
    "retire",
    "audit_log_month",
    "to_char(v_month, 'YYYY-MM')",
    "$10[1]::jsonb @> jsonb_build_object('first_index', v_first, 'end_index', v_end)",
)

# How many entries the newest checkpoint covers; revision 009 makes of it that of the last epoch.
SIGNED = """
CREATE OR REPLACE FUNCTION audit_signed_entries() RETURNS bigint LANGUAGE sql STABLE
SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT coalesce(max(tree_size), 0) FROM audit_checkpoints
$$
"""

# Leaves the head row locked, so that no hold can be placed any more. The entries are looked through
# before that, unless a hold comes in between, because appending has to wait meanwhile.
MONTH_HELD = f"""
CREATE FUNCTION audit_month_held(p_month date, OUT o_hold text, OUT o_leaf_index bigint)
LANGUAGE plpgsql AS $$
DECLARE
    v_from uuid := audit_id_floor(p_month::timestamptz);
    v_to uuid := audit_id_floor((p_month + interval '1 month')::timestamptz);
    v_seen uuid[];
BEGIN
    LOOP
        v_seen := ARRAY(SELECT h.id FROM audit_legal_holds AS h WHERE h.released_at IS NULL);
        IF cardinality(v_seen) > 0 THEN
            SELECT h.name, l.leaf_index INTO o_hold, o_leaf_index
            FROM audit_legal_holds AS h JOIN audit_logs AS l ON {held("h", "l")}
            WHERE l.id >= v_from AND l.id < v_to LIMIT 1;
        END IF;
        PERFORM FROM audit_log_head FOR UPDATE;
        EXIT WHEN o_hold IS NOT NULL OR NOT EXISTS (
            SELECT FROM audit_legal_holds AS h
            WHERE h.released_at IS NULL AND h.id <> ALL (v_seen));
    END LOOP;
END $$
"""

RETIRE = f"""
CREATE FUNCTION audit_retire({TYPES}, date, bigint, bigint,
    OUT o_outcome text, OUT o_leaf_index bigint, OUT o_hold text)
{DEFINER} AS $$
DECLARE
    v_month date := ${COUNT + 1};
    v_first bigint := ${COUNT + 2};
    v_end bigint := ${COUNT + 3};
    v_leaf bigint;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('audit_retirements'));
    SELECT 'known', r.leaf_index INTO o_outcome, o_leaf_index
    FROM audit_retirements AS r WHERE r.month = v_month;
    IF FOUND THEN
        RETURN;
    END IF;
    IF v_month + interval '1 month' + interval '90 days' > clock_timestamp() THEN
        o_outcome := 'young';
        RETURN;
    END IF;
    -- Each position of the interval once, and nothing else.
    IF (SELECT (min(l.leaf_index), max(l.leaf_index) + 1, count(*))
            IS DISTINCT FROM (v_first, v_end, v_end - v_first)
        FROM audit_logs AS l
        WHERE l.id >= audit_id_floor(v_month::timestamptz)
            AND l.id < audit_id_floor((v_month + interval '1 month')::timestamptz)) THEN
        o_outcome := 'changed';
        RETURN;
    END IF;
    SELECT m.o_hold, m.o_leaf_index INTO o_hold, o_leaf_index FROM audit_month_held(v_month) AS m;
    IF o_hold IS NOT NULL THEN
        o_outcome := 'held';
        RETURN;
    END IF;
    IF audit_signed_entries() < v_end THEN
        o_outcome := 'unsigned';
        RETURN;
    END IF;
    {SAID};
    {APPENDED};
    INSERT INTO audit_retirements (month, first_index, end_index, leaf_index)
    VALUES (v_month, v_first, v_end, v_leaf);
    o_outcome := 'retired';
    o_leaf_index := v_leaf;
END $$
"""

# DROP TABLE waits for all who read or append, and whoever comes waits behind it; therefore 50 ms,
# and the caller tries again. Dropping without detaching first needs no lock on `users`.
DROP_MONTH = f"""
CREATE FUNCTION audit_drop_month(
    p_month date, OUT o_outcome text, OUT o_leaf_index bigint, OUT o_hold text)
{DEFINER} AS $$
DECLARE
    v_retirement audit_retirements;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('audit_retirements'));
    SELECT r.* INTO v_retirement FROM audit_retirements AS r WHERE r.month = p_month;
    IF NOT FOUND THEN
        o_outcome := 'unknown';
        RETURN;
    END IF;
    o_leaf_index := v_retirement.leaf_index;
    IF v_retirement.dropped_at IS NOT NULL THEN
        o_outcome := 'dropped';
        RETURN;
    END IF;
    IF audit_signed_entries() <= v_retirement.leaf_index THEN
        o_outcome := 'unsigned';
        RETURN;
    END IF;
    -- Entries about the ledger are what other erased fields and dropped months are judged by.
    INSERT INTO audit_kept_entries (leaf_index, entry)
    SELECT l.leaf_index, to_jsonb(l) FROM audit_logs AS l
    WHERE l.id >= audit_id_floor(p_month::timestamptz)
        AND l.id < audit_id_floor((p_month + interval '1 month')::timestamptz)
        AND l.producer = 'audit' AND l.category = 'change'
    ON CONFLICT DO NOTHING;
    SELECT m.o_hold, coalesce(m.o_leaf_index, v_retirement.leaf_index)
    INTO o_hold, o_leaf_index FROM audit_month_held(p_month) AS m;
    IF o_hold IS NOT NULL THEN
        o_outcome := 'held';
        RETURN;
    END IF;
    PERFORM set_config('lock_timeout', '50ms', true);
    EXECUTE format('DROP TABLE IF EXISTS public.%I', to_char(p_month, '"audit_logs_y"YYYY"m"MM'));
    UPDATE audit_retirements SET dropped_at = clock_timestamp() WHERE month = p_month;
    o_outcome := 'dropped';
END $$
"""
