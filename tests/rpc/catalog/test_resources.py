"""Teams, services, environments, releases and runbooks: made, found by name or id, audited."""

import asyncio
from typing import Any
from uuid import uuid4

import pytest
from google.protobuf.json_format import MessageToDict
from release_manager.catalog.v1 import catalog_pb2 as pb
from release_manager.common.v1 import audit_receipt_pb2

from shared.errors import (
    EtagMismatch,
    ReferenceInactive,
    ReleaseContentDiffers,
    ReleaseIncomplete,
    RequestIdReused,
    ResourceExists,
    ResourceNotFound,
    RoleRequired,
    ValidationFailed,
)
from tests.rpc.catalog.conftest import entries, refusal
from tests.support.platform import Platform
from tests.support.programs import execute

pytestmark = pytest.mark.asyncio(loop_scope="session")

COMMIT, DIGEST = "0123456789abcdef", "sha256:" + "0" * 64


def new(kind: str, **facts: Any) -> Any:
    """Return a request that makes a thing of a kind under a name of its own."""
    name = f"x{uuid4().hex[:12]}"
    requests: dict[str, Any] = {
        "team": pb.CreateTeamRequest(name=name, description="Made by a test"),
        "service": pb.CreateServiceRequest(name=name, team="Backend"),
        "environment": pb.CreateEnvironmentRequest(
            name=name, type=pb.ENVIRONMENT_TYPE_STAGING, promotion_order=500
        ),
        "release": pb.CreateReleaseRequest(service="gateway", version=name),
        "runbook": pb.CreateRunbookRequest(service="auth", title=name, content="Stay calm."),
    }
    request = requests[kind]
    request.MergeFrom(type(request)(**facts))
    return request


KINDS = ("team", "service", "environment", "release", "runbook")


async def make(platform: Platform, kind: str, by: str = "admin", **facts: Any) -> Any:
    """Make a thing and return the whole answer."""
    call = getattr(platform.catalog, f"Create{kind.title()}")
    return await call(new(kind, **facts), metadata=await platform.person(by))


async def get(platform: Platform, kind: str, reference: str) -> Any:
    """Return a thing by name or id."""
    request = getattr(pb, f"Get{kind.title()}Request")(**{kind: reference})
    call = getattr(platform.catalog, f"Get{kind.title()}")
    return getattr(await call(request, metadata=await platform.person("viewer1")), kind)


@pytest.mark.parametrize("kind", KINDS)
async def test_what_is_made_is_found_by_name_and_id(platform: Platform, kind: str) -> None:
    made = getattr(await make(platform, kind), kind)
    assert made.etag == "1"
    assert await get(platform, kind, made.id) == made
    if kind != "runbook":
        assert await get(platform, kind, made.name) == made
        upper = made.name.upper() if kind != "release" else made.name.replace("gateway", "GATEWAY")
        assert await get(platform, kind, upper) == made


@pytest.mark.parametrize("kind", KINDS)
async def test_what_is_made_is_in_the_ledger_when_the_answer_comes(
    platform: Platform, kind: str
) -> None:
    answer = await make(platform, kind)
    assert answer.audit.state == audit_receipt_pb2.AUDIT_STATE_RECORDED
    made = getattr(answer, kind)
    (entry,) = await entries(platform, kind, made.id)
    assert (entry.action, entry.leaf_index) == ("create", answer.audit.leaf_indexes[0])
    after = MessageToDict(entry.details)["after"]
    assert after.get("name", after.get("version", after.get("title"))) in (
        *(getattr(made, name, None) for name in ("name", "version", "title")),
    )


@pytest.mark.parametrize("kind", KINDS)
async def test_a_name_is_taken_whatever_its_case(platform: Platform, kind: str) -> None:
    made = getattr(await make(platform, kind), kind)
    key = {"release": "version", "runbook": "title"}.get(kind, "name")
    name = getattr(made, key)
    again = name if kind in {"service", "release"} else name.upper()
    error = await refusal(make(platform, kind, **{key: again}))
    assert isinstance(error, ResourceExists)
    assert error.facts["resource_type"] == kind


@pytest.mark.parametrize("kind", KINDS)
async def test_what_is_not_there_is_named(platform: Platform, kind: str) -> None:
    for reference in ("nothing", str(uuid4()), "nothing@1", "@", "auth@"):
        error = await refusal(get(platform, kind, reference))
        assert isinstance(error, ResourceNotFound)
        assert error.facts == {"resource_type": kind, "resource": reference}


