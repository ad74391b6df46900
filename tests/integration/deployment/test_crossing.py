"""Going back across an irreversible release is an override, and is found where overrides are."""

import pytest
from google.protobuf.json_format import MessageToDict
from release_manager.deployment.v1 import deployment_pb2 as pb
from release_manager.deployment.v1 import restrictions_pb2

from shared.domain_error import DomainError
from shared.errors import RollbackBlocked, ValidationFailed
from tests.support.deployments import World
from tests.support.publishing import told
from tests.support.restricting import gate, lock, override, overrides, wanted

pytestmark = pytest.mark.asyncio(loop_scope="session")

IRREVERSIBLE = restrictions_pb2.OVERRIDABLE_GATE_IRREVERSIBLE


async def one_way(world: World, app: str) -> str:
    """Deploy a release that cannot be undone after one that can, and return the deployment."""
    await world.deployed(await world.release(f"{app}@1"))
    return (await world.deployed(await world.release(f"{app}@2", irreversible=True))).id


async def explained(world: World, deployment: str) -> pb.ExplainDeploymentResponse:
    request = pb.ExplainDeploymentRequest(deployment=deployment)
    answer: pb.ExplainDeploymentResponse = await world.call("viewer1", "ExplainDeployment", request)
    return answer


async def test_it_is_shown_by_the_rollback_by_its_explanation_and_in_the_list(
    world: World, app: str
) -> None:
    subject = await one_way(world, app)
    with pytest.raises(RollbackBlocked):
        await world.roll_back(subject, "lead1")
    made = await world.roll_back(subject, "lead1", cross_irreversible=True)
    carrier = made.deployment
    (shown,) = carrier.overrides
    assert (shown.gate, shown.reason, shown.author) == (IRREVERSIBLE, "it broke", "lead1")
    assert (shown.deployment_id, shown.release) == (carrier.id, f"{app}@1")
    assert await overrides(world, service=app, gate=IRREVERSIBLE) == [shown]
    explanation = await explained(world, carrier.id)
    assert list(explanation.overrides) == [shown]
    assert explanation.explanation.may_start
    done = await world.run_stages(carrier.id, "deploy", "smoke_test")
    assert done.status == pb.DEPLOYMENT_STATUS_COMPLETED
    assert list((await explained(world, carrier.id)).overrides) == [shown]
    events = [await told(world, event_id) for event_id in made.audit.event_ids]
    (of_gate,) = [one for one in events if one["aggregate"] == f"gate_override:{shown.id}"]
    (of_carrier,) = [one for one in events if one["aggregate"] == f"deployment:{carrier.id}"]
    assert (of_gate["action"], of_gate["details"]["gate"]) == ("override", "irreversible")
    assert of_carrier["details"]["crosses_irreversible"] == ["2"]
    assert of_carrier["details"]["overrides"] == ["irreversible"]
    await world.check_events()


async def test_a_rollback_that_crosses_nothing_overrides_nothing(world: World, app: str) -> None:
    for version in ("1", "2"):
        subject = (await world.deployed(await world.release(f"{app}@{version}"))).id
    made = await world.roll_back(subject, "lead1", cross_irreversible=True)
    assert not made.deployment.overrides
    assert not await overrides(world, service=app)
    assert len(made.audit.event_ids) == 2


async def test_no_other_gate_of_the_rollback_is_passed_by_it(world: World, app: str) -> None:
    subject = await one_way(world, app)
    await lock(world, app, "Dev", includes_rollbacks=True)
    carrier = (await world.roll_back(subject, "lead1", cross_irreversible=True)).deployment
    assert [blocker.gate for blocker in carrier.blockers] == ["lock"]
    await override(world, carrier.id)
    found = await world.get(carrier.id)
    assert [one.gate for one in found.overrides] == [IRREVERSIBLE, gate("lock")]
    assert not found.blockers
    shown = MessageToDict(await explained(world, carrier.id), preserving_proto_field_name=True)
    passed = [one["gate"] for one in shown["explanation"]["gates"] if "OVERRIDDEN" in one["status"]]
    assert passed == ["lock"]
    await world.check_events()


async def test_a_rehearsal_and_a_refused_rollback_leave_none(world: World, app: str) -> None:
    subject = await one_way(world, app)
    await world.roll_back(subject, "lead1", cross_irreversible=True, validate_only=True)
    with pytest.raises(DomainError, match="a lead or an admin"):
        await world.roll_back(subject, "dev1", cross_irreversible=True)
    assert not await overrides(world, service=app)


async def test_only_a_rollback_overrides_it(world: World, app: str) -> None:
    waiting = await world.create(await world.release(f"{app}@1"), "dev")
    with pytest.raises(ValidationFailed, match=r"ExecuteRollback.* with cross_irreversible"):
        await override(world, waiting.id, "irreversible")
    for rpc in ("CreateDeployment", "PromoteRelease"):
        request = getattr(pb, f"{rpc}Request")(
            release=await world.release(f"{app}@{rpc}"),
            environment="dev",
            overrides=wanted("lock", "irreversible"),
        )
        refused = await world.refused("lead1", rpc, request)
        assert isinstance(refused, ValidationFailed)
        assert [field.field for field in refused.fields] == ["overrides"]
    assert not await overrides(world, service=app)
