"""Every judge finds what it is there for: one seeded violation for each property.

What is seeded goes past the product: a row as the owner of the database writes it, or a wall taken
down. Each control first lets the same judge pass what the product did.
"""

from collections.abc import AsyncIterator
from uuid import UUID

import pytest
import pytest_asyncio
from release_manager.deployment.v1 import deployment_pb2 as pb

from services.deployment.rules import approvals, gates
from services.deployment.rules.gates import asking
from shared.domain_error import DomainError
from shared.errors import ResourceNotFound
from shared.ids import new_id
from tests.properties import claims, evidence, lives, starts, waits
from tests.properties.actors import POLICIES, Actors
from tests.properties.claims import Claim, judged_claims
from tests.properties.court import Court
from tests.properties.evidence import unmatched_versions
from tests.properties.executors import Act
from tests.properties.lives import judged_lives
from tests.properties.starts import judged_start
from tests.properties.verdict import drained, judged, judged_now
from tests.properties.waits import judged_waits
from tests.support.freezing import freeze
from tests.support.restricting import lock

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest_asyncio.fixture(loop_scope="session")
async def actors(court: Court) -> AsyncIterator[Actors]:
    """People with a service of their own, of whom nothing is wrong when they begin."""
    name = f"app{new_id().hex[:12]}"
    made = Actors(court, [name, f"{name}b"])
    await made.begin()
    yield made
    await court.tidy(POLICIES)


async def created(actors: Actors, place: str = "Dev", number: int = 0) -> str:
    """Request a deployment of a release that may go there; return its id."""
    request = pb.CreateDeploymentRequest(
        release=actors.releases[number], environment=place, allow_downgrade=True
    )
    (answer,) = await actors.say("dev1", "CreateDeployment", request)
    assert not isinstance(answer, DomainError), answer
    found: str = answer.deployment.id
    return found


async def started(actors: Actors, deployment_id: str) -> None:
    """Start a deployment, which must succeed."""
    request = pb.StartDeploymentRequest(deployment=deployment_id)
    (answer,) = await actors.say("dev1", "StartDeployment", request)
    assert not isinstance(answer, DomainError), answer


async def approved(actors: Actors, deployment_id: str, *people: str) -> None:
    """Approve as each of `people`, who must be allowed to."""
    for who in people:
        request = pb.ApproveDeploymentRequest(deployment=deployment_id)
        (answer,) = await actors.say(who, "ApproveDeployment", request)
        assert not isinstance(answer, DomainError), answer


def said(wrong: list[str], what: str) -> bool:
    """Say whether the verdict tells of this."""
    return any(each.startswith(what) for each in wrong)


async def test_two_holders_of_one_slot_are_found(actors: Actors) -> None:
    await started(actors, await created(actors))
    waiting = await created(actors, number=1)
    assert await judged(actors) == []
    assert await judged_now(actors) == []
    owner = actors.court.owner
    index = await owner.fetchval(
        "SELECT indexdef FROM pg_indexes WHERE indexname = 'uq_deployments_slot'"
    )
    await owner.execute("DROP INDEX uq_deployments_slot")
    take = "UPDATE deployments SET status = 'in-progress', started_at = now() WHERE id = $1"
    await owner.execute(take, UUID(waiting))
    assert await judged_now(actors)
    assert said(await judged(actors), lives.TWO_HOLDERS)
    give_back = "UPDATE deployments SET status = 'pending', started_at = NULL WHERE id = $1"
    await owner.execute(give_back, UUID(waiting))
    await owner.execute(index)
    assert await judged_now(actors) == []


@pytest.mark.parametrize(
    ("before", "after", "what"),
    [
        ("completed", "in-progress", lives.ILLEGAL),
        ("rejected", "rolled_back", lives.ILLEGAL),
        ("in-progress", "failed", lives.BROKEN_CHAIN),
        ("completed", "rolled_back", lives.OTHER_END),
    ],
)
async def test_a_transition_outside_the_table_is_found(
    actors: Actors, before: str, after: str, what: str
) -> None:
    made = await created(actors)
    await started(actors, made)
    request = pb.FinishDeploymentRequest(deployment=made, outcome=pb.DEPLOYMENT_OUTCOME_COMPLETED)
    await actors.say("dev1", "FinishDeployment", request)
    await actors.court.delivered()
    seen = await evidence.evidence(actors.court.owner, actors.services)
    assert judged_lives(seen) == []
    last = dict(seen.entries[-1])
    last |= {
        "aggregate_seq": last["aggregate_seq"] + 1,
        "details": {"before": {"status": before}, "after": {"status": after}},
    }
    seeded = evidence.Evidence(seen.deployments, [*seen.entries, last], seen.starts)
    assert said(judged_lives(seeded), what)


