"""The reasons of the ledger that a caller can do something about at once."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

from release_manager.audit.v1 import audit_pb2 as pb

from shared import errors
from shared.domain_error import DomainError
from shared.ids import new_id, new_id_at
from tests.rpc.advice.scene import Ask, Scene, Situation, ask, case, fresh
from tests.support.raw_calls import Metadata

MOST_WEBHOOKS = 100


def event(**fields: str | int) -> pb.AuditEvent:
    """Return an event of its own."""
    usual: dict[str, str | int] = {
        "event_id": str(new_id()),
        "action": "deploy",
        "resource_type": "ticket",
        "resource_id": fresh("t"),
    }
    return pb.AuditEvent(**(usual | fields))  # type: ignore[arg-type]


async def writer(scene: Scene) -> Metadata:
    """Return a program that may write entries."""
    return await scene.platform.program("viewer", "audit.write", "on_behalf_of")


async def logged(scene: Scene, written: pb.AuditEvent) -> None:
    """Write an entry."""
    await scene.do(await writer(scene), "LogAction", event=written)


@case(errors.EventIdReused, "Use a new event id")
async def another_event_has_another_id(scene: Scene) -> Situation:
    known = str(new_id())
    await logged(scene, event(event_id=known))
    call = ask(await writer(scene), "LogAction", event=event(event_id=known))

    async def follow(_: DomainError) -> Ask:
        return call.but(event=event())

    return Situation(call, follow)


@case(errors.AggregateSequenceReused, "under one event id")
async def a_version_is_told_once(scene: Scene) -> Situation:
    told = event(aggregate=fresh("ticket:"), aggregate_seq=1)
    await logged(scene, told)
    again = pb.AuditEvent()
    again.CopyFrom(told)
    again.event_id = str(new_id())
    call = ask(await writer(scene), "LogAction", event=again)

    async def follow(error: DomainError) -> Ask:
        assert UUID(error.facts["event_id"]) == UUID(told.event_id)
        return call.but(event=told)

    return Situation(call, follow)


@case(errors.EventTooOld, "under a new id")
async def an_event_comes_late(scene: Scene) -> Situation:
    long_ago = str(new_id_at(datetime.now(UTC) - timedelta(days=4000)))
    call = ask(await writer(scene), "LogAction", event=event(event_id=long_ago))

    async def follow(_: DomainError) -> Ask:
        return call.but(event=event())

    return Situation(call, follow)


@case(errors.PositionOutOfRange, "Take a smaller one")
async def the_ledger_is_not_that_long(_scene: Scene) -> Situation:
    call = ask("lead1", "GetAuditLog", leaf_index=10**9)

    async def follow(error: DomainError) -> Ask:
        return call.but(leaf_index=int(error.facts["size"]) - 1)

    return Situation(call, follow)


@case(errors.UnderLegalHold, "Release the hold first")
async def an_entry_is_held(scene: Scene) -> Situation:
    held = event(ip_address="192.0.2.1")
    await logged(scene, held)
    wanted = pb.AuditLogFilter(resource_id=held.resource_id)
    (entry,) = (await scene.do("lead1", "ListAuditLogs", filter=wanted)).audit_logs
    name = fresh("hold")
    await scene.do("admin", "CreateLegalHold", name=name, filter=wanted, reason="a court asks")

    async def follow(error: DomainError) -> None:
        known = error.facts["hold"]
        await scene.do("admin", "ReleaseLegalHold", legal_hold=known, reason="it is settled")

    call = ask("admin", "RedactAuditLog", id=entry.id, fields=["ip_address"], reason="asked for")
    return Situation(call, follow)


@case(errors.WebhooksTaken, "DeleteWebhook")
async def a_webhook_makes_room(scene: Scene) -> Situation:
    name = fresh("hook")
    call = ask("admin", "CreateWebhook", name=name, url="https://hooks.example.com/in", paused=True)
    made = [
        (await scene.send(call.but(name=f"{name}-{number}"))).webhook.id
        for number in range(MOST_WEBHOOKS)
    ]
    scene.afterwards += [ask("admin", "DeleteWebhook", webhook=one) for one in made[1:]]

    async def follow(_: DomainError) -> None:
        await scene.do("admin", "DeleteWebhook", webhook=made[0])

    return Situation(call, follow)
