"""The Mann-Whitney test of the tests, against values worked out by others and by chance."""

from random import Random

import pytest

from tests.support.ranks import mann_whitney_p


@pytest.mark.parametrize(
    ("ours", "theirs", "p"),
    [
        # U = 17 of 20: (17 - 10 - 0.5) / sqrt(4 * 5 * 10 / 12) = 1.592 standard deviations.
        ([19, 22, 16, 29], [20, 11, 17, 12, 15], 0.1113),
        # Ties: U = 0, the variance is 3 * 3 / 12 * (7 - 12 / 30) = 4.95: 1.798 deviations.
        ([1, 1, 2], [2.5, 2.5, 3], 0.0722),
        ([1, 1], [1, 1], 1.0),
    ],
)
def test_known_values(ours: list[float], theirs: list[float], p: float) -> None:
    assert mann_whitney_p(ours, theirs) == pytest.approx(p, abs=0.001)
    assert mann_whitney_p(theirs, ours) == pytest.approx(p, abs=0.001)


def test_of_equal_samples_as_many_are_called_different_as_p_says() -> None:
    chance = Random(20)
    found = [
        mann_whitney_p(*([chance.gauss() for _ in range(25)] for _ in range(2)))
        for _ in range(2_000)
    ]
    assert 0.03 < sum(p < 0.05 for p in found) / len(found) < 0.07


def test_a_difference_of_one_deviation_is_found() -> None:
    chance = Random(21)
    ours, theirs = ([chance.gauss(mean) for _ in range(60)] for mean in (0, 1))
    assert mann_whitney_p(ours, theirs) < 0.001
