"""The gates: each refuses alone, and what it says lets the deployment go on."""

import re
from datetime import UTC, datetime, timedelta
from uuid import UUID

from release_manager.catalog.v1 import catalog_pb2 as catalog
from release_manager.deployment.v1 import deployment_pb2 as pb
from release_manager.deployment.v1 import restrictions_pb2 as restrictions

from services.deployment.rules.gates import Gate
from shared.domain_error import DomainError
from shared.errors import GateUnsatisfied, SlotTaken
from tests.rpc.advice.scene import COMMIT, STAGES, Ask, Scene, Situation, ask, case, digest, span
from tests.support.freezing import at, once
from tests.support.programs import execute

MOMENT = re.compile(r"Wait until (\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) UTC")


def remedy(error: DomainError) -> str:
    """Return what the one violation says to do."""
    (violation,) = error.gates
    return violation.description


def named(error: DomainError) -> UUID:
    """Return the one id in what the violation says to do."""
    (found,) = re.findall(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", remedy(error))
    return UUID(found)


# Time passes by putting a time of a deployment back: no machine is too slow for an hour.
COMPLETED_EARLIER = (
    "UPDATE deployments SET completed_at = completed_at - $2::interval WHERE id = $1"
)
WANTED_EARLIER = "UPDATE deployments SET not_before = not_before - $2::interval WHERE id = $1"


async def wait_as_told(scene: Scene, error: DomainError, time_passes: str, deployment: str) -> None:
    """Let the time pass until the moment in what the violation says to do, and none beyond it."""
    match = MOMENT.match(remedy(error))
    assert match is not None, remedy(error)
    moment = datetime.fromisoformat(match[1]).replace(tzinfo=UTC)
    url = scene.platform.database_url
    await execute(url, time_passes, UUID(deployment), moment - datetime.now(UTC))


def start(deployment: str) -> Ask:
    """Return the call that starts a deployment without stages."""
    return ask("dev1", "StartDeployment", deployment=deployment)


def create(release: str, place: str) -> Ask:
    """Return the call that asks for a deployment."""
    return ask("dev1", "CreateDeployment", release=release, environment=place)


@case(GateUnsatisfied, "PublishRelease", Gate.RELEASE)
async def a_draft_is_published(scene: Scene) -> Situation:
    service, place = await scene.service(), await scene.place()
    await scene.do("dev1", "CreateRelease", service=service, version="1.0.0")
    name = f"{service}@1.0.0"

    async def follow(_: DomainError) -> None:
        await scene.do(
            "dev1", "PublishRelease", release=name, commit=COMMIT, artifact_digest=digest()
        )

    return Situation(create(name, place), follow)


@case(GateUnsatisfied, "ClearReleaseBad", Gate.RELEASE)
async def a_mark_is_taken_away(scene: Scene) -> Situation:
    release, place = await scene.release(await scene.service()), await scene.place()
    about = {"release": release, "environment": place, "reason": "it leaks"}
    await scene.do("lead1", "MarkReleaseBad", **about)

    async def follow(_: DomainError) -> None:
        await scene.do("lead1", "ClearReleaseBad", **about)

    return Situation(create(release, place), follow)


@case(GateUnsatisfied, "Choose another release", Gate.RELEASE)
async def another_release_is_chosen_than_an_abandoned_one(scene: Scene) -> Situation:
    service, place = await scene.service(), await scene.place()
    gone, other = await scene.release(service), await scene.release(service, "1.0.1")
    await scene.do("dev1", "AbandonRelease", release=gone, reason="never built")

    async def follow(_: DomainError) -> Ask:
        return create(other, place)

    return Situation(create(gone, place), follow)


@case(GateUnsatisfied, "allow_downgrade", Gate.RELEASE)
async def an_older_release_is_meant(scene: Scene) -> Situation:
    service, place = await scene.service(), await scene.place()
    old, new = await scene.release(service), await scene.release(service, "2.0.0")
    await scene.deployed(new, place)
    call = create(old, place)

    async def follow(_: DomainError) -> Ask:
        return call.but(allow_downgrade=True)

    return Situation(call, follow)


@case(GateUnsatisfied, "none to go to the previous stable one", Gate.RELEASE)
async def a_rollback_is_left_to_choose(scene: Scene) -> Situation:
    service, place = await scene.service(), await scene.place()
    names = [await scene.release(service, f"{number}.0.0") for number in (1, 2, 3)]
    for name in names:
        subject = await scene.deployed(name, place)
    about = {"release": names[0], "environment": place, "reason": "it leaks"}
    await scene.do("lead1", "MarkReleaseBad", **about)
    call = ask("lead1", "ExecuteRollback", deployment=subject, reason="slow")

    async def follow(_: DomainError) -> Ask:
        return call

    return Situation(call.but(target_release=names[0]), follow)


@case(GateUnsatisfied, "PromoteRelease", Gate.PROMOTION_ORDER)
async def it_goes_where_it_has_to_go_first(scene: Scene) -> Situation:
    release = await scene.release(await scene.service())
    first, second = await scene.place(), await scene.place(1)

    async def follow(_: DomainError) -> None:
        await scene.stages(await scene.staged(release, first), *STAGES)

    return Situation(create(release, second), follow)


@case(GateUnsatisfied, "Wait until", Gate.SOAK)
async def it_lives_for_long_enough(scene: Scene) -> Situation:
    release = await scene.release(await scene.service())
    first, second = await scene.place(), await scene.place(1, soak=span(hours=1))
    lives = await scene.deployed(release, first)
    made = await scene.asked(release, second)

    async def follow(error: DomainError) -> None:
        await wait_as_told(scene, error, COMPLETED_EARLIER, lives)

    return Situation(start(made), follow)


@case(GateUnsatisfied, "PromoteRelease", Gate.SOAK)
async def it_lives_there_again(scene: Scene) -> Situation:
    """Something else has replaced it before the time was over, so no waiting helps."""
    service = await scene.service()
    release, other = await scene.release(service), await scene.release(service, "2.0.0")
    first, second = await scene.place(), await scene.place(1, soak=span(hours=1))
    await scene.deployed(release, first)
    await scene.deployed(other, first)
    made = await scene.asked(release, second)

    async def follow(_: DomainError) -> None:
        again = await scene.staged(release, first, allow_downgrade=True)
        await scene.stages(again, *STAGES)
        url = scene.platform.database_url
        await execute(url, COMPLETED_EARLIER, UUID(again), timedelta(hours=1))

    return Situation(start(made), follow)


@case(GateUnsatisfied, "PromoteRelease", Gate.DEPENDENCY)
async def what_it_needs_is_deployed(scene: Scene) -> Situation:
    needed = await scene.service()
    needs = [catalog.ServiceDependency(service=needed, minimum_version="1.0.0")]
    service, place = await scene.service(dependencies=needs), await scene.place()
    made = await scene.asked(await scene.release(service), place)

    async def follow(error: DomainError) -> None:
        assert f"{place} of {needed} 1.0.0 or later" in remedy(error)
        await scene.stages(await scene.staged(await scene.release(needed), place), *STAGES)

    return Situation(start(made), follow)


@case(GateUnsatisfied, "Wait until", Gate.NOT_BEFORE)
async def its_time_comes(scene: Scene) -> Situation:
    release, place = await scene.release(await scene.service()), await scene.place()
    made = await scene.asked(release, place, not_before=at(hours=1))

    async def follow(error: DomainError) -> None:
        await wait_as_told(scene, error, WANTED_EARLIER, made)

    return Situation(start(made), follow)


@case(GateUnsatisfied, "OverrideGate", Gate.FREEZE)
async def it_is_let_past_the_freeze(scene: Scene) -> Situation:
    release, place = await scene.release(await scene.service()), await scene.place()
    made = await scene.asked(release, place)
    kind = restrictions.FREEZE_KIND_DENY
    about = {"name": place, "kind": kind, "reason": "a fair", "time_zone": "UTC"}
    await scene.do("admin", "CreateFreezeWindow", environments=[place], once=once(), **about)

    async def follow(_: DomainError) -> None:
        gate = restrictions.OVERRIDABLE_GATE_FREEZE
        await scene.do("lead1", "OverrideGate", deployment=made, gate=gate, reason="the fix")

    return Situation(start(made), follow)


@case(GateUnsatisfied, "ReleaseLock", Gate.LOCK)
async def the_lock_is_released(scene: Scene) -> Situation:
    release, place = await scene.release(await scene.service()), await scene.place()
    made = await scene.asked(release, place)
    await scene.do("lead1", "CreateLock", environment=place, reason="an incident")

    async def follow(error: DomainError) -> None:
        await scene.do("lead2", "ReleaseLock", lock=str(named(error)), reason="it is over")

    return Situation(start(made), follow)


@case(GateUnsatisfied, "CancelDeployment", Gate.QUEUE)
async def the_one_before_leaves_the_queue(scene: Scene) -> Situation:
    service, place = await scene.service(), await scene.place(queue=pb.QUEUE_MODE_QUEUE)
    for version in ("1.0.0", "2.0.0"):
        made = await scene.asked(await scene.release(service, version), place)

    async def follow(error: DomainError) -> None:
        first = str(named(error))
        await scene.do("dev1", "CancelDeployment", deployment=first, reason="not this one")

    return Situation(start(made), follow)


@case(GateUnsatisfied, "CancelDeployment", Gate.QUEUE)
async def a_place_that_takes_one_at_a_time_is_made_free(scene: Scene) -> Situation:
    service, place = await scene.service(), await scene.place(queue=pb.QUEUE_MODE_REJECT)
    await scene.asked(await scene.release(service), place)
    other = await scene.release(service, "2.0.0")

    async def follow(error: DomainError) -> None:
        first = str(named(error))
        await scene.do("dev1", "CancelDeployment", deployment=first, reason="not this one")

    return Situation(create(other, place), follow)


@case(SlotTaken, "CancelDeployment", Gate.SLOT)
async def what_runs_is_stopped(scene: Scene) -> Situation:
    service, place = await scene.service(), await scene.place()
    await scene.start(await scene.asked(await scene.release(service), place))
    made = await scene.asked(await scene.release(service, "2.0.0"), place)

    async def follow(error: DomainError) -> None:
        running = error.facts["deployment"]
        await scene.do("dev1", "CancelDeployment", deployment=running, reason="it hangs")

    return Situation(start(made), follow)


@case(GateUnsatisfied, "ApproveDeployment", Gate.APPROVAL)
async def whoever_is_named_approves(scene: Scene) -> Situation:
    place = await scene.place(required_approvals=1, lead_required=True, author_may_approve=True)
    made = await scene.asked(await scene.release(await scene.service()), place)

    async def follow(error: DomainError) -> None:
        people = remedy(error).removeprefix("ApproveDeployment by ").rstrip(".").split(", ")
        assert {"lead1", "lead2"} <= set(people)
        await scene.do(people[0], "ApproveDeployment", deployment=made)

    return Situation(start(made), follow)
