"""Audit events of the catalog say what changed, and stay small enough for the ledger."""

from dataclasses import replace

from services.catalog.operations.recording import changes_between, content_of
from shared.outbox.events import jsonable
from tests.unit.catalog.test_releases import release


def test_a_long_text_is_kept_as_its_beginning_and_its_digest() -> None:
    content = content_of(release(notes="€" * 20_000))
    assert content["notes"]["beginning"] == "€" * 1_000
    assert content["notes"]["bytes"] == 60_000
    assert len(content["notes"]["sha256"]) == 64


def test_ids_times_and_versions_are_not_content_and_the_rest_has_a_json_form() -> None:
    content = jsonable(content_of(release()))
    assert {"id", "row_version", "created_at", "updated_at"}.isdisjoint(content)
    assert content["version"] == "1.4.0"


def test_a_change_tells_what_differs_and_nothing_else() -> None:
    before = release()
    assert changes_between(before, replace(before, status="published", row_version=2)) == {
        "before": {"status": "draft"},
        "after": {"status": "published"},
    }
