"""Releases: changed as drafts, frozen by publishing, abandoned for good, compared."""

import asyncio
from typing import Any

import pytest
import pytest_asyncio
from google.protobuf.json_format import MessageToDict
from google.protobuf.timestamp_pb2 import Timestamp
from release_manager.catalog.v1 import catalog_pb2 as pb
from release_manager.deployment.v1 import deployment_pb2

from shared.errors import (
    EtagMismatch,
    IllegalTransition,
    NotPermitted,
    ReleaseContentDiffers,
    ReleaseIncomplete,
    ReleaseInUse,
    ResourceArchived,
    ResourceNotFound,
    ValidationFailed,
)
from tests.rpc.catalog.calls import COMMIT, DIGEST, Catalog
from tests.rpc.catalog.conftest import entries, refusal
from tests.rpc.catalog.test_teams import outcome
from tests.support.platform import Platform

pytestmark = pytest.mark.asyncio(loop_scope="session")

OTHER, OTHER_DIGEST = "fedcba98765", "sha256:" + "1" * 64


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def catalog(platform: Platform) -> Catalog:
    return Catalog(platform)


async def deploy(catalog: Catalog, release: Any, environment: str = "Dev") -> str:
    """Ask for a deployment and return its id."""
    answer = await catalog.platform.deployment.CreateDeployment(
        deployment_pb2.CreateDeploymentRequest(release=release.name, environment=environment),
        metadata=await catalog.platform.person("admin"),
    )
    return str(answer.deployment.id)


async def cancel(catalog: Catalog, deployment: str) -> None:
    """Cancel a deployment that has not begun."""
    request = deployment_pb2.CancelDeploymentRequest(deployment=deployment, reason="test")
    how = {"metadata": await catalog.platform.person("admin")}
    await catalog.platform.deployment.CancelDeployment(request, **how)


async def test_all_of_a_draft_can_be_changed(catalog: Catalog) -> None:
    made = await catalog.make("release", commit=COMMIT, notes="Old", irreversible=True)
    changed = await catalog.do(
        "Update",
        "release",
        made.name,
        mask=["commit", "artifact_digest", "notes", "irreversible"],
        commit=OTHER,
        artifact_digest=DIGEST,
    )
    told = (changed.commit, changed.artifact_digest, changed.notes, changed.irreversible)
    assert told == (OTHER, DIGEST, "", False)
    details = MessageToDict((await entries(catalog.platform, "release", made.id))[-1].details)
    assert details["release"] == made.name
    assert details["before"]["commit_sha"] == COMMIT
    emptied = await catalog.do("Update", "release", made.name, mask=["commit"])
    assert emptied.commit == ""
    error = await catalog.refused("PublishRelease", release=made.id)
    assert isinstance(error, ReleaseIncomplete)


async def test_who_changes_what_a_draft_is_made_of_does_not_approve_it_for_production(
    catalog: Catalog,
) -> None:
    first = {"type": pb.ENVIRONMENT_TYPE_PROD, "promotion_order": 0}
    place = await catalog.make("environment", **first)
    made = await catalog.make("release", "dev1", commit=COMMIT, artifact_digest=DIGEST)
    await catalog.do("Update", "release", made.id, "dev2", notes="Read by many")
    await catalog.do("Update", "release", made.id, "lead1", artifact_digest=OTHER_DIGEST)
    await catalog.do("Publish", "release", made.id, "dev1")
    approval = deployment_pb2.ApproveDeploymentRequest(
        deployment=await deploy(catalog, made, place.name)
    )
    service = catalog.platform.deployment
    who = await catalog.platform.person("lead1")
    error = await refusal(service.ApproveDeployment(approval, metadata=who))
    assert isinstance(error, NotPermitted)
    assert "behind a release" in str(error)
    who = await catalog.platform.person("dev2")
    approved = await service.ApproveDeployment(approval, metadata=who)
    assert approved.deployment.approvals_given == 1
    await cancel(catalog, approval.deployment)
    await catalog.do("Archive", "environment", place.id)


async def test_versions_that_differ_by_case_alone_are_not_mixed_up(catalog: Catalog) -> None:
    service = await catalog.make("service")
    lower = await catalog.make("release", service=service.name, version="1.0.0-rc")
    upper = await catalog.make("release", service=service.name, version="1.0.0-RC")
    wanted = [f"{service.name.upper()}@1.0.0-RC", f"{service.name}@1.0.0-rc", lower.id.upper()]
    answer = await catalog.call("BatchGetReleases", releases=wanted)
    assert list(answer.releases) == [upper, lower, lower]
    missing = [lower.name, f"{service.name}@1.0.0-Rc"]
    error = await catalog.refused("BatchGetReleases", releases=missing)
    assert isinstance(error, ResourceNotFound)


