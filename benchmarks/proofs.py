"""GetInclusionProof of random entries of a large ledger, one call after the other."""

import random
import time
from collections.abc import Awaitable, Callable, Sequence
from statistics import median
from typing import Any

from google.protobuf.empty_pb2 import Empty
from release_manager.audit.v1 import audit_pb2 as pb

from benchmarks.figures import Figure, Promise, in_turns, percentile
from benchmarks.genuine import fill
from benchmarks.nothing import DO_NOTHING
from benchmarks.stage import Audit, Bench
from shared.merkle.tree import verify_inclusion

ENTRIES = 1_000_000
CALLS = 400
NEARLY_ALL = 0.95
SIZE = "SELECT next_index FROM audit_log_head"


class Proofs:
    """The rounds of one ledger; each takes other entries."""

    def __init__(self, audit: Audit, size: int) -> None:
        """Take the service and how many entries its ledger has."""
        self._audit = audit
        self._size = size
        self._chance = random.Random(0)  # noqa: S311  (nothing secret)
        self._nothing: Any = audit.channel.unary_unary(DO_NOTHING)
        self.medians: list[float] = []

    async def prove(self) -> float:
        """Prove random entries; return the 95th percentile in milliseconds."""
        last = pb.GetInclusionProofResponse()

        async def call() -> None:
            nonlocal last
            position = self._chance.randrange(self._size)
            last = await self._audit.stub.GetInclusionProof(
                pb.GetInclusionProofRequest(leaf_index=position), metadata=self._audit.metadata
            )

        took = await _timed(call)
        self.medians.append(median(took))
        await self._check(last.proof)
        return percentile(took, NEARLY_ALL)

    async def do_nothing(self) -> float:
        """Call what does nothing; return the 95th percentile in milliseconds."""
        request = Empty().SerializeToString()

        async def call() -> None:
            await self._nothing(request, metadata=self._audit.metadata)

        return percentile(await _timed(call), NEARLY_ALL)

    async def _check(self, proof: pb.InclusionProof) -> None:
        answer = await self._audit.stub.GetCheckpoint(
            pb.GetCheckpointRequest(), metadata=self._audit.metadata
        )
        root = answer.checkpoint.root
        if proof.tree_size == answer.checkpoint.tree_size and not verify_inclusion(
            proof.leaf_hash, proof.leaf_index, proof.tree_size, proof.hashes, root
        ):
            raise RuntimeError(f"a proof does not hold: {proof}")


async def _timed(call: Callable[[], Awaitable[None]]) -> list[float]:
    took = []
    for _ in range(CALLS):
        began = time.perf_counter()
        await call()
        took.append((time.perf_counter() - began) * 1_000)
    return took


async def run(bench: Bench) -> Sequence[Figure]:
    """Measure."""
    async with bench.audit() as audit:
        await fill(audit, bench.size(ENTRIES))
        proofs = Proofs(audit, await audit.owner.fetchval(SIZE))
        pair = await in_turns(proofs.prove, proofs.do_nothing, bench.rounds)
    facts = {"median_ms": median(proofs.medians)}
    promise = Promise(at_most=5)
    return [Figure("inclusion proof, p95", "ms", pair, "ms of nothing", promise, facts)]
