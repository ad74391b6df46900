"""Whoever is refused is told what to do, and once they have done that they are refused no more."""

from collections.abc import AsyncIterator
from inspect import cleandoc
from string import Formatter

import grpc
import pytest
import pytest_asyncio
from google.rpc.error_details_pb2 import ErrorInfo, PreconditionFailure
from google.rpc.status_pb2 import Status

from shared.domain_error import DomainError
from shared.rpc.status import CODES, DETAILS_KEY, DOMAIN, errors_by_reason, from_rpc_error
from tests.rpc.advice.scene import Ask, Case, Scene
from tests.rpc.advice.table import CASES
from tests.support.platform import Platform

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest_asyncio.fixture(loop_scope="session")
async def scene(platform: Platform) -> AsyncIterator[Scene]:
    """Give a scene on the product, and put its environments away."""
    made = Scene(platform)
    yield made
    await made.close()


async def refused(scene: Scene, call: Ask) -> grpc.aio.AioRpcError:
    """Return how a call is refused."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await scene.send(call)
    return caught.value


def details_of(failure: grpc.aio.AioRpcError) -> tuple[ErrorInfo, PreconditionFailure]:
    """Return what the trailers say: the reason, and the violations if there are any."""
    info, unmet = ErrorInfo(), PreconditionFailure()
    trailers = dict(failure.trailing_metadata() or ())
    packed = trailers[DETAILS_KEY]
    assert isinstance(packed, bytes)
    for detail in Status.FromString(packed).details:
        detail.Unpack(info)
        detail.Unpack(unmet)
    return info, unmet


def facts_named(error: type[DomainError]) -> set[str]:
    """Return the facts that the sentence of an error names."""
    sentence = cleandoc(error.__doc__ or "")
    return {name for _, name, _, _ in Formatter().parse(sentence) if name}


def check_refusal(case: Case, failure: grpc.aio.AioRpcError) -> None:
    """Check the code, the reason with its facts, the one violation, and that help is named."""
    error = errors_by_reason()[case.reason]
    info, unmet = details_of(failure)
    assert (info.reason, info.domain) == (case.reason, DOMAIN), failure.details()
    assert failure.code() is CODES[error.kind]
    assert facts_named(error) <= info.metadata.keys()
    assert all(info.metadata[name] for name in facts_named(error))
    gates = [violation.type for violation in unmet.violations]
    assert gates == ([case.gate] if case.gate is not None else [])
    assert all(entry.subject and entry.description for entry in unmet.violations)
    said = [failure.details() or "", *(entry.description for entry in unmet.violations)]
    assert any(case.names in text for text in said), said


@pytest.mark.parametrize("name", sorted(CASES))
async def test_the_advice_is_given_and_helps(scene: Scene, name: str) -> None:
    case = CASES[name]
    situation = await case.play(scene)
    failure = await refused(scene, situation.call)
    check_refusal(case, failure)
    error = from_rpc_error(failure)
    assert error is not None
    again = await situation.follow(error) or situation.call
    await scene.send(again)
