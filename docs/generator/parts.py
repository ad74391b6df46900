"""All generated parts, by name."""

import asyncpg

from docs.generator.deployments_part import (
    approval_defaults_part,
    deployment_states_part,
    gates_part,
    policy_defaults_part,
    stage_states_part,
)
from docs.generator.errors_part import errors_part
from docs.generator.meanings import read_meanings
from docs.generator.rights_part import rights_part
from docs.generator.rollbacks import rollbacks_part
from docs.generator.schema import read_schema
from docs.generator.service_parts import backlog_part, metrics_part, settings_part
from docs.generator.tables_part import counts_part, overview_part, tables_part
from shared.setting_values import driver_url


async def read_parts(database_url: str) -> dict[str, str]:
    """Return the text of every part; the database must have the newest schema."""
    connection = await asyncpg.connect(driver_url(database_url))
    try:
        schema = await read_schema(connection)
    finally:
        await connection.close()
    meanings = read_meanings(schema)
    return {
        "counts": counts_part(schema),
        "overview": overview_part(schema, meanings),
        "tables": tables_part(schema, meanings),
        "rights": rights_part(schema, meanings),
        "errors": errors_part(),
        "settings": settings_part(),
        "metrics": metrics_part(),
        "backlog": backlog_part(),
        "deployment-states": deployment_states_part(),
        "stage-states": stage_states_part(),
        "gates": gates_part(),
        "approval-defaults": approval_defaults_part(),
        "policy-defaults": policy_defaults_part(),
        "rollbacks": rollbacks_part(),
    }
