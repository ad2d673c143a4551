"""Transformations: jit, vmap and grad change no numbers and compile once; bad data sets do not affect others."""

import dataclasses
import warnings
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgmm
from jaxgmm import Status
from jaxgmm.em import fit as fitting

from helpers import assert_mixtures_close, random_data, random_mixture, random_prior

N, D, K, BATCH, STEPS = 40, 2, 2, 8, 60
one_fit = partial(jaxgmm.fit, tol=1e-6, max_iter=STEPS)
lone = jax.jit(one_fit)
fit_batch = jax.jit(jax.vmap(one_fit))


def problems(covariance_type):
    """Return starts and data sets of a batch."""
    starts = [random_mixture(seed, covariance_type, k=K, d=D, spread=1.0) for seed in range(BATCH)]
    xs = np.stack([random_data(seed, n=N, d=D, k=K, spread=1.5) for seed in range(BATCH)])
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *starts), xs


@pytest.mark.parametrize("covariance_type", ["full", "diag"])
def test_vmap_is_a_loop(covariance_type, x64):
    """Each member of a batch is the fit of that data set alone: equal steps and statuses, numbers within 1e-12."""
    starts, xs = problems(covariance_type)
    many = fit_batch(starts, xs)
    assert len(set(many.num_iter.tolist())) > 1, "members should end at different steps"
    for i in range(BATCH):
        alone = lone(starts[i], xs[i])
        assert int(alone.num_iter) == int(many.num_iter[i])
        assert int(alone.status) == int(many.status[i])
        np.testing.assert_array_equal(alone.component_status, many.component_status[i])
        assert_mixtures_close(many.mixture[i], alone.mixture, 1e-12)
        np.testing.assert_allclose(many.objective[i], alone.objective, rtol=1e-12)
        np.testing.assert_allclose(many.history[i], alone.history, rtol=1e-12)


def test_spoilt_data_sets_do_not_affect_others(x64):
    """Data sets with NaN, infinity, overflowing squares or a constant leave the fits of the others the same to the last bit.

    Their own fits have a status that says so or are finite.
    """
    starts, xs = problems("full")
    clean = fit_batch(starts, xs)
    bad = xs.copy()
    bad[1, 3, 1] = np.nan
    bad[2, 5, 0] = np.inf
    bad[3] *= 1e200
    bad[4] = 7.0
    bad[5, :, 1] = 2.0
    spoilt = fit_batch(starts, bad)
    for i in (0, 6, 7):
        for a, b in zip(jax.tree.leaves(clean), jax.tree.leaves(spoilt), strict=True):
            np.testing.assert_array_equal(a[i], b[i])
    assert [Status(int(s)) for s in spoilt.status[1:4]] == [Status.NONFINITE] * 3
    for i in range(BATCH):
        assert all(np.isfinite(leaf[i]).all() for leaf in jax.tree.leaves(spoilt.mixture)), i
    assert_mixtures_close(spoilt.mixture[1], starts[1], 1e-14)


@pytest.mark.slow
def test_ten_thousand_data_sets(x64):
    """One data set in a hundred is spoilt, each in its way: the other 9900 fits keep every bit, and each status is right."""
    size, n = 10_000, 20
    rng = np.random.default_rng(0)
    xs = rng.normal(size=(size, n, 1)) + 4 * rng.integers(2, size=(size, n, 1))
    start = jaxgmm.make_mixture([0.5, 0.5], [[0.0], [4.0]], [[1.0], [1.0]], covariance_type="diag")
    fit = jax.jit(jax.vmap(lambda x, w: jaxgmm.fit(start, x, sample_weight=w, tol=1e-6, max_iter=STEPS)))
    weights = np.ones((size, n))
    clean = fit(xs, weights)
    bad, hurt = xs.copy(), np.arange(50, size, 100)
    for i, value in zip(hurt[:75], np.tile([np.nan, np.inf, 1e200], 25), strict=True):
        bad[i, 3] = value
    weights[hurt[75:]] = 0
    spoilt = fit(bad, weights)
    kept = np.setdiff1d(np.arange(size), hurt)
    for a, b in zip(jax.tree.leaves(clean), jax.tree.leaves(spoilt), strict=True):
        np.testing.assert_array_equal(a[kept], b[kept])
    assert (spoilt.status[hurt[:75]] == Status.NONFINITE).all()
    assert (spoilt.status[hurt[75:]] == Status.EMPTY_DATA).all()
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(spoilt.mixture))


def test_jit_is_eager(x64):
    """The public functions give the same numbers inside and outside jit."""
    mixture, x, prior = random_mixture(0, "diag", k=K, d=D), random_data(0, n=N, d=D), random_prior(0, "diag", k=K, d=D)
    for function, arguments in [(jaxgmm.log_prob, (mixture, x)), (jaxgmm.log_prior, (mixture, prior)), (one_fit, (mixture, x))]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            eager = function(*arguments)
        for a, b in zip(jax.tree.leaves(eager), jax.tree.leaves(jax.jit(function)(*arguments)), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-10)


