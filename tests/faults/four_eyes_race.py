"""One race about one deployment: votes, demotions, policies, digests and starts, all at once."""

import asyncio
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain
from random import Random
from typing import Any
from uuid import UUID

from google.protobuf.duration_pb2 import Duration
from release_manager.common.v1 import access_pb2
from release_manager.deployment.v1 import deployment_pb2 as pb
from sqlalchemy.exc import DBAPIError

from shared.db.violations import translate
from shared.domain_error import DomainError
from shared.errors import GateUnsatisfied
from shared.ids import new_id
from tests.faults.four_eyes import ROLES, Lane, Rig
from tests.faults.four_eyes_judge import Answer, Facts, judged

VOTERS = ("dev1", "dev2", "lead1", "lead2")
DAY = Duration(seconds=86_400)
BASE = pb.Policy(required_approvals=2, lead_required=True, valid_for=DAY)
OTHERS = (
    pb.Policy(required_approvals=3, lead_required=True, valid_for=DAY),
    pb.Policy(required_approvals=2, minimum_role=access_pb2.ROLE_LEAD, valid_for=DAY),
    pb.Policy(required_approvals=4, lead_required=True),
    pb.Policy(required_approvals=1, valid_for=DAY),
)
LOWER = {"developer": ("viewer",), "lead": ("developer", "viewer"), "admin": ("developer", "lead")}
EARLY = ((), (), ("dev1",), ("lead1",), ("dev1", "lead1"), ("lead2", "dev2"))
TRIES = 3
Act = Coroutine[Any, Any, list[Answer]]


@dataclass(frozen=True)
class Race:
    """What came of a race."""

    deployment_id: str
    seen: Sequence[tuple[str, Facts]]
    answers: Sequence[Answer]

    @property
    def wrong(self) -> list[str]:
        """What was not as it must be."""
        return judged(self.seen, self.answers)

    @property
    def status(self) -> str:
        """How the deployment stands."""
        last = [facts["after"]["status"] for table, facts in self.seen if table == "deployments"]
        return str(last[-1]) if last else "pending"


