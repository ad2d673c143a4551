"""Transformations: jit, vmap and grad change no numbers and compile once; bad data sets do not affect others."""

import dataclasses
import itertools
import os
import subprocess
import sys
import warnings
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgmm
from jaxgmm import Status
from jaxgmm.em import fit as fitting

from helpers import COVARIANCE_TYPES, assert_mixtures_close, random_data, random_mixture, random_prior, slow_unless

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


@pytest.mark.slow
def test_keys_and_starts_vmap():
    """In test_restarts.py, `test_result_is_the_best_of_single_fits` vmaps restarts by default.

    vmap works over the keys of starts, over the starts of fits and over the mixtures of densities."""
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


CHECKED_X = np.concatenate([random_data(0, n=20, d=D, k=1), 12 + random_data(1, n=20, d=D, k=1)]).astype(np.float32)
CHECKED = jaxgmm.Mixture(np.float32([0.5, 0.5]), CHECKED_X[[0, 39]], np.tile(np.eye(D, dtype=np.float32), (K, 1, 1)))


def _public_calls():
    """Return calls of public functions on sound data, by name, each a function of a mixture, data and a prior."""
    key, labels = jax.random.key(0), np.arange(N) // (N // 2)
    weight, short = np.ones(N, np.float32), {"num_warmup": 5, "num_samples": 10, "num_chains": 2}
    core = {
        "log_prob": lambda m, x, p: jaxgmm.log_prob(m, x),
        "responsibilities": lambda m, x, p: jaxgmm.responsibilities(m, x),
        "predict": lambda m, x, p: jaxgmm.predict(m, x),
        "sample": lambda m, x, p: jaxgmm.sample(key, m, 7),
        "e_step": lambda m, x, p: jaxgmm.e_step(m, x, sample_weight=weight, chunk_size=16),
        "m_step": lambda m, x, p: jaxgmm.m_step(m, jaxgmm.e_step(m, x)),
        "m_step, prior": lambda m, x, p: jaxgmm.m_step(m, jaxgmm.e_step(m, x), p),
        "m_step, reg_covar": lambda m, x, p: jaxgmm.m_step(m, jaxgmm.e_step(m, x), reg_covar=1e-6),
        "fit": lambda m, x, p: jaxgmm.fit(m, x),
        "fit, chunks": lambda m, x, p: jaxgmm.fit(m, x, sample_weight=weight, chunk_size=16),
        "fit, prior": lambda m, x, p: jaxgmm.fit(m, x, p, max_iter=3),
        "fit, reg_covar": lambda m, x, p: jaxgmm.fit(m, x, reg_covar=1e-6),
        "fit, accelerate": lambda m, x, p: jaxgmm.fit(m, x, accelerate=True),
    }
    others = {
        "condition": lambda m, x, p: jaxgmm.condition(m, 0, [1.0]),
        "initialize": lambda m, x, p: jaxgmm.initialize(key, x, num_components=K),
        "from_labels": lambda m, x, p: jaxgmm.from_labels(x, labels, num_components=K),
        "from_responsibilities": lambda m, x, p: jaxgmm.from_responsibilities(x, np.full((N, K), 0.5)),
        "fit_many": lambda m, x, p: jaxgmm.fit_many(key, np.stack([x, x]), num_components=K, progress=False),
        "fit_restarts": lambda m, x, p: jaxgmm.fit_restarts(key, x, num_components=K, num_restarts=2),
        "bic": lambda m, x, p: (jaxgmm.bic(m, x), jaxgmm.aic(m, x), jaxgmm.icl(m, x)),
        "standard_errors": lambda m, x, p: jaxgmm.standard_errors(jaxgmm.fit(m, x, p).mixture, x, p),
        "default_prior": lambda m, x, p: jaxgmm.default_prior(x, num_components=K),
        "log_prior": lambda m, x, p: jaxgmm.log_prior(m, p),
        "sample_prior": lambda m, x, p: jaxgmm.sample_prior(key, p, covariance_type="full", num_components=K, num_samples=3),
        "gibbs": lambda m, x, p: jaxgmm.gibbs(key, m, x, p, **short),
    }
    return core, others


