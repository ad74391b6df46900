"""Whatever people do to deployments at once, what must hold holds.

At most one holds a slot; nothing leaves the table of transitions; nothing starts in Prod without
its approvals, nor on those of people behind it; a request has one effect however often it is
sent; every version has one entry; what is locked or frozen starts nothing; every wait has an end.

`CROWD_EXAMPLES` says how many histories of `CROWD_STEPS` bundles of calls.
"""

import asyncio
import os
from collections import Counter

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.properties.court import Court
from tests.properties.machine import Crowd
from tests.properties.verdict import DEADLOCKS

EXAMPLES = int(os.environ.get("CROWD_EXAMPLES", "4"))
STEPS = int(os.environ.get("CROWD_STEPS", "15"))
MANY = 50
# Whoever comes first decides what an example is, so none is worth keeping or making smaller.
EXPLORING = settings(
    max_examples=EXAMPLES,
    stateful_step_count=STEPS,
    phases=[Phase.generate],
    derandomize=EXAMPLES < MANY,
    suppress_health_check=list(HealthCheck),
)
ENOUGH = {"step promote in Prod": 1}
ENOUGH_OF_MANY = {
    "step promote in Prod": EXAMPLES,
    **dict.fromkeys(("step deploy in Prod", "step rollback in Prod", "step rollback in Dev"), 5),
    **dict.fromkeys(("StartDeployment GATE_UNSATISFIED", "OverrideGate done"), 10),
    **dict.fromkeys(("ClaimDeployment done", "RetryStage done", "IgnoreStage done"), 3),
    **dict.fromkeys(("ConfirmCancelled done", "FailDeployment done"), 3),
    **dict.fromkeys(("CreateLock done", "CreateFreezeWindow done", "PublishPolicy done"), 10),
}
pytestmark = [
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.timeout(300 + 20 * EXAMPLES),
]


async def test_no_interleaving_breaks_a_property(court: Court) -> None:
    Crowd.court, Crowd.loop = court, asyncio.get_running_loop()
    total = Crowd.total = Counter()
    await asyncio.to_thread(run_state_machine_as_test, Crowd, settings=EXPLORING)
    print(f"{EXAMPLES} examples: {dict(sorted(total.items()))}")  # noqa: T201  (what happened)
    enough = ENOUGH_OF_MANY if EXAMPLES >= MANY else ENOUGH
    assert {what: total[what] for what, least in enough.items() if total[what] < least} == {}
    assert await court.owner.fetchval(DEADLOCKS) == 0
