"""A ledger without a database: entries, leaves, a key, and the exports and proofs of them."""

import json
import random
from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import UUID

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from services.audit.rules import leaf, redaction
from services.audit.rules.canonical import canonical
from services.audit.rules.csv import HEADER
from services.audit.rules.events import Event, Sealed, leaf_values, microseconds, seal
from services.audit.rules.exported import MEMBERS
from services.audit.rules.manifest import Form, Manifest, RangeProof, Retired
from services.audit.rules.ranges import subtrees
from services.audit.rules.recheck import entry_id
from services.audit.rules.retirement import retire_details
from services.audit.rules.tiles import TileKey, grown, hash_of
from services.audit.verify.__main__ import main
from shared.ids import new_id
from shared.merkle.checkpoint import LOG, Checkpoint, signed
from shared.merkle.note import Ed25519Signer, sign
from shared.merkle.tree import Node, Span, inclusion_spans, span_hash

NOW = datetime(2026, 5, 17, 9, 30, tzinfo=UTC)
DETAILS: tuple[dict[str, Any], ...] = (
    {},
    {"after": {"stage": 2, "tags": ["a", None, True]}, "before": None},
    {"number": 0.1, "tiny": 5e-324, "large": 2**53 - 1, "less": -1.5e-7},
    {"text": 'quote " backslash \\ newline \n tab \t', "é😀": "\u2028\x7f"},
    {"": {"deep": {"deeper": [[], {}, [1, 2.5]]}}},
)


def signer(seed: int = 1, name: str = LOG) -> Ed25519Signer:
    """Return a key that is the same whenever it is asked for."""
    return Ed25519Signer(name, Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32))