CORE, OTHERS = _public_calls()


def _checked(call):
    """Call a public function on sound data that are JAX arrays, without warnings."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mixture, x = jax.tree.map(jnp.asarray, (CHECKED, CHECKED_X))
        return jax.block_until_ready(call(mixture, x, jaxgmm.default_prior(CHECKED_X, num_components=K)))


# by default only these run, because the others are parts of them or run nearly the same code
WITH_THEIR_PARTS = ("sample", "m_step, prior", "fit, prior", "fit, accelerate", "condition", "bic", "gibbs")


@pytest.mark.parametrize("name", slow_unless([*CORE, *OTHERS], WITH_THEIR_PARTS))
def test_no_nan_and_no_implicit_dtype_promotion(name):
    """With `jax.debug_nans` and strict dtype promotion no public function raises on sound data.

    So no result is padded with NaN. laplace and nuts run NumPyro's code, which does promote dtypes.
    """
    with jax.debug_nans(True), jax.numpy_dtype_promotion("strict"):
        _checked((CORE | OTHERS)[name])


@pytest.mark.parametrize("name", sorted((CORE | OTHERS).keys() - {*WITH_THEIR_PARTS, "fit_many"}))  # it stacks NumPy arrays
def test_no_implicit_dtype_promotion_while_tracing(name):
    """With strict dtype promotion, every function that the test above does not run by default traces."""
    prior = jaxgmm.default_prior(CHECKED_X, num_components=K)
    mixture, x = jax.tree.map(jnp.asarray, (CHECKED, CHECKED_X))
    with jax.numpy_dtype_promotion("strict"):
        jax.eval_shape((CORE | OTHERS)[name], mixture, x, prior)


@pytest.mark.slow
def test_laplace_makes_no_nan_on_sound_data():
    """With `jax.debug_nans` the Laplace approximation does not raise on sound data."""
    fit = jaxgmm.fit(CHECKED, CHECKED_X, jaxgmm.default_prior(CHECKED_X, num_components=K))
    with jax.debug_nans(True):
        _checked(lambda m, x, p: jaxgmm.laplace(jax.random.key(0), fit.mixture, x, p, num_samples=8, num_chains=2))


IN_EVERY_TYPE = ("log_prob", "e_step", "m_step", "m_step, prior")  # the parts of all others


@pytest.mark.parametrize(
    ("name", "covariance_type"),
    slow_unless(
        list(itertools.product(CORE, COVARIANCE_TYPES)),
        [*itertools.product(CORE, ["full"]), *itertools.product(IN_EVERY_TYPE, COVARIANCE_TYPES), ("fit", "diag")],
    ),
)
def test_no_implicit_rank_promotion_in_the_core(name, covariance_type):
    """With rank promotion forbidden the core traces: every broadcast between arrays of different ranks is written out."""
    mixture, x = random_mixture(0, covariance_type, k=K, d=D), jnp.asarray(random_data(0, n=N, d=D), jnp.float32)
    prior = jaxgmm.default_prior(x, num_components=K, covariance_type=covariance_type)
    with jax.numpy_rank_promotion("raise"):
        jax.eval_shape(CORE[name], mixture, x, prior)


@pytest.mark.parametrize("name", ["fit, accelerate", "fit, prior", "fit_restarts", "standard_errors", "gibbs"])
def test_loops_trace_inside_shard_map(name):
    """With the default checks of `jax.shard_map`, every loop's carry varies as the data do; on one device, only traced."""
    mixture, x = jax.tree.map(jnp.asarray, (CHECKED, CHECKED_X))
    prior = jaxgmm.default_prior(CHECKED_X, num_components=K)
    mesh = jax.make_mesh((1,), ("d",), axis_types=(jax.sharding.AxisType.Auto,))
    each = lambda x: jax.tree.map(lambda leaf: leaf[None], (CORE | OTHERS)[name](mixture, x[0], prior))  # noqa: E731
    part = jax.sharding.PartitionSpec("d")
    jax.eval_shape(jax.shard_map(each, mesh=mesh, in_specs=part, out_specs=part), x[None])


