"""The reasons about executors: leases, and the output of stages."""

import re
from typing import Any

from release_manager.deployment.v1 import deployment_pb2 as pb

from shared import errors
from shared.domain_error import DomainError
from tests.rpc.advice.scene import Ask, Scene, Situation, ask, case

BUILD = "build"


async def building(scene: Scene) -> str:
    """Return a deployment whose first stage runs."""
    made = await scene.staged(await scene.release(await scene.service()), await scene.place())
    await scene.do("dev1", "UpdatePipelineStage", **report(made, pb.STAGE_STATUS_IN_PROGRESS))
    return made


async def claimed(scene: Scene, deployment: str) -> str:
    """Claim a deployment and return the token of the lease."""
    answer = await scene.do("dev1", "ClaimDeployment", deployment=deployment, executor="runner 7")
    return str(answer.lease_token)


def report(deployment: str, status: Any, **more: Any) -> dict[str, Any]:
    """Return what a report of the first stage says."""
    return {"deployment": deployment, "stage": BUILD, "status": status, **more}


def append(deployment: str, text: str, offset: int = 0) -> Ask:
    """Return the call that appends to the output of the first stage."""
    about = {"deployment": deployment, "stage": BUILD}
    return ask("dev1", "AppendStageOutput", offset=offset, text=text, **about)


@case(errors.LeaseHeld, "Send the token of that lease")
async def an_update_lacks_its_token(scene: Scene) -> Situation:
    made = await building(scene)
    token = await claimed(scene, made)
    call = ask("dev1", "UpdatePipelineStage", **report(made, pb.STAGE_STATUS_COMPLETED))

    async def follow(error: DomainError) -> Ask:
        assert error.facts["executor"] == "runner 7"
        return call.but(lease_token=token)

    return Situation(call, follow)


@case(errors.LeaseLost, "ClaimDeployment")
async def a_lease_was_given_back(scene: Scene) -> Situation:
    made = await building(scene)
    token = await claimed(scene, made)
    await scene.do("dev1", "ReleaseLease", deployment=made, lease_token=token)
    call = ask(
        "dev1",
        "UpdatePipelineStage",
        **report(made, pb.STAGE_STATUS_COMPLETED, lease_token=token),
    )

    async def follow(_: DomainError) -> Ask:
        return call.but(lease_token=await claimed(scene, made))

    return Situation(call, follow)


@case(errors.OutputOffset, "AppendStageOutput at offset")
async def a_piece_leaves_a_gap(scene: Scene) -> Situation:
    made = await building(scene)
    await scene.send(append(made, "one\n"))
    call = append(made, "three\n", 8)

    async def follow(error: DomainError) -> Ask:
        return call.but(offset=int(error.facts["size"]), text="two\nthree\n")

    return Situation(call, follow)


@case(errors.OutputMixed, "Append what is missing")
async def output_comes_by_two_calls(scene: Scene) -> Situation:
    made = await building(scene)
    await scene.send(append(made, "one\n"))
    completed = report(made, pb.STAGE_STATUS_COMPLETED)
    call = ask("dev1", "UpdatePipelineStage", output="one\ntwo\n", **completed)

    async def follow(error: DomainError) -> Ask:
        await scene.send(append(made, "two\n", int(error.facts["size"])))
        return ask("dev1", "UpdatePipelineStage", **completed)

    return Situation(call, follow)


@case(errors.OutputOutOfRange, "TailStageOutput with a smaller one")
async def output_is_read_behind_its_end(scene: Scene) -> Situation:
    made = await building(scene)
    await scene.send(append(made, "one\n"))
    call = ask("viewer1", "TailStageOutput", deployment=made, stage=BUILD, from_offset=400)

    async def follow(error: DomainError) -> Ask:
        size = re.search(r"has (\d+) bytes", str(error))
        assert size is not None
        return call.but(from_offset=int(size[1]))

    return Situation(call, follow)
