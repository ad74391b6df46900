"""Generated parts inside pages that are otherwise written by hand, and generated pages."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

_PART = re.compile(
    r"(?P<begin><!-- generated: (?P<name>[a-z-]+) -->\n).*?(?P<end><!-- end -->)", re.DOTALL
)


def changed_pages(folder: Path, parts: Mapping[str, str]) -> dict[Path, str | None]:
    """Return the new text of every page of `folder` that is not in step with `parts`.

    Raises ValueError when a page asks for a part that does not exist, or no page for one that does.
    """
    changed: dict[Path, str | None] = {}
    used: set[str] = set()
    for path in sorted(folder.glob("*.md")):
        old = path.read_text(encoding="utf-8")
        asked = {match["name"] for match in _PART.finditer(old)}
        if unknown := asked - parts.keys():
            sentence = f"{path.name} asks for parts that nobody writes: {sorted(unknown)}"
            raise ValueError(sentence)
        used |= asked
        new = _PART.sub(lambda part: f"{part['begin']}\n{parts[part['name']]}\n{part['end']}", old)
        if new != old:
            changed[path] = new
    if unused := parts.keys() - used:
        sentence = f"no page has a place for {sorted(unused)}"
        raise ValueError(sentence)
    return changed


def changed_wholes(folder: Path, pages: Mapping[str, str]) -> dict[Path, str | None]:
    """Return the new text of every page of `folder` that is not as in `pages`.

    None is that of a page which should not be there.
    """
    there = {path.name: path.read_text(encoding="utf-8") for path in folder.glob("*.md")}
    names = sorted(there.keys() | pages.keys())
    return {folder / name: pages.get(name) for name in names if there.get(name) != pages.get(name)}


def table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    """Return a Markdown table; a `|` in a cell is escaped."""
    lines: list[tuple[str, ...]] = [head, ("---",) * len(head), *rows]
    return "".join(
        "| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines
    )