class Offline:
    """Entries at positions 0 to count - 1; `erased` fields of some were erased by the last one."""

    def __init__(self, count: int, *, erased: Mapping[int, Collection[str]] | None = None) -> None:
        self.signer = signer()
        self.told: list[dict[str, Any]] = []
        self.leaves: list[bytes] = []
        chance = random.Random(count)
        erased = erased or {}
        for index in range(count - len(erased)):
            self._add(self._sealed(chance, index))
        for position, fields in erased.items():
            self._erase(position, fields)

    def line(self, told: dict[str, Any]) -> bytes:
        """Return a line as PostgreSQL writes it, but for spaces."""
        details = told["details"]
        if details is None:
            return json.dumps(told, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
        text = json.dumps(told | {"details": "@"}, ensure_ascii=False, separators=(",", ":"))
        return text.replace('"@"', _jsonb(details)).encode() + b"\n"

    def ndjson(self, positions: Iterable[int]) -> bytes:
        """Return the lines of some entries."""
        return b"".join(self.line(self.told[position]) for position in positions)

    def csv(self, positions: Iterable[int]) -> bytes:
        """Return some rows, whatever is in them."""
        rows = (f'{self.told[at]["id"]},"a ""quoted""\nfield",\n' for at in positions)
        return HEADER + "".join(rows).encode()

    def root(self, size: int) -> bytes:
        """Return the root of the first leaves."""
        return span_hash(Span(0, size), self._hash)

    def checkpoint(self, size: int) -> str:
        """Return a signed checkpoint."""
        return signed(Checkpoint(self.signer.verifier.name, size, self.root(size)), self.signer)

    def inclusion(self, position: int, size: int) -> list[bytes]:
        """Return a proof."""
        return [span_hash(span, self._hash) for span in inclusion_spans(position, size)]

    def range_proof(self, first: int, end: int, retired: Collection[Span] = ()) -> RangeProof:
        """Return what leads from the leaves of a range to the root of all."""
        gone = tuple(Retired(span, len(self.leaves) - 1, self._hashes(span)) for span in retired)
        after = Span(end, len(self.leaves))
        return RangeProof(self._hashes(Span(0, first)), self._hashes(after), gone)

    def retire(self, month: str, span: Span) -> Retired:
        """Append the entry that announces that a span is gone, as the last one."""
        hashes = self._hashes(span)
        announced = Event(
            action="retire",
            resource_type="audit_log_month",
            resource_id=month,
            details=retire_details(span, hashes, "rule 7"),
        )
        now = _at(len(self.told))
        self._add(seal(announced, producer="audit", user_id=None, now=now, mac_key=b"k"))
        del self._tiles
        return Retired(span, len(self.told) - 1, hashes)

    def manifest(self, data: bytes, **fields: Any) -> str:
        """Return the signed manifest of a file; of NDJSON by default."""
        size = len(self.leaves)
        told: dict[str, Any] = {
            "form": Form.NDJSON,
            "filter": {"categories": ["access", "change", "security"]},
            "leaves": Span(0, size),
            "rows": data.count(b"\n"),
            "tree_size": size,
            "size": len(data),
            "sha256": sha256(data).digest(),
            "created_at": "2026-05-17T09:31:00.000000Z",
            "exported_by": str(new_id()),
            "checkpoint": self.checkpoint(size),
        }
        return sign(str(Manifest(**(told | fields))), self.signer)

    def _sealed(self, chance: random.Random, index: int) -> Sealed:
        event = Event(
            action=chance.choice(("create", "deploy")),
            resource_type="deployment",
            resource_id=f"d-{index} ü",
            details=DETAILS[index % len(DETAILS)],
            ip_address=(None, "10.0.0.1", "2001:db8::1", "::102:304")[index % 4],
            user_agent=(None, 'an "agent"')[index % 2],
            category=("change", "access", "security")[index % 3],
            aggregate=(None, "deployment:1")[index % 2],
            aggregate_seq=(None, index)[index % 2],
        )
        user = (None, UUID(int=7))[index % 2]
        return seal(event, producer="deployment", user_id=user, now=_at(index), mac_key=b"k")

    def _add(self, sealed: Sealed) -> None:
        index = len(self.told)
        created = _at(index)
        leaf_hash = leaf.leaf_hash(index, microseconds(created), sealed.event_digest)
        told = {
            "leaf_index": index,
            "id": str(UUID(int=entry_id(microseconds(created), index))),
            "event_id": str(sealed.event_id),
            "occurred_at": _text(sealed.occurred_at),
            "created_at": _text(created),
            "user_id": None if sealed.user_id is None else str(sealed.user_id),
            "details": sealed.stored_details(),
            "leaf_version": 1,
            "salt": sealed.salt.hex(),
            "redactions": None,
            "leaf_hash": leaf_hash.hex(),
        }
        rest = {name: getattr(sealed, name) for name in MEMBERS if name not in told}
        told |= rest
        self.told.append({name: told[name] for name in MEMBERS})
        self.leaves.append(leaf_hash)

    def _erase(self, position: int, fields: Collection[str]) -> None:
        order = Event(
            action="redact",
            resource_type="audit_log",
            resource_id=self.told[position]["id"],
            details=redaction.redact_details(position, fields, None, "asked for"),
        )
        now = _at(len(self.told))
        self._add(seal(order, producer="audit", user_id=None, now=now, mac_key=b"k"))
        told = self.told[position]
        salt = bytes.fromhex(told["salt"])
        values = dict(zip(leaf.TAGS, leaf.commitments(self._values(position), salt), strict=True))
        left = [tag for tag in leaf.TAGS if tag not in fields]
        told["redactions"] = {
            "leaf": len(self.told) - 1,
            "fields": {tag: values[tag].hex() for tag in fields},
            "salts": {tag: leaf.field_salt(salt, tag).hex() for tag in left},
        }
        told |= dict.fromkeys((*fields, "salt"))

    def _values(self, position: int) -> list[leaf.Value]:
        told = self.told[position]
        given = {name: told[name] for name in leaf.TAGS}
        given["event_id"] = UUID(told["event_id"])
        given["user_id"] = None if told["user_id"] is None else UUID(told["user_id"])
        given["occurred_at"] = datetime.fromisoformat(told["occurred_at"])
        given["details"] = canonical(told["details"])
        return leaf_values(**given)

    def _hashes(self, span: Span) -> tuple[bytes, ...]:
        return tuple(self._hash(node) for node in subtrees(span))

    def _hash(self, node: Node) -> bytes:
        return hash_of(node, self._tiles)

    @cached_property
    def _tiles(self) -> dict[TileKey, bytes]:
        return grown({}, 0, self.leaves)


def _jsonb(value: object) -> str:
    """Return a value as jsonb has it: numbers written out, without exponents."""
    if isinstance(value, dict):
        members = (f"{json.dumps(k, ensure_ascii=False)}: {_jsonb(v)}" for k, v in value.items())
        return "{" + ", ".join(members) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_jsonb, value)) + "]"
    if isinstance(value, float):
        return format(Decimal(repr(value)), "f")
    return json.dumps(value, ensure_ascii=False)


def _at(index: int) -> datetime:
    return NOW + timedelta(microseconds=index * 37)


def _text(moment: datetime) -> str:
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


class Desk:
    """Somebody with files and the verifier."""

    def __init__(self, directory: Path, ledger: Offline) -> None:
        self.directory = directory
        self.key = self.put("ledger.pub", f"{ledger.signer.verifier}\n")

    def put(self, name: str, content: str | bytes) -> Path:
        """Write a file."""
        path = self.directory / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def export(self, data: bytes, manifest: str | bytes, *more: str) -> int:
        """Verify an export; return the exit code."""
        file, note = self.put("export", data), self.put("manifest", manifest)
        return main(["export", str(file), "--manifest", str(note), "-k", str(self.key), *more])
