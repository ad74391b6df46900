"""Values that break things, by the kind of field, each with a name to find it by.

Whether a value may be accepted is decided here as well, from the rules that the protos state, and
without the library that enforces them.
"""

import math
import re
from collections.abc import Iterator
from ipaddress import ip_address

from buf.validate import validate_pb2
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.struct_pb2 import Struct
from google.protobuf.timestamp_pb2 import Timestamp

MEBIBYTE = 1_048_576
LONGEST_INT32 = 2**31 - 1
LONGEST_INT64 = 2**63 - 1
FIRST_SECOND = -62_135_596_800
LAST_SECOND = 253_402_300_799

UUID_FORM = r"(?ai)[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"

# As much of RFC 3986 as tells the values below apart.
MAIL_FORM = r"[A-Za-z0-9._+-]{1,64}@[A-Za-z0-9-]{1,63}(\.[A-Za-z0-9-]{1,63})*"
URI_FORM = r"(?a)[A-Za-z][A-Za-z0-9+.-]*:[A-Za-z0-9._~:/?#@!$&'()*+,;=%\[\]-]*"

_UUID = "018f4e6a-1111-7aaa-8bbb-0123456789ab"

TEXTS = {
    "empty": "",
    "letter": "x",
    "spaces": "   ",
    "spaces around": " a ",
    "wide spaces": "\u00a0\u2003",
    "NUL": "a\0b",
    "NUL alone": "\0",
    "bidi": "a\u202eb",
    "no character": "a\ufffe\uffffb",
    "zero width": "a\u200b\u200db",
    "emoji": "😀",
    "combining": "e" + "\u0301" * 60,
    "NFC": "Zo\u00eb",
    "NFD": "Zoe\u0308",
    "Turkish": "\u0130\u0131",
    "line separator": "a\u2028b",
    "SQL quote": "' or 1=1--",
    "SQL end": '";drop table teams--',
    "SQL comment": "a/**/b--",
    "SQL percent": "%",
    "SQL underscore": "_",
    "SQL backslash": "\\",
    "SQL dollar": "$1",
    "SQL colon": ":name",
    "SQL dollars": "$$a$$",
    "format": "{}{0.__class__}%s%(a)s",
    "formula": "=1+1",
    "formula plus": "+cmd|' /C calc'!A0",
    "formula minus": "-2+3",
    "formula at": "@SUM(A1)",
    "formula tab": "\t=1",
    "line": 'a\r\n{"fake":1}',
    "escape": "\x1b[2J",
    "carriage return": "\r",
    "markup": "<script>alert(1)</script>",
    "path": "../../../../etc/passwd",
    "newline last": "auth\n",
}
# For fields that name something, by an id or otherwise.
NAMES = {
    "id of nothing": _UUID,
    "id nil": "00000000-0000-0000-0000-000000000000",
    "id upper": _UUID.upper(),
    "id short": _UUID[:-1],
    "id long": _UUID + "0",
    "id braces": f"{{{_UUID}}}",
    "id urn": f"urn:uuid:{_UUID}",
    "id bare": _UUID.replace("-", ""),
    "id Arabic digits": _UUID.replace("1", "\u0661"),
    "id spaces": " " * 128,
    "release without version": "auth@",
    "release without service": "@1.0.0",
    "release twice": "auth@1.0.0@1.0.0",
}
MALFORMED_TEXT = {
    "UTF-8 stray": b"a\xff\xfe\x80",
    "UTF-8 surrogate": b"\xed\xa0\x80",
    "UTF-8 overlong": b"\xc0\x80",
    "UTF-8 cut": b"\xf0\x9f\x98",
    "UTF-8 beyond": b"\xf4\x90\x80\x80",
}


SPACES = "\u0020\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"


