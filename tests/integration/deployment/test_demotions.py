"""Whoever loses a role while a call of theirs is under way decides nothing by it any more."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest
from release_manager.common.v1 import access_pb2
from release_manager.deployment.v1 import deployment_pb2 as pb

from shared.domain_error import DomainError
from shared.errors import NotPermitted, RoleRequired
from tests.support.deployments import World
from tests.support.publishing import publish
from tests.support.restricting import override, overrides, wanted
from tests.support.waiting import waits_for_a_lock

pytestmark = pytest.mark.asyncio(loop_scope="session")

DEMOTED = "UPDATE users SET role = 'developer' WHERE username = 'lead1'"
DEACTIVATED = "UPDATE users SET active = false WHERE username = 'lead1'"
LOSSES = pytest.mark.parametrize("loss", [DEMOTED, DEACTIVATED], ids=["demoted", "deactivated"])


async def refused_meanwhile(
    world: World, loss: str, call: Coroutine[Any, Any, object]
) -> DomainError:
    """Return the refusal of a call that waits for the change of its caller's account."""
    async with world.database.acquire() as catalog:
        transaction = catalog.transaction()
        await transaction.start()
        await catalog.execute(loss)
        waiting = asyncio.create_task(call)
        await waits_for_a_lock(world)
        await transaction.commit()
    with pytest.raises(DomainError) as refused:
        await waiting
    return refused.value


def check_refusal(loss: str, error: DomainError, demoted: type[DomainError]) -> None:
    if loss == DEMOTED:
        assert isinstance(error, demoted)
    else:
        assert isinstance(error, NotPermitted)
        assert "your account is not active" in str(error)


@LOSSES
async def test_overriding_a_gate_reads_the_account(own_world: World, loss: str) -> None:
    made = await own_world.create(await own_world.release("auth@1"), "Dev")
    error = await refused_meanwhile(own_world, loss, override(own_world, made.id))
    check_refusal(loss, error, RoleRequired)
    assert not await overrides(own_world)
    assert (await own_world.get(made.id)).etag == made.etag


@LOSSES
@pytest.mark.parametrize("rpc", ["CreateDeployment", "PromoteRelease"])
async def test_a_request_with_overrides_reads_the_account(
    own_world: World, loss: str, rpc: str
) -> None:
    release = await own_world.release("auth@1")
    request = getattr(pb, f"{rpc}Request")(
        release=release, environment="Dev", overrides=wanted("lock")
    )
    error = await refused_meanwhile(own_world, loss, own_world.call("lead1", rpc, request))
    check_refusal(loss, error, RoleRequired)
    assert not await own_world.database.fetchval("SELECT count(*) FROM deployments")


@LOSSES
async def test_crossing_an_irreversible_release_reads_the_account(
    own_world: World, loss: str
) -> None:
    await own_world.deployed(await own_world.release("auth@1"))
    one_way = await own_world.release("auth@2", irreversible=True)
    subject = await own_world.deployed(one_way)
    call = own_world.roll_back(subject.id, "lead1", cross_irreversible=True)
    check_refusal(loss, await refused_meanwhile(own_world, loss, call), NotPermitted)
    assert (await own_world.get(subject.id)).status == pb.DEPLOYMENT_STATUS_COMPLETED


@LOSSES
async def test_naming_the_release_to_go_back_to_reads_the_account(
    own_world: World, loss: str
) -> None:
    policy = pb.Policy(explicit_target_role=access_pb2.ROLE_LEAD)
    await publish(own_world, "Dev", policy)
    for version in ("1", "2"):
        made = await own_world.deployed(await own_world.release(f"auth@{version}"))
    call = own_world.roll_back(made.id, "lead1", target_release="auth@1")
    check_refusal(loss, await refused_meanwhile(own_world, loss, call), NotPermitted)
