"""Many fits: the numbers of the vmapped fit in whatever form the data come, lanes that keep to themselves; and restarts."""

import os
import resource
import subprocess
import sys
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgmm
from jaxgmm.em.batch.fit_many import best_of, has_spike
from jaxgmm.em.result import ComponentStatus, Fit, Status

from helpers import enabled_x64


def test_iris_full_k3_is_the_published_maximum(x64):
    """Restarts that end in spikes have larger likelihoods; the best sound one is the tight published -180.1855."""
    x = jaxgmm.datasets.load("iris")
    best = jaxgmm.fit_restarts(jax.random.key(0), x, num_components=3, num_restarts=12, tol=1e-10)
    np.testing.assert_allclose(best.log_likelihood, -180.1855, atol=1e-3)
    assert not best.component_status.any()


def test_one_call_is_the_best_of_its_fits():
    """The same keys one by one give no better sound fit; under jit and vmap over keys too."""
    x = jaxgmm.datasets.load("faithful").astype(np.float32)
    run = partial(jaxgmm.fit_restarts, num_components=3, covariance_type="tied", num_restarts=4)
    keys = jax.random.split(jax.random.key(1), 2)
    best = jax.jit(jax.vmap(lambda key: run(key, jnp.asarray(x)).objective))(keys)
    for key, objective in zip(keys, best, strict=True):
        starts = [jaxgmm.initialize(k, x, num_components=3, covariance_type="tied") for k in jax.random.split(key, 4)]
        alone = max(float(jaxgmm.fit(start, x).objective) for start in starts)
        np.testing.assert_allclose(objective, alone, rtol=1e-5)


def stack(objectives, weights, component_status, kind, status=(0, 0, 0)):
    """A stack of three made-up fits with two components in one dimension."""
    covariances = {"full": jnp.ones((3, 2, 1, 1)), "tied": jnp.ones((3, 1, 1, 1)), "diag": jnp.ones((3, 2, 1))}[kind]
    mixture = jaxgmm.Mixture(jnp.array(weights), jnp.zeros((3, 2, 1)), covariances, kind)
    objective = jnp.array(objectives)
    return Fit(mixture, objective, objective, objective[:, None], jnp.ones(3), jnp.array(status), jnp.array(component_status))


def test_ranking():
    """Spikes and failures rank below; tied has no spikes; where all are spikes the best objective wins."""
    weights, fine = [[0.5, 0.5], [0.999, 0.001], [0.4, 0.6]], [[0, 0]] * 3
    total = jnp.array(100.0)
    assert int(best_of(stack([1.0, 9.0, 2.0], weights, fine, "full"), total)) == 2
    assert int(best_of(stack([1.0, 9.0, 2.0], weights, fine, "tied"), total)) == 1
    floor = [[0, 0], [0, 0], [0, ComponentStatus.AT_FLOOR]]
    assert int(best_of(stack([1.0, 9.0, 2.0], weights, floor, "diag"), total)) == 0
    assert has_spike(stack([1.0, 9.0, 2.0], weights, floor, "diag"), total).tolist() == [False, True, True]
    spikes = [[0, ComponentStatus.AT_FLOOR]] * 3
    assert int(best_of(stack([1.0, 9.0, 2.0], weights, spikes, "full"), total)) == 1
    broken = (0, 0, Status.NONFINITE)
    assert int(best_of(stack([1.0, np.nan, 2.0], weights, fine, "full", broken), total)) == 0


def test_refusals():
    """Counts and options are refused by name."""
    x = jaxgmm.datasets.load("acidity")
    with pytest.raises(TypeError, match="num_restarts is 2.0"):
        jaxgmm.fit_restarts(jax.random.key(0), x, num_components=2, num_restarts=2.0)
    with pytest.raises(ValueError, match="155 rows"):
        jaxgmm.fit_restarts(jax.random.key(0), x, num_components=200)


LENGTHS = (12, 16, 14, 20, 24, 17)  # two buckets
many = partial(jaxgmm.fit_many, tol=1e-7)


@pytest.fixture(scope="module")
def batch():
    """Six data sets of six lengths, starts, and the vmapped fits of the padded stack, in float64."""
    with enabled_x64():
        rng = np.random.default_rng(0)
        xs = [rng.normal(size=(n, 2)) + 3 * rng.integers(2, size=(n, 1)) for n in LENGTHS]
        x, weight = jaxgmm.pad(xs)
        keys = jax.random.split(jax.random.key(0), len(xs))
        starts = jax.vmap(lambda k, x, w: jaxgmm.initialize(k, x, num_components=2, sample_weight=w))(keys, x, weight)
        fits = jax.vmap(lambda s, x, w: jaxgmm.fit(s, x, sample_weight=w, tol=1e-7))(starts, x, weight)
    return xs, x, weight, starts, fits


