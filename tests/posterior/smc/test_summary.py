"""particle_summary: the status of runs of smc."""

import jax.numpy as jnp
import numpy as np

from jaxgmm.posterior.mixing import Mixing
from jaxgmm.posterior.result import PosteriorStatus
from jaxgmm.posterior.smc import summary as particle_summary


def test_status():
    """The status is the most severe one that applies."""
    density = jnp.asarray(np.random.default_rng(0).normal(size=(2, 500)))
    even, uneven = jnp.zeros(2), jnp.array([0.0, 3.0])
    good, bad, few = (Mixing(jnp.array(rhat), jnp.array(ess)) for rhat, ess in ((1.0, 900.0), (1.5, 900.0), (1.02, 900.0)))
    judge = lambda *args: PosteriorStatus(int(particle_summary._judge(*args)))  # noqa: E731
    no, yes = jnp.array(False), jnp.array(True)
    assert judge(density, even, good, no) == PosteriorStatus.OK
    assert judge(density, even, few, no) == PosteriorStatus.FEW_DRAWS
    assert judge(density[:1], even[:1], Mixing(jnp.array(jnp.nan), jnp.array(jnp.nan)), no) == PosteriorStatus.FEW_DRAWS
    assert judge(density, even, bad, no) == PosteriorStatus.UNMIXED
    assert judge(density, uneven, good, no) == PosteriorStatus.UNMIXED
    assert judge(density, uneven, good, yes) == PosteriorStatus.DEGENERATE
    assert judge(density * jnp.nan, even, good, yes) == PosteriorStatus.NONFINITE


def test_error_of_the_evidence_is_the_larger_of_two():
    """It is that of the differences between runs, or that of independent particles; the average run counts with its weight."""
    log_evidence = np.log([1.0, 1.0, 3.0, 3.0])
    between = np.std([1, 1, 3, 3], ddof=1) / 2 / 2
    error = lambda variance: float(particle_summary._relative_error(jnp.asarray(log_evidence), jnp.full(4, variance)))  # noqa: E731
    np.testing.assert_allclose(error(1e-4), between, rtol=1e-5)
    np.testing.assert_allclose(error(4.0), 2 * np.sqrt(1 + 1 + 9 + 9) / 8, rtol=1e-5)
    assert np.isnan(particle_summary._relative_error(jnp.zeros(1), jnp.ones(1)))
