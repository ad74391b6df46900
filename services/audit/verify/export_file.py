"""An export held against its manifest: the digest always, of NDJSON also every line."""

from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, BinaryIO

from services.audit.rules import manifest
from services.audit.rules.csv import HEADER
from services.audit.rules.manifest import Form, Manifest, ManifestInvalid
from services.audit.verify import evidence, lines
from services.audit.verify.entries import entries
from services.audit.verify.evidence import Keys
from services.audit.verify.verdict import CannotTell, NotGenuine
from shared.merkle.checkpoint import Checkpoint

CHUNK = 1024 * 1024


@dataclass(slots=True)
class Found:
    """What a file is: its rows, size and SHA-256, and what its lines had to say.

    It `agrees` with a checkpoint that was kept when its own leaves lead to that one's root.
    """

    rows: int = 0
    size: int = 0
    digest: Any = field(default_factory=sha256)
    notes: list[str] = field(default_factory=list)
    agrees: bool = False

    def add(self, data: bytes) -> None:
        """Count further bytes."""
        self.size += len(data)
        self.digest.update(data)


def verify_export(file: Path, note: str, keys: Keys, kept: Checkpoint | None = None) -> str:
    """Return the sentence about a genuine export; raises NotGenuine and CannotTell.

    `kept` is a checkpoint of the ledger that was kept elsewhere, and its key checked.
    """
    text = evidence.signed_text(note, keys, "The manifest")
    try:
        told = manifest.parse(text)
    except ManifestInvalid as error:
        raise NotGenuine(f"What is signed is {error}.") from error
    covering = evidence.checkpoint_of(told.checkpoint, keys, "The checkpoint in the manifest")
    if not told.leaves.end <= told.tree_size <= covering.size:
        raise NotGenuine("The checkpoint in the manifest does not cover the export.")
    gaps = told.range.retired if told.range else ()
    if not all(gap.leaves.end <= gap.retired_by < told.tree_size for gap in gaps):
        raise NotGenuine("The manifest names an entry that cannot have retired what it should.")
    try:
        with file.open("rb") as opened:
            found = _READERS[told.form](opened, told, covering, kept)
    except OSError as error:
        raise CannotTell(f"{file} cannot be read: {error.strerror}.") from error
    _compare(found, told)
    _compare_kept(found, covering, kept)
    return " ".join([_sentence(told, covering), *found.notes])


def _compare(found: Found, told: Manifest) -> None:
    if found.rows != told.rows:
        raise NotGenuine(f"The file has {found.rows:,} rows, the manifest says {told.rows:,}.")
    if found.size != told.size:
        raise NotGenuine(f"The file has {found.size:,} bytes, the manifest says {told.size:,}.")
    if found.digest.digest() != told.sha256:
        raise NotGenuine("The file was changed: its SHA-256 is not the one of the manifest.")


def _read_csv(
    file: BinaryIO, _told: Manifest, _covering: Checkpoint, _kept: Checkpoint | None
) -> Found:
    """Count the rows of a CSV: the newlines outside of quotes, without that of the header."""
    found = Found(rows=-1)
    start = file.read(len(HEADER))
    if start != HEADER:
        raise NotGenuine(f"Line 1 is not the header of an export.{_hint(start)}")
    quoted = False
    data = start
    while data:
        found.add(data)
        for number, part in enumerate(data.split(b'"')):
            quoted ^= number > 0
            if not quoted:
                found.rows += part.count(b"\n")
        data = file.read(CHUNK)
    return found


def _hint(start: bytes) -> str:
    if start.startswith(b"\xef\xbb\xbf"):
        return " A byte order mark was put before it."
    return " The line ends were converted." if b"\r" in start else ""


def _read_ocsf(
    file: BinaryIO, _told: Manifest, _covering: Checkpoint, _kept: Checkpoint | None
) -> Found:
    found = Found()
    while data := file.read(CHUNK):
        found.add(data)
        found.rows += data.count(b"\n")
    return found


def _read_ndjson(
    file: BinaryIO, told: Manifest, covering: Checkpoint, kept: Checkpoint | None
) -> Found:
    found = Found()
    position = lines.Position(told, frozenset({kept.size} if kept else ()))
    redactions = lines.Redactions(told.leaves, told.range)
    retirements = lines.Retirements(told.range)
    for line in entries(file):
        found.rows += 1
        found.add(line.content)
        try:
            position.pass_by(line.entry)
            redactions.pass_by(line.entry, line.order)
            retirements.pass_by(line.entry, line.order)
        except NotGenuine as error:
            raise NotGenuine(f"Line {found.rows} {error}") from error
    root = position.root(covering.size)
    if root is None:
        found.notes.append("Each entry matches its own leaf.")
    elif root != covering.root:
        raise NotGenuine("The entries match their leaves, but do not lead to the signed root.")
    else:
        found.notes.append(
            "Each leaf was computed anew; together they lead to the signed root of the first"
            f" {covering.size:,} entries, so that none is missing."
        )
    if kept is not None and kept.size in position.roots:
        if position.roots[kept.size] != kept.root:
            raise NotGenuine(f"The first {kept.size:,} entries are not those of your checkpoint.")
        found.agrees = True
        found.notes.append(f"They agree with your checkpoint of {kept.size:,} entries.")
    if redactions.count:
        found.notes.append(f"{redactions.count:,} of them have erased fields.")
    if position.retired:
        found.notes.append(
            f"{position.retired:,} positions were retired; of them there are leaves."
        )
    if retirements.untold:
        found.notes.append(
            f"Of {retirements.untold:,} retired intervals only the manifest says so: the entry that"
            " announced it is not in the export."
        )
    return found


def _compare_kept(found: Found, covering: Checkpoint, kept: Checkpoint | None) -> None:
    """Hold the checkpoint of the manifest against one that was kept; raises what comes of it."""
    if kept is None or found.agrees:
        return
    if kept.origin == covering.origin and kept.size == covering.size:
        if kept.root != covering.root:
            raise NotGenuine(
                f"The checkpoint in the manifest contradicts yours: both are of {kept.size:,}"
                " entries, and their roots differ."
            )
        found.notes.append(f"It agrees with your checkpoint of {kept.size:,} entries.")
        return
    raise CannotTell(
        f"The file is what {covering.origin} signed, but nothing in it leads to your checkpoint of"
        f" {kept.size:,} entries of {kept.origin}: compare that one with the checkpoint in the"
        " manifest by a consistency proof, with the command `checkpoints`."
    )


def _sentence(told: Manifest, covering: Checkpoint) -> str:
    what = f"{told.rows:,} {'entry' if told.rows == 1 else 'entries'} as {told.form.value}"
    where = f"positions {told.leaves.first:,} to {told.leaves.end - 1:,}"
    if told.leaves.end == told.leaves.first:
        where = "of an empty range"
    whole = "" if told.range else " That no other entry matched the filter is not proved."
    return (
        f"Genuine: {what}, {where}, exported {told.created_at} by {told.exported_by} and signed by"
        f" {covering.origin}.{whole}"
    )


_Reader = Callable[[BinaryIO, Manifest, Checkpoint, Checkpoint | None], Found]
_READERS: dict[Form, _Reader] = {
    Form.CSV: _read_csv,
    Form.SPREADSHEET: _read_csv,
    Form.NDJSON: _read_ndjson,
    Form.OCSF: _read_ocsf,
}
