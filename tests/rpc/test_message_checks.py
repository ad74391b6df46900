"""Values that no request may contain."""

from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.struct_pb2 import Struct, Value
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from shared.rpc.message_checks import DEEPEST, unusable_values
from tests.rpc.protos.echo_pb2 import EchoRequest


def found(**fields: Any) -> list[tuple[str, str]]:
    return [(at.field, at.rule) for at in unusable_values(EchoRequest(**fields))]


def nested(levels: int) -> Struct:
    struct = Struct()
    for _ in range(levels - 1):
        struct = Struct(fields={"a": Value(struct_value=struct)})
    return struct


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"text": "a\0b"}, [("text", "string.nul")]),
        ({"tags": ["a", "\0"]}, [("tags[1]", "string.nul")]),
        ({"labels": {"k": "\0"}}, [('labels["k"]', "string.nul")]),
        ({"labels": {"\0": "v"}}, [('labels["\0"]', "string.nul")]),
        ({"inner": EchoRequest(text="\0")}, [("inner.text", "string.nul")]),
        ({"ratio": float("nan")}, [("ratio", "double.finite")]),
        ({"ratio": float("-inf")}, [("ratio", "double.finite")]),
        ({"colour": 99}, [("colour", "enum.defined_only")]),
        ({"at": Timestamp(seconds=253_402_300_800)}, [("at", "timestamp.valid")]),
        ({"at": Timestamp(seconds=-62_135_596_801)}, [("at", "timestamp.valid")]),
        ({"at": Timestamp(nanos=-1)}, [("at", "timestamp.valid")]),
        ({"at": Timestamp(nanos=1_000_000_000)}, [("at", "timestamp.valid")]),
        ({"wait": Duration(seconds=315_576_000_001)}, [("wait", "duration.valid")]),
        ({"wait": Duration(seconds=1, nanos=-1)}, [("wait", "duration.valid")]),
        ({"text": "é", "ratio": -1.5, "colour": 1, "labels": {"a": "b"}}, []),
        ({"at": Timestamp(seconds=253_402_300_799, nanos=999_999_999)}, []),
        ({"wait": Duration(seconds=-1, nanos=-1)}, []),
    ],
)
def test_values(fields: dict[str, Any], expected: list[tuple[str, str]]) -> None:
    assert found(**fields) == expected


def test_depth_of_json() -> None:
    assert found(details=nested(DEEPEST)) == []
    [(_, rule)] = found(details=nested(DEEPEST + 1))
    assert rule == "struct.depth"


def test_values_in_json() -> None:
    numbers = Value(number_value=float("inf"))
    assert [rule for _, rule in found(details=Struct(fields={"a": numbers}))] == ["double.finite"]
    text = Value(string_value="\0")
    assert [rule for _, rule in found(details=Struct(fields={"a": text}))] == ["string.nul"]


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")),
            inner,
            max_size=3,
        )
    ),
    max_leaves=20,
)


@given(st.dictionaries(st.sampled_from("abc"), JSON))
def test_ordinary_json_is_ordinary(content: dict[str, Any]) -> None:
    details = Struct()
    details.update(content)
    assert unusable_values(EchoRequest(details=details)) == []
