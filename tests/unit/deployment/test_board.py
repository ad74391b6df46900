"""What the board says of a pair."""

from services.deployment.rules.board import Health, PairState, pair_state
from services.deployment.rules.lifecycle import HOLDS_SLOT, OPEN, DeploymentStatus
from services.deployment.rules.policy import EnvironmentType, Policy, default_policy
from tests.unit.deployment.facts import Pair

D = DeploymentStatus


def shown(pair: Pair) -> PairState:
    """Return the cell of a pair."""
    return pair_state(tuple(pair.deployments.values()))


def test_empty_until_something_completes() -> None:
    pair = Pair()
    assert shown(pair).health is Health.NOTHING_DEPLOYED

    live = pair.add("v1")

    cell = shown(pair)
    assert (cell.health, cell.live, cell.probable) == (Health.HEALTHY, live, live)
    assert (cell.running, cell.target, cell.waiting, cell.last_failure) == (None, None, (), None)


def test_deploying_while_something_runs() -> None:
    pair = Pair()
    running = pair.add("v1", D.IN_PROGRESS)
    assert (shown(pair).health, shown(pair).running) == (Health.DEPLOYING, running)


def test_attempt_that_never_reached_the_environment_leaves_it_healthy() -> None:
    pair = Pair()
    live = pair.add("v1")
    failure = pair.fail("v2", touched=False)

    cell = shown(pair)

    assert (cell.health, cell.probable, cell.last_failure) == (Health.HEALTHY, live, failure)


def test_rolling_back_shows_what_runs_and_the_target() -> None:
    pair = Pair()
    back_to = pair.add("v1")
    undone = pair.add("v2")
    pair.roll_back(D.IN_PROGRESS)

    cell = shown(pair)

    assert (cell.health, cell.live) == (Health.ROLLING_BACK, back_to)
    assert cell.probable is not None
    assert cell.probable.id == undone.id
    assert cell.target == cell.running == pair.latest()


def test_degraded_after_a_failed_rollback_until_something_completes() -> None:
    pair = Pair()
    pair.add("v1")
    undone = pair.add("v2")
    pair.roll_back(D.FAILED)
    rollback = pair.latest()
    running = pair.add("v3", D.IN_PROGRESS)

    cell = shown(pair)

    assert (cell.health, cell.target, cell.running) == (Health.DEGRADED, rollback, running)
    assert cell.probable is not None
    assert cell.probable.id == undone.id
    done = running._replace(status=D.COMPLETED, completed_seq=99, completed_at=pair.now)
    pair.deployments[running.id] = done
    assert shown(pair).health is Health.HEALTHY


def test_degraded_after_an_attempt_that_failed_half_way() -> None:
    pair = Pair()
    pair.add("v1")
    broken = pair.fail("v2", touched=True)
    assert (shown(pair).health, shown(pair).probable) == (Health.DEGRADED, broken)

    pair.roll_back()

    assert shown(pair).health is Health.HEALTHY


def test_waiting_are_listed_oldest_first() -> None:
    pair = Pair()
    first = pair.add("v1", D.PENDING, touched=False)
    second = pair.add("v2", D.PENDING, touched=False)

    assert shown(pair).waiting == (first, second)


def test_every_status_that_holds_the_slot_has_a_limit() -> None:
    limited = {status for status in D if Policy().limit(status) is not None}

    assert limited == HOLDS_SLOT
    assert OPEN - limited == {D.PENDING}
    assert default_policy(EnvironmentType.PROD).decide_within is not None
