"""The twelve tables of the product, in dependency order.

Every table has a UUID primary key, `created_at` and `updated_at`; every foreign key says what a
delete does; every constraint has a name that `shared.db.violations` may rely on. `row_version`
counts the changes of an aggregate and is what the API shows as `etag`; 0 is a seeded row.

Revision ID: 001
Revises:
"""

from alembic import op

revision = "001"
down_revision = None
branch_labels = None
depends_on = None

TEAMS = """
CREATE TABLE teams (
    id uuid NOT NULL,
    name text NOT NULL,
    description text NOT NULL DEFAULT '',
    row_version bigint NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT pk_teams PRIMARY KEY (id)
);
CREATE UNIQUE INDEX uq_teams_name ON teams (lower(name));
CREATE INDEX ix_teams_created_at ON teams (created_at);
"""

USERS = """
CREATE TABLE users (
    id uuid NOT NULL,
    team_id uuid,
    username text NOT NULL,
    email text NOT NULL,
    full_name text NOT NULL DEFAULT '',
    password_hash text,
    role text NOT NULL,
    kind text NOT NULL DEFAULT 'person',
    active boolean NOT NULL DEFAULT true,
    row_version bigint NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT pk_users PRIMARY KEY (id),
    CONSTRAINT fk_users_team_id FOREIGN KEY (team_id) REFERENCES teams (id) ON DELETE RESTRICT,
    CONSTRAINT ck_users_role CHECK (role IN ('viewer', 'developer', 'lead', 'admin')),
    CONSTRAINT ck_users_kind CHECK (kind IN ('person', 'service')),
    CONSTRAINT ck_users_password CHECK ((kind = 'person') = (password_hash IS NOT NULL))
);
CREATE UNIQUE INDEX uq_users_username ON users (lower(username));
CREATE UNIQUE INDEX uq_users_email ON users (lower(email));
CREATE INDEX ix_users_team_id ON users (team_id);
CREATE INDEX ix_users_role ON users (role);
CREATE INDEX ix_users_created_at ON users (created_at);
"""

SERVICES = """
CREATE TABLE services (
    id uuid NOT NULL,
    team_id uuid NOT NULL,
    owner_id uuid NOT NULL,
    name text NOT NULL,
    description text NOT NULL DEFAULT '',
    repository text NOT NULL DEFAULT '',
    tier text NOT NULL DEFAULT 'tier-3',
    lifecycle text NOT NULL DEFAULT 'production',
    row_version bigint NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT pk_services PRIMARY KEY (id),
    CONSTRAINT fk_services_team_id FOREIGN KEY (team_id) REFERENCES teams (id) ON DELETE RESTRICT,
    CONSTRAINT fk_services_owner_id FOREIGN KEY (owner_id) REFERENCES users (id) ON DELETE RESTRICT,
    CONSTRAINT ck_services_tier CHECK (tier IN ('tier-1', 'tier-2', 'tier-3', 'tier-4')),
    CONSTRAINT ck_services_lifecycle
        CHECK (lifecycle IN ('experimental', 'production', 'deprecated'))
);
CREATE UNIQUE INDEX uq_services_name ON services (lower(name));
CREATE INDEX ix_services_team_id ON services (team_id);
CREATE INDEX ix_services_owner_id ON services (owner_id);
CREATE INDEX ix_services_lifecycle ON services (lifecycle);
CREATE INDEX ix_services_created_at ON services (created_at);
"""

ENVIRONMENTS = """
CREATE TABLE environments (
    id uuid NOT NULL,
    name text NOT NULL,
    environment_type text NOT NULL,
    promotion_order integer NOT NULL,
    policy_version bigint NOT NULL DEFAULT 0,
    description text NOT NULL DEFAULT '',
    row_version bigint NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT pk_environments PRIMARY KEY (id),
    CONSTRAINT ck_environments_environment_type
        CHECK (environment_type IN ('dev', 'staging', 'prod')),
    CONSTRAINT ck_environments_promotion_order CHECK (promotion_order >= 0)
);
CREATE UNIQUE INDEX uq_environments_name ON environments (lower(name));
CREATE INDEX ix_environments_environment_type ON environments (environment_type);
CREATE INDEX ix_environments_promotion_order ON environments (promotion_order);
"""

