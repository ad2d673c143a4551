"""fit_many: the numbers of the vmapped fit for every form of data, and data sets that do not affect each other."""

import resource
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgmm
from jaxgmm.em.result import Status

from helpers import enabled_x64

LENGTHS = (12, 16, 14, 20, 24, 17)  # two buckets
fit_many = partial(jaxgmm.fit_many, tol=1e-7)


@pytest.fixture(scope="module")
def batch():
    """Return six data sets of six lengths, starts, and the vmapped fits of the padded stack, in float64."""
    with enabled_x64():
        rng = np.random.default_rng(0)
        xs = [rng.normal(size=(n, 2)) + 3 * rng.integers(2, size=(n, 1)) for n in LENGTHS]
        x, weight = jaxgmm.pad(xs)
        keys = jax.random.split(jax.random.key(0), len(xs))
        begin = jax.vmap(lambda k, x, w: jaxgmm.initialize(k, x, num_components=2, sample_weight=w))
        starts = jax.jit(begin)(keys, x, weight)
        fits = jax.jit(jax.vmap(lambda s, x, w: jaxgmm.fit(s, x, sample_weight=w, tol=1e-7)))(starts, x, weight)
    return xs, x, weight, starts, fits


def assert_same_fits(one, other, rtol):
    """Compare every field, steps and statuses exactly."""
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        if jnp.issubdtype(a.dtype, jnp.floating):
            np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol * 10)
        else:
            np.testing.assert_array_equal(a, b)


def test_a_stack_gives_the_vmapped_fits(batch, x64):
    """With the same padding all fields agree to 1e-12, histories and component statuses too."""
    _, x, weight, starts, fits = batch
    assert_same_fits(fit_many(starts, x, sample_weight=weight), fits, 1e-12)
    assert len(set(np.asarray(fits.num_iter).tolist())) > 2  # fits that end at different steps


def test_lists_and_groups_give_the_same(batch, x64):
    """Other paddings agree within 1e-8, and rows of groups may be mixed."""
    xs, _, _, starts, fits = batch
    assert_same_fits(fit_many(starts, xs), fits, 1e-8)
    labels = np.repeat(list("fbdeac"), LENGTHS)
    order = np.random.default_rng(1).permutation(len(labels))
    mixed = fit_many(starts[np.argsort(list("fbdeac"))], np.concatenate(xs)[order], groups=labels[order])
    assert_same_fits(mixed.mixture, fits.mixture[np.argsort(list("fbdeac"))], 1e-7)


@pytest.mark.slow
def test_lists_and_a_key(batch, x64):
    """A key makes the starts of `initialize`; `test_inside_jit` is a twin with a stack in place of a list."""
    xs, _, _, _, fits = batch
    found = fit_many(jax.random.key(0), xs, num_components=2, history=False)
    assert found.history.shape == (6, 0)
    assert_same_fits(found.mixture, fits.mixture, 1e-8)


@pytest.mark.parametrize("fault", ["nan", "inf", "constant", "huge", "padding", "single"])
def test_bad_data_set_changes_no_other(batch, fault, x64):
    """The other fits do not change by a bit; the fit of the bad data set has its own status, and nothing raises."""
    _, x, weight, starts, _ = batch
    x, weight = np.array(x), np.array(weight)
    clean = fit_many(starts, x, sample_weight=weight)
    if fault == "padding":
        weight[2] = 0
    elif fault == "single":
        weight[2, 1:] = 0
    else:
        x[2] = {"nan": np.nan, "inf": np.inf, "constant": 1.0, "huge": 1e200}[fault]
    result = fit_many(starts, x, sample_weight=weight)
    others = np.array([0, 1, 3, 4, 5])
    for a, b in zip(jax.tree.leaves(result), jax.tree.leaves(clean), strict=True):
        np.testing.assert_array_equal(a[others], b[others])
    expected = {
        "nan": {Status.NONFINITE},
        "inf": {Status.NONFINITE},
        "huge": {Status.NONFINITE},
        "padding": {Status.EMPTY_DATA},
    }
    assert Status(int(result.status[2])) in expected.get(fault, {Status.CONVERGED, Status.MAX_ITER, Status.SINGULAR})


