"""The relay before a ledger that refuses: one event, whole batches, or with an unfit answer."""

import json
from collections.abc import Sequence

import pytest
from release_manager.audit.v1 import audit_pb2 as pb

from seed.rows import Connection
from shared.db.engine import Database
from shared.outbox import relay as relays
from shared.outbox.relay import Relay
from tests.integration.outbox.ledger_double import LedgerDouble, Refuse
from tests.integration.outbox.working import (
    PRODUCER,
    aggregates,
    commit,
    drain,
    row_of,
    version,
    waiting,
)


async def test_a_refused_event_becomes_a_tombstone_and_nothing_else_waits(
    db: Database, relay: Relay, ledger: LedgerDouble, owner: Connection
) -> None:
    team, other = aggregates(2)
    poison, *rest = await commit(db, [version(team, 1), version(team, 2), version(other, 1)])
    ledger.refuse = lambda event: "" if event.action == "tombstone" else _only(poison)(event)
    original = json.loads(str((await row_of(owner, poison))["event"]))
    await drain(relay)
    assert ledger.ids == [*map(str, rest), str(poison)]
    entry, row = ledger.entries[-1], await row_of(owner, poison)
    assert (entry.aggregate, entry.aggregate_seq) == (team, 1)
    assert entry.details["refused_because"] == "VALIDATION_FAILED"
    assert json.loads(str(row["original"])) == original
    assert (row["attempts"], row["leaf_index"], row["parked_at"]) == (1, 2, None)


def _only(poison: object, reason: str = "VALIDATION_FAILED") -> Refuse:
    return lambda event: reason if event.event_id == str(poison) else ""


async def test_a_tombstone_that_is_refused_too_is_parked(
    db: Database, relay: Relay, ledger: LedgerDouble, owner: Connection
) -> None:
    (team,) = aggregates(1)
    poison, other = await commit(db, [version(team, 1), version(team, 2)])
    ledger.refuse = _only(poison)
    await drain(relay)
    row = await row_of(owner, poison)
    assert row["parked_at"] is not None
    assert row["original"] is not None
    assert str(row["last_error"]).startswith("VALIDATION_FAILED")
    calls = len(ledger.calls)
    await drain(relay)
    assert len(ledger.calls) == calls
    assert ledger.ids == [str(other)]


@pytest.mark.parametrize(
    "reason", ["EVENT_ID_REUSED", "AGGREGATE_SEQUENCE_REUSED", "EVENT_TOO_OLD"]
)
async def test_what_a_tombstone_would_be_refused_for_as_well_waits_unchanged_for_a_person(
    db: Database, relay: Relay, ledger: LedgerDouble, owner: Connection, reason: str
) -> None:
    (team,) = aggregates(1)
    (event,) = await commit(db, [version(team, 1)])
    ledger.refuse = _only(event, reason)
    await drain(relay)
    row = await row_of(owner, event)
    assert row["parked_at"] is not None
    assert row["original"] is None
    ledger.refuse = lambda _event: ""
    await owner.execute("UPDATE outbox SET parked_at = NULL WHERE parked_at IS NOT NULL")
    await drain(relay)
    assert [entry.action for entry in ledger.entries] == ["update"]


async def test_one_event_for_which_whole_batches_are_refused_stops_no_other(
    db: Database, relay: Relay, ledger: LedgerDouble, owner: Connection
) -> None:
    events = await commit(db, [version(team, 1) for team in aggregates(40)])
    poison = events[23]
    ledger.malformed = {str(poison)}
    while (await row_of(owner, poison))["attempts"] == 0:
        await relay.deliver_once()
    ledger.malformed.clear()  # the tombstone under the same id is well-formed
    await drain(relay)
    assert sorted(ledger.ids) == sorted(map(str, events))
    assert {entry.action for entry in ledger.entries if entry.event_id == str(poison)} == {
        "tombstone"
    }
    assert len(ledger.calls) < 40


async def test_a_relay_whose_account_lacks_a_scope_destroys_no_event(
    db: Database, relay: Relay, ledger: LedgerDouble, owner: Connection
) -> None:
    (team,) = aggregates(1)
    events = await commit(db, [version(team, 1), version(team, 2)])
    ledger.refuse = lambda _event: "SCOPE_REQUIRED"
    with pytest.raises(relays.SenderRefused):
        await relay.deliver_once()
    assert await waiting(owner) == 2
    ledger.refuse = lambda _event: ""
    await drain(relay)
    assert ledger.ids == [str(event) for event in events]
    assert {entry.action for entry in ledger.entries} == {"update"}


@pytest.mark.parametrize("answer", ["fewer", "others", "no outcome"])
async def test_an_answer_that_does_not_fit_marks_nothing(
    db: Database, ledger: LedgerDouble, owner: Connection, answer: str
) -> None:
    async def wrong(events: Sequence[pb.AuditEvent], seconds: float) -> Sequence[pb.AppendResult]:
        results = list(await ledger.send(events, seconds))
        if answer == "fewer":
            return results[:-1]
        if answer == "others":
            return results[::-1]
        return [pb.AppendResult(event_id=result.event_id) for result in results]

    events = await commit(db, [version(team, 1) for team in aggregates(2)])
    with pytest.raises(relays.AnswerNotUnderstood):
        await Relay(db, PRODUCER, wrong).deliver_once()
    assert await waiting(owner) == 2
    await drain(Relay(db, PRODUCER, ledger.send))
    assert ledger.ids == [str(event) for event in events]