async def test_of_a_published_release_only_the_notes_can_be_changed(catalog: Catalog) -> None:
    service = await catalog.make("service")
    made = await catalog.published(service.name, "1.0.0", irreversible=True)
    changed = await catalog.do("Update", "release", made.id, notes="Known problem: none")
    assert (changed.notes, changed.etag) == ("Known problem: none", "3")
    frozen: tuple[tuple[dict[str, Any], str], ...] = (
        ({"commit": OTHER}, "commit"),
        ({"artifact_digest": "sha256:" + "1" * 64, "commit": OTHER}, "commit, artifact_digest"),
        ({"mask": ["irreversible"]}, "irreversible"),
        ({"mask": ["commit"]}, "commit"),
        ({"mask": ["*"], "notes": "x"}, "commit, artifact_digest, irreversible"),
    )
    for fields, parts in frozen:
        error = await catalog.refused("UpdateRelease", release=made.id, **fields)
        assert isinstance(error, ReleaseContentDiffers)
        assert error.facts == {"release": made.name, "parts": parts}
    same = await catalog.do("Update", "release", made.id, commit=COMMIT, irreversible=True)
    assert same == changed


async def test_the_time_of_a_commit_goes_with_it_and_is_frozen(catalog: Catalog) -> None:
    then, other = Timestamp(seconds=1_700_000_000), Timestamp(seconds=1_700_000_001)
    service = await catalog.make("service")
    named = {"service": service.name, "commit": COMMIT, "artifact_digest": DIGEST}
    made = await catalog.make("release", **named, version="1.0.0", commit_time=then)
    assert made.commit_time == then
    assert not (await catalog.do("Update", "release", made.id, commit=OTHER)).HasField(
        "commit_time"
    )
    both = await catalog.do("Update", "release", made.id, commit=COMMIT, commit_time=then)
    assert (both.commit, both.commit_time) == (COMMIT, then)
    error = await catalog.refused("PublishRelease", release=made.id, commit_time=other)
    assert isinstance(error, ValidationFailed)
    assert [violation.field for violation in error.fields] == ["commit_time"]
    frozen = await catalog.do("Publish", "release", made.id, commit_time=then)
    assert frozen.commit_time == then
    assert await catalog.do("Publish", "release", made.id, commit_time=then) == frozen
    differing: tuple[tuple[str, dict[str, Any]], ...] = (
        ("UpdateRelease", {"commit_time": other}),
        ("UpdateRelease", {"mask": ["commit_time"]}),
        ("PublishRelease", {"commit_time": other}),
    )
    for rpc, fields in differing:
        error = await catalog.refused(rpc, release=made.id, **fields)
        assert isinstance(error, ReleaseContentDiffers)
        assert error.facts["parts"] == "commit_time"


@pytest.mark.parametrize("rpc", ["CreateRelease", "UpdateRelease", "PublishRelease"])
async def test_a_commit_is_not_of_the_future(catalog: Catalog, rpc: str) -> None:
    made = await catalog.make("release", commit=COMMIT, artifact_digest=DIGEST)
    about = {"service": made.service, "version": "77"} if rpc == "CreateRelease" else {}
    reference = about or {"release": made.id}
    later = Timestamp(seconds=253_402_300_799)
    error = await catalog.refused(rpc, **reference, commit_time=later)
    assert isinstance(error, ValidationFailed)
    assert [violation.field for violation in error.fields] == ["commit_time"]


async def test_abandoning_is_for_good(catalog: Catalog) -> None:
    service = await catalog.make("service")
    for made in (
        await catalog.published(service.name, "1.0.0"),
        await catalog.make("release", service=service.name, version="2.0.0"),
    ):
        etag = made.etag
        gone = await catalog.do("Abandon", "release", made.name, reason="Broken", etag=etag)
        assert gone.status == pb.RELEASE_STATUS_ABANDONED
        assert gone.HasField("published_at") == made.HasField("published_at")
        again = await catalog.call("AbandonRelease", release=made.id, reason="Again")
        assert (again.release, list(again.audit.event_ids)) == (gone, [])
        last = (await entries(catalog.platform, "release", made.id))[-1]
        details = MessageToDict(last.details)
        assert (last.action, details["reason"], details["release"]) == (
            "abandon",
            "Broken",
            made.name,
        )
        assert details["after"] == {"status": "abandoned"}
        content = {"commit": COMMIT, "artifact_digest": DIGEST}
        error = await catalog.refused("PublishRelease", release=made.id, **content)
        assert isinstance(error, IllegalTransition)
        error = await catalog.refused("DeleteRelease", release=made.id)
        assert isinstance(error, IllegalTransition)
        error = await catalog.refused("AbandonRelease", release=made.id, reason="x", etag=etag)
        assert isinstance(error, EtagMismatch)
    for reason in ("", "  ", "x" * 501):
        error = await catalog.refused("AbandonRelease", release=made.id, reason=reason)
        assert isinstance(error, ValidationFailed)


