"""What holds for changes of every kind of thing: masks, etags, the archive, deletion, repeats."""

import asyncio
from typing import Any
from uuid import uuid4

import pytest
import pytest_asyncio
from google.protobuf.json_format import MessageToDict
from release_manager.common.v1 import audit_receipt_pb2

from shared.errors import (
    EtagMismatch,
    RequestIdReused,
    ResourceArchived,
    ResourceExists,
    ResourceNotFound,
    ValidationFailed,
)
from tests.rpc.catalog.calls import COMMIT, DIGEST, KINDS, Catalog, fresh
from tests.rpc.catalog.conftest import entries
from tests.support.platform import Platform

pytestmark = pytest.mark.asyncio(loop_scope="session")

# A text that can be changed, and the field that is the name.
TEXTS = {
    "team": "description",
    "service": "description",
    "environment": "description",
    "release": "notes",
    "runbook": "content",
}
NAMES = {"team": "name", "service": "name", "environment": "name", "runbook": "title"}
REQUIRED = {
    "team": ["name"],
    "service": ["lifecycle", "name", "owner", "team", "tier"],
    "environment": ["name"],
    "runbook": ["content", "title"],
}
LISTS = {
    "team": "Teams",
    "service": "Services",
    "environment": "Environments",
    "release": "Releases",
    "runbook": "Runbooks",
}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def catalog(platform: Platform) -> Catalog:
    """Give the catalog service, and say what it logged when a test has failed."""
    return Catalog(platform)


async def actions(catalog: Catalog, kind: str, thing: Any) -> list[str]:
    """Return the actions that the ledger has of a thing, oldest first."""
    return [entry.action for entry in await entries(catalog.platform, kind, thing.id)]


@pytest.mark.parametrize("kind", KINDS)
async def test_an_update_changes_what_is_given_and_tells_before_and_after(
    catalog: Catalog, kind: str
) -> None:
    field = TEXTS[kind]
    made = await catalog.make(kind, **{field: "Before"})
    answer = await catalog.call(f"Update{kind.title()}", **{kind: made.id, field: "After"})
    changed = getattr(answer, kind)
    assert (getattr(changed, field), changed.etag) == ("After", "2")
    assert changed.updated_at.ToNanoseconds() > made.updated_at.ToNanoseconds()
    assert changed == await catalog.get(kind, made.id)
    assert answer.audit.state == audit_receipt_pb2.AUDIT_STATE_RECORDED
    last = (await entries(catalog.platform, kind, made.id))[-1]
    details = MessageToDict(last.details)
    assert (last.action, last.aggregate, last.aggregate_seq) == ("update", f"{kind}:{made.id}", 2)
    assert (details["before"], details["after"]) == ({field: "Before"}, {field: "After"})


@pytest.mark.parametrize("kind", KINDS)
async def test_a_mask_says_what_to_change(catalog: Catalog, kind: str) -> None:
    field = TEXTS[kind]
    made = await catalog.make(kind, **{field: "Before"})
    other = {NAMES.get(kind, "commit"): "abcdefabc"}
    changed = await catalog.do("Update", kind, made.id, mask=[field], **{field: "After"}, **other)
    name, value = next(iter(other.items()))
    assert (getattr(changed, field), getattr(changed, name)) == ("After", getattr(made, name))
    if kind == "runbook":
        error = await catalog.refused("UpdateRunbook", runbook=made.id, mask=["content"])
        assert isinstance(error, ValidationFailed)
    else:
        emptied = await catalog.do("Update", kind, made.id, mask=[field])
        assert (getattr(emptied, field), emptied.etag) == ("", "3")
    assert value == "abcdefabc"


@pytest.mark.parametrize("kind", KINDS)
async def test_the_whole_mask_changes_everything(catalog: Catalog, kind: str) -> None:
    made = await catalog.make(kind, **{TEXTS[kind]: "Before"})
    name = f"Update{kind.title()}"
    if kind == "release":
        changed = await catalog.do("Update", kind, made.id, mask=["*"], commit=COMMIT)
        assert (changed.commit, changed.notes) == (COMMIT, "")
        return
    error = await catalog.refused(name, **{kind: made.id}, mask=["*"])
    assert isinstance(error, ValidationFailed)
    assert [violation.field for violation in error.fields] == REQUIRED[kind]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("path", ["nothing", "etag", "id", "created_at", "", "labels.lang"])