RELEASES = """
CREATE TABLE releases (
    id uuid NOT NULL,
    service_id uuid NOT NULL,
    created_by uuid NOT NULL,
    authors uuid[] NOT NULL,
    version text NOT NULL,
    status text NOT NULL DEFAULT 'draft',
    commit_sha text NOT NULL DEFAULT '',
    artifact_digest text NOT NULL DEFAULT '',
    notes text NOT NULL DEFAULT '',
    irreversible boolean NOT NULL DEFAULT false,
    published_at timestamptz,
    row_version bigint NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT pk_releases PRIMARY KEY (id),
    CONSTRAINT fk_releases_service_id
        FOREIGN KEY (service_id) REFERENCES services (id) ON DELETE RESTRICT,
    CONSTRAINT fk_releases_created_by
        FOREIGN KEY (created_by) REFERENCES users (id) ON DELETE RESTRICT,
    CONSTRAINT uq_releases_service_id_version UNIQUE (service_id, version),
    CONSTRAINT uq_releases_id_service_id UNIQUE (id, service_id),
    CONSTRAINT ck_releases_status
        CHECK (status IN ('draft', 'published', 'promoted', 'rolled_back', 'abandoned')),
    CONSTRAINT ck_releases_published CHECK (
        status IN ('draft', 'abandoned')
        OR (published_at IS NOT NULL AND commit_sha <> '' AND artifact_digest <> '')
    )
);
CREATE INDEX ix_releases_service_id_published_at ON releases (service_id, published_at);
CREATE INDEX ix_releases_created_by ON releases (created_by);
CREATE INDEX ix_releases_status ON releases (status);
CREATE INDEX ix_releases_created_at ON releases (created_at);
"""

DEPLOYMENTS = """
CREATE TABLE deployments (
    id uuid NOT NULL,
    release_id uuid NOT NULL,
    service_id uuid NOT NULL,
    environment_id uuid NOT NULL,
    deployed_by uuid NOT NULL,
    requesters uuid[] NOT NULL,
    kind text NOT NULL,
    status text NOT NULL DEFAULT 'pending',
    artifact_digest text NOT NULL,
    allow_downgrade boolean NOT NULL DEFAULT false,
    deployed_at timestamptz NOT NULL DEFAULT now(),
    started_at timestamptz,
    touched_at timestamptz,
    completed_at timestamptz,
    completed_seq bigint,
    decide_by timestamptz,
    failure_cause text,
    failure_class text,
    status_reason text NOT NULL DEFAULT '',
    rollback_of uuid,
    rolled_back_by uuid,
    superseded_by uuid,
    row_version bigint NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT pk_deployments PRIMARY KEY (id),
    CONSTRAINT fk_deployments_release_id
        FOREIGN KEY (release_id, service_id) REFERENCES releases (id, service_id)
        ON DELETE RESTRICT,
    CONSTRAINT fk_deployments_environment_id
        FOREIGN KEY (environment_id) REFERENCES environments (id) ON DELETE RESTRICT,
    CONSTRAINT fk_deployments_deployed_by
        FOREIGN KEY (deployed_by) REFERENCES users (id) ON DELETE RESTRICT,
    CONSTRAINT fk_deployments_rollback_of
        FOREIGN KEY (rollback_of) REFERENCES deployments (id) ON DELETE RESTRICT,
    CONSTRAINT fk_deployments_rolled_back_by
        FOREIGN KEY (rolled_back_by) REFERENCES deployments (id) ON DELETE RESTRICT,
    CONSTRAINT fk_deployments_superseded_by
        FOREIGN KEY (superseded_by) REFERENCES deployments (id) ON DELETE RESTRICT,
    CONSTRAINT ck_deployments_kind CHECK (kind IN ('deploy', 'promote', 'rollback', 'redeploy')),
    CONSTRAINT ck_deployments_status CHECK (status IN (
        'pending', 'in-progress', 'paused', 'cancelling', 'completed', 'failed', 'cancelled',
        'rejected', 'expired', 'superseded', 'rolled_back'
    )),
    CONSTRAINT ck_deployments_failure_class CHECK (failure_class IN ('failed', 'errored')),
    CONSTRAINT ck_deployments_completed
        CHECK (status <> 'completed' OR (completed_at IS NOT NULL AND completed_seq IS NOT NULL)),
    CONSTRAINT ck_deployments_rollback CHECK ((kind = 'rollback') = (rollback_of IS NOT NULL))
);
CREATE UNIQUE INDEX uq_deployments_slot ON deployments (service_id, environment_id)
    WHERE status IN ('in-progress', 'paused', 'cancelling');
CREATE UNIQUE INDEX uq_deployments_open_rollback ON deployments (service_id, environment_id)
    WHERE kind = 'rollback' AND status IN ('pending', 'in-progress', 'paused', 'cancelling');
CREATE UNIQUE INDEX uq_deployments_open_release ON deployments (release_id, environment_id)
    WHERE kind <> 'rollback' AND status IN ('pending', 'in-progress', 'paused', 'cancelling');
CREATE UNIQUE INDEX uq_deployments_completed_seq
    ON deployments (service_id, environment_id, completed_seq) WHERE completed_seq IS NOT NULL;
CREATE INDEX ix_deployments_release_id_environment_id ON deployments (release_id, environment_id);
CREATE INDEX ix_deployments_service_id_environment_id_deployed_at
    ON deployments (service_id, environment_id, deployed_at);
CREATE INDEX ix_deployments_service_id_environment_id_touched_at
    ON deployments (service_id, environment_id, touched_at) WHERE touched_at IS NOT NULL;
CREATE INDEX ix_deployments_environment_id ON deployments (environment_id);
CREATE INDEX ix_deployments_deployed_by ON deployments (deployed_by);
CREATE INDEX ix_deployments_status ON deployments (status);
CREATE INDEX ix_deployments_deployed_at ON deployments (deployed_at);
CREATE INDEX ix_deployments_rollback_of ON deployments (rollback_of)
    WHERE rollback_of IS NOT NULL;
CREATE INDEX ix_deployments_rolled_back_by ON deployments (rolled_back_by)
    WHERE rolled_back_by IS NOT NULL;
CREATE INDEX ix_deployments_superseded_by ON deployments (superseded_by)
    WHERE superseded_by IS NOT NULL;
"""