def texts(rules: validate_pb2.StringRules, *, names: bool) -> Iterator[tuple[str, str]]:
    """Yield the texts for a field, its own limits among them; `names` if it names something."""
    yield from TEXTS.items()
    if names:
        yield from NAMES.items()
    yield "1 MiB", "x" * MEBIBYTE
    if rules.max_len:
        yield "limit", "a" * rules.max_len
        yield "limit + 1", "a" * (rules.max_len + 1)
        yield "limit of 4 bytes each", "😀" * rules.max_len
        yield "limit + 1 of 4 bytes each", "😀" * (rules.max_len + 1)
    repeats = re.search(r"\{\d+,(\d+)\}\)?\$$", rules.pattern)
    if repeats:
        longest = int(repeats[1]) + (":" not in rules.pattern)
        beginning = "a:" if ":" in rules.pattern else ""
        yield "limit", beginning + "a" * longest
        yield "limit + 1", beginning + "a" * (longest + 1)


def permits_text(rules: validate_pb2.FieldRules, value: str) -> bool:
    """Say whether the rules of a text field, or of the items of a list, accept a value."""
    wanted = rules.string
    allowed = getattr(wanted, "in")
    # The classes of RE2, in which the protos are written, know ASCII alone; \p{Z} are all spaces.
    pattern = wanted.pattern.replace("$", r"\Z").replace(r"\p{Z}", SPACES)
    optional = rules.ignore == validate_pb2.IGNORE_IF_ZERO_VALUE and not value
    return optional or all(
        (
            "\0" not in value,
            len(value) >= wanted.min_len,
            len(value) <= wanted.max_len or not wanted.HasField("max_len"),
            re.search(pattern, value, re.ASCII),
            not wanted.uuid or re.fullmatch(UUID_FORM, value),
            not wanted.ip or _is_ip(value),
            not wanted.uri or re.fullmatch(URI_FORM, value),
            not wanted.email or re.fullmatch(MAIL_FORM, value),
            not allowed or value in allowed,
        )
    )


def _is_ip(value: str) -> bool:
    try:
        ip_address(value)
    except ValueError:
        return False
    return True


def numbers(field: FieldDescriptor) -> Iterator[tuple[str, int | float]]:
    """Yield the numbers for a field."""
    if field.cpp_type in {FieldDescriptor.CPPTYPE_DOUBLE, FieldDescriptor.CPPTYPE_FLOAT}:
        found = (math.nan, math.inf, -math.inf, 1e308, -1e308, -0.0, 5e-324, 0.1)
        yield from ((str(value), value) for value in found)
        return
    long = field.cpp_type == FieldDescriptor.CPPTYPE_INT64
    most = LONGEST_INT64 if long else LONGEST_INT32
    for value in (-1, 0, 1, 366, 367, 1000, 1001, most, -most - 1):
        yield str(value), value


def permits_number(rules: validate_pb2.FieldRules, value: float) -> bool:
    """Say whether the rules of a number accept a value."""
    kind = rules.WhichOneof("type")
    if not math.isfinite(value):
        return False
    if kind not in {"int32", "int64", "double"}:
        return True
    wanted = getattr(rules, kind)
    above = not wanted.HasField("gte") or value >= wanted.gte
    below = not wanted.HasField("lte") or value <= wanted.lte
    return above and below


def enums(field: FieldDescriptor) -> Iterator[tuple[str, int]]:
    """Yield every value that an enum has, and some that it has not."""
    assert field.enum_type is not None
    for value in field.enum_type.values:
        yield value.name, value.number
    for number in (99, -1, LONGEST_INT32, -LONGEST_INT32 - 1):
        yield str(number), number


def permits_enum(rules: validate_pb2.FieldRules, field: FieldDescriptor, value: int) -> bool:
    """Say whether the rules of an enum accept a value; one that it has not is never accepted."""
    assert field.enum_type is not None
    allowed = getattr(rules.enum, "in")
    return (
        value in field.enum_type.values_by_number
        and value not in rules.enum.not_in
        and (not allowed or value in allowed)
    )


