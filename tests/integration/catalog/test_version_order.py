"""The order of versions in the database is that of SemVer 2.0, and a natural one for the rest."""

from collections.abc import Sequence
from itertools import pairwise
from random import Random

from seed.rows import Connection

# Clause 11 of SemVer 2.0, with neighbours of its examples.
IN_ORDER = (
    "build-7",
    "build-10",
    "0.9.9",
    "1.0.0-alpha",
    "1.0.0-alpha.1",
    "1.0.0-alpha.beta",
    "1.0.0-beta",
    "1.0.0-beta.2",
    "1.0.0-beta.11",
    "1.0.0-rc.1",
    "1.0.0",
    "1.0.1",
    "1.2",
    "1.2.1-rc.1",
    "1.2.1",
    "1.10.0",
    "v2",
    "2.0.1",
    "2026.11.3",
    "2026.11.22",
    "99999999999999999999.0.0",
)
IDENTIFIERS = ("0", "1", "2", "10", "alpha", "alpha1", "beta", "rc", "a-b", "-", "1a", "00x")


async def keys(connection: Connection, versions: Sequence[str]) -> list[bytes]:
    """Return the key of each version, as it is compared: byte by byte."""
    numbered = "unnest($1::text[]) WITH ORDINALITY AS given (version, number)"
    query = f"SELECT version_key(version) FROM {numbered} ORDER BY number"
    return [key.encode() for (key,) in await connection.fetch(query, versions)]


def precedence(version: str) -> tuple[object, ...]:
    """Return what SemVer compares: the three numbers, then the identifiers before a release."""
    core, _, before = version.partition("-")
    identifiers = [
        (0, int(one), "") if one.isdigit() else (1, 0, one) for one in before.split(".") if before
    ]
    return (*map(int, core.split(".")), not before, identifiers)


def some_version(random: Random) -> str:
    core = ".".join(str(random.choice((0, 1, 2, 10))) for _ in range(3))
    before = ".".join(random.choice(IDENTIFIERS) for _ in range(random.randint(0, 3)))
    return f"{core}-{before}" if before else core


async def test_versions_sort_as_people_number_them(owner: Connection) -> None:
    found = await keys(owner, IN_ORDER)
    assert found == sorted(found)


async def test_semantic_versions_sort_by_precedence(owner: Connection) -> None:
    random = Random(20)
    versions = [some_version(random) for _ in range(2_000)]
    found = sorted(zip(await keys(owner, versions), versions, strict=True))
    out_of_order = [
        (lower, higher)
        for (_, lower), (_, higher) in pairwise(found)
        if precedence(lower) > precedence(higher)
    ]
    assert out_of_order == []


async def test_build_metadata_breaks_ties_only(owner: Connection) -> None:
    first, second, third = await keys(owner, ["1.0.0+z", "1.0.1+a", "1.0.0"])
    assert third < first < second
