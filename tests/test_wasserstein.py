"""Wasserstein distances of normal distributions, and the best coupling of weights."""

import numpy as np
import pytest
from scipy import linalg, stats

from jaxgmm.wasserstein import gaussian_w2_squared, solve_transport

from helpers import random_mixture


def test_distance_of_normal_distributions():
    p, q = random_mixture(0, "full", k=1), random_mixture(1, "full", k=1)
    (mean, cov), (other, shape) = ((np.asarray(m.means[0], float), np.asarray(m.covariances[0], float)) for m in (p, q))
    root = linalg.sqrtm(cov)
    square = ((mean - other) ** 2).sum() + np.trace(cov + shape - 2 * linalg.sqrtm(root @ shape @ root).real)
    assert gaussian_w2_squared(mean, cov, other, shape) == pytest.approx(square, rel=1e-8)
    # on a line it is the distance between quantiles
    grid = (np.arange(100000) + 0.5) / 100000
    quantiles = stats.norm(1, 2).ppf(grid) - stats.norm(-1, 0.5).ppf(grid)
    assert gaussian_w2_squared([1], [[4]], [-1], [[0.25]]) == pytest.approx((quantiles**2).mean(), rel=1e-3)


def test_coupling_with_the_smallest_cost():
    """On a line, the best coupling of sorted points is monotone; its sums are the weights."""
    points, other = np.array([0.0, 1.0, 4.0]), np.array([-1.0, 2.0])
    a, b = np.array([0.2, 0.5, 0.3]), np.array([0.4, 0.6])
    plan = solve_transport((points[:, None] - other) ** 2, a, b)
    np.testing.assert_allclose(plan, [[0.2, 0.0], [0.2, 0.3], [0.0, 0.3]], atol=1e-12)
