"""What a call says about itself is something that an entry can tell."""

import pytest

from shared.rpc.call import LONGEST_USER_AGENT, describe_call

METHOD, PEER = "/a.B/C", "ipv4:192.0.2.1:443"


@pytest.mark.parametrize("control", ["\0", "\n", "\x1b", "\x7f", "\x9b"])
def test_no_control_character_of_a_user_agent_gets_further(control: str) -> None:
    """PostgreSQL refuses NUL: one such call would keep all later denials from being written."""
    call = describe_call(METHOD, {"user-agent": f"curl{control}/8"}, PEER, ())
    assert call.user_agent == "curl\N{REPLACEMENT CHARACTER}/8"


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({}, None),
        ({"user-agent": ""}, None),
        ({"user-agent": "grpc-python/1 (é)"}, "grpc-python/1 (é)"),
        ({"user-agent": "a" * 2_000}, "a" * LONGEST_USER_AGENT),
    ],
)
def test_any_other_user_agent_is_told_as_it_is(given: dict[str, str], told: str | None) -> None:
    assert describe_call(METHOD, given, PEER, ()).user_agent == told
