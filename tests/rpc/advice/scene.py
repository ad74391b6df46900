"""What a case of advice is made of: a product to play it on, a call that is refused, what helps."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final
from uuid import uuid4

import grpc
from google.protobuf import message_factory
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message
from release_manager.catalog.v1 import catalog_pb2 as catalog
from release_manager.deployment.v1 import deployment_pb2 as pb

from services.deployment.rules.gates import Gate
from shared.domain_error import DomainError
from tests.support.platform import Platform, product_methods
from tests.support.programs import execute
from tests.support.raw_calls import Metadata

COMMIT: Final = "0123456789abcdef"
STAGES: Final = ("build", "test", "security_scan", "deploy", "smoke_test")
# Both the catalog and the deployment service have a method of this name.
AMBIGUOUS: Final = frozenset({"ReconcileAudit"})


def methods_by_name() -> Mapping[str, str]:
    """Return the full name of each method by its short one, without the ambiguous ones."""
    named = {method.rpartition("/")[2]: method for method in product_methods()}
    return {name: method for name, method in named.items() if name not in AMBIGUOUS}


@dataclass(frozen=True)
class Ask:
    """A call: who makes it (a user name, or metadata), the method and the fields of its request.

    `raw` is sent instead of the request where no client would make such a one.
    """

    who: str | Metadata
    rpc: str
    fields: Mapping[str, Any] = field(default_factory=dict)
    raw: bytes | None = None
    seconds: float = 20.0

    def but(self, **fields: Any) -> "Ask":
        """Return the same call with other fields."""
        return Ask(self.who, self.rpc, {**self.fields, **fields}, seconds=self.seconds)

    def by(self, who: str | Metadata) -> "Ask":
        """Return the same call by somebody else."""
        return Ask(who, self.rpc, self.fields, seconds=self.seconds)


def ask(who: str | Metadata, rpc: str, /, **fields: Any) -> Ask:
    """Return a call."""
    return Ask(who, rpc, fields)


Follow = Callable[[DomainError], Awaitable[Ask | None]]


@dataclass(frozen=True)
class Situation:
    """A call that is refused, and what follows the advice in its answer.

    `follow` does what the answer says and returns the call that succeeds then: None for the same.
    """

    call: Ask
    follow: Follow


@dataclass
class Scene:
    """A running product, and short ways to bring it into a situation.

    `afterwards` are calls that undo what would be in the way of other cases.
    """

    platform: Platform
    places: list[str] = field(default_factory=list)
    afterwards: list[Ask] = field(default_factory=list)

    async def send(self, call: Ask) -> Any:
        """Make a call; raises what gRPC raises. Of a stream, all answers are returned."""
        method = methods_by_name()[call.rpc]
        who = call.who
        metadata = await self.platform.person(who) if isinstance(who, str) and who else who or ()
        raw = call.raw if call.raw is not None else request(call).SerializeToString()
        channel: Any = self.platform.channel_of(method)
        described = product_methods()[method]
        kind = message_factory.GetMessageClass(described.output_type)
        how: dict[str, Any] = {"metadata": tuple(metadata), "timeout": call.seconds}
        if described.server_streaming:
            stream: Any = channel.unary_stream(method, None, kind.FromString)(raw, **how)
            return [answer async for answer in stream]
        return await channel.unary_unary(method, None, kind.FromString)(raw, **how)

    async def do(self, who: str | Metadata, rpc: str, /, **fields: Any) -> Any:
        """Make a call that succeeds."""
        try:
            return await self.send(Ask(who, rpc, fields))
        except grpc.aio.AioRpcError as failure:
            raise AssertionError(f"{rpc}: {failure.details()}") from failure

    async def place(self, order: int = 0, **policy: Any) -> str:
        """Make an environment of this case alone, with a policy where one is given."""
        name = fresh("place")
        kind = catalog.ENVIRONMENT_TYPE_DEV
        await self.do("admin", "CreateEnvironment", name=name, type=kind, promotion_order=order)
        self.places.append(name)
        if policy:
            await self.policy(name, **policy)
        return name

    async def policy(self, place: str, **policy: Any) -> None:
        """Publish a policy."""
        rule = pb.Policy(**policy)
        await self.do("admin", "PublishPolicy", environment=place, policy=rule, reason="a case")

    async def service(self, **facts: Any) -> str:
        """Make a service and return its name."""
        name = fresh("app")
        await self.do("admin", "CreateService", name=name, team="Platform", **facts)
        return name

    async def release(self, service: str, version: str = "1.0.0", **more: Any) -> str:
        """Publish a release of an admin, with a digest of its own, and return its name."""
        name = f"{service}@{version}"
        await self.do("admin", "CreateRelease", service=service, version=version)
        await self.do(
            "admin", "PublishRelease", release=name, commit=COMMIT, artifact_digest=digest(), **more
        )
        return name

    async def asked(self, release: str, place: str, who: str = "dev1", **more: Any) -> str:
        """Ask for a deployment without stages and return its id."""
        answer = await self.do(who, "CreateDeployment", release=release, environment=place, **more)
        return str(answer.deployment.id)

    async def staged(self, release: str, place: str, **more: Any) -> str:
        """Ask for a deployment with stages and return its id."""
        answer = await self.do("dev1", "PromoteRelease", release=release, environment=place, **more)
        return str(answer.deployment.id)

    async def stages(self, deployment: str, *names: str, last: str = "COMPLETED") -> None:
        """Complete the stages one after the other, the last of them as `last`."""
        for number, name in enumerate(names, start=1):
            status = pb.StageStatus.Value(
                f"STAGE_STATUS_{last if number == len(names) else 'COMPLETED'}"
            )
            await self.do(
                "dev1", "UpdatePipelineStage", deployment=deployment, stage=name, status=status
            )

    async def start(self, deployment: str) -> None:
        """Start a deployment without stages."""
        await self.do("dev1", "StartDeployment", deployment=deployment)

    async def deployed(self, release: str, place: str, **more: Any) -> str:
        """Deploy a release completely and return the deployment's id."""
        made = await self.asked(release, place, **more)
        await self.start(made)
        outcome = pb.DEPLOYMENT_OUTCOME_COMPLETED
        await self.do("dev1", "FinishDeployment", deployment=made, outcome=outcome)
        return made

    async def close(self) -> None:
        """Undo what would be in the way of other cases, such as environments that come first."""
        for call in self.afterwards:
            await self.send(call)
        away = "UPDATE environments SET archived_at = now() WHERE name = ANY($1)"
        await execute(self.platform.database_url, away, self.places)