def test_constants_inside_jit():
    """Concrete arrays that a user's jitted function closes over are validated like any other."""
    mixture, prior, key = random_mixture(0, "diag", k=K, d=D), random_prior(0, "diag", k=K, d=D), jax.random.key(0)
    x, w = jnp.asarray(random_data(0, n=N, d=D), jnp.float32), jnp.ones(N)

    def study(key):
        start = jaxgmm.initialize(key, x, num_components=K, covariance_type="diag", sample_weight=w)
        labelled = jaxgmm.from_labels(x, np.zeros(N, int), num_components=K, covariance_type="diag", sample_weight=w)
        fit = jaxgmm.fit(mixture, x, prior, sample_weight=w, max_iter=3)
        default = jaxgmm.default_prior(x, num_components=K, covariance_type="diag", sample_weight=w)
        return start, labelled, fit, default, jaxgmm.log_prior(mixture, prior), jaxgmm.e_step(mixture, x, sample_weight=w)

    assert jax.eval_shape(study, key)[2].history.shape == (4,)
    spoiled = x.at[3, 1].set(jnp.nan)
    with pytest.raises(ValueError, match="NaN in 1 of 40 rows"):
        jax.jit(lambda m: jaxgmm.fit(m, spoiled))(mixture)


@pytest.fixture
def compilations():
    """Return a function that counts how often XLA was asked to compile during a call."""

    def count(call):
        before = fitting._fit._cache_size()
        call()
        return fitting._fit._cache_size() - before

    return count


def test_one_compilation(compilations):
    """New values of tol, reg_covar or the prior, and new data of the same shape, compile nothing."""
    mixture, x = random_mixture(0, "diag", k=K, d=D), random_data(0, n=N, d=D).astype(np.float32)
    fit = partial(_quiet, mixture)
    assert compilations(lambda: [fit(x, tol=t, max_iter=5) for t in (1e-3, 1e-5, np.float32(1e-4))]) == 1
    assert compilations(lambda: [fit(x + i, tol=1e-3, max_iter=5) for i in range(3)]) == 0
    assert compilations(lambda: [fit(x, reg_covar=r, max_iter=5) for r in (0, 1e-6, 1e-3)]) == 1
    prior = random_prior(0, "diag", k=K, d=D)
    priors = [dataclasses.replace(prior, mean_precision=jnp.asarray(v)) for v in (0.1, 0.2, 0.3)]
    assert compilations(lambda: [fit(x, p, max_iter=5) for p in priors]) == 1


def _quiet(*arguments, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return jaxgmm.fit(*arguments, **options)


def test_one_compilation_inside_jit():
    """The same holds inside a user's jitted function, with traced options."""
    mixture, x = random_mixture(0, "diag", k=K, d=D), random_data(0, n=N, d=D).astype(np.float32)
    traces = []

    @jax.jit
    def mine(tol, reg):
        traces.append(1)
        return jaxgmm.fit(mixture, x, tol=tol, reg_covar=reg, max_iter=5).objective

    values = {float(mine(tol, reg)) for tol, reg in [(1e-3, 1e-6), (1e-5, 1e-3), (0.0, 0.1)]}
    assert len(traces) == 1
    assert len(values) > 1


def test_keys_and_starts_vmap():
    """vmap works over the keys of starts, over the starts of fits and over the mixtures of densities."""
    x = jnp.asarray(random_data(0, n=N, d=D), jnp.float32)
    keys = jax.random.split(jax.random.key(0), 3)
    fits = jax.jit(
        jax.vmap(lambda key: jaxgmm.fit(jaxgmm.initialize(key, x, num_components=K, covariance_type="diag"), x, max_iter=5))
    )(keys)
    assert fits.mixture.batch_shape == (3,)
    assert fits.history.shape == (3, 6)
    assert fits.component_status.shape == (3, K)
    assert jaxgmm.log_prob(fits.mixture, x).shape == (3, N)
    assert "stacked (3,)" in repr(fits)


def test_density_is_differentiable_twice_and_forward(x64):
    """jacfwd, jacrev and hessian of the log-density agree."""
    mixture, x = random_mixture(0, "full", k=K, d=D), random_data(0, n=3, d=D)
    total = lambda means: jaxgmm.log_prob(dataclasses.replace(mixture, means=means), x).sum()  # noqa: E731
    np.testing.assert_allclose(jax.jacfwd(total)(mixture.means), jax.jacrev(total)(mixture.means), rtol=1e-10, atol=1e-12)
    assert np.isfinite(jax.jit(jax.hessian(total))(mixture.means)).all()
