"""Bands for ranks: exact against simulation and enumeration, p-values that agree with them, power."""

from itertools import product

import numpy as np
import pytest
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
    """All 4^6 ways of six ranks from 0 to 3, counted; uniform and not."""
    band, shares = (np.array([0, 0, 1, 3, 6]), np.array([0, 4, 5, 6, 6])), np.array([0.4, 0.1, 0.2, 0.3])
    ways = [ranks for ranks in product(range(4), repeat=6) if inside(ranks, 3, band)]
    assert inside_probability(band) == pytest.approx(len(ways) / 4**6, rel=1e-9)
    weights = sum(np.prod(shares[list(ranks)]) for ranks in ways)
    assert inside_probability(band, shares) == pytest.approx(weights, rel=1e-9)


@pytest.mark.parametrize(("size", "num_draws", "alpha"), [(64, 31, 0.05), (256, 127, 0.2), (5, 3, 0.3)])
def test_uniform_ranks_leave_with_the_stated_probability(size, num_draws, alpha):
    """By 20000 simulations, within five standard errors: fails with probability 1e-6."""
    band = simultaneous_band(size, num_draws, alpha)
    rate = 1 - inside_probability(band)
    assert 0.7 * alpha < rate <= alpha or size < 10  # whole numbers leave little of alpha where counts are few
    rng = np.random.default_rng(0)
    found = np.mean([not inside(rng.integers(0, num_draws + 1, size), num_draws, band) for _ in range(20000)])
    assert abs(found - rate) < 5 * np.sqrt(rate * (1 - rate) / 20000)


def test_a_place_holds_at_least_what_all_do():
    """At each place alone the band is a central binomial interval, wider than one for that place only."""
    lower, upper = simultaneous_band(100, 19, 0.05)
    z = np.arange(21) / 20
    alone = binom.cdf(upper, 100, z) - binom.cdf(lower - 1, 100, z)
    assert (alone[1:-1] > 0.95).all()
    assert lower[0] == upper[0] == 0
    assert lower[-1] == upper[-1] == 100
    np.testing.assert_array_equal(lower, 100 - upper[::-1])


def test_p_values_say_what_bands_say():
    """Under alpha exactly where the band of that alpha is left, and there the least probable place is outside."""
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
    """Of a right method all alike; of one with half the sd as simulated (five standard errors, 16 places: 1e-5)."""
    np.testing.assert_allclose(rank_shares(15, lambda u: u), 1 / 16, rtol=1e-5)
    shares = rank_shares(15, lambda u: norm.cdf(0.5 * norm.ppf(u)))
    assert shares.sum() == pytest.approx(1)
    rng = np.random.default_rng(2)
    ranks = (0.5 * rng.normal(size=(20000, 15)) < rng.normal(size=(20000, 1))).sum(1)
    found = np.bincount(ranks, minlength=16) / 20000
    assert (abs(found - shares) < 5 * np.sqrt(shares / 20000)).all()


def test_power_at_256_data_sets():
    """Nine tenths of the sd is hardly seen, seven tenths nearly always: alpha 0.01 over 11 quantities."""
    band = simultaneous_band(256, 127, 0.01 / 11)
    power = [1 - inside_probability(band, rank_shares(127, lambda u, s=s: norm.cdf(s * norm.ppf(u)))) for s in (0.9, 0.7, 0.5)]
    assert power[0] < 0.1
    assert power[1] > 0.97
    assert power[2] > 0.999999


def test_chi_square():
    """Uniform p-values of uniform ranks: 2000 of them, the share under 0.05 within five standard errors (1e-6)."""
    rng = np.random.default_rng(3)
    small = np.mean([chi_square(rng.integers(0, 128, 256), 127)[0] < 0.05 for _ in range(2000)])
    assert abs(small - 0.05) < 5 * np.sqrt(0.05 * 0.95 / 2000)
    assert chi_square([3] * 64, 127)[0] < 1e-9
    assert [chi_square([0] * n, 127)[1] for n in (3, 32, 80, 1000)] == [2, 6, 16, 16]
    assert chi_square(np.arange(10).repeat(20), 9)[0] == 1  # bins of unequal width expect unequal counts