def masks(field: str) -> Iterator[tuple[str, list[str], bool]]:
    """Yield paths of update masks, and whether they can be right; `field` can be changed."""
    yield "no path", [], True
    yield "everything", ["*"], True
    yield "twice", [field, field], True
    yield "everything and more", ["*", field], False
    for path in (
        "",
        "nothing",
        f"{field}.inside",
        "etag",
        "update_mask",
        "Name",
        "a\0b",
        "x" * 300,
    ):
        yield f"path {path[:20]!r}", [path], False
    yield "10,000 paths", [f"p{number}" for number in range(10_000)], False


def times() -> Iterator[tuple[str, Timestamp, bool]]:
    """Yield moments, and whether they are ones."""
    for seconds, nanos, right in (
        (0, 0, True),
        (FIRST_SECOND, 0, True),
        (LAST_SECOND, 999_999_999, True),
        (1_700_000_000, 999_999_999, True),
        (FIRST_SECOND - 1, 0, False),
        (LAST_SECOND + 1, 0, False),
        (LONGEST_INT64, 0, False),
        (-LONGEST_INT64 - 1, 0, False),
        (0, -1, False),
        (0, 10**9, False),
        (0, LONGEST_INT32, False),
    ):
        yield f"{seconds}s {nanos}ns", Timestamp(seconds=seconds, nanos=nanos), right


def durations() -> Iterator[tuple[str, Duration]]:
    """Yield spans of time, and what is none."""
    year, longest = 365 * 86_400, 315_576_000_000
    for seconds, nanos in (
        *((0, 0), (0, 1), (0, 999_999_999), (1, 0), (1, 1), (year, 0), (year, 1), (year + 1, 0)),
        *((longest, 0), (longest + 1, 0), (-1, 0), (0, -1), (1, -1), (-1, 1), (0, 10**9)),
        *((LONGEST_INT64, 0), (-LONGEST_INT64 - 1, 0), (0, LONGEST_INT32), (0, -LONGEST_INT32 - 1)),
    ):
        yield f"{seconds}s {nanos}ns", Duration(seconds=seconds, nanos=nanos)


def permits_duration(rules: validate_pb2.FieldRules, span: Duration) -> bool:
    """Say whether the rules of a span of time accept one."""
    wanted = rules.duration
    nanos = span.seconds * 10**9 + span.nanos
    is_one = abs(span.nanos) < 10**9 and span.seconds * span.nanos >= 0
    above = not wanted.HasField("gte") or nanos >= wanted.gte.ToNanoseconds()
    below = not wanted.HasField("lte") or nanos <= wanted.lte.ToNanoseconds()
    return is_one and abs(span.seconds) <= 315_576_000_000 and above and below


def structs() -> Iterator[tuple[str, Struct, bool]]:
    """Yield objects of JSON, and whether the documented limits accept them."""
    yield "no member", Struct(), True
    for name, value, right in (
        ("NaN", math.nan, False),
        ("Infinity", math.inf, False),
        ("-Infinity", -math.inf, False),
        ("-0", -0.0, True),
        ("1e308", 1e308, False),
        ("0.1", 0.1, True),
        ("2^53 - 1", 2.0**53 - 1, True),
        ("2^53 + 2", 2.0**53 + 2, False),
        ("NUL", "a\0b", False),
        ("bidi", "a\u202eb", True),
        ("line", 'a\r\n{"fake":1}', True),
        ("60 KiB", "x" * 60 * 1024, True),
        ("64 KiB", "x" * 64 * 1024, False),
        ("NaN in a list", [[math.nan]], False),
        ("nothing", None, True),
    ):
        made = Struct()
        made.update({"a": value})
        yield name, made, right
    for name, key, right in (
        ("key empty", "", True),
        ("key NUL", "a\0b", False),
        ("key __proto__", "__proto__", True),
        ("key quote", "a'\"\\b", True),
        ("key long", "k" * 65 * 1024, False),
    ):
        made = Struct()
        made.update({key: 1})
        yield name, made, right
    for count, right in ((1_000, True), (1_001, False), (20_000, False)):
        made = Struct()
        made.update({str(number): number for number in range(count)})
        yield f"{count} keys", made, right
