"""What entries of the ledger tell webhooks."""

import re
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.audit.rules import cdevents
from services.audit.rules.happenings import EventType, Told, Wanted, happenings

NAMES = {"release": "auth@1.4.0", "environment": "prod", "kind": "deploy"}
# A timestamp is in UTC, with microseconds; the pattern of types of our own is that of CDEvents.
OWN_TYPE = re.compile(r"dev\.cdeventsx\.[a-zA-Z0-9]+-[a-zA-Z]+\.[a-zA-Z]+\.[0-9]\.[0-9]\.[0-9]")
KNOWN = {
    "dev.cdevents.pipelinerun.queued.0.2.0",
    "dev.cdevents.pipelinerun.started.0.2.0",
    "dev.cdevents.pipelinerun.finished.0.2.0",
    "dev.cdevents.taskrun.started.0.2.0",
    "dev.cdevents.taskrun.finished.0.2.0",
    "dev.cdevents.service.deployed.0.2.0",
    "dev.cdevents.service.rolledback.0.2.0",
}


def told(action: str = "start", resource: str = "deployment", **details: Any) -> Told:
    return Told(
        leaf_index=7,
        event_id="01900000-0000-7000-8000-000000000001",
        occurred_at=datetime(2026, 3, 1, 12, tzinfo=UTC),
        user_id="u-1",
        producer="deployment",
        action=action,
        resource_type=resource,
        resource_id="d-1",
        details={**NAMES, **details},
    )


def moved(before: str | None, after: str, action: str = "update", **details: Any) -> Told:
    old: dict[str, Any] = {} if before is None else {"before": {"status": before}}
    return told(action, **{"after": {"status": after}, **old, **details})


def types(entry: Told) -> list[EventType]:
    return [event.type for event in happenings(entry)]


T = EventType
DEPLOYMENTS: list[tuple[str, Told, list[EventType]]] = [
    ("asked", moved(None, "pending", approvals_required=0), [T.DEPLOYMENT_REQUESTED]),
    (
        "asked-approval",
        moved(None, "pending", approvals_required=2.0),  # numbers of JSON
        [T.DEPLOYMENT_REQUESTED, T.DEPLOYMENT_APPROVAL_REQUIRED],
    ),
    ("approve", moved("pending", "pending", "approve"), [T.DEPLOYMENT_APPROVED]),
    ("revoke", moved("pending", "pending", "revoke_approval"), [T.DEPLOYMENT_APPROVAL_REVOKED]),
    ("reject", moved("pending", "rejected", "reject"), [T.DEPLOYMENT_REJECTED]),
    ("expire", moved("pending", "expired"), [T.DEPLOYMENT_EXPIRED]),
    ("supersede", moved("pending", "superseded"), [T.DEPLOYMENT_SUPERSEDED]),
    ("start", moved("pending", "in-progress"), [T.DEPLOYMENT_STARTED]),
    ("resume", moved("paused", "in-progress"), [T.DEPLOYMENT_RESUMED]),
    ("cancelling", moved("in-progress", "cancelling"), [T.DEPLOYMENT_CANCELLING]),
    ("cancelled", moved("cancelling", "cancelled"), [T.DEPLOYMENT_CANCELLED]),
    ("fail", moved("in-progress", "failed"), [T.DEPLOYMENT_FAILED]),
    (
        "complete",
        moved("in-progress", "completed"),
        [T.DEPLOYMENT_COMPLETED, T.SERVICE_DEPLOYED],
    ),
    (
        "rolled-back-to",
        moved("in-progress", "completed", kind="rollback"),
        [T.DEPLOYMENT_COMPLETED, T.SERVICE_ROLLED_BACK],
    ),
    ("undone", moved("completed", "rolled_back", "rollback"), [T.DEPLOYMENT_ROLLED_BACK]),
    (
        "first-stage",
        moved(
            "pending", "in-progress", stage="b", stage_before="pending", stage_after="in-progress"
        ),
        [T.DEPLOYMENT_STARTED, T.STAGE_STARTED],
    ),
    (
        "last-stage",
        moved(
            "in-progress",
            "completed",
            stage="b",
            stage_before="in-progress",
            stage_after="completed",
        ),
        [T.STAGE_FINISHED, T.DEPLOYMENT_COMPLETED, T.SERVICE_DEPLOYED],
    ),
    (
        "stage-at-once",
        moved(
            "in-progress", "in-progress", stage="b", stage_before="pending", stage_after="completed"
        ),
        [T.STAGE_STARTED, T.STAGE_FINISHED],
    ),
    (
        "stage-fails-and-pauses",
        moved("in-progress", "paused", stage="b", stage_before="in-progress", stage_after="failed"),
        [T.STAGE_FINISHED, T.DEPLOYMENT_PAUSED],
    ),
    (
        "stage-ignored",
        moved("paused", "in-progress", stage="b", stage_before="failed", stage_after="ignored"),
        [T.DEPLOYMENT_RESUMED, T.STAGE_SKIPPED],
    ),
    (
        "output-only",
        moved(
            "in-progress",
            "in-progress",
            stage="b",
            stage_before="in-progress",
            stage_after="in-progress",
        ),
        [],
    ),
    ("claimed", moved("pending", "pending", "claim"), []),
]
OTHERS: list[tuple[str, Told, list[EventType]]] = [
    ("published", told("publish", "release"), [T.RELEASE_PUBLISHED]),
    ("abandoned", told("abandon", "release"), [T.RELEASE_ABANDONED]),
    ("bad", told("mark_bad", "release"), [T.RELEASE_MARKED_BAD]),
    ("cleared", told("clear_bad", "release"), [T.RELEASE_MARK_CLEARED]),
    ("changed", told("update", "release"), []),
    ("locked", told("lock", "lock"), [T.LOCK_CREATED]),
    ("unlocked", told("unlock", "lock"), [T.LOCK_RELEASED]),
    ("frozen", told("create", "freeze_window"), [T.FREEZE_CHANGED]),
    ("overridden", told("override", "gate_override"), [T.GATE_OVERRIDDEN]),
    ("policy", told("publish", "policy"), [T.POLICY_PUBLISHED]),
    ("webhook", told("pause", "webhook"), [T.WEBHOOK_CHANGED]),
    ("given-up", told("give_up", "webhook"), []),
    ("user", told("create", "user"), []),
]