APPROVALS = """
CREATE TABLE approvals (
    id uuid NOT NULL,
    deployment_id uuid NOT NULL,
    approver_id uuid NOT NULL,
    status text NOT NULL DEFAULT 'pending',
    comment text NOT NULL DEFAULT '',
    decided_at timestamptz,
    approver_role text,
    artifact_digest text,
    policy_version bigint,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT pk_approvals PRIMARY KEY (id),
    CONSTRAINT fk_approvals_deployment_id
        FOREIGN KEY (deployment_id) REFERENCES deployments (id) ON DELETE CASCADE,
    CONSTRAINT fk_approvals_approver_id
        FOREIGN KEY (approver_id) REFERENCES users (id) ON DELETE RESTRICT,
    CONSTRAINT ck_approvals_status
        CHECK (status IN ('pending', 'approved', 'rejected', 'expired', 'revoked')),
    CONSTRAINT ck_approvals_decided CHECK (
        status NOT IN ('approved', 'rejected')
        OR (decided_at IS NOT NULL AND approver_role IS NOT NULL
            AND artifact_digest IS NOT NULL AND policy_version IS NOT NULL)
    )
);
CREATE UNIQUE INDEX uq_approvals_current ON approvals (deployment_id, approver_id)
    WHERE status IN ('pending', 'approved', 'rejected');
CREATE INDEX ix_approvals_deployment_id ON approvals (deployment_id);
CREATE INDEX ix_approvals_approver_id_status ON approvals (approver_id, status);
CREATE INDEX ix_approvals_created_at ON approvals (created_at);
"""

