"""Two services' operations on one database, for races about decisions, and people who race.

Each call has a connection of its own. Nothing is between a caller and the operation: everybody
acts with the role from before the race, the oldest that a service may remember of a caller.
"""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, NoReturn
from uuid import UUID

import asyncpg
from google.protobuf.message import Message
from release_manager.identity.v1 import identity_pb2

from services.catalog import app as catalog
from services.catalog.messages_identity import users as messages
from services.catalog.operations import people
from services.catalog.operations.changing import Update
from services.deployment import app as deployment
from services.deployment.servicer.deployments import DeploymentRpcs
from services.deployment.servicer.policies import PolicyRpcs
from shared.db.engine import Database
from shared.identity.actor import Actor, ActorKind, Call, Role, current_call
from shared.ids import new_id
from shared.outbox.backlog import OutboxBacklog, OutboxLimits
from shared.outbox.change import Changes
from shared.outbox.relay import Relay
from shared.paging import PageTokens
from shared.rpc.pages import Paging
from shared.setting_values import driver_url, normal_database_url
from tests.faults.four_eyes_judge import WITNESS, Facts

CONNECTIONS = 10
ROLES = {
    "requester": ("developer", "lead", "admin"),
    "author": ("developer", "lead", "admin"),
    "dev1": ("developer",),
    "dev2": ("developer",),
    "lead1": ("lead",),
    "lead2": ("lead", "admin"),
    "robot": ("developer", "admin"),
}


@dataclass
class Lane:
    """An environment and people in which one race is run after the other."""

    environment: str
    people: dict[str, UUID]
    roles: dict[str, str] = field(default_factory=dict)
    policy_changed: bool = False

    def actor(self, who: str) -> Actor:
        """Return somebody as they were when the race began; the robot acts for its owner."""
        robot = who == "robot"
        return Actor(
            self.people[who],
            f"{who}-{self.environment}",
            Role.from_stored(self.roles[who]),
            kind=ActorKind.SERVICE if robot else ActorKind.PERSON,
            owner_id=self.people["requester"] if robot else None,
        )


