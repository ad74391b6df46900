"""The walls behind the lock of the pair, and what happens when clocks or neighbours misbehave."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
import pytest_asyncio

from services.deployment.app import database
from services.deployment.store import writing
from shared.db.engine import Database
from shared.domain_error import DomainError
from shared.errors import DeploymentExists, RollbackExists, SlotTaken
from shared.ids import new_id
from shared.settings import read_settings
from tests.support.deployments import World
from tests.support.executing import LOOKED, becomes

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest_asyncio.fixture(loop_scope="session")
async def service_database(world: World) -> Any:
    """The database as the service itself reaches it."""
    db = database(read_settings(database_url=world.database_url))
    yield db
    await db.close()


async def row(world: World, deployment_id: str) -> dict[str, Any]:
    """Return what another deployment of the same release and environment would be."""
    found = await world.database.fetchrow(
        "SELECT release_id, service_id, environment_id, deployed_by, requesters, artifact_digest"
        " FROM deployments WHERE id = $1",
        UUID(deployment_id),
    )
    assert found is not None
    return dict(found)


@pytest.mark.parametrize(
    ("second", "error"),
    [
        (lambda _: {"kind": "deploy", "status": "pending"}, DeploymentExists),
        (lambda first: {"kind": "rollback", "rollback_of": first}, RollbackExists),
    ],
    ids=["open_release", "open_rollback"],
)
async def test_whoever_goes_past_the_lock_cannot_add_a_second(
    world: World,
    app: str,
    service_database: Database,
    second: Callable[[UUID], Mapping[str, Any]],
    error: type[DomainError],
) -> None:
    first = await world.create(await world.release(f"{app}@1"), "dev")
    values = await row(world, first.id) | dict(second(UUID(first.id)))
    now = datetime.now(UTC)
    async with service_database.engine.connect() as tx:  # nothing of it is committed
        if values["kind"] == "rollback":
            await writing.add_deployment(tx, now, id=new_id(), **values)
        with pytest.raises(error):
            await writing.add_deployment(tx, now, id=new_id(), **values)


async def test_whoever_goes_past_the_lock_cannot_take_the_slot(
    world: World, app: str, service_database: Database
) -> None:
    first = await world.create(await world.release(f"{app}@1"), "dev")
    await world.start(first.id)
    other = await world.create(await world.release(f"{app}@2"), "dev")
    seen = Seen(UUID(other.id))
    with pytest.raises(SlotTaken):
        async with service_database.transaction() as tx:
            await writing.change_deployment(tx, seen, {"status": "in-progress"})


class Seen:
    """A waiting deployment in its first version."""

    def __init__(self, deployment_id: UUID) -> None:
        self.id = deployment_id
        self.status = "pending"
        self.row_version = 1


async def test_a_clock_that_went_back_confuses_no_order(world: World, app: str) -> None:
    """As after the failover to a machine whose clock is behind."""
    await world.deployed(await world.release(f"{app}@1"))
    ahead = await world.deployed(await world.release(f"{app}@2"))
    await world.database.execute(
        "UPDATE deployments SET touched_at = touched_at + interval '1 minute',"
        " deployed_at = deployed_at + interval '1 minute' WHERE id = $1",
        UUID(ahead.id),
    )
    waits = await world.create(await world.release(f"{app}@3"), "dev")
    await world.start(waits.id)
    await world.finish(waits.id)
    carrier = (await world.roll_back(waits.id)).deployment
    assert carrier.release == f"{app}@2"
    await world.run_stages(carrier.id, "deploy", "smoke_test")
    again = (await world.roll_back(carrier.id)).deployment
    assert again.release == f"{app}@1"
    await world.check_events()


async def test_one_deployment_that_cannot_expire_keeps_no_other_from_it(
    own_world: World,
) -> None:
    world = own_world
    made = []
    for name in ("first@1", "second@1"):
        release = await world.release(name)
        await world.deployed(release)
        made.append(await world.create(release, "staging"))
        await world.database.execute(
            f"{LOOKED} UPDATE deployments SET deployed_at = deployed_at - interval '30 days',"
            " decide_by = decide_by - interval '30 days' WHERE id = $1",
            UUID(made[-1].id),
        )
    pair = f"pair:{world.services['first']}/{world.environments['Staging']}"
    async with world.database.acquire() as busy, busy.transaction():
        await busy.execute("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", pair)
        await becomes(world, made[1].id, "EXPIRED")
    await world.check_events()
