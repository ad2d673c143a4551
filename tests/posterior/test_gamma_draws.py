"""gamma_draws: the distribution of the draws against SciPy."""

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

from jaxgmm.posterior.gamma_draws import draw_log_gammas


def test_distribution():
    """Kolmogorov-Smirnov tests at p = 1e-6 for each of six shape parameters, below and above 1."""
    shapes = np.array([0.2, 0.7, 1.0, 2.5, 40.0, 3000.0])
    draws = jax.jit(draw_log_gammas)(jax.random.key(0), jnp.broadcast_to(jnp.float32(shapes), (20000, 6)))
    for shape, column in zip(shapes, np.asarray(draws, float).T, strict=True):
        assert stats.kstest(column, stats.loggamma(shape).cdf).pvalue > 1e-6
    np.testing.assert_allclose(np.corrcoef(draws.T), np.eye(6), atol=5 / np.sqrt(20000))