async def test_things_named_in_a_request_must_be_there(platform: Platform) -> None:
    for kind, field in (
        ("service", "team"),
        ("service", "owner"),
        ("release", "service"),
        ("runbook", "service"),
        ("runbook", "environment"),
    ):
        error = await refusal(make(platform, kind, **{field: "nothing"}))
        assert isinstance(error, ResourceNotFound), kind


async def test_a_service_has_the_caller_for_an_owner_unless_it_says_another(
    platform: Platform,
) -> None:
    mine = (await make(platform, "service", by="dev1")).service
    assert (mine.owner, mine.team) == ("dev1", "Backend")
    assert (mine.tier, mine.lifecycle) == (pb.SERVICE_TIER_3, pb.SERVICE_LIFECYCLE_PRODUCTION)
    other = (await make(platform, "service", owner="LEAD2", tier=pb.SERVICE_TIER_1)).service
    assert (other.owner, other.tier) == ("lead2", pb.SERVICE_TIER_1)


async def test_an_owner_is_an_active_person(platform: Platform) -> None:
    await platform.program("developer", "deploy")
    error = await refusal(make(platform, "service", owner="test-developer-deploy"))
    assert isinstance(error, ValidationFailed)
    assert [field.field for field in error.fields] == ["owner"]
    await execute(
        platform.database_url, "UPDATE users SET active = false WHERE username = $1", "viewer2"
    )
    error = await refusal(make(platform, "service", owner="viewer2"))
    assert isinstance(error, ReferenceInactive)


async def test_a_program_makes_a_service_for_the_person_behind_it(platform: Platform) -> None:
    program = await platform.program("developer", "on_behalf_of")
    metadata = (*program, ("x-on-behalf-of", "dev2"))
    answer = await platform.catalog.CreateService(new("service"), metadata=metadata)
    assert answer.service.owner == "dev2"
    answer = await platform.catalog.CreateService(new("service"), metadata=program)
    assert answer.service.owner == "admin"


@pytest.mark.parametrize(
    ("kind", "by"), [("team", "lead1"), ("environment", "lead1"), ("release", "viewer1")]
)
async def test_not_everybody_makes_everything(platform: Platform, kind: str, by: str) -> None:
    assert isinstance(await refusal(make(platform, kind, by=by)), RoleRequired)


async def test_a_repeat_returns_the_first_answer_and_changes_nothing(
    platform: Platform, owner: Any
) -> None:
    request = new("team", request_id=str(uuid4()))
    admin = await platform.person("admin")
    answers = [await platform.catalog.CreateTeam(request, metadata=admin) for _ in range(3)]
    assert answers[0] == answers[1] == answers[2]
    assert await owner.fetchval("SELECT count(*) FROM teams WHERE name = $1", request.name) == 1
    request.description = "Something else"
    call = platform.catalog.CreateTeam(request, metadata=admin)
    assert isinstance(await refusal(call), RequestIdReused)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_rehearsal_answers_as_usual_and_stores_nothing(
    platform: Platform, kind: str
) -> None:
    answer = await make(platform, kind, validate_only=True)
    assert answer.audit == audit_receipt_pb2.AuditReceipt()
    made = getattr(answer, kind)
    assert made.id
    assert isinstance(await refusal(get(platform, kind, made.id)), ResourceNotFound)


async def publish(platform: Platform, by: str = "dev1", **facts: Any) -> Any:
    request = pb.PublishReleaseRequest(**facts)
    return await platform.catalog.PublishRelease(request, metadata=await platform.person(by))


