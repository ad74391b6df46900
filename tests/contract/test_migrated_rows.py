"""What migrations do to rows that are there, on a seeded database."""

import asyncio
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from alembic import command
from alembic.config import Config

from shared.ids import new_id
from shared.setting_values import driver_url, normal_database_url

ROOT = Path(__file__).resolve().parents[2]


class Migrated:
    """A database that goes back and forth between revisions, and what is in it."""

    def __init__(self, url: str) -> None:
        self._url = driver_url(url)
        self._alembic = Config(toml_file=ROOT / "pyproject.toml", stdout=io.StringIO())
        self._alembic.attributes["database_url"] = normal_database_url(url)

    def upgrade(self, revision: str) -> None:
        command.upgrade(self._alembic, revision)

    def downgrade(self, revision: str) -> None:
        command.downgrade(self._alembic, revision)

    def rows(self, statement: str, *values: object) -> Sequence[tuple[Any, ...]]:
        """Return what a statement returns."""

        async def run() -> Sequence[tuple[Any, ...]]:
            connection = await asyncpg.connect(self._url)
            try:
                return [tuple(row) for row in await connection.fetch(statement, *values)]
            finally:
                await connection.close()

        return asyncio.run(run())


@pytest.fixture
def migrated(seeded_database_url: str) -> Migrated:
    """A seeded database of the newest revision."""
    return Migrated(seeded_database_url)


def test_who_may_have_lost_a_role_has_lost_it_by_their_last_change(migrated: Migrated) -> None:
    users = "SELECT id, active, row_version, updated_at FROM users ORDER BY id"
    migrated.downgrade("026")
    migrated.rows(
        "UPDATE users SET active = false, updated_at = now() - interval '9 days'"
        " WHERE id IN (SELECT approver_id FROM approvals LIMIT 1)"
    )
    before = migrated.rows(users)
    assert False in [active for _id, active, *_rest in before]

    migrated.upgrade("027")

    assert migrated.rows(users) == before
    demoted = migrated.rows("SELECT id, demoted_at FROM users ORDER BY id")
    assert demoted == [(user, updated_at) for user, _active, _version, updated_at in before]


def test_only_crossings_are_forgotten_where_no_override_says_so(migrated: Migrated) -> None:
    kept = "SELECT deployment_id, gate FROM gate_overrides ORDER BY id"
    add = (
        "INSERT INTO gate_overrides (id, deployment_id, gate, reason, author_id, authors)"
        " SELECT $1, id, $2, 'urgent', deployed_by, ARRAY[deployed_by] FROM deployments"
        " ORDER BY id LIMIT 1"
    )
    migrated.rows(add, new_id(), "soak")
    before = migrated.rows(kept)
    migrated.rows(add, new_id(), "irreversible")

    migrated.downgrade("027")

    assert migrated.rows(kept) == before
    with pytest.raises(asyncpg.CheckViolationError):
        migrated.rows(add, new_id(), "irreversible")

    migrated.upgrade("028")

    migrated.rows(add, new_id(), "irreversible")
