"""Files that people bring: keys, notes, and JSON as grpcurl and buf print it.

A file that is not there is no answer; one that is there and is not what it should be is no
evidence.
"""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from services.audit.verify.verdict import CannotTell, NotGenuine
from shared.merkle import checkpoint
from shared.merkle.checkpoint import Checkpoint
from shared.merkle.note import NoteInvalid, NotSigned, Verifier, open_note

# More than any of these files can have; an export is not read at once.
MOST_BYTES = 64 * 1024 * 1024
MOST_KEYS = 1_000

Keys = Sequence[Verifier]

# The end of a checkpoint that another one follows, as in the checkpoint file.
_ANOTHER = re.compile("\n\u2014 [^\n]+\n\n?[^\n]+\n[0-9]+\n[^\n]+\n\n\u2014 ")


def keys_of(paths: Sequence[Path]) -> Keys:
    """Return the keys of files with one verifier key a line; raises CannotTell."""
    keys: list[Verifier] = []
    for path in paths:
        try:
            lines = _content(path).decode("ascii").splitlines()
            keys += [Verifier.parse(line) for line in lines if line.strip()]
        except (UnicodeDecodeError, NoteInvalid) as error:
            raise CannotTell(f"{path} does not have a verifier key in each line.") from error
    if not keys or len(keys) > MOST_KEYS:
        raise CannotTell("There is no key to verify with, or there are more than a thousand.")
    return tuple(dict.fromkeys(keys))


def note_of(path: Path, *members: str) -> str:
    """Return the signed note of a file, or that of a JSON answer at the path of `members`."""
    text = _text(path)
    if text.lstrip().startswith("{"):
        found: Any = document(path)
        for member in members:
            found = member_of(found, member)
        if not isinstance(found, str):
            raise NotGenuine(f"{path} has no signed note.")
        text = found
    if _ANOTHER.search(text):
        raise CannotTell(f"{path} has several checkpoints: give a file with one of them.")
    # Tools that print a text end it with one more newline.
    return text.rstrip("\n") + "\n"


def document(path: Path) -> dict[str, Any]:
    """Return the JSON object of a file; raises CannotTell and NotGenuine."""
    try:
        found = json.loads(_text(path), object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise NotGenuine(f"{path} is not one JSON object that has each member once.") from error
    if not isinstance(found, dict):
        raise NotGenuine(f"{path} is not a JSON object.")
    return found


def member_of(found: object, name: str) -> object:
    """Return a member by its name in the proto or in camel case; None when it is not there.

    One that is there by both names would mean different things to its readers: NotGenuine.
    """
    if not isinstance(found, dict):
        return None
    other = camel(name)
    if other != name and name in found and other in found:
        raise NotGenuine(f"What should be one member has {name!r} and {other!r}.")
    return found.get(name, found.get(other))


def camel(name: str) -> str:
    """Return a name of the proto as JSON has it."""
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


def signed_text(note: str, keys: Keys, what: str) -> str:
    """Return what a note says if one of the keys has signed it; raises NotGenuine."""
    try:
        return open_note(note, *keys)
    except NoteInvalid as error:
        raise _refused(what, error) from error


def checkpoint_of(note: str, keys: Keys, what: str) -> Checkpoint:
    """Return the checkpoint of a note if its log has signed it; raises NotGenuine."""
    try:
        return checkpoint.opened(note, *keys)
    except NoteInvalid as error:
        raise _refused(what, error) from error


def _refused(what: str, error: NoteInvalid) -> NotGenuine:
    """Return the sentence about a note; one of an older key looks like one of a stranger."""
    hint = ""
    if isinstance(error, NotSigned):
        hint = " If the key was replaced, give the public half of the older one too."
    return NotGenuine(f"{what} is not genuine: {error}.{hint}")


def _text(path: Path) -> str:
    try:
        return _content(path).decode()
    except UnicodeDecodeError as error:
        raise NotGenuine(f"{path} is not UTF-8.") from error


def _content(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise CannotTell(f"{path} cannot be read: {error.strerror}.") from error
    if not content.strip():
        raise CannotTell(f"{path} is empty: what should have written it had nothing to give.")
    if len(content) > MOST_BYTES:
        raise CannotTell(f"{path} is larger than 64 MiB.")
    return content


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ValueError("a member twice")
    return made
