"""Tests of the law of a normal variable between limits."""

import jax
import numpy as np
import pytest
from scipy import stats

from jaxgmm.incomplete.truncated import confine, truncated_normal

from helpers import enabled_x64

LOW = np.array([-np.inf, -1.0, 0.5, 5.0, 12.0, -30.0, -np.inf, -np.inf, 1.0])
HIGH = np.array([0.3, 2.0, np.inf, 5.5, np.inf, -20.0, -15.0, np.inf, 1.01])


@pytest.mark.usefixtures("x64")
def test_against_quadrature():
    """Ordinary limits, one limit, no limit, and limits far in one tail, by quadrature of the density."""
    found = truncated_normal(LOW, HIGH)
    nodes, weights = np.polynomial.legendre.leggauss(60)  # in each of twenty parts
    for i, (low, high) in enumerate(zip(LOW, HIGH, strict=True)):
        low, high = max(low, -40), min(high, 40)
        peak = np.clip(0.0, low, high)
        low, high = max(low, peak - 12), min(high, peak + 12)
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


@pytest.mark.usefixtures("x64")
def test_draws_between_limits():
    """A draw z without limits becomes the value of the same probability between the limits, also far in one tail."""
    z = np.array([-5.0, -3.0, -0.4, 0.0, 1.5, 3.0, 5.0])[:, None]
    found = np.asarray(confine(z, LOW[None], HIGH[None]))
    np.testing.assert_array_equal(found[:, 7], z[:, 0])  # no limits
    assert (np.diff(found, axis=0) >= 0).all()
    assert ((found >= LOW) & (found <= HIGH)).all()
    for i in (0, 1, 2, 3, 4, 5, 6, 8):
        law = stats.truncnorm(LOW[i], HIGH[i])
        np.testing.assert_allclose(law.logcdf(found[:4, i]), stats.norm.logcdf(z[:4, 0]), rtol=1e-6, err_msg=i)
        np.testing.assert_allclose(law.logsf(found[3:, i]), stats.norm.logsf(z[3:, 0]), rtol=1e-6, err_msg=i)


def test_draws_in_float32():
    """Draws in float32 lie between the limits, near those in float64."""
    z = np.linspace(-4, 4, 9)[:, None]
    found = np.asarray(confine(z.astype(np.float32), LOW.astype(np.float32), HIGH.astype(np.float32)))
    assert found.dtype == np.float32
    assert ((found >= LOW.astype(np.float32)) & (found <= HIGH.astype(np.float32))).all()
    with enabled_x64():
        expected = np.asarray(confine(z, LOW, HIGH))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
