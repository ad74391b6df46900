"""A history of deployments, written row by row with times of its own.

Things are called by short names, and their ids follow from these, so that a test can say which
deployments it expects.
"""

from datetime import datetime
from typing import Any, Final
from uuid import UUID, uuid5

import asyncpg

_NAMES: Final = UUID("6f1d9c1e-0000-4000-8000-000000000000")
_DIGEST: Final = "sha256:" + "0" * 64


def id_of(name: str) -> UUID:
    """Return the id of the thing that is called so."""
    return uuid5(_NAMES, name)


class Delivered:
    """Writes teams, services, environments, releases, deployments and marks as the owner."""

    def __init__(self, database: asyncpg.Connection) -> None:
        self._database = database
        self._sequences: dict[tuple[str, str], int] = {}

    async def begin(self) -> None:
        """Add the person who does everything here."""
        await self._insert(
            "users",
            id=id_of("somebody"),
            username="somebody",
            email="somebody@service.invalid",
            role="admin",
            kind="service",
        )

    async def team(self, name: str) -> None:
        """Add a team."""
        await self._insert("teams", id=id_of(name), name=name)

    async def environment(self, name: str, kind: str = "prod", **values: Any) -> None:
        """Add an environment."""
        await self._insert(
            "environments",
            id=id_of(name),
            name=name,
            environment_type=kind,
            promotion_order=1,
            **values,
        )

    async def service(self, name: str, team: str) -> None:
        """Add a service of a team."""
        await self._insert(
            "services",
            id=id_of(name),
            name=name,
            team_id=id_of(team),
            owner_id=id_of("somebody"),
        )

    async def release(
        self,
        name: str,
        published_at: datetime,
        committed_at: datetime | None,
        *,
        created_at: datetime | None = None,
        status: str = "published",
    ) -> None:
        """Add a release such as `alpha@1.0`."""
        service, _, version = name.partition("@")
        await self._insert(
            "releases",
            id=id_of(name),
            service_id=id_of(service),
            created_by=id_of("somebody"),
            authors=[id_of("somebody")],
            version=version,
            status=status,
            commit_sha="c0ffee",
            artifact_digest=_DIGEST,
            published_at=published_at,
            commit_time=committed_at,
            created_at=created_at or published_at,
        )

    async def deployment(
        self,
        name: str,
        release: str,
        ended_at: datetime | None,
        *,
        status: str = "completed",
        kind: str = "deploy",
        environment: str = "prod",
        touched_at: datetime | None = None,
        untouched: bool = False,
        failure: str | None = None,
        undoes: str | None = None,
    ) -> None:
        """Add a deployment; a completed one takes the next number of its pair.

        A rollback `undoes` another one, which is marked as rolled back by it.
        """
        service = release.partition("@")[0]
        completes = status == "completed"
        pair = (service, environment)
        self._sequences[pair] = self._sequences.get(pair, 0) + completes
        reached = None if untouched else touched_at or ended_at
        await self._insert(
            "deployments",
            id=id_of(name),
            release_id=id_of(release),
            service_id=id_of(service),
            environment_id=id_of(environment),
            deployed_by=id_of("somebody"),
            requesters=[id_of("somebody")],
            kind="rollback" if undoes else kind,
            status=status,
            artifact_digest=_DIGEST,
            deployed_at=reached or ended_at,
            started_at=reached,
            touched_at=reached,
            completed_at=ended_at,
            completed_seq=self._sequences[pair] if completes else None,
            failure_cause="reported" if failure else None,
            failure_class=failure,
            rollback_of=id_of(undoes) if undoes else None,
        )
        if undoes:
            await self._database.execute(
                "UPDATE deployments SET status = 'rolled_back', rolled_back_by = $1 WHERE id = $2",
                id_of(name),
                id_of(undoes),
            )

    async def mark(
        self,
        name: str,
        release: str,
        made_at: datetime,
        *,
        environment: str | None = "prod",
        because_of: str | None = None,
        cleared_at: datetime | None = None,
    ) -> None:
        """Mark a release bad; everywhere without an environment."""
        await self._insert(
            "release_marks",
            id=id_of(name),
            release_id=id_of(release),
            environment_id=id_of(environment) if environment else None,
            reason="bad",
            marked_by=id_of("somebody"),
            deployment_id=id_of(because_of) if because_of else None,
            created_at=made_at,
            cleared_at=cleared_at,
            cleared_by=id_of("somebody") if cleared_at else None,
            cleared_because="it was not" if cleared_at else None,
        )

    async def _insert(self, table: str, **values: Any) -> None:
        columns = ", ".join(values)
        places = ", ".join(f"${number}" for number in range(1, len(values) + 1))
        statement = f"INSERT INTO {table} ({columns}) VALUES ({places})"
        await self._database.execute(statement, *values.values())
