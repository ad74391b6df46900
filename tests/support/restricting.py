"""Locking and overriding in a world."""

from typing import Any

from release_manager.deployment.v1 import deployment_pb2
from release_manager.deployment.v1 import restrictions_pb2 as pb

from tests.support.deployments import World


async def lock(
    world: World, service: str = "", environment: str = "", *, who: str = "lead1", **more: Any
) -> pb.CreateLockResponse:
    """Lock a service, an environment, or both together."""
    request = pb.CreateLockRequest(
        service=service, environment=environment, **({"reason": "an incident"} | more)
    )
    answer: pb.CreateLockResponse = await world.call(who, "CreateLock", request)
    return answer


async def unlock(
    world: World, lock_id: str, *, who: str = "lead1", **more: Any
) -> pb.ReleaseLockResponse:
    """Release a lock."""
    request = pb.ReleaseLockRequest(lock=lock_id, **({"reason": "it is over"} | more))
    answer: pb.ReleaseLockResponse = await world.call(who, "ReleaseLock", request)
    return answer


async def locks(world: World, **wanted: Any) -> list[pb.Lock]:
    """Return all locks that a list has for a request."""
    answer = await world.call("viewer1", "ListLocks", pb.ListLocksRequest(**wanted))
    return list(answer.locks)


def gate(name: str) -> Any:
    """Return the number of a gate that can be overridden."""
    return pb.OverridableGate.Value(f"OVERRIDABLE_GATE_{name.upper()}")


async def override(
    world: World, deployment_id: str, name: str = "lock", *, who: str = "lead1", **more: Any
) -> pb.OverrideGateResponse:
    """Let a deployment past a gate."""
    request = pb.OverrideGateRequest(
        deployment=deployment_id, gate=gate(name), **({"reason": "it must be"} | more)
    )
    answer: pb.OverrideGateResponse = await world.call(who, "OverrideGate", request)
    return answer


async def overrides(world: World, **wanted: Any) -> list[pb.GateOverride]:
    """Return all overrides that a list has for a request."""
    answer = await world.call("viewer1", "ListOverrides", pb.ListOverridesRequest(**wanted))
    return list(answer.overrides)


def wanted(*names: str) -> list[deployment_pb2.NewOverride]:
    """Return overrides of these gates for a request."""
    return [deployment_pb2.NewOverride(gate=gate(name), reason="from the start") for name in names]