@pytest.mark.parametrize(
    ("entry", "expected"),
    [(entry, expected) for _name, entry, expected in [*DEPLOYMENTS, *OTHERS]],
    ids=[name for name, *_rest in [*DEPLOYMENTS, *OTHERS]],
)
def test_an_entry_tells(entry: Told, expected: list[EventType]) -> None:
    assert types(entry) == expected
    source = "/release-manager"
    for number, event in enumerate(happenings(entry)):
        message = cdevents.message(event, source)
        kind = message["context"]["type"]
        assert kind in KNOWN or OWN_TYPE.fullmatch(kind)
        assert message["context"]["id"] == entry.event_id + (f".{number}" if number else "")
        assert message["context"]["timestamp"] == "2026-03-01T12:00:00.000000Z"
        assert message["subject"]["id"]
        assert set(message) <= {"context", "subject", "customData", "customDataContentType"}


def test_every_type_can_happen() -> None:
    entries = [entry for _name, entry, _expected in [*DEPLOYMENTS, *OTHERS]]
    happened = {kind for entry in entries for kind in types(entry)}
    assert happened == set(EventType)


def test_the_required_contents_are_there() -> None:
    done = moved(
        "in-progress",
        "completed",
        stage="test",
        stage_before="in-progress",
        stage_after="completed",
    )
    stage, run, service = (cdevents.message(event, "/rm")["subject"] for event in happenings(done))
    assert stage == {
        "id": "d-1/test",
        "source": "/rm",
        "type": "taskRun",
        "content": {"taskName": "test", "pipelineRun": {"id": "d-1"}, "outcome": "success"},
    }
    assert run["content"] == {"pipelineName": "auth in prod", "outcome": "success"}
    assert service["id"] == "auth"
    assert service["content"] == {
        "environment": {"id": "prod"},
        "artifactId": "pkg:generic/auth@1.4.0",
    }
    (started,) = happenings(moved("pending", "in-progress"))
    content = cdevents.message(started, "/rm")["subject"]["content"]
    assert content == {"pipelineName": "auth in prod", "url": "/rm/deployments/d-1"}


@pytest.mark.parametrize("producer", ["ci", "Deployment", ""], ids=["ci", "case", "nobody"])
def test_who_is_no_service_of_the_product_tells_nothing(producer: str) -> None:
    entry = moved("pending", "in-progress")
    assert not happenings(replace(entry, producer=producer))


@pytest.mark.parametrize(
    ("place", "service", "environment"),
    [
        ("everything", "", ""),
        ("auth everywhere", "auth", ""),
        ("everything in prod", "", "prod"),
        ("auth in prod", "auth", "prod"),
    ],
    ids=["all", "service", "environment", "pair"],
)
def test_a_lock_is_about_its_place(place: str, service: str, environment: str) -> None:
    (event,) = happenings(replace(told("lock", "lock"), details={"place": place}))
    assert (event.service, event.environment) == (service, environment)
    wanted = Wanted.of([], ["PROD"], ["other"])
    assert wanted.takes(event) == (service == "")


@given(
    st.dictionaries(
        st.sampled_from(
            ["before", "after", "stage_before", "stage_after", "kind", "release", "environment"]
        ),
        st.one_of(
            st.none(),
            st.integers(),
            st.sampled_from(["", "x", "rollback", "auth@1.4.0", "@", "everywhere", "\u2603"]),
            st.dictionaries(
                st.just("status"),
                st.sampled_from(["pending", "in-progress", "completed", "failed", "x", ""]),
            ),
        ),
    ),
    st.sampled_from(["deployment", "lock", "release", "webhook", "elsewhat"]),
    st.sampled_from(["lock", "publish", "approve", "x"]),
)
def test_no_entry_is_too_odd_to_be_told(details: dict[str, Any], kind: str, action: str) -> None:
    for event in happenings(replace(told(action, kind), details=details)):
        assert cdevents.encoded(cdevents.message(event, "/rm"))
        Wanted.of([], ["prod"], ["auth"]).takes(event)
