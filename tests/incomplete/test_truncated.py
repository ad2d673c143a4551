"""Tests of the law of a normal variable between limits."""

import jax
import numpy as np
import pytest
from scipy import stats

from jaxgmm.incomplete.truncated import truncated_normal

LOW = np.array([-np.inf, -1.0, 0.5, 5.0, 12.0, -30.0, -np.inf, -np.inf, 1.0])
HIGH = np.array([0.3, 2.0, np.inf, 5.5, np.inf, -20.0, -15.0, np.inf, 1.01])


@pytest.mark.usefixtures("x64")
def test_against_quadrature():
    """Ordinary limits, one limit, no limit, and limits far in one tail, by quadrature of the density."""
    found = truncated_normal(LOW, HIGH)
    for i, (low, high) in enumerate(zip(LOW, HIGH, strict=True)):
        low, high = max(low, -40), min(high, 40)
        peak = np.clip(0.0, low, high)
        low, high = max(low, peak - 12), min(high, peak + 12)
        nodes, weights = np.polynomial.legendre.leggauss(400)
        edges = np.linspace(low, high, 21)
        points = (edges[:-1, None] + edges[1:, None]) / 2 + np.diff(edges)[:, None] / 2 * nodes
        density = np.exp((peak**2 - points**2) / 2) * weights * np.diff(edges)[:, None] / 2
        total = density.sum()
        mean = (density * points).sum() / total
        variance = (density * (points - mean) ** 2).sum() / total
        log_z = np.log(total) + stats.norm.logpdf(peak)
        np.testing.assert_allclose(found.log_probability[i], log_z, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(found.mean[i], mean, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(found.variance[i], variance, rtol=1e-6)


def test_derivatives_are_finite():
    """Infinite limits cause no NaN in derivatives."""
    gradient = jax.vmap(jax.grad(lambda low, high: truncated_normal(low, high).log_probability))(LOW[:5], HIGH[:5])
    assert np.isfinite(gradient).all()
