"""What validation says of a request in words that its caller can act on."""

import pytest
from buf.validate import validate_pb2
from google.protobuf.descriptor import OneofDescriptor
from release_manager.deployment.v1 import insights_pb2 as pb

from shared.errors import ValidationFailed
from shared.rpc.interceptors.validation import Validation
from shared.rpc.methods import request_class
from tests.support.platform import product_methods

METHODS = product_methods()
WITH_A_CHOICE = {
    name: oneof
    for name, method in METHODS.items()
    for oneof in method.input_type.oneofs
    if oneof.GetOptions().Extensions[validate_pb2.oneof].required
}


@pytest.mark.parametrize(("name", "oneof"), WITH_A_CHOICE.items(), ids=WITH_A_CHOICE)
def test_a_missing_choice_is_told_with_the_fields_there_are_to_choose_from(
    name: str, oneof: OneofDescriptor
) -> None:
    with pytest.raises(ValidationFailed) as refused:
        Validation({name: METHODS[name]}).check(request_class(METHODS[name])())

    (told,) = (one.description for one in refused.value.fields if one.field == oneof.name)
    assert told.endswith(f": {', '.join(field.name for field in oneof.fields)}")


def test_figures_about_nothing_are_refused_with_what_they_may_be_about() -> None:
    request = pb.GetDoraMetricsRequest()
    request.start.FromSeconds(1)

    with pytest.raises(ValidationFailed) as refused:
        Validation({}).check(request)

    assert "scope: one of these must be given: service, team, all" in str(refused.value)