@pytest.mark.parametrize("verb", ["Abandon", "Archive"])
async def test_what_is_being_deployed_is_kept(catalog: Catalog, verb: str) -> None:
    service = await catalog.make("service")
    release = await catalog.published(service.name, "1.0.0")
    reason = {"reason": "Broken"} if verb == "Abandon" else {}
    deployment = await deploy(catalog, release)
    error = await catalog.refused(f"{verb}Release", release=release.id, **reason)
    assert isinstance(error, ReleaseInUse)
    assert (error.facts["release"], error.facts["environment"]) == (release.name, "Dev")
    await cancel(catalog, deployment)
    changed = await catalog.do(verb, "release", release.id, **reason)
    assert changed.etag == "3"


async def test_only_drafts_are_deleted(catalog: Catalog) -> None:
    service = await catalog.make("service")
    made = await catalog.published(service.name, "1.0.0")
    error = await catalog.refused("DeleteRelease", release=made.name)
    assert isinstance(error, IllegalTransition)
    assert error.facts["action"] == "delete"


async def test_an_archived_draft_is_not_published(catalog: Catalog) -> None:
    draft = await catalog.make("release", commit=COMMIT, artifact_digest=DIGEST)
    await catalog.do("Archive", "release", draft.id)
    error = await catalog.refused("PublishRelease", release=draft.id)
    assert isinstance(error, ResourceArchived)
    await catalog.do("Unarchive", "release", draft.id)
    assert (await catalog.do("Publish", "release", draft.id)).etag == "4"


async def compared(catalog: Catalog, start: str, end: str) -> tuple[bool, list[str], int, bool]:
    """Return what a comparison says: backwards, versions, how many, and whether irreversible."""
    answer = await catalog.call("CompareReleases", "viewer1", from_release=start, to_release=end)
    versions = [release.version for release in answer.releases]
    return answer.backwards, versions, answer.total, answer.irreversible


async def test_a_comparison_tells_what_comes_on_the_way(catalog: Catalog) -> None:
    service = (await catalog.make("service")).name
    for version in ("1.10.0", "1.2.0", "1.9.0", "1.10.0-rc.1", "2.0.0"):
        await catalog.published(service, version, irreversible=version == "1.9.0", notes=version)
    await catalog.make("release", service=service, version="1.9.5")
    way = ["1.10.0", "1.10.0-rc.1", "1.9.0"]
    old, new = f"{service}@1.2.0", f"{service}@1.10.0"
    assert await compared(catalog, old, new) == (False, way, 3, True)
    assert await compared(catalog, new, old) == (True, way, 3, True)
    assert await compared(catalog, f"{service}@1.9.0", new) == (False, way[:2], 2, False)
    assert await compared(catalog, new, new) == (False, [], 0, False)
    draft = f"{service}@1.9.5"
    assert await compared(catalog, draft, f"{service}@2.0.0") == (
        False,
        ["2.0.0", "1.10.0", "1.10.0-rc.1"],
        3,
        False,
    )
    answer = await catalog.call("CompareReleases", from_release=old, to_release=new)
    assert [release.notes for release in answer.releases] == way


async def test_releases_of_two_services_are_not_compared(catalog: Catalog) -> None:
    first, second = await catalog.make("service"), await catalog.make("service")
    for service in (first, second):
        await catalog.published(service.name, "1.0.0")
    error = await catalog.refused(
        "CompareReleases", from_release=f"{first.name}@1.0.0", to_release=f"{second.name}@1.0.0"
    )
    assert isinstance(error, ValidationFailed)
    assert [violation.field for violation in error.fields] == ["to_release"]


async def test_a_release_is_never_both_abandoned_and_published_anew(catalog: Catalog) -> None:
    for _ in range(10):
        draft = await catalog.make("release", commit=COMMIT, artifact_digest=DIGEST)
        calls = (
            catalog.call("PublishRelease", release=draft.id),
            catalog.call("AbandonRelease", release=draft.id, reason="Broken"),
            catalog.call("DeleteRelease", release=draft.id),
        )
        answers = await asyncio.gather(*map(outcome, calls))
        log = [entry.action for entry in await entries(catalog.platform, "release", draft.id)]
        assert log in (
            ["create", "publish", "abandon"],
            ["create", "abandon"],
            ["create", "delete"],
        ), (log, answers)