async def test_a_start_in_prod_without_its_approvals_is_found(
    actors: Actors, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = await created(actors, "Prod")
    await approved(actors, made, "dev3")
    # What the product never does, to see that the judge would notice.
    monkeypatch.setattr(gates, "check_start", lambda *_: None)
    await started(actors, made)
    assert said(await judged(actors), starts.UNAPPROVED)


async def test_an_override_that_its_author_confirms_is_found(
    actors: Actors, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = await created(actors, "Prod")
    await actors.act(Act("lock", 0, 0, 2))
    actors.rows = [{"id": made, "status": "pending", "place": "Prod"}]
    await actors.act(Act("override", who=0))
    await approved(actors, made, "dev3", "lead1")
    monkeypatch.setattr(gates, "check_start", lambda *_: None)  # as above
    await started(actors, made)
    assert said(await judged(actors), f"{starts.UNAPPROVED}: no lead or admin")


@pytest.mark.parametrize("who", ["dev1", "dev2"])
async def test_an_approval_of_ones_own_is_found(
    actors: Actors, monkeypatch: pytest.MonkeyPatch, who: str
) -> None:
    """The requester is dev1, and the author of every release dev2."""
    made = await created(actors, "Prod")
    # What the product never does, to see that the judge would notice.
    monkeypatch.setattr(approvals, "may_decide", lambda *_: None)
    await approved(actors, made, who, "lead1")
    await started(actors, made)
    assert said(await judged(actors), starts.OWN)


async def test_two_effects_of_one_request_are_found(actors: Actors) -> None:
    await created(actors)
    await created(actors, number=1)
    assert await judged(actors) == []
    first, second = actors.claims
    seen = await evidence.evidence(actors.court.owner, actors.services)
    written = first.events | second.events
    both = Claim(first.who, first.method, first.request, first.results + second.results)
    assert said(judged_claims(seen, [both], written), claims.OTHER_ANSWER)
    assert said(judged_claims(seen, [first], written), claims.UNTOLD)
    assert said(judged_claims(seen, [first, second, first], written), claims.SHARED)
    assert said(judged_claims(seen, [first, second], first.events), claims.UNWRITTEN)


async def test_a_version_without_an_entry_is_found(actors: Actors) -> None:
    made = await created(actors)
    assert await judged(actors) == []
    owner = actors.court.owner
    step = "UPDATE deployments SET row_version = row_version + $2 WHERE id = $1"
    for by in (1, -1):  # a version more than entries, and an entry more than versions
        await owner.execute(step, UUID(made), by)
        assert said(await unmatched_versions(owner), evidence.UNMATCHED)
        await owner.execute(step, UUID(made), -by)
    assert await unmatched_versions(owner) == []


@pytest.mark.parametrize(("shut", "what"), [("lock", starts.LOCKED), ("freeze", starts.FROZEN)])
async def test_a_start_of_what_is_shut_is_found(
    actors: Actors, monkeypatch: pytest.MonkeyPatch, shut: str, what: str
) -> None:
    made = await created(actors)
    if shut == "lock":
        await lock(actors.court.world, actors.apps[0], "Dev")
    else:
        await freeze(actors.court.world, services=[actors.apps[0]])
    monkeypatch.setattr(gates, "check_start", lambda *_: None)  # as above
    await started(actors, made)
    assert said(await judged(actors), what)


@pytest.mark.parametrize(
    ("one", "what"),
    [
        ({"blockers": [pb.Blocker(gate="slot", reason="something runs")]}, waits.ENDLESS),
        ({"blockers": [pb.Blocker(gate="approval", reason="0 of 2")]}, waits.ENDLESS),
        ({"blockers": [pb.Blocker(gate="lock", reason="locked")]}, waits.ENDLESS),
        ({}, waits.ENDLESS),
        ({"status": pb.DEPLOYMENT_STATUS_PAUSED}, waits.NO_DEADLINE),
    ],
)
async def test_a_wait_without_an_end_is_found(one: dict[str, object], what: str) -> None:
    usual = {"id": str(new_id()), "status": pb.DEPLOYMENT_STATUS_PENDING}
    named = {"deployed_by": "dev1"} if one else {}
    made = pb.Deployment(**(usual | named | one))  # type: ignore[arg-type]
    assert said(judged_waits([made]), what)


async def test_a_circle_of_waits_is_found() -> None:
    ids = [str(new_id()), str(new_id())]
    circle = [
        pb.Deployment(
            id=me,
            status=pb.DEPLOYMENT_STATUS_PENDING,
            deployed_by="dev1",
            blockers=[pb.Blocker(gate="queue", reason=f"deployment {other} can start")],
        )
        for me, other in (ids, ids[::-1])
    ]
    assert said(judged_waits(circle), waits.CIRCLE)


async def test_what_never_ends_is_found(actors: Actors, monkeypatch: pytest.MonkeyPatch) -> None:
    await created(actors)
    refusing = asking.check_start
    # A start that the product refuses for ever although nothing it tells of is in its way.
    monkeypatch.setattr(gates, "check_start", _never)
    monkeypatch.setattr("tests.properties.verdict.ROUNDS", 3)
    assert said(await drained(actors), "never ended")
    monkeypatch.setattr(gates, "check_start", refusing)
    assert await drained(actors) == []


def _never(*_: object) -> None:
    raise ResourceNotFound(resource_type="reason", resource="none")


async def test_the_judge_of_starts_passes_what_is_as_it_must_be(actors: Actors) -> None:
    made = await created(actors, "Prod")
    await approved(actors, made, "dev3", "lead1")
    await started(actors, made)
    seen = await evidence.evidence(actors.court.owner, actors.services)
    (facts,) = seen.starts
    assert judged_start(facts) == []
    for change, what in (
        ({"approvals": facts["approvals"][:1]}, starts.UNAPPROVED),
        ({"marks": [{}]}, starts.UNFIT),
        ({"before_here": [{"environment": "Dev", "newest": "rolled_back"}]}, starts.OUT_OF_ORDER),
        ({"policy_then": 0}, starts.UNPOLICED),
        ({"policy": facts["policy"] | {"soak_seconds": 700_000}}, starts.UNSOAKED),
        ({"after": facts["after"] | {"not_before": "2999-01-01T00:00:00+00:00"}}, starts.UNTIMELY),
    ):
        assert said(judged_start({**facts, **change}), what)