AUDIT_LOGS = """
CREATE TABLE audit_logs (
    id uuid NOT NULL,
    leaf_index bigint NOT NULL,
    event_id uuid NOT NULL,
    user_id uuid,
    action text NOT NULL,
    resource_type text NOT NULL,
    resource_id text NOT NULL,
    details jsonb NOT NULL DEFAULT '{}',
    ip_address inet,
    user_agent text,
    category text NOT NULL,
    producer text NOT NULL,
    aggregate text,
    aggregate_seq bigint,
    occurred_at timestamptz NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    leaf_version smallint NOT NULL DEFAULT 1,
    salt bytea,
    event_digest bytea NOT NULL,
    leaf_hash bytea NOT NULL,
    redactions jsonb,
    CONSTRAINT pk_audit_logs PRIMARY KEY (id),
    CONSTRAINT fk_audit_logs_user_id
        FOREIGN KEY (user_id) REFERENCES users (id) ON DELETE RESTRICT,
    CONSTRAINT ck_audit_logs_category CHECK (category IN ('change', 'access', 'security')),
    CONSTRAINT ck_audit_logs_aggregate CHECK ((aggregate IS NULL) = (aggregate_seq IS NULL)),
    CONSTRAINT ck_audit_logs_digests
        CHECK (octet_length(event_digest) = 32 AND octet_length(leaf_hash) = 32)
) PARTITION BY RANGE (id);
CREATE INDEX ix_audit_logs_leaf_index ON audit_logs (leaf_index);
CREATE INDEX ix_audit_logs_user_id_leaf_index ON audit_logs (user_id, leaf_index);
CREATE INDEX ix_audit_logs_resource_type_resource_id
    ON audit_logs (resource_type, resource_id, leaf_index);
CREATE INDEX ix_audit_logs_action_leaf_index ON audit_logs (action, leaf_index);
CREATE INDEX ix_audit_logs_created_at ON audit_logs (created_at);
CREATE INDEX ix_audit_logs_producer_aggregate
    ON audit_logs (producer, aggregate, aggregate_seq) WHERE aggregate IS NOT NULL;
"""

ROLLBACKS = """
CREATE TABLE rollbacks (
    id uuid NOT NULL,
    deployment_id uuid NOT NULL,
    initiated_by uuid NOT NULL,
    from_release_id uuid NOT NULL,
    to_release_id uuid NOT NULL,
    rollback_deployment_id uuid NOT NULL,
    status text NOT NULL DEFAULT 'in-progress',
    reason text NOT NULL,
    completed_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT pk_rollbacks PRIMARY KEY (id),
    CONSTRAINT fk_rollbacks_deployment_id
        FOREIGN KEY (deployment_id) REFERENCES deployments (id) ON DELETE RESTRICT,
    CONSTRAINT fk_rollbacks_initiated_by
        FOREIGN KEY (initiated_by) REFERENCES users (id) ON DELETE RESTRICT,
    CONSTRAINT fk_rollbacks_from_release_id
        FOREIGN KEY (from_release_id) REFERENCES releases (id) ON DELETE RESTRICT,
    CONSTRAINT fk_rollbacks_to_release_id
        FOREIGN KEY (to_release_id) REFERENCES releases (id) ON DELETE RESTRICT,
    CONSTRAINT fk_rollbacks_rollback_deployment_id
        FOREIGN KEY (rollback_deployment_id) REFERENCES deployments (id) ON DELETE RESTRICT,
    CONSTRAINT ck_rollbacks_status CHECK (status IN ('in-progress', 'completed', 'failed'))
);
CREATE UNIQUE INDEX uq_rollbacks_rollback_deployment_id ON rollbacks (rollback_deployment_id);
CREATE INDEX ix_rollbacks_deployment_id ON rollbacks (deployment_id);
CREATE INDEX ix_rollbacks_initiated_by ON rollbacks (initiated_by);
CREATE INDEX ix_rollbacks_from_release_id ON rollbacks (from_release_id);
CREATE INDEX ix_rollbacks_to_release_id ON rollbacks (to_release_id);
CREATE INDEX ix_rollbacks_status ON rollbacks (status);
CREATE INDEX ix_rollbacks_created_at ON rollbacks (created_at);
"""

RUNBOOKS = """
CREATE TABLE runbooks (
    id uuid NOT NULL,
    service_id uuid NOT NULL,
    environment_id uuid,
    created_by uuid NOT NULL,
    title text NOT NULL,
    content text NOT NULL,
    tags jsonb NOT NULL DEFAULT '[]',
    row_version bigint NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT pk_runbooks PRIMARY KEY (id),
    CONSTRAINT fk_runbooks_service_id
        FOREIGN KEY (service_id) REFERENCES services (id) ON DELETE RESTRICT,
    CONSTRAINT fk_runbooks_environment_id
        FOREIGN KEY (environment_id) REFERENCES environments (id) ON DELETE RESTRICT,
    CONSTRAINT fk_runbooks_created_by
        FOREIGN KEY (created_by) REFERENCES users (id) ON DELETE RESTRICT,
    CONSTRAINT ck_runbooks_tags CHECK (jsonb_typeof(tags) = 'array')
);
CREATE UNIQUE INDEX uq_runbooks_service_id_title ON runbooks (service_id, lower(title));
CREATE INDEX ix_runbooks_title ON runbooks (title);
CREATE INDEX ix_runbooks_environment_id ON runbooks (environment_id);
CREATE INDEX ix_runbooks_created_by ON runbooks (created_by);
CREATE INDEX ix_runbooks_tags ON runbooks USING gin (tags jsonb_path_ops);
CREATE INDEX ix_runbooks_created_at ON runbooks (created_at);
"""

