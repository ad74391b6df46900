"""What PostgreSQL sees at the commit of each change of a deployment, written down by a trigger.

What is written is rows, not conclusions, and nothing of the service takes part.
"""

from collections.abc import Mapping
from typing import Any, Final

Facts = Mapping[str, Any]

# Deferred to the commit, so that whatever came between a check and the commit of what it let pass
# is seen: a lock, a window, a policy, a role or a mark that no row lock has kept away.
WITNESS: Final = """
    CREATE TABLE witnessed (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        deployment_id uuid NOT NULL,
        service_id uuid NOT NULL,
        facts jsonb NOT NULL
    );
    CREATE INDEX ON witnessed (service_id);
    CREATE FUNCTION witness() RETURNS trigger LANGUAGE plpgsql
        SECURITY DEFINER SET search_path = public AS $$
    BEGIN
        INSERT INTO witnessed (deployment_id, service_id, facts)
        SELECT NEW.id, NEW.service_id, jsonb_build_object(
            'before', to_jsonb(OLD), 'after', to_jsonb(NEW),
            'release', to_jsonb(r), 'environment', to_jsonb(e), 'policy', p.policy,
            'policy_then', (SELECT coalesce(max(o.policy_version), 0) FROM environment_policies o
                WHERE o.environment_id = e.id AND o.created_at <= NEW.started_at),
            'approvals', (SELECT coalesce(jsonb_agg(to_jsonb(a)), '[]') FROM approvals a
                WHERE a.deployment_id = NEW.id),
            'people', (SELECT coalesce(jsonb_object_agg(u.id, to_jsonb(u)), '{}') FROM users u),
            'overrides', (SELECT coalesce(jsonb_agg(to_jsonb(o)), '[]') FROM gate_overrides o
                WHERE o.deployment_id = NEW.id),
            'locks', (SELECT coalesce(jsonb_agg(to_jsonb(l)), '[]') FROM locks l
                WHERE coalesce(l.service_id, NEW.service_id) = NEW.service_id
                AND coalesce(l.environment_id, e.id) = e.id),
            'windows', (SELECT coalesce(jsonb_agg(to_jsonb(w) || jsonb_build_object('subjects',
                    (SELECT coalesce(jsonb_agg(to_jsonb(f)), '[]') FROM freeze_window_subjects f
                     WHERE f.freeze_window_id = w.id))), '[]')
                FROM freeze_windows w WHERE w.archived_at IS NULL),
            'marks', (SELECT coalesce(jsonb_agg(to_jsonb(m)), '[]') FROM release_marks m
                WHERE m.release_id = r.id AND m.cleared_at IS NULL
                AND coalesce(m.environment_id, e.id) = e.id),
            'before_here', (SELECT coalesce(jsonb_agg(jsonb_build_object('environment', b.name,
                    'newest', (SELECT c.status FROM deployments c
                        JOIN releases s ON s.id = c.release_id
                        WHERE c.environment_id = b.id AND c.service_id = NEW.service_id
                        AND s.artifact_digest = r.artifact_digest AND c.completed_seq IS NOT NULL
                        ORDER BY c.completed_seq DESC LIMIT 1))), '[]')
                FROM environments b
                WHERE b.promotion_order < e.promotion_order AND b.archived_at IS NULL))
        FROM releases r, environments e
        LEFT JOIN environment_policies p
            ON p.environment_id = e.id AND p.policy_version = e.policy_version
        WHERE r.id = NEW.release_id AND e.id = NEW.environment_id;
        RETURN NULL;
    END $$;
    CREATE CONSTRAINT TRIGGER witness AFTER UPDATE ON deployments
        DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
        WHEN (OLD.started_at IS NULL AND NEW.started_at IS NOT NULL)
        EXECUTE FUNCTION witness();
"""
