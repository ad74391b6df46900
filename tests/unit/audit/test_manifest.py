"""Manifests: one spelling, read back as they were, and nothing else read."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.audit.rules.manifest import (
    TITLE,
    Form,
    Manifest,
    ManifestInvalid,
    RangeProof,
    Retired,
    parse,
)
from shared.merkle.note import open_note, sign
from shared.merkle.tree import Span
from tests.unit.audit.offline import signer

HASH = bytes(range(32))


def made(**fields: object) -> Manifest:
    told: dict[str, object] = {
        "form": Form.NDJSON,
        "filter": {"categories": ["change"], "action": "deploy"},
        "leaves": Span(3, 10),
        "rows": 7,
        "tree_size": 12,
        "size": 700,
        "sha256": HASH,
        "created_at": "2026-05-17T09:31:00.000000Z",
        "exported_by": "01a20377-f2af-7b4c-a17c-55138e902eb1",
        "checkpoint": "log\n12\nroot\n\n\u2014 log signature\n",
        "range": RangeProof((HASH,), (), (Retired(Span(4, 6), 9, (HASH, HASH)),)),
    }
    return Manifest(**(told | fields))  # type: ignore[arg-type]


@pytest.mark.parametrize("manifest", [made(), made(range=None), made(form=Form.CSV, rows=0)])
def test_a_manifest_is_read_back(manifest: Manifest) -> None:
    assert parse(str(manifest)) == manifest


def test_an_empty_range_ends_before_it_begins() -> None:
    assert json.loads(str(made(leaves=Span(3, 3))).split("\n")[1])["last_index"] == 2


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_whatever_the_filter_has_can_be_signed(text: str) -> None:
    manifest = made(filter={"action": text, "details": {text: [text, 0.1, None]}})
    key = signer()
    assert parse(open_note(sign(str(manifest), key), key.verifier)) == manifest


def test_no_byte_can_be_changed_without_being_another_manifest() -> None:
    manifest = made()
    text = str(manifest)
    for at in range(len(text)):
        other = text[:at] + chr(ord(text[at]) ^ 1) + text[at + 1 :]
        try:
            assert parse(other) != manifest
        except ManifestInvalid:
            continue


@pytest.mark.parametrize(
    "text",
    [
        "",
        f"{TITLE}\n",
        f"{TITLE}\n{{}}\n",
        f"{TITLE}\n[]\n",
        f"{TITLE}\n{'[' * 100_000}\n",
        str(made()) + "\n",
        str(made()).replace("v1", "v2"),
        str(made()).replace('"rows":7', '"rows":7.0'),
        str(made()).replace('"rows":7', '"rows":true'),
        str(made()).replace('"rows":7', '"rows": 7'),
        str(made()).replace('"truncated":false', '"truncated":true'),
        str(made()).replace(',"truncated":false', ""),
        str(made()).replace('"ndjson"', '"xml"'),
        str(made()).replace(HASH.hex(), HASH.hex().upper()),
        str(made()).replace('"rows":7', '"more":1,"rows":7'),
    ],
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ManifestInvalid):
        parse(text)