def test_options(batch, x64):
    """Stacked priors and few steps; absent components; one data set with several weights."""
    xs, x, weight, starts, _ = batch
    prior = jaxgmm.default_prior(xs[4], num_components=2)
    stacked = jax.tree.map(lambda leaf: jnp.stack([leaf] * 6), prior)
    with_prior = fit_many(starts, x, stacked, sample_weight=weight, max_iter=3)
    alone = jaxgmm.fit(starts[4], x[4], prior, sample_weight=weight[4], max_iter=1000, tol=1e-7)
    assert with_prior.history.shape == (6, 4)
    assert int(with_prior.num_iter.max()) == 3
    np.testing.assert_allclose(with_prior.history[4], alone.history[:4], rtol=1e-10)
    absent = jaxgmm.Mixture(jnp.array([[1.0, 0.0], [0.5, 0.5]]), starts.means[:2], starts.covariances[:2], "full")
    shared = fit_many(absent, xs[4], sample_weight=np.stack([np.ones(24), np.arange(24) % 2]))
    assert shared.mixture.weights[0].tolist() == [1.0, 0.0]
    assert (shared.mixture.weights[1] > 0).all()
    half = jaxgmm.fit(absent[1], xs[4][1::2], tol=1e-7)
    np.testing.assert_allclose(shared.mixture.means[1], half.mixture.means, rtol=1e-8)


@pytest.mark.slow
def test_shared_priors_and_acceleration(batch, x64):
    """A prior that all data sets share acts as a stack of it, and acceleration leads to the same fits."""
    xs, x, weight, starts, fits = batch
    prior = jaxgmm.default_prior(xs[4], num_components=2)
    stacked = jax.tree.map(lambda leaf: jnp.stack([leaf] * 6), prior)
    one, other = (fit_many(starts, x, p, sample_weight=weight, max_iter=3) for p in (prior, stacked))
    assert_same_fits(one, other, 1e-12)
    quick = fit_many(starts, x, sample_weight=weight, accelerate=True)
    np.testing.assert_allclose(quick.log_likelihood, fits.log_likelihood, atol=1e-3)


def test_inside_jit(batch, x64):
    """Traced data sets give the vmapped fits; forms whose shapes would not be known raise."""
    _, x, weight, starts, fits = batch
    traced = jax.jit(lambda s, x, w: fit_many(s, x, sample_weight=w))(starts, x, weight)
    assert_same_fits(traced, fits, 1e-12)
    run = jax.jit(lambda key, x, w: fit_many(key, x, sample_weight=w, num_components=2, history=False))
    made = run(jax.random.key(0), x, weight)
    assert made.history.shape == (6, 0)
    assert_same_fits(made.mixture, fits.mixture, 1e-8)
    with pytest.raises(ValueError, match="list, inside jit"):
        jax.jit(lambda s, x: fit_many(s, [x[0], x[1]]))(starts, x)
    with pytest.raises(ValueError, match="groups were given inside jit"):
        jax.jit(lambda s, x: fit_many(s, x, groups=np.zeros(len(x))))(starts, x[0])


def test_errors(batch):
    """Errors name the shapes and options."""
    xs, x, _, starts, _ = batch
    with pytest.raises(ValueError, match="num_components is missing"):
        fit_many(jax.random.key(0), xs)
    with pytest.raises(ValueError, match="6 starts"):
        fit_many(starts, xs[:5])
    with pytest.raises(ValueError, match=r"xs\[1\] has 3 features"):
        fit_many(jax.random.key(0), [np.ones((4, 2)), np.ones((4, 3))], num_components=2)
    with pytest.raises(ValueError, match="one label per row"):
        fit_many(jax.random.key(0), np.ones((4, 2)), groups=[1, 2], num_components=2)
    with pytest.raises(ValueError, match="see fit_restarts"):
        fit_many(jax.random.key(0), np.ones((4, 2)), num_components=2)
    with pytest.raises(ValueError, match="negative"):
        fit_many(starts, x, sample_weight=-np.ones(x.shape[:2]))
    with pytest.raises(ValueError, match="no data set"):
        jaxgmm.pad([])
    with pytest.raises(ValueError, match=r"stack \(B,\)"):
        fit_many(starts[0], xs)


@pytest.mark.slow
def test_soak_compiles_by_bucket_and_keeps_no_memory():
    """Ten thousand fits of varying N compile one program per bucket and batch size; ten thousand more add none, nor memory."""
    from jaxgmm.em.batch.batched_loop import fit_batch

    def batch(seed):
        rng = np.random.default_rng(seed)
        lengths = np.exp(rng.uniform(np.log(20), np.log(500), 200)).astype(int)
        xs = [rng.normal(size=(n, 2)).astype(np.float32) for n in lengths]
        return jaxgmm.fit_many(jax.random.key(seed), xs, num_components=2, tol=1e-3, max_iter=50, history=False)

    def resident():
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20  # MiB

    for seed in range(50):
        assert batch(seed).status.shape == (200,)
    assert fit_batch._cache_size() <= 5 * 5  # buckets of 32 to 512 rows, batches of 16 to 256 data sets
    compiled, held = fit_batch._cache_size(), resident()
    for seed in range(50):
        batch(seed)
    assert fit_batch._cache_size() == compiled
    assert resident() - held < 20