class Racers:
    """What the people of a lane do about one deployment, in an order that `chance` decides."""

    def __init__(self, rig: Rig, lane: Lane, chance: Random) -> None:
        """Prepare; nothing happens yet."""
        self._rig, self._lane, self._chance = rig, lane, chance
        self.deployment_id = ""
        self.release_id = new_id()

    async def prepare(self, early: Sequence[str] | None = None) -> list[Answer]:
        """Put people and policy back, request a deployment, and let some approve it already."""
        rig, lane, chance = self._rig, self._lane, self._chance
        lane.roles = {who: chance.choice(roles) for who, roles in ROLES.items()}
        await rig.restore(lane)
        if lane.policy_changed:
            await self.publish(BASE)
            lane.policy_changed = False
        service = f"service-{self.release_id}"
        service_id = await rig.insert(
            "services", team_id=rig.team_id, owner_id=rig.admin.user_id, name=service
        )
        await rig.insert(
            "releases",
            id=self.release_id,
            service_id=service_id,
            version="1",
            created_by=lane.people["author"],
            authors=[lane.people["author"]],
            status="published",
            commit_sha="c0ffee",
            artifact_digest="sha256:1",
            published_at=datetime.now(UTC),
        )
        request = pb.CreateDeploymentRequest(
            release=str(self.release_id),
            environment=lane.environment,
            approvers=[
                str(lane.people[who]) for who in chance.sample(VOTERS, chance.choice((0, 0, 1, 2)))
            ],
        )
        asking = lane.actor(chance.choice(("requester", "requester", "robot")))
        made = await rig.call(asking, "CreateDeployment", request)
        self.deployment_id = made.deployment.id
        if early is None:
            early = chance.choice(EARLY)
        return [answer for who in early for answer in await self.approve(who)]

    def acts(self) -> list[Act]:
        """Return everything that happens at once, in the order in which it begins."""
        chance = self._chance
        voters = chance.sample(VOTERS, chance.randint(2, 4))
        twice = chance.choice(voters)
        same = str(new_id()) if chance.random() < 0.5 else ""
        barred = ("requester", "author") if chance.random() < 0.8 else ("robot",)
        acts: list[Act] = [self.approve(who) for who in (*barred, *voters) if who != twice]
        acts += [self.approve(twice, same), self.approve(twice, same)]
        acts += [self.start("requester"), self.start("dev2")]
        if chance.random() < 0.6:
            count = chance.choice((1, 1, 2))
            acts += [self.demote(who) for who in chance.sample(VOTERS, count)]
        if chance.random() < 0.35:
            acts.append(self.policies(chance.choice((1, 1, 2))))
        if chance.random() < 0.15:
            acts.append(self.reject(chance.choice(("requester", "author", *VOTERS))))
        if chance.random() < 0.1:
            acts.append(self.change_digest())
        chance.shuffle(acts)
        return acts

    async def approve(self, who: str, request_id: str = "") -> list[Answer]:
        """Approve as somebody, who may not be allowed to."""
        request = pb.ApproveDeploymentRequest(deployment=self.deployment_id, request_id=request_id)
        return [await self._call("approve", who, "ApproveDeployment", request)]

    async def reject(self, who: str) -> list[Answer]:
        """Reject as somebody, who may not be allowed to."""
        request = pb.RejectDeploymentRequest(deployment=self.deployment_id, comment="not today")
        return [await self._call("reject", who, "RejectDeployment", request)]

    async def start(self, who: str) -> list[Answer]:
        """Start as soon as it is possible, or give up."""
        request = pb.StartDeploymentRequest(deployment=self.deployment_id)
        answers: list[Answer] = []
        for _ in range(TRIES):
            await asyncio.sleep(self._chance.uniform(0, 0.04))
            answers.append(await self._call("start", who, "StartDeployment", request))
            if not isinstance(answers[-1].result, GateUnsatisfied):
                break
        return answers

    async def demote(self, who: str) -> list[Answer]:
        """Take a role or the account away, and perhaps give it back."""
        role = self._lane.roles[who]
        await asyncio.sleep(self._chance.uniform(0, 0.04))
        answers = [await self._set(who, self._chance.choice((*LOWER[role], "inactive")))]
        if self._chance.random() < 0.3:
            answers.append(await self._set(who, role))
        return answers

    async def policies(self, count: int) -> list[Answer]:
        """Publish other policies."""
        await asyncio.sleep(self._chance.uniform(0, 0.04))
        wanted = self._chance.sample(OTHERS, count)
        self._lane.policy_changed = True
        return [await self.publish(policy) for policy in wanted]

    async def publish(self, policy: pb.Policy) -> Answer:
        """Publish one policy as an admin."""
        rig, lane = self._rig, self._lane
        request = pb.PublishPolicyRequest(
            environment=lane.environment, policy=policy, reason="a race"
        )
        published = rig.call(rig.admin, "PublishPolicy", request)
        return await _told("admin", rig.admin.user_id, "publish", published)

    async def change_digest(self) -> list[Answer]:
        """Let the release be another one, which no service can do once it is published."""
        await asyncio.sleep(self._chance.uniform(0, 0.04))
        changed = self._rig.owner.execute(
            "UPDATE releases SET artifact_digest = 'sha256:2' WHERE id = $1", self.release_id
        )
        return [await _told("owner", self._rig.admin.user_id, "digest", changed)]

    async def _call(self, what: str, who: str, method: str, request: Any) -> Answer:
        actor = self._lane.actor(who)
        return await _told(who, actor.user_id, what, self._rig.call(actor, method, request))

    async def _set(self, who: str, what: str) -> Answer:
        user_id = self._lane.people[who]
        return await _told(who, user_id, "demote", self._rig.set_person(user_id, what))


async def raced(rig: Rig, lane: Lane, chance: Random) -> Race:
    """Run one race to its end."""
    racers = Racers(rig, lane, chance)
    before = await racers.prepare()
    done = await asyncio.gather(*racers.acts())
    answers = [*before, *chain.from_iterable(done)]
    race = Race(racers.deployment_id, await rig.witnessed(racers.deployment_id), answers)
    await rig.check_events(race.deployment_id)
    await rig.put_away(race.deployment_id)
    return race


async def _told(who: str, user_id: UUID, what: str, asked: Coroutine[Any, Any, Any]) -> Answer:
    """Return what somebody gets; only what a service refuses is an answer.

    As its callers see it: on a busy machine somebody waits too long for a lock, too.
    """
    try:
        result: object = await asked
    except DomainError as error:
        result = error
    except DBAPIError as error:
        result = translate(error)
        if result is None:
            raise
    return Answer(who, user_id, what, result)
