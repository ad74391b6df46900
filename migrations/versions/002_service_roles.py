"""A database role for each service, with the rights it needs on the twelve tables and no others.

A service connects with the one login of the installation and takes its role with SET ROLE. Roles
belong to the whole cluster, so they are made only where missing, and a downgrade drops one only
when no other database uses it.

Revision ID: 002
Revises: 001
"""

from alembic import op

revision = "002"
down_revision = "001"
branch_labels = None
depends_on = None

ROLES = ("rm_audit_writer", "rm_audit_reader", "rm_catalog", "rm_deployment")

# Who a caller is must be known to every service; the password hash only to the one that checks it.
USER_COLUMNS = (
    "id, team_id, username, email, full_name, role, kind, active, row_version, created_at, "
    "updated_at"
)

GRANTS = (
    f"GRANT SELECT ({USER_COLUMNS}) ON users TO rm_audit_writer, rm_audit_reader, rm_deployment",
    "GRANT SELECT, INSERT, UPDATE, DELETE"
    " ON teams, users, services, environments, releases, runbooks TO rm_catalog",
    "GRANT SELECT ON deployments TO rm_catalog",
    "GRANT SELECT ON teams, services, environments, releases TO rm_deployment",
    # Column rights: the status a deployment gives its release; `updated_at` for the row locks of
    # SELECT … FOR SHARE, which need a right to update something.
    "GRANT UPDATE (status, updated_at) ON releases TO rm_deployment",
    "GRANT UPDATE (policy_version, updated_at) ON environments TO rm_deployment",
    "GRANT UPDATE (updated_at) ON users TO rm_deployment",
    "GRANT SELECT, INSERT, UPDATE, DELETE"
    " ON deployments, approvals, rollbacks, deployment_metrics, pipeline_stages TO rm_deployment",
)

CREATE_ROLE = """
DO $$ BEGIN
    CREATE ROLE {role} NOLOGIN;
EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
END $$
"""

# Where the role is there already, only its maker may grant it; a login that has it needs no grant.
TAKE_ROLE = """
DO $$ BEGIN
    IF NOT pg_has_role(CURRENT_USER, '{role}', 'MEMBER') THEN
        GRANT {role} TO CURRENT_USER;
    END IF;
END $$
"""

DROP_ROLE = """
DO $$ BEGIN
    DROP ROLE {role};
EXCEPTION WHEN dependent_objects_still_exist THEN NULL;
END $$
"""


def upgrade() -> None:
    """Create the roles, let the migrating login take them, and grant their rights."""
    for role in ROLES:
        op.execute(CREATE_ROLE.format(role=role))
        op.execute(TAKE_ROLE.format(role=role))
        op.execute(f"GRANT USAGE ON SCHEMA public TO {role}")
    for grant in GRANTS:
        op.execute(grant)


def downgrade() -> None:
    """Take the rights back, and drop the roles that nothing else uses."""
    for role in reversed(ROLES):
        op.execute(f"DROP OWNED BY {role}")  # its rights in this database; it owns nothing
        op.execute(DROP_ROLE.format(role=role))
