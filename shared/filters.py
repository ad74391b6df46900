"""Filter and order expressions of lists: the documented subset of AIP-160 and AIP-132, parsed.

    filter   = any, { "AND", any }
    any      = term, { "OR", term }          OR binds tighter than AND, as AIP-160 has it
    term     = [ "NOT" | "-" ], ( "(", filter, ")" | comparison )
    comparison = path, ( "=" | "!=" | "<" | "<=" | ">" | ">=" | ":" ), value
    path     = name, { ".", name }
    value    = quoted text | text without spaces, quotes and parentheses, that begins with no
               sign of an operator
    order    = name, [ "desc" ], { ",", name, [ "desc" ] }

What a path, an operator and a value mean is decided where the fields are known
(`shared.db.filtering`). Functions, bare words and `a b` for "a and b" are not part of the subset.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NoReturn, TypeAlias

from shared.errors import ExpressionInvalid

MOST_COMPARISONS = 50
DEEPEST = 20

_SPACE = re.compile(r"\s*")
_PATH = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z0-9_-]+)*")
_OPERATOR = re.compile(r"!=|<=|>=|[=<>:]")
_SECOND_OPERATOR = re.compile(r"[=<>!:]")
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"|\'((?:[^\'\\]|\\.)*)\'', re.DOTALL)
_BARE = re.compile(r"[^\s()\"']+")
_WORD = re.compile(r"(?:AND|OR|NOT)(?![A-Za-z0-9_.])")
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_ORDERED = re.compile(r"\s*([A-Za-z_][A-Za-z0-9_]*)(?:\s+(desc|asc))?\s*")


@dataclass(frozen=True, slots=True)
class Comparison:
    """`path operator value`; `quoted` values are text, others may be numbers, times or names.

    `position` is where the comparison begins in the expression, the first character being 1.
    """

    path: tuple[str, ...]
    operator: str
    value: str
    quoted: bool
    position: int

    def wrong(self, problem: str) -> NoReturn:
        """Refuse this comparison; `problem` continues "cannot be read at character 7: "."""
        raise ExpressionInvalid(field="filter", position=self.position, problem=problem)


@dataclass(frozen=True, slots=True)
class Not:
    """What must not hold."""

    part: "Expression"


@dataclass(frozen=True, slots=True)
class All:
    """What must hold together."""

    parts: tuple["Expression", ...]


@dataclass(frozen=True, slots=True)
class AnyOf:
    """Of which one must hold."""

    parts: tuple["Expression", ...]


Expression: TypeAlias = Comparison | Not | All | AnyOf


@dataclass(frozen=True, slots=True)
class Sorting:
    """A field to sort by, and in which direction."""

    name: str
    descending: bool
    position: int


def parse_filter(text: str) -> Expression | None:
    """Return what a filter says, None for an empty one; raises ExpressionInvalid."""
    if not text.strip():
        return None
    parser = _Parser(text)
    expression = parser.all_of(0)
    if not parser.at_end():
        parser.wrong("write AND or OR, in capitals, between comparisons")
    return expression


def parse_order(text: str) -> Iterator[Sorting]:
    """Yield the fields to sort by, the first one first; raises ExpressionInvalid."""
    if not text.strip():
        return
    position = 0
    for part in text.split(","):
        found = _ORDERED.fullmatch(part)
        if found is None:
            problem = "write names of fields separated by commas, each with ` desc` or without"
            raise ExpressionInvalid(field="order_by", position=position + 1, problem=problem)
        yield Sorting(found[1], found[2] == "desc", position + found.start(1) + 1)
        position += len(part) + 1


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._comparisons = 0

    def all_of(self, depth: int) -> Expression:
        if depth > DEEPEST:
            self.wrong(f"nested deeper than {DEEPEST} levels")
        parts = [self._any_of(depth)]
        while self._word("AND"):
            parts.append(self._any_of(depth))
        return parts[0] if len(parts) == 1 else All(tuple(parts))

    def _any_of(self, depth: int) -> Expression:
        parts = [self._term(depth)]
        while self._word("OR"):
            parts.append(self._term(depth))
        return parts[0] if len(parts) == 1 else AnyOf(tuple(parts))

    def _term(self, depth: int) -> Expression:
        if self._word("NOT") or self._sign("-"):
            if depth > DEEPEST:
                self.wrong(f"nested deeper than {DEEPEST} levels")
            return Not(self._term(depth + 1))
        if self._sign("("):
            inside = self.all_of(depth + 1)
            if not self._sign(")"):
                self.wrong("a parenthesis is not closed")
            return inside
        return self._comparison()

    def _comparison(self) -> Comparison:
        self._comparisons += 1
        if self._comparisons > MOST_COMPARISONS:
            self.wrong(f"more than {MOST_COMPARISONS} comparisons")
        self.at_end()
        position = self._at + 1
        if _WORD.match(self._text, self._at):
            self.wrong('a comparison is missing here, such as `name = "auth"`')
        path = self._take(_PATH)
        if path is None:
            self.wrong('a comparison is missing here, such as `name = "auth"`')
        self.at_end()
        operator = self._take(_OPERATOR)
        if operator is None:
            self.wrong(f"`{path[0]}` must be followed by one of = != < <= > >= :")
        self.at_end()
        quoted = self._take(_QUOTED)
        if quoted is not None:
            inside = quoted[1] if quoted[1] is not None else quoted[2]
            value = _ESCAPED.sub(r"\1", inside)
        else:
            if _SECOND_OPERATOR.match(self._text, self._at):
                self.wrong(
                    f"`{operator[0]}` is followed by another operator; a value that begins with"
                    " one of = < > ! : stands in quotes"
                )
            bare = self._take(_BARE)
            if bare is None:
                self.wrong("a value is missing here, or a quotation mark is not closed")
            value = bare[0]
        names = tuple(path[0].split("."))
        return Comparison(names, operator[0], value, quoted is not None, position)

    def at_end(self) -> bool:
        """Skip white space; say whether nothing follows."""
        found = _SPACE.match(self._text, self._at)
        self._at = found.end() if found else self._at
        return self._at == len(self._text)

    def _take(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        found = pattern.match(self._text, self._at)
        if found is not None:
            self._at = found.end()
        return found

    def _word(self, word: str) -> bool:
        self.at_end()
        found = _WORD.match(self._text, self._at)
        if found is None or found[0] != word:
            return False
        self._at = found.end()
        return True

    def _sign(self, sign: str) -> bool:
        self.at_end()
        if not self._text.startswith(sign, self._at):
            return False
        self._at += len(sign)
        return True

    def wrong(self, problem: str) -> NoReturn:
        """Refuse the expression at the present place."""
        raise ExpressionInvalid(field="filter", position=self._at + 1, problem=problem)