DEPLOYMENT_METRICS = """
CREATE TABLE deployment_metrics (
    id uuid NOT NULL,
    deployment_id uuid NOT NULL,
    metric_name text NOT NULL,
    metric_value double precision NOT NULL,
    unit text NOT NULL DEFAULT '',
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT pk_deployment_metrics PRIMARY KEY (id),
    CONSTRAINT fk_deployment_metrics_deployment_id
        FOREIGN KEY (deployment_id) REFERENCES deployments (id) ON DELETE CASCADE,
    CONSTRAINT ck_deployment_metrics_finite CHECK (
        metric_value > '-Infinity'::double precision
        AND metric_value < 'Infinity'::double precision
    )
);
CREATE INDEX ix_deployment_metrics_deployment_id_metric_name
    ON deployment_metrics (deployment_id, metric_name);
CREATE INDEX ix_deployment_metrics_metric_name_created_at
    ON deployment_metrics (metric_name, created_at);
"""

PIPELINE_STAGES = """
CREATE TABLE pipeline_stages (
    id uuid NOT NULL,
    deployment_id uuid NOT NULL,
    name text NOT NULL,
    stage_order integer NOT NULL,
    status text NOT NULL DEFAULT 'pending',
    output text NOT NULL DEFAULT '',
    started_at timestamptz,
    completed_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT pk_pipeline_stages PRIMARY KEY (id),
    CONSTRAINT fk_pipeline_stages_deployment_id
        FOREIGN KEY (deployment_id) REFERENCES deployments (id) ON DELETE CASCADE,
    CONSTRAINT uq_pipeline_stages_deployment_id_name UNIQUE (deployment_id, name),
    CONSTRAINT uq_pipeline_stages_deployment_id_stage_order UNIQUE (deployment_id, stage_order),
    CONSTRAINT ck_pipeline_stages_status CHECK (status IN (
        'pending', 'in-progress', 'completed', 'failed', 'aborted', 'skipped', 'ignored'
    )),
    CONSTRAINT ck_pipeline_stages_times CHECK (
        (status <> 'in-progress' OR (started_at IS NOT NULL AND completed_at IS NULL))
        AND (status NOT IN ('completed', 'failed')
             OR (started_at IS NOT NULL AND completed_at IS NOT NULL))
    )
);
CREATE INDEX ix_pipeline_stages_status ON pipeline_stages (status);
"""

TOUCH_UPDATED_AT = """
CREATE FUNCTION touch_updated_at() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.updated_at := clock_timestamp();
    RETURN NEW;
END $$;
"""

TABLES = {
    "teams": TEAMS,
    "users": USERS,
    "services": SERVICES,
    "environments": ENVIRONMENTS,
    "releases": RELEASES,
    "deployments": DEPLOYMENTS,
    "approvals": APPROVALS,
    "audit_logs": AUDIT_LOGS,
    "rollbacks": ROLLBACKS,
    "runbooks": RUNBOOKS,
    "deployment_metrics": DEPLOYMENT_METRICS,
    "pipeline_stages": PIPELINE_STAGES,
}


def _run(script: str) -> None:
    """Run each statement of a script that holds no semicolon inside a statement."""
    for statement in script.split(";\n"):
        if statement.strip():
            op.execute(statement)


def upgrade() -> None:
    """Create the twelve tables, their indexes and the trigger that keeps `updated_at`."""
    op.execute(TOUCH_UPDATED_AT)
    for table, script in TABLES.items():
        _run(script)
        if table != "audit_logs":  # its rows are never updated
            op.execute(
                f"CREATE TRIGGER touch_updated_at BEFORE UPDATE ON {table} "
                "FOR EACH ROW EXECUTE FUNCTION touch_updated_at()"
            )


def downgrade() -> None:
    """Drop everything that `upgrade` made, in the opposite order."""
    for table in reversed(TABLES):
        op.execute(f"DROP TABLE {table}")
    op.execute("DROP FUNCTION touch_updated_at()")
