"""Test bands for ranks: exact against simulation and enumeration, agreement of p-values, power, the order of the data sets."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, norm

from jaxgmm.calibration.bands import (
    chi_square,
    inside_probability,
    most_extreme,
    rank_counts,
    rank_shares,
    simultaneous_band,
    simultaneous_p,
)


def inside(ranks, num_draws, band):
    counts = rank_counts(ranks, num_draws)
    return bool(((counts >= band[0]) & (counts <= band[1])).all())


def test_the_probability_is_exact():
    """Enumerate all 4^6 ways to draw six ranks from 0 to 3, uniform and not."""
    band, shares = (np.array([0, 0, 1, 3, 6]), np.array([0, 4, 5, 6, 6])), np.array([0.4, 0.1, 0.2, 0.3])
    ways = [ranks for ranks in product(range(4), repeat=6) if inside(ranks, 3, band)]
    assert inside_probability(band) == pytest.approx(len(ways) / 4**6, rel=1e-9)
    weights = sum(np.prod(shares[list(ranks)]) for ranks in ways)
    assert inside_probability(band, shares) == pytest.approx(weights, rel=1e-9)


@pytest.mark.parametrize(("size", "num_draws", "alpha"), [(64, 31, 0.05), (256, 127, 0.2), (5, 3, 0.3)])
def test_uniform_ranks_leave_with_the_stated_probability(size, num_draws, alpha):
    """Compare with 20000 simulations, within five standard errors: fails with probability 1e-6."""
    band = simultaneous_band(size, num_draws, alpha)
    rate = 1 - inside_probability(band)
    assert 0.7 * alpha < rate <= alpha or size < 10  # counts are integers, so that little of alpha is used where they are small
    rng = np.random.default_rng(0)
    found = np.mean([not inside(rng.integers(0, num_draws + 1, size), num_draws, band) for _ in range(20000)])
    assert abs(found - rate) < 5 * np.sqrt(rate * (1 - rate) / 20000)


def test_the_band_is_wider_than_an_interval_for_one_place():
    """At each j alone, the band is a central binomial interval, wider than one that holds for that j only."""
    lower, upper = simultaneous_band(100, 19, 0.05)
    z = np.arange(21) / 20
    alone = binom.cdf(upper, 100, z) - binom.cdf(lower - 1, 100, z)
    assert (alone[1:-1] > 0.95).all()
    assert lower[0] == upper[0] == 0
    assert lower[-1] == upper[-1] == 100
    np.testing.assert_array_equal(lower, 100 - upper[::-1])


def test_p_values_agree_with_bands():
    """A p-value is below alpha exactly if the band of that alpha is left, and then the least probable j is outside."""
    rng, seen = np.random.default_rng(1), set()
    for _ in range(60):
        ranks = np.floor(16 * rng.beta(1, rng.uniform(0.6, 1.6), 40)).astype(int)
        for alpha in (0.05, 0.3):
            band = simultaneous_band(40, 15, alpha)
            out = not inside(ranks, 15, band)
            assert out == (simultaneous_p(ranks, 15) <= alpha)
            place = most_extreme(ranks, 15)
            assert out == (not band[0][place] <= rank_counts(ranks, 15)[place] <= band[1][place])
            seen.add(out)
    assert seen == {True, False}


def test_shares_of_ranks():
    """A correct method gives equal shares; half the sd gives those simulated (five standard errors, 16 ranks: 1e-5)."""
    np.testing.assert_allclose(rank_shares(15, lambda u: u), 1 / 16, rtol=1e-5)
    shares = rank_shares(15, lambda u: norm.cdf(0.5 * norm.ppf(u)))
    assert shares.sum() == pytest.approx(1)
    rng = np.random.default_rng(2)
    ranks = (0.5 * rng.normal(size=(20000, 15)) < rng.normal(size=(20000, 1))).sum(1)
    found = np.bincount(ranks, minlength=16) / 20000
    assert (abs(found - shares) < 5 * np.sqrt(shares / 20000)).all()


def test_power_at_256_data_sets():
    """Nine tenths of the sd are rarely detected, seven tenths nearly always: alpha 0.01 over 11 quantities."""
    band = simultaneous_band(256, 127, 0.01 / 11)
    power = [1 - inside_probability(band, rank_shares(127, lambda u, s=s: norm.cdf(s * norm.ppf(u)))) for s in (0.9, 0.7, 0.5)]
    assert power[0] < 0.1
    assert power[1] > 0.97
    assert power[2] > 0.999999


def test_chi_square():
    """Of 2000 p-values of uniform ranks, the fraction below 0.05 is within five standard errors (1e-6)."""
    rng = np.random.default_rng(3)
    small = np.mean([chi_square(rng.integers(0, 128, 256), 127)[0] < 0.05 for _ in range(2000)])
    assert abs(small - 0.05) < 5 * np.sqrt(0.05 * 0.95 / 2000)
    assert chi_square([3] * 64, 127)[0] < 1e-9
    assert [chi_square([0] * n, 127)[1] for n in (3, 32, 80, 1000)] == [2, 6, 16, 16]
    assert chi_square(np.arange(10).repeat(20), 9)[0] == 1  # the expected counts follow the unequal widths of the bins


@given(st.permutations([0, 0, 1, 3, 3, 3, 7, 9]))
def test_the_order_of_the_data_sets_does_not_matter(ranks):
    ordered = sorted(ranks)
    assert rank_counts(ranks, 9).tolist() == rank_counts(ordered, 9).tolist()
    assert simultaneous_p(ranks, 9) == simultaneous_p(ordered, 9)
    assert most_extreme(ranks, 9) == most_extreme(ordered, 9)
    assert chi_square(ranks, 9) == chi_square(ordered, 9)
