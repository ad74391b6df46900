"""Every reason and every gate has a case that follows its advice, or a reason why none can."""

import re

import pytest
from release_manager.common.v1 import errors_pb2

from services.deployment.rules.gates import Gate
from shared.rpc.status import errors_by_reason
from tests.rpc.advice.scene import CASES, methods_by_name
from tests.rpc.advice.table import ELSEWHERE, MODULES
from tests.support.database import PROJECT

PREFIX = "ERROR_REASON_"
REASONS = {
    name.removeprefix(PREFIX)
    for name in errors_pb2.ErrorReason.keys()  # noqa: SIM118  (it is no mapping)
    if not name.endswith("UNSPECIFIED")
}
PASCAL = re.compile(r"(?:[A-Z][a-z]+){2,}")


def test_every_reason_has_a_case_or_a_reason_why_not() -> None:
    shown = {case.reason for case in CASES.values()}
    assert shown | ELSEWHERE.keys() == REASONS
    assert not shown & ELSEWHERE.keys()


def test_every_gate_has_a_case() -> None:
    assert {case.gate for case in CASES.values()} == {*Gate, None}


def test_every_case_comes_from_a_module_of_the_table() -> None:
    modules = {module.__name__ for module in MODULES}
    assert {case.play.__module__ for case in CASES.values()} == modules


@pytest.mark.parametrize("name", sorted(CASES))
def test_an_rpc_that_is_named_exists(name: str) -> None:
    for word in PASCAL.findall(CASES[name].names):
        assert word in methods_by_name()


@pytest.mark.parametrize("reason", sorted(REASONS))
def test_an_rpc_in_a_sentence_exists(reason: str) -> None:
    for word in PASCAL.findall(errors_by_reason()[reason].__doc__ or ""):
        if word != "IdentityService":
            assert word in methods_by_name()


@pytest.mark.parametrize("reason", sorted(ELSEWHERE))
def test_what_is_shown_elsewhere_is_shown_there(reason: str) -> None:
    why, path = ELSEWHERE[reason]
    text = (PROJECT / path).read_text(encoding="utf-8")
    assert why
    assert reason in text or errors_by_reason()[reason].__name__ in text
