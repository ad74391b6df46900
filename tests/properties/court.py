"""The whole product for properties: real services, a real ledger, people, and a witness.

Nobody has a place of their own here: whoever uses a court one after the other deploys other
services, and leaves no lock, window or policy behind.
"""

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeVar

import asyncpg
from release_manager.deployment.v1 import deployment_pb2 as pb
from release_manager.identity.v1 import identity_pb2

from shared.identity.access_tokens import AccessTokens
from shared.ids import new_id
from shared.setting_values import driver_url
from tests.properties.witness import WITNESS
from tests.support.deployments import (
    PEOPLE,
    ListeningLedger,
    World,
    add_people_and_environments,
    told,
)
from tests.support.platform import Platform, bearer, running_platform
from tests.support.polling import eventually
from tests.support.publishing import publish

ROLES: Final[Mapping[str, int]] = {"viewer": 1, "developer": 2, "lead": 3, "admin": 4}
LONG_AGO: Final = timedelta(days=30)
SECONDS_TO_DELIVER: Final = 60
SENT: Final = "SELECT count(*) = 0 FROM outbox WHERE sent_at IS NULL"
# Which events there are: an id may be given before another and committed after it.
COMMITTED: Final = "SELECT count(*), max(id) FROM outbox"

Result = TypeVar("Result")


@dataclass
class Court:
    """The product, people who call it, and the owner of its database, who reads JSON as such."""

    world: World
    platform: Platform
    owner: asyncpg.Pool

    async def set_role(self, who: str, role: str) -> None:
        """Give somebody another role, as an admin does."""
        request = identity_pb2.UpdateUserRequest(user=who, role=ROLES[role])  # type: ignore[arg-type]
        request.update_mask.paths.append("role")
        token = bearer(self.world.tokens["admin"])
        identity = self.platform.identity
        await told(lambda: identity.UpdateUser(request, metadata=token, timeout=20))

    async def released(self, app: str, count: int) -> list[str]:
        """Add releases of a service, each a day younger than the one before."""
        names = []
        for number in range(1, count + 1):
            name = f"{app}@{number}"
            await self.world.release(name)
            await self.owner.execute(
                "UPDATE releases SET published_at = $3 WHERE service_id = $1 AND version = $2",
                *(self.world.services[app], str(number)),
                datetime.now(UTC) - LONG_AGO + timedelta(days=number),
            )
            names.append(name)
        return names

    async def lived(self, name: str, *environments: str) -> None:
        """Let a release have completed there long ago, as a row that no call has made."""
        service, _, version = name.partition("@")
        for place in environments:
            await self.owner.execute(
                "INSERT INTO deployments (id, release_id, service_id, environment_id, deployed_by,"
                " requesters, kind, status, artifact_digest, deployed_at, started_at, touched_at,"
                " completed_at, completed_seq)"
                " SELECT $1, r.id, r.service_id, e.id, $5, ARRAY[$5::uuid], 'deploy', 'completed',"
                " r.artifact_digest, t.at, t.at, t.at, t.at, 1 + (SELECT count(*) FROM deployments"
                " d WHERE d.service_id = r.service_id AND d.environment_id = e.id)"
                " FROM releases r, environments e, (SELECT now() - interval '1 day' AS at) t"
                " WHERE r.service_id = $2 AND r.version = $3 AND e.name = $4",
                *(new_id(), self.world.services[service], version, place),
                self.world.people["dev1"],
            )

    async def tidy(self, policies: Mapping[str, pb.Policy]) -> None:
        """Give everybody their role back, open every lock and window, and publish policies."""
        for username, role in PEOPLE.items():
            await self.owner.execute(
                "UPDATE users SET role = $2, active = true WHERE username = $1"
                " AND (role <> $2 OR NOT active)",
                *(username, role),
            )
        for place, policy in policies.items():
            await publish(self.world, place, policy)

    async def delivered(self) -> None:
        """Wait until the ledger has everything that was committed."""
        request = pb.ReconcileAuditRequest()

        async def are_sent() -> bool:
            sent: bool = await self.owner.fetchval(SENT)
            if not sent:
                await self.world.call("admin", "ReconcileAudit", request)
            return sent

        await eventually(are_sent, SECONDS_TO_DELIVER)

    async def at_rest(self, look: Callable[[], Awaitable[Result]]) -> Result:
        """Return what is found while the ledger has everything that was committed.

        What is due ends by itself, whenever that is: if something did so, look again.
        """
        while True:
            before = await self.owner.fetchrow(COMMITTED)
            await self.delivered()
            found = await look()
            if await self.owner.fetchrow(COMMITTED) == before:
                return found


@asynccontextmanager
async def running_court(database_url: str) -> AsyncIterator[Court]:
    """Run the product on an empty database, with people, environments and the witness in it."""
    async with asyncpg.create_pool(
        driver_url(database_url), min_size=1, max_size=4, init=_with_json
    ) as owner:
        await owner.execute(WITNESS)
        stubs: dict[str, Any] = dict.fromkeys(("stub", "restrictions", "execution", "output"))
        world = World(
            **stubs,
            database_url=database_url,
            database=owner,
            ledger=ListeningLedger(),  # type: ignore[abstract]
            errors=[],
        )
        sessions = await add_people_and_environments(world)
        async with running_platform(database_url) as platform:
            tokens = AccessTokens(platform.keys, timedelta(hours=12))
            world = replace(
                world,
                stub=platform.deployment,
                restrictions=platform.restrictions,
                execution=platform.execution,
                output=platform.output,
                errors=platform.errors,
            )
            for who, session_id in sessions.items():
                world.tokens[who] = tokens.issue(world.people[who], session_id).text
            yield Court(world, platform, owner)


async def _with_json(connection: asyncpg.Connection) -> None:
    await connection.set_type_codec(
        "jsonb", schema="pg_catalog", encoder=json.dumps, decoder=json.loads
    )