def assert_same_fits(one, other, rtol):
    """Every field; steps and statuses exactly."""
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        if jnp.issubdtype(a.dtype, jnp.floating):
            np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol * 10)
        else:
            np.testing.assert_array_equal(a, b)


def test_a_stack_gives_the_vmapped_fits(batch, x64):
    """Same padding, same numbers to 1e-12, history and component status too, for all that fit takes."""
    xs, x, weight, starts, fits = batch
    assert_same_fits(many(starts, x, sample_weight=weight), fits, 1e-12)
    assert len(set(np.asarray(fits.num_iter).tolist())) > 2  # lanes that end at different steps


def test_lists_keys_and_groups_give_the_same(batch, x64):
    """Other paddings: within 1e-8. A key makes the starts that `initialize` makes; groups may lie mixed; history can be left."""
    xs, x, weight, starts, fits = batch
    assert_same_fits(many(starts, xs), fits, 1e-8)
    assert_same_fits(many(jax.random.key(0), xs, num_components=2).mixture, fits.mixture, 1e-8)
    whose = np.repeat(list("fbdeac"), LENGTHS)
    order = np.random.default_rng(1).permutation(len(whose))
    mixed = many(starts[np.argsort(list("fbdeac"))], np.concatenate(xs)[order], groups=whose[order], history=False)
    assert mixed.history.shape == (6, 0)
    assert_same_fits(mixed.mixture, fits.mixture[np.argsort(list("fbdeac"))], 1e-7)


@pytest.mark.parametrize("poison", ["nan", "inf", "constant", "huge", "padding", "single"])
def test_poison_stays_in_its_lane(batch, poison, x64):
    """Neighbours are bitwise unchanged; the lane has its own status, and nothing raises."""
    xs, x, weight, starts, fits = batch
    x, weight = np.array(x), np.array(weight)
    clean = many(starts, x, sample_weight=weight)
    if poison == "padding":
        weight[2] = 0
    elif poison == "single":
        weight[2, 1:] = 0
    else:
        x[2] = {"nan": np.nan, "inf": np.inf, "constant": 1.0, "huge": 1e200}[poison]
    result = many(starts, x, sample_weight=weight)
    others = np.array([0, 1, 3, 4, 5])
    for a, b in zip(jax.tree.leaves(result), jax.tree.leaves(clean), strict=True):
        np.testing.assert_array_equal(a[others], b[others])
    expected = {
        "nan": {Status.NONFINITE},
        "inf": {Status.NONFINITE},
        "huge": {Status.NONFINITE},
        "padding": {Status.EMPTY_DATA},
    }
    assert Status(int(result.status[2])) in expected.get(poison, {Status.CONVERGED, Status.MAX_ITER, Status.SINGULAR})


def test_options_of_a_lane(batch, x64):
    """Priors shared or one a lane, absent components, one data set for all with weights of each; acceleration; few steps."""
    xs, x, weight, starts, fits = batch
    prior = jaxgmm.default_prior(xs[4], num_components=2)
    stacked = jax.tree.map(lambda leaf: jnp.stack([leaf] * 6), prior)
    with_prior = many(starts, x, prior, sample_weight=weight, max_iter=3)
    assert_same_fits(many(starts, x, stacked, sample_weight=weight, max_iter=3), with_prior, 1e-12)
    alone = jaxgmm.fit(starts[4], x[4], prior, sample_weight=weight[4], max_iter=1000, tol=1e-7)
    assert with_prior.history.shape == (6, 4)
    assert int(with_prior.num_iter.max()) == 3
    np.testing.assert_allclose(with_prior.history[4], alone.history[:4], rtol=1e-10)
    absent = jaxgmm.Mixture(jnp.array([[1.0, 0.0], [0.5, 0.5]]), starts.means[:2], starts.covariances[:2], "full")
    shared = many(absent, xs[4], sample_weight=np.stack([np.ones(24), np.arange(24) % 2]))
    assert shared.mixture.weights[0].tolist() == [1.0, 0.0]
    assert (shared.mixture.weights[1] > 0).all()
    half = jaxgmm.fit(absent[1], xs[4][1::2], tol=1e-7)
    np.testing.assert_allclose(shared.mixture.means[1], half.mixture.means, rtol=1e-8)
    quick = many(starts, x, sample_weight=weight, accelerate=True)
    np.testing.assert_allclose(quick.log_likelihood, fits.log_likelihood, atol=1e-3)


