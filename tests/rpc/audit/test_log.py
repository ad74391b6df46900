"""LogAction, LogActions and GetAggregateSequences as callers see them."""

from uuid import uuid4

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from release_manager.audit.v1 import audit_pb2 as pb

from shared.ids import new_id
from tests.rpc.audit.conftest import Service, as_, event, refusal

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_an_entry_comes_back_as_it_is_stored(audit: Service) -> None:
    sent = event(
        1,
        user="LEAD1",
        occurred_at=Timestamp(seconds=1_795_343_400, nanos=123_456_789),
        ip_address="2001:DB8::1",
        user_agent="grpcurl/1.9",
        aggregate="deployment:1",
        aggregate_seq=1,
    )
    sent.details.update({"n": 3, "x": 1.5, "list": [None, True, {"a": "b"}], "password": "x"})
    request = pb.LogActionRequest(event=sent)
    answer = await audit.stub.LogAction(request, metadata=as_("deployment"))
    entry = answer.audit_log
    assert not answer.deduplicated
    assert (entry.leaf_index, entry.event_id) == (0, sent.event_id)
    assert entry.user_id == str(audit.user_id("lead1"))
    assert entry.occurred_at == Timestamp(seconds=1_795_343_400, nanos=123_456_000)
    assert entry.ip_address == "2001:db8::1"
    assert entry.details["password"] == "[masked]"
    assert entry.details["n"] == 3
    assert entry.category == pb.AUDIT_CATEGORY_CHANGE
    assert (entry.producer, entry.aggregate_seq) == ("deployment", 1)
    assert len(entry.leaf_hash) == 32
    again = await audit.stub.LogAction(request, metadata=as_("deployment"))
    assert again.deduplicated
    assert again.audit_log == entry
    by_index = pb.GetAuditLogRequest(leaf_index=0)
    by_id = pb.GetAuditLogRequest(id=entry.id.upper())
    for asked in (by_index, by_id):
        found = await audit.stub.GetAuditLog(asked, metadata=as_("lead1"))
        assert found.audit_log == entry


async def test_a_batch_says_of_each_event_what_became_of_it(audit: Service) -> None:
    one = event(1)
    answer = await audit.log(
        one,
        one,
        event(2, event_id=str(uuid4())),
        event(3, user="nobody"),
        event(4, event_id="01000000-0000-7000-8000-000000000000"),
        event(5),
    )
    told = [(result.outcome, result.reason) for result in answer.results]
    assert told == [
        (pb.APPEND_OUTCOME_APPENDED, ""),
        (pb.APPEND_OUTCOME_DUPLICATE, ""),
        (pb.APPEND_OUTCOME_REFUSED, "VALIDATION_FAILED"),
        (pb.APPEND_OUTCOME_REFUSED, "RESOURCE_NOT_FOUND"),
        (pb.APPEND_OUTCOME_REFUSED, "EVENT_TOO_OLD"),
        (pb.APPEND_OUTCOME_APPENDED, ""),
    ]
    assert [answer.results[n].leaf_index for n in (0, 1, 5)] == [0, 0, 1]
    assert answer.results[3].message.startswith("There is no user nobody")


@pytest.mark.parametrize(
    ("caller", "reason"),
    [("lead1", "SCOPE_REQUIRED"), ("admin", "SCOPE_REQUIRED"), ("robot", "SCOPE_REQUIRED")],
)
async def test_only_programs_with_the_scope_write(audit: Service, caller: str, reason: str) -> None:
    request = pb.LogActionRequest(event=event())
    error = await refusal(audit.stub.LogAction(request, metadata=as_(caller)))
    assert error.reason == reason


async def test_speaking_for_others_needs_a_scope(audit: Service) -> None:
    request = pb.LogActionRequest(event=event(user="lead1"))
    error = await refusal(audit.stub.LogAction(request, metadata=as_("alone")))
    assert error.facts == {"scope": "on_behalf_of"}
    answer = await audit.log(event(user="lead1"), event(user="alone"), by="alone")
    assert [result.reason for result in answer.results] == ["SCOPE_REQUIRED", ""]


async def test_a_reused_event_id_names_the_entry(audit: Service) -> None:
    one = event(1)
    await audit.log(one)
    one.action = "rollback"
    request = pb.LogActionRequest(event=one)
    error = await refusal(audit.stub.LogAction(request, metadata=as_("deployment")))
    assert error.reason == "EVENT_ID_REUSED"
    assert error.facts == {"event_id": one.event_id, "leaf_index": "0"}


async def test_sequences_end_at_the_first_gap(audit: Service) -> None:
    await audit.log(
        *(event(n, aggregate="team:a", aggregate_seq=n) for n in (1, 2, 3)),
        *(event(n, aggregate="team:b", aggregate_seq=n) for n in (1, 2, 4, 5)),
        *(event(n, aggregate="team:c", aggregate_seq=n) for n in (2, 3)),
    )
    await audit.log(event(aggregate="team:d", aggregate_seq=1), by="alone")
    request = pb.GetAggregateSequencesRequest(aggregates=[f"team:{x}" for x in "abcd"])
    answer = await audit.stub.GetAggregateSequences(request, metadata=as_("deployment"))
    assert dict(answer.sequences) == {"team:a": 3, "team:b": 2, "team:c": 0, "team:d": 0}


async def test_a_missing_entry_is_said_to_be_missing(audit: Service) -> None:
    for request, reason in (
        (pb.GetAuditLogRequest(leaf_index=0), "POSITION_OUT_OF_RANGE"),
        (pb.GetAuditLogRequest(id=str(new_id())), "RESOURCE_NOT_FOUND"),
    ):
        error = await refusal(audit.stub.GetAuditLog(request, metadata=as_("lead1")))
        assert error.reason == reason
