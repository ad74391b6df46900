"""Publishing freezes the content of a release, once."""

from datetime import UTC, datetime
from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.catalog.rules.releases import Content, publish
from services.catalog.rules.resources import Release, ReleaseStatus
from shared.domain_error import DomainError
from shared.errors import (
    IllegalTransition,
    ReleaseContentDiffers,
    ReleaseIncomplete,
    ValidationFailed,
)
from shared.ids import new_id

NOW = datetime(2030, 1, 1, tzinfo=UTC)
COMMIT, DIGEST = "0123abc", "sha256:" + "0" * 64


def release(**facts: Any) -> Release:
    author = new_id()
    return Release(
        **{
            "id": new_id(),
            "row_version": 1,
            "created_at": NOW,
            "updated_at": NOW,
            "service_id": new_id(),
            "service": "auth",
            "version": "1.4.0",
            "status": ReleaseStatus.DRAFT,
            "commit_sha": COMMIT,
            "commit_time": None,
            "artifact_digest": DIGEST,
            "notes": "",
            "irreversible": False,
            "created_by": author,
            "author": "dev1",
            "authors": (author,),
            "published_at": None,
            **facts,
        }
    )


def test_a_complete_draft_is_published_as_it_is() -> None:
    assert publish(release(), Content()) == Content(COMMIT, DIGEST, irreversible=False)


def test_what_the_draft_lacks_may_be_given() -> None:
    draft = release(commit_sha="", artifact_digest="")
    wanted = Content(COMMIT, DIGEST, irreversible=True)
    assert publish(draft, wanted) == wanted


@pytest.mark.parametrize(
    ("lacks", "named"),
    [
        ({"commit_sha": ""}, "commit"),
        ({"artifact_digest": ""}, "artifact_digest"),
        ({"commit_sha": "", "artifact_digest": ""}, "commit, artifact_digest"),
    ],
)
def test_what_both_lack_is_named(lacks: dict[str, str], named: str) -> None:
    with pytest.raises(ReleaseIncomplete) as refused:
        publish(release(**lacks), Content())
    assert refused.value.facts == {"release": "auth@1.4.0", "missing": named}


def test_a_time_of_the_commit_is_not_dropped_in_silence() -> None:
    published = release(status=ReleaseStatus.PUBLISHED)
    with pytest.raises(ReleaseContentDiffers) as refused:
        publish(published, Content(commit_time=NOW))
    assert refused.value.facts == {"release": "auth@1.4.0", "parts": "commit_time"}
    assert publish(release(status=ReleaseStatus.PUBLISHED, commit_time=NOW), Content()) is None


def test_a_draft_is_not_contradicted() -> None:
    with pytest.raises(ValidationFailed) as refused:
        publish(release(), Content(commit_sha="fffffff", artifact_digest="sha256:" + "1" * 64))
    assert [field.field for field in refused.value.fields] == ["commit", "artifact_digest"]


@pytest.mark.parametrize(
    "status", [ReleaseStatus.PUBLISHED, ReleaseStatus.PROMOTED, ReleaseStatus.ROLLED_BACK]
)
def test_publishing_again_with_the_same_content_changes_nothing(status: ReleaseStatus) -> None:
    published = release(status=status, published_at=NOW)
    for wanted in (Content(), Content(COMMIT), Content(COMMIT, DIGEST, irreversible=False)):
        assert publish(published, wanted) is None


@pytest.mark.parametrize(
    ("wanted", "parts"),
    [
        (Content(commit_sha="fffffff"), "commit"),
        (Content(artifact_digest="sha256:" + "1" * 64), "artifact_digest"),
        (Content(irreversible=True), "irreversible"),
        (Content("fffffff", "sha256:" + "1" * 64), "commit, artifact_digest"),
    ],
)
def test_other_content_needs_another_version(wanted: Content, parts: str) -> None:
    with pytest.raises(ReleaseContentDiffers) as refused:
        publish(release(status=ReleaseStatus.PUBLISHED), wanted)
    assert refused.value.facts["parts"] == parts


def test_an_abandoned_release_is_never_published() -> None:
    with pytest.raises(IllegalTransition):
        publish(release(status=ReleaseStatus.ABANDONED), Content())


TEXTS = st.sampled_from(["", "a", "b"])
CONTENTS = st.builds(Content, TEXTS, TEXTS, st.none() | st.booleans())
STATUSES = st.sampled_from(list(product(ReleaseStatus, [True, False])))


@given(TEXTS, TEXTS, STATUSES, CONTENTS)
def test_what_was_published_can_be_published_again_and_never_otherwise(
    commit: str, digest: str, status: tuple[ReleaseStatus, bool], wanted: Content
) -> None:
    before = release(
        commit_sha=commit, artifact_digest=digest, status=status[0], irreversible=status[1]
    )
    try:
        frozen = publish(before, wanted)
    except DomainError:
        return
    if frozen is None:
        assert status[0] is not ReleaseStatus.DRAFT
        return
    assert status[0] is ReleaseStatus.DRAFT
    assert frozen.commit_sha
    assert frozen.artifact_digest
    after = release(
        commit_sha=frozen.commit_sha,
        artifact_digest=frozen.artifact_digest,
        irreversible=frozen.irreversible,
        status=ReleaseStatus.PUBLISHED,
    )
    assert publish(after, wanted) is None
