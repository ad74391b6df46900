"""The catalogue of errors and the contract say the same."""

import json
import re
from inspect import signature
from string import Formatter
from typing import Any

import grpc
import pytest
from release_manager.common.v1 import errors_pb2

from shared.domain_error import DomainError, Kind
from shared.rpc.status import CODES, errors_by_reason, from_status, to_status
from tests.contract.descriptors import comments_of

PREFIX = "ERROR_REASON_"
ERRORS = errors_by_reason()
COMMENTS = comments_of("release_manager/common/v1/errors.proto", "ErrorReason")


def facts_named(error: type[DomainError]) -> set[str]:
    """Return the names of the facts in the sentence of an error."""
    return {name for _, name, _, _ in Formatter().parse(error.__doc__ or "") if name}


def example_of(reason: str) -> dict[str, str]:
    """Return the example of the facts in the comment of a reason."""
    _, _, example = COMMENTS[PREFIX + reason].partition("Example:")
    found: dict[str, str] = json.loads(" ".join(example.split()))
    return found


def test_the_enum_has_every_error_and_no_other() -> None:
    declared = {PREFIX + reason for reason in ERRORS} | {PREFIX + "UNSPECIFIED"}
    assert set(errors_pb2.ErrorReason.keys()) == declared


def test_every_kind_has_its_code() -> None:
    assert set(CODES) == set(Kind)
    assert len(set(CODES.values())) == len(Kind)
    unused = {"OK", "CANCELLED", "UNKNOWN", "UNIMPLEMENTED", "DATA_LOSS"}
    assert {code.name for code in grpc.StatusCode} - {c.name for c in CODES.values()} == unused


@pytest.mark.parametrize("reason", ERRORS)
def test_a_reason_is_spelled_as_google_wants(reason: str) -> None:
    assert re.fullmatch(r"[A-Z][A-Z0-9_]{0,61}[A-Z0-9]", reason)


@pytest.mark.parametrize("reason", ERRORS)
def test_the_comment_is_the_code_and_the_sentence(reason: str) -> None:
    error = ERRORS[reason]
    said, _, _ = COMMENTS[PREFIX + reason].partition("Example:")
    sentence = " ".join((error.__doc__ or "").split())
    assert " ".join(said.split()) == f"{CODES[error.kind].name}. {sentence}"


@pytest.mark.parametrize("reason", ERRORS)
def test_the_example_names_the_facts(reason: str) -> None:
    example = example_of(reason)
    assert set(example) == facts_named(ERRORS[reason])
    assert all(isinstance(value, str) for value in example.values())


@pytest.mark.parametrize("reason", ERRORS)
def test_the_example_travels(reason: str) -> None:
    facts: dict[str, Any] = dict(example_of(reason))
    error = ERRORS[reason](**facts)
    arrived = from_status(to_status(error))
    assert type(arrived) is type(error)
    assert str(arrived) == str(error)
    assert arrived is not None
    assert arrived.facts == error.facts


@pytest.mark.parametrize("reason", ERRORS)
def test_no_fact_has_the_name_of_a_parameter(reason: str) -> None:
    parameters = set(signature(DomainError.__init__).parameters) - {"facts"}
    assert not facts_named(ERRORS[reason]) & parameters
