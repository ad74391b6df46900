r"""Manifests: what an export is, in a text that the ledger's key signs as a C2SP signed note.

Two lines: TITLE, and a JSON object in the form of RFC 8785 (with U+007F written as \u007f, because
a note must not have it). Its members:

    format       "csv", "csv-spreadsheet", "ndjson" or "ocsf"
    filter       what entries had to match: only members that were given, and `categories`
    first_index  the first position that was looked at
    last_index   the last one; one less than `first_index` when there was none
    rows         how many entries are in the file
    tree_size    how many entries the ledger had
    bytes        size of the file
    sha256       of the file, in hexadecimal
    truncated    always false
    created_at   when the manifest was signed
    exported_by  id of the user who exported
    checkpoint   a signed note that covers the whole export
    range        only when nothing but dates narrowed the export: `before` and `after`, the hashes
                 of the largest whole subtrees left and right of the range in the tree of the
                 checkpoint, and `retired`, the intervals in it whose entries were dropped, each
                 with `first_index`, `last_index`, `retired_by` (the position of the entry that says
                 so) and `hashes`
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import rfc8785

from shared.merkle.tree import HASH_BYTES, Span

TITLE = "release-manager/audit/export/v1"
_HEX = re.compile(r"[0-9a-f]{64}")
_NUMBERS = ("first_index", "last_index", "rows", "tree_size", "bytes")
_TEXTS = ("format", "sha256", "created_at", "exported_by", "checkpoint")


class ManifestInvalid(Exception):
    """A text that is not a manifest; it says why."""


class Form(StrEnum):
    """What an export looks like."""

    CSV = "csv"
    SPREADSHEET = "csv-spreadsheet"
    NDJSON = "ndjson"
    OCSF = "ocsf"


@dataclass(frozen=True, slots=True)
class Retired:
    """Entries of the range that were retired before: the leaves, by which entry, their hashes."""

    leaves: Span
    retired_by: int
    hashes: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class RangeProof:
    """What leads from the leaves of an unfiltered export to the root; see `rules.ranges`."""

    before: tuple[bytes, ...]
    after: tuple[bytes, ...]
    retired: tuple[Retired, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What an export is; `leaves` are those that were looked at."""

    form: Form
    filter: Mapping[str, Any]
    leaves: Span
    rows: int
    tree_size: int
    size: int
    sha256: bytes
    created_at: str
    exported_by: str
    checkpoint: str
    range: RangeProof | None = None

    def __str__(self) -> str:
        """Return the text that is signed."""
        told: dict[str, Any] = {
            "format": self.form.value,
            "filter": dict(self.filter),
            "first_index": self.leaves.first,
            "last_index": self.leaves.end - 1,
            "rows": self.rows,
            "tree_size": self.tree_size,
            "bytes": self.size,
            "sha256": self.sha256.hex(),
            "truncated": False,
            "created_at": self.created_at,
            "exported_by": self.exported_by,
            "checkpoint": self.checkpoint,
        }
        if self.range is not None:
            told["range"] = {
                "before": _hexes(self.range.before),
                "after": _hexes(self.range.after),
                "retired": [
                    {
                        "first_index": one.leaves.first,
                        "last_index": one.leaves.end - 1,
                        "retired_by": one.retired_by,
                        "hashes": _hexes(one.hashes),
                    }
                    for one in self.range.retired
                ],
            }
        return f"{TITLE}\n{_spelled(told)}\n"


def parse(text: str) -> Manifest:
    """Read the text of a manifest in its one spelling; raises ManifestInvalid."""
    lines = text.split("\n")
    if len(lines) != 3 or lines[0] != TITLE or lines[2]:  # noqa: PLR2004  (the last is empty)
        raise ManifestInvalid("not a manifest of this version")
    try:
        told = json.loads(lines[1])
        manifest = _manifest(told)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ManifestInvalid("not a manifest of this version") from error
    if str(manifest) != text:
        raise ManifestInvalid("a manifest has one spelling, and this is another one")
    return manifest


def _manifest(told: Mapping[str, Any]) -> Manifest:
    if any(type(told[name]) is not int for name in _NUMBERS):
        raise TypeError(_NUMBERS)
    if any(type(told[name]) is not str for name in _TEXTS):
        raise TypeError(_TEXTS)
    return Manifest(
        form=Form(told["format"]),
        filter=dict(told["filter"]),
        leaves=Span(told["first_index"], told["last_index"] + 1),
        rows=told["rows"],
        tree_size=told["tree_size"],
        size=told["bytes"],
        sha256=_hash(told["sha256"]),
        created_at=told["created_at"],
        exported_by=told["exported_by"],
        checkpoint=told["checkpoint"],
        range=_range(told["range"]) if "range" in told else None,
    )


def _range(told: Mapping[str, Any]) -> RangeProof:
    return RangeProof(
        _hashes(told["before"]),
        _hashes(told["after"]),
        tuple(
            Retired(
                Span(int(one["first_index"]), int(one["last_index"]) + 1),
                int(one["retired_by"]),
                _hashes(one["hashes"]),
            )
            for one in told["retired"]
        ),
    )


def _hashes(told: list[str]) -> tuple[bytes, ...]:
    return tuple(_hash(one) for one in told)


def _hash(told: str) -> bytes:
    if not _HEX.fullmatch(told):
        raise ManifestInvalid(f"a hash is {HASH_BYTES} bytes in hexadecimal")
    return bytes.fromhex(told)


def _hexes(hashes: tuple[bytes, ...]) -> list[str]:
    return [one.hex() for one in hashes]


def _spelled(told: Mapping[str, Any]) -> str:
    return rfc8785.dumps(dict(told)).decode().replace("\x7f", "\\u007f")