def test_inside_jit_and_over_devices(batch, x64):
    """Traced it is the vmapped fit; a list cannot be traced and says so."""
    xs, x, weight, starts, fits = batch
    traced = jax.jit(lambda s, x, w: many(s, x, sample_weight=w))(starts, x, weight)
    assert_same_fits(traced, fits, 1e-12)
    with pytest.raises(ValueError, match="list, inside jit"):
        jax.jit(lambda s, x: many(s, [x[0], x[1]]))(starts, x)
    with pytest.raises(ValueError, match="groups were given inside jit"):
        jax.jit(lambda s, x: many(s, x, groups=np.zeros(len(x))))(starts, x[0])


def test_what_makes_no_sense_is_refused(batch):
    """Shapes and options by name; never what a lane holds."""
    xs, x, weight, starts, fits = batch
    with pytest.raises(ValueError, match="num_components is missing"):
        many(jax.random.key(0), xs)
    with pytest.raises(ValueError, match="6 starts"):
        many(starts, xs[:5])
    with pytest.raises(ValueError, match=r"xs\[1\] has 3 features"):
        many(jax.random.key(0), [np.ones((4, 2)), np.ones((4, 3))], num_components=2)
    with pytest.raises(ValueError, match="one label a row"):
        many(jax.random.key(0), np.ones((4, 2)), groups=[1, 2], num_components=2)
    with pytest.raises(ValueError, match="see fit_restarts"):
        many(jax.random.key(0), np.ones((4, 2)), num_components=2)
    with pytest.raises(ValueError, match="negative"):
        many(starts, x, sample_weight=-np.ones(x.shape[:2]))
    with pytest.raises(ValueError, match="no data set"):
        jaxgmm.pad([])
    with pytest.raises(ValueError, match=r"stack \(B,\)"):
        many(starts[0], xs)


@pytest.mark.slow
def test_soak_compiles_by_bucket_and_keeps_no_memory():
    """Ten thousand fits of varying N: programs are as many as buckets and block sizes allow; ten thousand more add nothing."""
    from jaxgmm.em.batch.batched_loop import fit_in_rounds

    def batch(seed):
        rng = np.random.default_rng(seed)
        lengths = np.exp(rng.uniform(np.log(20), np.log(500), 200)).astype(int)
        xs = [rng.normal(size=(n, 2)).astype(np.float32) for n in lengths]
        return jaxgmm.fit_many(jax.random.key(seed), xs, num_components=2, tol=1e-3, max_iter=50, history=False)

    def resident():
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20  # MiB

    for seed in range(50):
        assert batch(seed).status.shape == (200,)
    assert fit_in_rounds._cache_size() <= 5 * 5  # buckets of 32 to 512 rows, blocks of 16 to 256 lanes
    compiled, held = fit_in_rounds._cache_size(), resident()
    for seed in range(50):
        batch(seed)
    assert fit_in_rounds._cache_size() == compiled
    assert resident() - held < 20


_SPREAD = """
import jax, jax.numpy as jnp, numpy as np, jaxgmm
from jax.sharding import Mesh, NamedSharding, PartitionSpec
rng = np.random.default_rng(0)
x = (rng.normal(size=(4, 40, 2)) + 4 * rng.integers(2, size=(4, 40, 1))).astype(np.float32)
starts = jaxgmm.Mixture(jnp.full((4, 2), 0.5), jnp.asarray(x[:, :2]), jnp.broadcast_to(jnp.eye(2), (4, 2, 2, 2)), "full")
rows = NamedSharding(Mesh(np.array(jax.devices()), ("sets",)), PartitionSpec("sets"))
spread = jaxgmm.fit_many(jax.device_put(starts, rows), jax.device_put(jnp.asarray(x), rows), tol=1e-4)
whole = jaxgmm.fit_many(starts, x, tol=1e-4)
assert len(jax.devices()) == 2 and len(spread.mixture.means.devices()) == 2
np.testing.assert_array_equal(spread.num_iter, whole.num_iter)
np.testing.assert_allclose(spread.mixture.means, whole.mixture.means, rtol=1e-5, atol=1e-5)
"""


def test_a_batch_spread_over_two_devices():
    """The batch axis on a mesh of two host devices: the same numbers, and they stay where the data were."""
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=2"
    subprocess.run([sys.executable, "-c", _SPREAD], env=os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}, check=True)
