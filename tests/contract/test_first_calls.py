"""The calls that are printed for newcomers fit the protos."""

import json

import pytest

# Imported for their descriptors.
import release_manager.audit.v1.audit_pb2
import release_manager.catalog.v1.catalog_pb2
import release_manager.deployment.v1.deployment_pb2
import release_manager.identity.v1.identity_pb2  # noqa: F401
from google.protobuf import descriptor_pool, json_format, message_factory

from services.first_calls import FIRST_CALLS, FirstCall, shell_line
from shared.settings import read_settings


def test_there_are_five() -> None:
    assert len(FIRST_CALLS) == 5


@pytest.mark.parametrize("call", FIRST_CALLS, ids=lambda call: call.title)
def test_method_and_request_exist(call: FirstCall) -> None:
    service, _slash, name = call.method.partition("/")
    method = descriptor_pool.Default().FindServiceByName(service).methods_by_name[name]
    request = message_factory.GetMessageClass(method.input_type)()
    json_format.Parse(json.dumps(call.request), request)
    assert call.method.split(".")[1] in {call.service, "identity"}


@pytest.mark.parametrize("call", FIRST_CALLS, ids=lambda call: call.title)
def test_each_is_one_line_with_the_address_that_listens(call: FirstCall) -> None:
    settings = read_settings(audit_address="0.0.0.0:1", catalog_address="[::]:2")
    line = shell_line(call, settings)
    assert "\n" not in line
    expected = {"audit": " 127.0.0.1:1 ", "catalog": " [::1]:2 ", "deployment": " 127.0.0.1:50053 "}
    assert expected[call.service] in line


def test_tokens_are_kept_before_they_are_used() -> None:
    known = {"", "TRIAL_TOKEN"}
    for call in FIRST_CALLS:
        assert call.token in known
        known.add(call.keeps)