IN_SHARD_MAP = """
import jax, jax.numpy as jnp, numpy as np, jaxgmm
from jax.sharding import PartitionSpec as P

x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 40, 2)) + 6 * (np.arange(40) % 2)[None, :, None], jnp.float32)
start = jaxgmm.make_mixture([0.5, 0.5], np.float32([[0, 0], [6, 6]]), np.tile(np.eye(2, dtype=np.float32), (2, 1, 1)))
key, short = jax.random.key(0), {"num_warmup": 5, "num_samples": 10, "num_chains": 2}
prior = jaxgmm.default_prior(x[0], num_components=2)
draws = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (2, 10, *leaf.shape)), start)
posterior = jaxgmm.Posterior(draws, jnp.zeros((2, 10)), prior, jnp.array(0), {})
calls = {
    "fit": lambda x: jaxgmm.fit(start, x, max_iter=20, chunk_size=16),
    "fit, accelerate": lambda x: jaxgmm.fit(start, x, max_iter=20, accelerate=True),
    "fit, prior": lambda x: jaxgmm.fit(start, x, jaxgmm.default_prior(x, num_components=2), max_iter=20),
    "m_step": lambda x: jaxgmm.m_step(start, jaxgmm.e_step(start, x, chunk_size=16)),
    "initialize": lambda x: jaxgmm.initialize(key, x, num_components=2),
    "from_labels": lambda x: jaxgmm.from_labels(x, np.arange(40) % 2, num_components=2),
    "fit_many": lambda x: jaxgmm.fit_many(jax.tree.map(lambda leaf: leaf[None], start), x[None], max_iter=20).mixture,
    "fit_restarts": lambda x: jaxgmm.fit_restarts(key, x, num_components=2, num_restarts=2, max_iter=20),
    "log_prob": lambda x: jaxgmm.log_prob(start, x),
    "standard_errors": lambda x: jaxgmm.standard_errors(start, x),
    "gibbs": lambda x: jaxgmm.gibbs(key, start, x, prior, **short).mixture,
    "gibbs, weights": lambda x: jaxgmm.gibbs(key, start, x, prior, sample_weight=np.ones(40), **short).mixture,
    "relabel": lambda x: jaxgmm.predictive_responsibilities(jaxgmm.relabel(posterior, start, x), x),
    "predictive_log_prob": lambda x: jaxgmm.predictive_log_prob(posterior, x),
    "coclustering": lambda x: jaxgmm.coclustering(posterior, x),
}
mesh = jax.make_mesh((2,), ("d",), axis_types=(jax.sharding.AxisType.Auto,))
assert len(jax.devices()) == 2
for name, call in calls.items():
    each = lambda x: jax.tree.map(lambda leaf: leaf[None], call(x[0]))
    mapped = jax.jit(jax.shard_map(each, mesh=mesh, in_specs=P("d"), out_specs=P("d")))
    if name == "fit":
        found, alone = mapped(x), jax.jit(call)(x[1])
        np.testing.assert_allclose(found.mixture.means[1], alone.mixture.means, rtol=1e-4, atol=1e-4)
        assert int(found.status[1]) == int(alone.status)
    else:
        jax.eval_shape(mapped, x)
    print(name)
"""


@pytest.mark.slow
def test_public_functions_inside_shard_map():
    """Inside `jax.shard_map` with its default checks, over two devices, every loop's carry varies as the data do.

    laplace and nuts run NumPyro's code, which does not allow it.
    """
    flags = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=2"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", IN_SHARD_MAP],
        env=os.environ | {"XLA_FLAGS": flags},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
