"""What a stream of a watcher holds: one state of each deployment, and never an older one."""

from uuid import UUID

from services.deployment.watching.streams import State, Stream
from shared.ids import new_id


def state(deployment_id: UUID, version: int) -> State:
    return State(deployment_id, version, f"version {version}")


def test_a_stream_holds_one_state_of_each_deployment_in_the_order_of_waiting() -> None:
    stream, first, second = Stream(), new_id(), new_id()
    for version in range(1, 100):
        stream.offer(state(first, version))
        stream.offer(state(second, version))
    assert len(stream) == 2
    assert [stream.take(), stream.take()] == [state(first, 99), state(second, 99)]


def test_what_was_read_earlier_takes_no_deployment_back() -> None:
    """A change that was being read when the stream's own state was, arrives after it was sent."""
    stream, one = Stream(), new_id()
    stream.begin_with([state(one, 5)], may_be_overtaken=True)
    assert stream.take().version == 5
    stream.offer(state(one, 4))
    assert not len(stream)
    stream.offer(state(one, 6))
    assert stream.take().version == 6


def test_an_older_state_never_replaces_a_newer_one_that_waits() -> None:
    stream, one = Stream(), new_id()
    stream.offer(state(one, 6))
    stream.begin_with([state(one, 5)], may_be_overtaken=False)
    assert stream.take().version == 6