async def test_a_mask_names_fields_that_can_be_changed(
    catalog: Catalog, kind: str, path: str
) -> None:
    error = await catalog.refused(f"Update{kind.title()}", **{kind: "any"}, mask=[path])
    assert isinstance(error, ValidationFailed)
    assert [violation.field for violation in error.fields] == ["update_mask"]


@pytest.mark.parametrize("kind", KINDS)
async def test_what_changes_nothing_makes_no_version_and_no_entry(
    catalog: Catalog, kind: str
) -> None:
    field = TEXTS[kind]
    made = await catalog.make(kind, **{field: "Same"})
    for fields in ({field: "Same"}, {field: "Same", "mask": [field]}, {}):
        given: dict[str, Any] = {kind: made.id, **fields}
        answer = await catalog.call(f"Update{kind.title()}", **given)
        assert getattr(answer, kind) == made
        assert list(answer.audit.event_ids) == []
    assert await actions(catalog, kind, made) == ["create"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("verb", ["Update", "Archive", "Unarchive", "Delete"])
async def test_nobody_changes_what_they_have_not_read(
    catalog: Catalog, kind: str, verb: str
) -> None:
    made = await catalog.make(kind)
    for etag in ("7", "0", "01", " 1", "x", "1" * 32):
        error = await catalog.refused(f"{verb}{kind.title()}", **{kind: made.id}, etag=etag)
        assert isinstance(error, EtagMismatch)
        assert error.facts == {"resource_type": kind, "current": "1"}
    await catalog.do(verb, kind, made.id, etag="1")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("verb", ["Update", "Archive", "Unarchive", "Delete"])
async def test_what_is_not_there_cannot_be_changed(catalog: Catalog, kind: str, verb: str) -> None:
    for reference in (str(uuid4()), "nothing"):
        error = await catalog.refused(f"{verb}{kind.title()}", **{kind: reference})
        assert isinstance(error, ResourceNotFound)
        assert error.facts == {"resource_type": kind, "resource": reference}


@pytest.mark.parametrize("kind", KINDS)
async def test_the_archive_hides_and_keeps(catalog: Catalog, kind: str) -> None:
    made = await catalog.make(kind)
    archived = await catalog.do("Archive", kind, made.id)
    assert (archived.etag, archived.HasField("archived_at")) == ("2", True)
    assert await catalog.do("Archive", kind, made.id) == archived
    assert await catalog.get(kind, made.id) == archived

    async def ids(**asked: Any) -> set[str]:
        return {entry.id for entry in await catalog.listed(LISTS[kind], **asked)}

    assert made.id not in await ids()
    assert made.id in await ids(show_archived=True)
    error = await catalog.refused(f"Update{kind.title()}", **{kind: made.id, TEXTS[kind]: "New"})
    assert isinstance(error, ResourceArchived)

    back = await catalog.do("Unarchive", kind, made.id)
    assert (back.etag, back.HasField("archived_at")) == ("3", False)
    assert await catalog.do("Unarchive", kind, made.id) == back
    assert made.id in await ids()
    assert await actions(catalog, kind, made) == ["create", "archive", "unarchive"]


@pytest.mark.parametrize("kind", KINDS)
async def test_what_is_deleted_is_gone_and_its_trail_stays(catalog: Catalog, kind: str) -> None:
    field = NAMES.get(kind, "version")
    made = await catalog.make(kind)
    answer = await catalog.call(f"Delete{kind.title()}", **{kind: made.id})
    assert len(answer.audit.event_ids) == 1
    for verb in ("Get", "Delete"):
        error = await catalog.refused(f"{verb}{kind.title()}", **{kind: made.id})
        assert isinstance(error, ResourceNotFound)
    first, last = await both_entries(catalog, kind, made.id)
    assert (last.action, last.aggregate_seq) == ("delete", 2)
    assert MessageToDict(last.details)["before"] == MessageToDict(first.details)["after"]
    again = await catalog.make(kind, **{field: getattr(made, field)})
    assert again.id != made.id


async def both_entries(catalog: Catalog, kind: str, made_id: str) -> list[Any]:
    """Return the two entries of a thing, as soon as the last one has arrived."""
    for _ in range(100):
        found = await entries(catalog.platform, kind, made_id)
        if len(found) == 2:
            break
        await asyncio.sleep(0.05)
    return found


@pytest.mark.parametrize("kind", NAMES)
async def test_an_update_cannot_take_a_name(catalog: Catalog, kind: str) -> None:
    field = NAMES[kind]
    taken, made = await catalog.make(kind), await catalog.make(kind)
    name = getattr(taken, field)
    wanted = name if kind == "service" else name.upper()
    error = await catalog.refused(f"Update{kind.title()}", **{kind: made.id, field: wanted})
    assert isinstance(error, ResourceExists)
    assert error.facts == {"resource_type": kind, "resource": wanted}
    own = getattr(made, field)
    if kind != "service":
        own = own.upper()
        changed = await catalog.do("Update", kind, made.id, **{field: own})
        assert getattr(changed, field) == own
    other = fresh()
    assert getattr(await catalog.do("Update", kind, made.id, **{field: other}), field) == other


@pytest.mark.parametrize("kind", KINDS)
async def test_a_repeat_returns_the_first_answer(catalog: Catalog, kind: str) -> None:
    field = TEXTS[kind]
    made = await catalog.make(kind, **{field: "Before"})
    update: dict[str, Any] = {kind: made.id, field: "After", "request_id": str(uuid4())}
    name = f"Update{kind.title()}"
    answers = [await catalog.call(name, **update) for _ in range(3)]
    assert answers[0] == answers[1] == answers[2]
    assert isinstance(await catalog.refused(name, **(update | {field: "Else"})), RequestIdReused)
    assert isinstance(await catalog.refused(name, **update, mask=[field]), RequestIdReused)
    deletion = {kind: made.id, "request_id": str(uuid4())}
    gone = [await catalog.call(f"Delete{kind.title()}", **deletion) for _ in range(2)]
    assert gone[0] == gone[1]
    assert await actions(catalog, kind, made) == ["create", "update", "delete"]


@pytest.mark.parametrize("kind", KINDS)
async def test_a_rehearsal_changes_nothing(catalog: Catalog, kind: str) -> None:
    field = TEXTS[kind]
    facts = {"commit": COMMIT, "artifact_digest": DIGEST} if kind == "release" else {}
    made = await catalog.make(kind, **{field: "Before"}, **facts)
    verbs = ["Update", "Archive", "Unarchive", "Delete"]
    if kind in {"release", "runbook"}:
        verbs.append("Publish")
    for verb in verbs:
        given = {field: "After"} if verb == "Update" else {}
        answer = await catalog.call(
            f"{verb}{kind.title()}", **{kind: made.id}, **given, validate_only=True
        )
        assert answer.audit == audit_receipt_pb2.AuditReceipt()
        if verb == "Update":
            assert getattr(getattr(answer, kind), field) == "After"
        assert await catalog.get(kind, made.id) == made
    assert await actions(catalog, kind, made) == ["create"]


@pytest.mark.parametrize("kind", ["team", "service", "release"])
async def test_several_come_in_the_order_asked_for_or_not_at_all(
    catalog: Catalog, kind: str
) -> None:
    made = [await catalog.make(kind) for _ in range(4)]
    await catalog.do("Archive", kind, made[3].id)
    made[3] = await catalog.get(kind, made[3].id)
    references = [made[2].id, made[0].name, made[3].name.upper(), made[1].id.upper(), made[2].name]
    if kind == "release":
        references[2] = made[3].name.replace("gateway", "GateWay")
    name, field = f"BatchGet{LISTS[kind]}", LISTS[kind].lower()
    answer = await catalog.call(name, "viewer1", **{field: references})
    assert list(getattr(answer, field)) == [made[2], made[0], made[3], made[1], made[2]]
    error = await catalog.refused(name, **{field: [made[0].id, "nothing", str(uuid4())]})
    assert isinstance(error, ResourceNotFound)
    assert error.facts == {"resource_type": kind, "resource": "nothing"}
    for count in (0, 101):
        error = await catalog.refused(name, **{field: [made[0].id] * count})
        assert isinstance(error, ValidationFailed)
    answer = await catalog.call(name, **{field: [made[0].id] * 100})
    assert len(getattr(answer, field)) == 100


async def test_everything_that_was_changed_and_deleted_is_in_the_ledger(catalog: Catalog) -> None:
    """The comparison with the ledger misses nothing after all of the above."""
    answer = await catalog.call("ReconcileAudit")
    assert (answer.missing, list(answer.missing_aggregates)) == (0, [])
    assert catalog.platform.errors == []
