"""The measured claims of the product, each against a competitor in the same run.

`python -m benchmarks` runs all of them, `python -m benchmarks appends unary` those named; `--json
FILE` writes the figures too, `--rounds N` says how often each side is measured. docs/performance.md
has the results and what they were measured on.

What counts is the ratio. A machine is now fast and now slow, so both sides are measured in turns,
one short round each, the order changing from round to round; the ratio is the median of the ratios
of neighbouring rounds.

To add a benchmark, write a module with a coroutine `run(bench: Bench) -> Sequence[Figure]` and put
it into `BENCHMARKS` of `benchmarks.__main__`:

    async def run(bench):
        async with bench.audit() as audit:          # a ledger of its own and the real service
            async def ours() -> float: ...          # one round; returns a figure such as rows/s
            async def theirs() -> float: ...
            pair = await in_turns(ours, theirs, bench.rounds)
        return [Figure("exports", "rows/s", pair, "psql copy", Promise(ratio_at_least=0.7))]

`Bench` (benchmarks.stage) has the PostgreSQL and makes installations; `Audit` is one: the process
of the service, a channel, the metadata of a service account that may do everything in the ledger,
a connection as owner of the database, and the memory that the service holds.
"""
