"""Anderson acceleration reaches the same limits in fewer E-steps, with an objective that never falls."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgmm
from jaxgmm.em.acceleration import from_vector, to_vector

from helpers import OTHER_TWO_COVARIANCE_TYPES, slow_unless


@pytest.mark.parametrize("covariance_type", OTHER_TWO_COVARIANCE_TYPES)
def test_coordinates_are_inverse(covariance_type, x64):
    """The conversion of a mixture to unconstrained coordinates and back is the identity; weights of 0 stay 0."""
    x = jaxgmm.datasets.load("iris")
    labels = np.repeat([0, 1, 2], 50)
    mixture = jaxgmm.from_labels(x, labels, num_components=4, covariance_type=covariance_type)
    back = jax.jit(lambda m: from_vector(to_vector(m, m), m, m))(mixture)
    for a, b in zip(jax.tree.leaves(mixture), jax.tree.leaves(back), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-13)


def test_overlapping_clusters_need_a_quarter_of_the_steps(x64):
    """On faithful (tied, K=3) it reaches the published maximum to 1e-8 with at least 4 times fewer E-steps."""
    x = jaxgmm.datasets.load("faithful")
    start = jaxgmm.from_labels(x, np.digitize(x[:, 1], [60, 75]), num_components=3, covariance_type="tied")
    plain = jaxgmm.fit(start, x, tol=1e-13)
    fast = jaxgmm.fit(start, x, tol=1e-13, accelerate=True)
    assert plain.converged
    assert fast.converged
    assert abs(float(plain.log_likelihood - fast.log_likelihood)) < 1e-8
    assert int(plain.num_iter) >= 4 * int(fast.num_iter)


@pytest.mark.parametrize("covariance_type", slow_unless(["full", "diag"], ["full"]))
def test_monotone_and_a_fixed_point(covariance_type, x64):
    """Over random problems the history never falls, the limit is a fixed point of EM, and few E-steps are wasted."""
    keys = jax.random.split(jax.random.key(1), 12)

    def data(key):
        k1, k2, k3 = jax.random.split(key, 3)
        centers = 1.5 * jax.random.normal(k1, (3, 2))
        return centers[jax.random.randint(k2, (90,), 0, 3)] + jax.random.normal(k3, (90, 2))

    @jax.jit
    @jax.vmap
    def prepare(key):
        x, options = data(key), {"num_components": 3, "covariance_type": covariance_type}
        return jaxgmm.initialize(key, x, **options), x, jaxgmm.default_prior(x, **options)

    starts, xs, prior = prepare(keys)

    def run(accelerate):
        return jax.jit(jax.vmap(lambda s, x, p: jaxgmm.fit(s, x, p, accelerate=accelerate, max_iter=3000)))(starts, xs, prior)

    plain, fast = run(False), run(True)
    assert bool(fast.converged.all())
    history = np.asarray(fast.history)
    for row, last in zip(history, np.asarray(fast.num_iter), strict=True):
        assert np.diff(row[: last + 1]).min() >= -1e-9 * abs(row[0])
        assert (row[last:] == row[last]).all()
    step = jax.jit(jax.vmap(lambda m, x, p: jaxgmm.m_step(m, jaxgmm.e_step(m, x), p)))(fast.mixture, xs, prior)
    assert float(abs(step.means - fast.mixture.means).max()) < 0.02  # tol 1e-8 leaves about its square root
    assert float(fast.num_iter.sum()) < 0.75 * float(plain.num_iter.sum())
    assert bool((fast.num_iter <= jnp.maximum(1.2 * plain.num_iter, plain.num_iter + 2)).all())


def test_breakdowns_are_reported(x64):
    """Data sets with NaN are NONFINITE, max_iter is kept, and reg_covar is refused by name."""
    x = jaxgmm.datasets.load("faithful")
    start = jaxgmm.from_labels(x, (x[:, 1] > 67).astype(int), num_components=2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert int(jaxgmm.fit(start, x, tol=0, max_iter=3, accelerate=True).num_iter) == 3
    status = jax.jit(lambda x: jaxgmm.fit(start, x, accelerate=True).status)(jnp.full(x.shape, jnp.nan))
    assert int(status) == jaxgmm.Status.NONFINITE
    with pytest.raises(ValueError, match="accelerate and reg_covar"):
        jaxgmm.fit(start, x, accelerate=True, reg_covar=1e-6)
    with pytest.raises(TypeError, match="True or False"):
        jaxgmm.fit(start, x, accelerate=1)
