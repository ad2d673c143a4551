"""The derivative of a fit: forward mode, reverse mode and finite differences agree for data, weights, prior and reg_covar."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgmm
from jaxgmm.em import implicit


@pytest.fixture(autouse=True)
def _quiet(x64):
    """Silence warnings of fits with tol = 0, which run to the last bit and may stop at max_iter."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        yield


def problem():
    """Return two overlapping groups with weights."""
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(size=(20, 2)), rng.normal(size=(20, 2)) * [1, 2] + [4, 1]])
    return jnp.asarray(x), jnp.asarray(rng.uniform(0.5, 2, 40))


def conjugate(covariance_type, family):
    """Return a prior of one of the two families."""
    if family == "joint":
        scale = {"full": jnp.eye(2), "tied": jnp.eye(2), "diag": jnp.ones(2), "spherical": jnp.array(1.0)}[covariance_type]
        return jaxgmm.Prior(jnp.full(2, 1.5), jnp.zeros(2), jnp.array(0.5), jnp.array(5.0), scale)
    rate = {"diag": jnp.ones(2), "spherical": jnp.array(1.0)}
    scale = (
        jaxgmm.InverseGamma(jnp.array(2.0), rate[covariance_type])
        if covariance_type in rate
        else jaxgmm.InverseWishart(jnp.array(5.0), jnp.eye(2))
    )
    return jaxgmm.IndependentPrior(jnp.full(2, 1.5), jnp.zeros(2), 4 * jnp.eye(2), scale)


def summary(fit):
    """Return one smooth number that depends on everything differentiable."""
    m = fit.mixture
    return (
        jnp.sin(m.means).sum()
        + (m.weights**2).sum()
        + jnp.cos(m.covariances).sum()
        + 0.01 * fit.log_likelihood
        + 0.01 * fit.objective
    )


def cases():
    """Yield every covariance type with every regularisation; one of them is run by default."""
    default = [("diag", "independent")]
    for covariance_type in ("full", "tied", "diag", "spherical"):
        for mode in ("penalty", "reg_covar", "joint", "independent"):
            yield pytest.param(covariance_type, mode, marks=[] if (covariance_type, mode) in default else pytest.mark.slow)


@pytest.mark.parametrize(("covariance_type", "mode"), list(cases()))
def test_forward_reverse_and_finite_differences_agree(covariance_type, mode):
    """Along a random direction of all inputs at once, the three derivatives agree to 1e-5."""
    x, weight = problem()
    start = jaxgmm.from_labels(x, np.repeat([0, 1], 20), num_components=2, covariance_type=covariance_type)
    prior = conjugate(covariance_type, mode) if mode in ("joint", "independent") else None
    args = (x, weight, prior, jnp.array(0.05) if mode == "reg_covar" else None)

    @jax.jit
    def value(x, weight, prior, reg):
        return summary(jaxgmm.fit(start, x, prior, sample_weight=weight, reg_covar=reg, tol=0, max_iter=500))

    rng = np.random.default_rng(1)
    tangent = jax.tree.map(
        lambda leaf: 0.1 * jnp.eye(2) if leaf.shape == (2, 2) else 0.1 * jnp.asarray(rng.normal(size=leaf.shape)), args
    )
    forward = jax.jit(lambda a, t: jax.jvp(value, a, t)[1])(args, tangent)
    slopes = jax.jit(jax.grad(value, argnums=tuple(i for i in range(4) if args[i] is not None)))(*args)
    reverse = sum(jnp.vdot(a, b) for a, b in zip(jax.tree.leaves(slopes), jax.tree.leaves(tangent), strict=True))

    def moved(h):
        return value(*jax.tree.map(lambda a, t: a + h * t, args, tangent))

    numeric = (8 * (moved(1e-3) - moved(-1e-3)) - (moved(2e-3) - moved(-2e-3))) / 12e-3
    np.testing.assert_allclose(forward, reverse, rtol=1e-9)
    np.testing.assert_allclose(forward, numeric, rtol=1e-5)


@pytest.mark.slow
def test_k1_closed_form_under_vmap():
    """With K = 1 the mean moves by w_n / sum w with each point, for every member of a batch."""
    x, weight = problem()
    start = jaxgmm.from_labels(x, np.zeros(40, int), num_components=1)

    def mean(x):
        return jaxgmm.fit(start, x, sample_weight=weight).mixture.means[0, 0]

    slopes = jax.jit(jax.vmap(jax.grad(mean)))(jnp.stack([x, x + 5]))
    np.testing.assert_allclose(slopes[..., 0], np.broadcast_to(weight / weight.sum(), (2, 40)), rtol=1e-10)
    np.testing.assert_allclose(slopes[..., 1], 0, atol=1e-12)


def test_matrix_free_equals_dense(monkeypatch):
    """Above the limit of dense solutions GMRES gives the same derivative."""
    x, _ = problem()
    start = jaxgmm.from_labels(x, np.repeat([0, 1], 20), num_components=2, covariance_type="diag")

    def slope():
        return jax.jit(jax.grad(lambda x: summary(jaxgmm.fit(start, x, tol=0, max_iter=500))))(x)

    dense = slope()
    monkeypatch.setattr(implicit, "DENSE_LIMIT", 1)
    jax.clear_caches()  # programs that were traced under the other limit
    np.testing.assert_allclose(slope(), dense, rtol=1e-6, atol=1e-8)


def test_start_absent_components_and_breakdowns():
    """The derivative is zero for the start and for absent components, and NaN after a breakdown."""
    x, _ = problem()
    start = jaxgmm.from_labels(x, np.repeat([0, 1], 20), num_components=3)  # the third is absent
    assert float(start.weights[2]) == 0

    def number(start, x, share):
        fit = jaxgmm.fit(start, x)
        return share * summary(fit) + (1 - share) * fit.mixture.means[2].sum()

    slope = jax.jit(jax.grad(number, argnums=(0, 1)))
    of_start, of_x = slope(start, x, 1.0)
    assert all(not bool(leaf.any()) for leaf in jax.tree.leaves(of_start))
    assert bool(jnp.isfinite(of_x).all())
    assert bool(of_x.any())
    assert not bool(slope(start, x, 0.0)[1].any())
    assert bool(jnp.isnan(slope(start, x.at[0, 0].set(jnp.nan), 1.0)[1]).any())