async def test_publishing_freezes_a_release_and_again_changes_nothing(
    platform: Platform, owner: Any
) -> None:
    draft = (await make(platform, "release", by="dev1", notes="New")).release
    assert (draft.status, draft.created_by) == (pb.RELEASE_STATUS_DRAFT, "dev1")
    assert not draft.HasField("published_at")
    error = await refusal(publish(platform, release=draft.name, commit=COMMIT))
    assert isinstance(error, ReleaseIncomplete)
    assert error.facts["missing"] == "artifact_digest"

    content: dict[str, Any] = {"commit": COMMIT, "artifact_digest": DIGEST, "irreversible": True}
    first = await publish(platform, by="dev2", release=draft.name, etag="1", **content)
    done = first.release
    assert (done.status, done.etag, done.commit) == (pb.RELEASE_STATUS_PUBLISHED, "2", COMMIT)
    assert done.irreversible
    assert done.HasField("published_at")
    again = await publish(platform, release=draft.id, **content)
    assert (again.release, list(again.audit.event_ids)) == (done, [])
    error = await refusal(publish(platform, release=draft.id, commit="fffffff"))
    assert isinstance(error, ReleaseContentDiffers)
    assert error.facts["parts"] == "commit"
    error = await refusal(publish(platform, release=draft.id, etag="1"))
    assert isinstance(error, EtagMismatch)
    assert error.facts["current"] == "2"

    names = await owner.fetch(
        "SELECT username FROM users WHERE id = ANY ((SELECT authors FROM releases WHERE id = $1"
        ")::uuid[]) ORDER BY 1",
        draft.id,
    )
    assert [row[0] for row in names] == ["dev1", "dev2"]
    log = await entries(platform, "release", draft.id)
    assert [entry.action for entry in log] == ["create", "publish"]
    details = MessageToDict(log[1].details)
    assert details["before"]["status"] == "draft"
    assert details["after"]["artifact_digest"] == DIGEST


async def test_everybody_behind_a_program_is_an_author(platform: Platform, owner: Any) -> None:
    program = await platform.program("developer", "on_behalf_of")
    metadata = (*program, ("x-on-behalf-of", "dev3"))
    answer = await platform.catalog.CreateRelease(new("release"), metadata=metadata)
    rows = await owner.fetch(
        "SELECT u.username FROM releases r JOIN users u ON u.id = ANY (r.authors)"
        " WHERE r.id = $1 ORDER BY 1",
        answer.release.id,
    )
    assert [row[0] for row in rows] == ["admin", "dev3", answer.release.created_by]


async def test_of_many_who_publish_at_once_one_makes_the_version(
    platform: Platform, owner: Any
) -> None:
    draft = (await make(platform, "release", commit=COMMIT, artifact_digest=DIGEST)).release
    answers = await asyncio.gather(*(publish(platform, release=draft.id) for _ in range(12)))
    assert {answer.release.etag for answer in answers} == {"2"}
    assert sum(len(answer.audit.event_ids) for answer in answers) == 1
    aggregate = f"release:{draft.id}"
    count = "SELECT count(*) FROM outbox WHERE aggregate = $1"
    assert await owner.fetchval(count, aggregate) == 2


async def test_of_many_who_want_a_name_one_gets_it(platform: Platform) -> None:
    request = new("team")
    admin = await platform.person("admin")
    calls = [platform.catalog.CreateTeam(request, metadata=admin) for _ in range(12)]
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert sum(isinstance(outcome, pb.CreateTeamResponse) for outcome in outcomes) == 1


async def test_the_longest_runbook_is_kept_whole_and_in_the_ledger_in_short(
    platform: Platform,
) -> None:
    content = "€" * 100_000
    answer = await make(platform, "runbook", content=content, tags=["long"], environment="PROD")
    assert answer.audit.state == audit_receipt_pb2.AUDIT_STATE_RECORDED
    found = await get(platform, "runbook", answer.runbook.id)
    assert (found.content, list(found.tags), found.environment) == (content, ["long"], "Prod")
    (entry,) = await entries(platform, "runbook", answer.runbook.id)
    assert MessageToDict(entry.details)["after"]["content"]["bytes"] == 300_000


async def test_reconciliation_finds_nothing_missing_until_something_is(
    platform: Platform, owner: Any
) -> None:
    team = (await make(platform, "team")).team
    admin = await platform.person("admin")
    request = pb.ReconcileAuditRequest()
    good = await platform.catalog.ReconcileAudit(request, metadata=admin)
    assert good.aggregates > 1
    assert (good.missing, good.resent) == (0, 0)
    await owner.execute("UPDATE teams SET row_version = 2 WHERE id = $1", team.id)
    bad = await platform.catalog.ReconcileAudit(request, metadata=admin)
    assert (bad.missing, list(bad.missing_aggregates)) == (1, [f"team:{team.id}"])
    await owner.execute("UPDATE teams SET row_version = 1 WHERE id = $1", team.id)