def request(call: Ask) -> Message:
    """Return the request of a call; `mask` is its update mask as a list of paths."""
    fields = dict(call.fields)
    mask: Sequence[str] | None = fields.pop("mask", None)
    described = product_methods()[methods_by_name()[call.rpc]]
    made: Any = message_factory.GetMessageClass(described.input_type)(**fields)
    if mask is not None:
        made.update_mask.CopyFrom(FieldMask(paths=mask))
    return made  # type: ignore[no-any-return]


def fresh(prefix: str) -> str:
    """Return a name that nothing has yet."""
    return f"{prefix}{uuid4().hex[:12]}"


def digest() -> str:
    """Return a digest that nothing has yet."""
    return "sha256:" + uuid4().hex * 2


def span(**parts: float) -> Duration:
    """Return a span of time for a request."""
    made = Duration()
    made.FromTimedelta(timedelta(**parts))
    return made


@dataclass(frozen=True)
class Case:
    """A refusal and how its advice is followed.

    `names` stands in the answer: the RPC, or who or what else helps. `gate` is the one gate that
    refuses, None where none is asked.
    """

    name: str
    reason: str
    names: str
    play: Callable[[Scene], Awaitable[Situation]]
    gate: Gate | None = None


CASES: Final[dict[str, Case]] = {}

Play = Callable[[Scene], Awaitable[Situation]]


def case(error: type[DomainError], names: str, gate: Gate | None = None) -> Callable[[Play], Play]:
    """Enter a situation into the table under the name of its function."""

    def enter(play: Play) -> Play:
        name = play.__name__
        assert name not in CASES, name
        CASES[name] = Case(name, error.reason, names, play, gate)
        return play

    return enter