class Rig:
    """The operations of both services on one database, without anything between."""

    def __init__(self, owner: asyncpg.Pool, deploys: Database, manages: Database) -> None:
        """Use a connection of the owner, and the services' own roles."""
        self.owner = owner
        self._changes = _changes(deploys, deployment.PRODUCER)
        self._people = _changes(manages, catalog.PRODUCER)
        paging = Paging(PageTokens(b"key"))
        self._deploying = DeploymentRpcs(deploys, self._changes, paging)
        self._policies = PolicyRpcs(deploys, self._changes, paging)
        self.admin = Actor(new_id(), "admin", Role.ADMIN)
        self.team_id = new_id()

    async def call(self, actor: Actor, method: str, request: Message) -> Any:
        """Call a method of the deployment service as somebody."""
        part: object = self._policies if method == "PublishPolicy" else self._deploying
        current_call.set(Call(f"/{deployment.SERVICE}/{method}", "a race", actor=actor))
        return await getattr(part, method)(request, None)

    async def set_person(self, user_id: UUID, what: str) -> Any:
        """Give somebody another role or take the account away, as the catalog does."""
        method = "DeactivateUser" if what == "inactive" else "UpdateUser"
        current_call.set(Call(f"/{catalog.IDENTITY}/{method}", "a race", actor=self.admin))
        reference = str(user_id)
        if what == "inactive":
            return await self._people.answer(
                identity_pb2.DeactivateUserRequest(user=reference),
                identity_pb2.DeactivateUserResponse,
                lambda change: people.deactivate(change, reference, ""),
                messages.user_deactivated,
            )
        return await self._people.answer(
            identity_pb2.UpdateUserRequest(user=reference),
            identity_pb2.UpdateUserResponse,
            lambda change: people.update(change, Update(reference, {"role": what})),
            messages.user_updated,
        )

    async def insert(self, table: str, **values: Any) -> UUID:
        """Insert a row as the owner; return its id."""
        values.setdefault("id", new_id())
        places = ", ".join(f"${number}" for number in range(1, len(values) + 1))
        statement = f"INSERT INTO {table} ({', '.join(values)}) VALUES ({places})"
        await self.owner.execute(statement, *values.values())
        made: UUID = values["id"]
        return made

    async def lane(self) -> Lane:
        """Make people, and an environment for production that has no policy of its own yet."""
        name = f"lane-{new_id()}"
        made = {who: await self._person(f"{who}-{name}", who) for who in ROLES}
        await self.insert("environments", name=name, environment_type="prod", promotion_order=1)
        return Lane(name, made)

    async def _person(self, name: str, who: str) -> UUID:
        kind, secret = ("service", None) if who == "robot" else ("person", "none")
        return await self.insert(
            "users",
            username=name,
            email=f"{name}@example.com",
            role=ROLES[who][0],
            kind=kind,
            password_hash=secret,
        )

    async def restore(self, lane: Lane) -> None:
        """Give everybody the role that the lane says, for the next race."""
        await self.owner.execute(
            "UPDATE users SET active = true, role = wanted.role"
            " FROM unnest($1::uuid[], $2::text[]) AS wanted (id, role)"
            " WHERE users.id = wanted.id AND (NOT active OR users.role <> wanted.role)",
            [lane.people[who] for who in lane.roles],
            list(lane.roles.values()),
        )

    async def check_events(self, deployment_id: str) -> None:
        """Check that the outbox has one event for each version, and one start if any."""
        seen = await self.owner.fetchrow(
            "SELECT row_version, (started_at IS NOT NULL)::int AS starts,"
            " array_agg(o.aggregate_seq ORDER BY o.aggregate_seq) AS numbers,"
            " count(*) FILTER (WHERE o.event ->> 'action' = 'start') AS told"
            " FROM deployments d JOIN outbox o ON o.producer = 'deployment'"
            " AND o.aggregate = 'deployment:' || d.id WHERE d.id = $1 GROUP BY d.id",
            deployment_id,
        )
        assert seen is not None
        assert seen["numbers"] == list(range(1, seen["row_version"] + 1)), seen
        assert seen["told"] == seen["starts"], seen

    async def put_away(self, deployment_id: str) -> None:
        """Let a deployment that still waits wait no longer, so that no policy concerns it."""
        await self.owner.execute(
            "UPDATE deployments SET status = 'cancelled', completed_at = clock_timestamp()"
            " WHERE id = $1 AND status = 'pending'",
            deployment_id,
        )

    async def witnessed(self, deployment_id: str) -> list[tuple[str, Facts]]:
        """Return what was witnessed of a deployment."""
        rows = await self.owner.fetch(
            "SELECT about, facts FROM witnessed WHERE deployment_id = $1 ORDER BY id", deployment_id
        )
        return [(row["about"], row["facts"]) for row in rows]


def _changes(db: Database, producer: str) -> Changes:
    relay = Relay(db, producer, _never_sent)
    return Changes(db, relay, producer, OutboxBacklog(db, producer, OutboxLimits()), wait_s=0)


async def _never_sent(*_: object) -> NoReturn:
    raise AssertionError


@asynccontextmanager
async def running_rig(database_url: str) -> AsyncIterator[Rig]:
    """Provide a rig on an empty database, with the witness in it."""
    url = normal_database_url(database_url)
    made = [
        Database(url, role=app.ROLE, application_name=app.PRODUCER, pool_size=CONNECTIONS)
        for app in (deployment, catalog)
    ]
    async with asyncpg.create_pool(
        driver_url(database_url), min_size=1, max_size=4, init=_with_json
    ) as owner:
        await owner.execute(WITNESS)
        rig = Rig(owner, *made)
        await rig.insert(
            "users",
            id=rig.admin.user_id,
            username="admin",
            email="admin@example.com",
            role="admin",
            password_hash="none",
        )
        await rig.insert("teams", id=rig.team_id, name="Racers")
        try:
            yield rig
        finally:
            for db in made:
                await db.close()


async def _with_json(connection: asyncpg.Connection) -> None:
    await connection.set_type_codec(
        "jsonb", schema="pg_catalog", encoder=json.dumps, decoder=json.loads
    )
