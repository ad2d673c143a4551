"""Test calibrate: a correct method passes, wrong ones fail, an interrupted run continues bit for bit.

False-failure rates: a correct method leaves its bands with probability at most 0.01 over all quantities (exact, Bonferroni).
The power to detect the broken method, exact for one quantity, is 0.66: draws with half the sd of the posterior, 32 data sets,
11 quantities, alpha 0.01.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from scipy.stats import norm

import jaxgmm
from jaxgmm.calibration import calibrate as module
from jaxgmm.calibration.bands import inside_probability, rank_shares, simultaneous_band
from jaxgmm.calibration.config import SBCConfig

SMALL = {"num_components": 2, "covariance_type": "tied", "num_datasets": 32, "num_observations": 20, "batch_size": 12}
OPTIONS = {"thin": 10, "num_warmup": 50, "progress": False}


def sampling_prior(covariance_type="tied", d=1, k=2):
    """Return a prior under which components are about four standard deviations apart and have an expected variance of one."""
    nu = d + 4.0
    scale = {"full": 3 * np.eye(d), "tied": 3 * np.eye(d), "diag": (d + 2) * np.ones(d), "spherical": d + 2.0}[covariance_type]
    return jaxgmm.Prior(*(jnp.asarray(v, jnp.float32) for v in (np.full(k, 3.0), np.zeros(d), 0.1, nu, scale)))


def narrowed(fraction):
    """Return Gibbs with draws pulled towards their mean, so that linear functions have `fraction` of their sd."""

    def method(key, start, x, prior, *, num_samples, num_warmup=200):
        posterior = jaxgmm.gibbs(key, start, x, prior, num_samples=num_samples, num_chains=1, num_warmup=num_warmup)
        mixture = module.in_order(posterior.mixture)
        pulled = jax.tree.map(lambda leaf: fraction * leaf + (1 - fraction) * leaf.mean(1, keepdims=True), mixture)
        return jaxgmm.Posterior(pulled, posterior.log_density, prior, posterior.status, {}, "narrowed")

    return method


def overconfident(key, start, x, prior, *, num_samples, num_warmup=200):
    """Return draws within a few per cent of the start, far narrower than the posterior, which compile quickly."""
    leaves, tree = jax.tree.flatten(start)
    shapes = [(1, num_samples, *leaf.shape) for leaf in leaves]
    keys = jax.random.split(key, len(leaves))
    drawn = [leaf * jnp.exp(0.02 * jax.random.normal(k, shape)) for k, leaf, shape in zip(keys, leaves, shapes, strict=True)]
    mixture = jax.tree.unflatten(tree, drawn)
    mixture = jaxgmm.Mixture(
        mixture.weights / mixture.weights.sum(-1, keepdims=True), mixture.means, mixture.covariances, start.covariance_type
    )
    return jaxgmm.Posterior(mixture, jnp.zeros((1, num_samples)), prior, jnp.array(0), {}, "overconfident")


HALF = narrowed(0.5)


@pytest.fixture(scope="module")
def good():
    return jaxgmm.calibrate(jax.random.key(1), sampling_prior(), "gibbs", **SMALL, **OPTIONS)


@pytest.fixture(scope="module")
def bad():
    return jaxgmm.calibrate(jax.random.key(1), sampling_prior(), overconfident, **SMALL, **OPTIONS)


def test_a_correct_method_passes(good):
    """Fails for a correct sampler with probability at most 0.01."""
    assert good.passed
    assert all(row.inside for row in good.rows)
    assert good.ranks.shape == (32, len(good.quantities)) == (32, 11)
    assert good.ranks.min() >= 0
    assert good.ranks.max() <= good.num_draws == 127
    assert "calibrated." in str(good)
    assert "NOT" not in str(good)
    assert 0.009 < good.thresholds["false_failure_rate"] <= 0.01


def test_an_overconfident_method_fails(bad):
    assert not bad.passed
    assert "NOT calibrated" in str(bad)
    assert "too narrow" in str(bad)


@pytest.mark.slow
def test_half_the_sd_fails():
    """It is detected with at least the power for a single quantity, which is stated at the top."""
    bad = jaxgmm.calibrate(jax.random.key(1), sampling_prior(), HALF, **SMALL, **OPTIONS)
    shares = rank_shares(127, lambda u: norm.cdf(0.5 * norm.ppf(u)))
    power = 1 - inside_probability(simultaneous_band(32, 127, 0.01 / 11), shares)
    assert 0.6 < power < 0.75
    assert not bad.passed
    assert "NOT calibrated" in str(bad)
    assert "too narrow" in str(bad)


def test_one_program_for_all_batches(good):
    """32 data sets run in batches of 12, the last one filled up; another key or prior compiles nothing."""
    before = module._batch._cache_size()
    moved = jax.tree.map(lambda leaf: leaf + 0, sampling_prior())
    jaxgmm.calibrate(jax.random.key(2), moved, "gibbs", **(SMALL | {"num_datasets": 13}), **OPTIONS)
    assert module._batch._cache_size() == before


def test_an_interrupted_run_continues_bit_for_bit(good, tmp_path, monkeypatch):
    path, batches = tmp_path / "calibration.npz", []

    def dying(config, keys, prior):
        batches.append(len(keys))
        if len(batches) == 3:
            raise KeyboardInterrupt
        return whole(config, keys, prior)

    whole = module._batch
    monkeypatch.setattr(module, "_batch", dying)
    with pytest.raises(KeyboardInterrupt):
        jaxgmm.calibrate(jax.random.key(1), sampling_prior(), "gibbs", path=path, **SMALL, **OPTIONS)
    again = jaxgmm.calibrate(jax.random.key(1), sampling_prior(), "gibbs", path=path, **SMALL, **OPTIONS)
    assert batches == [12, 12, 12, 12]  # two, the one that died, and only that one again
    np.testing.assert_array_equal(again.ranks, good.ranks)
    np.testing.assert_array_equal(again.ess, good.ess)
    assert again.to_json() == good.to_json()
    with pytest.raises(ValueError, match="its key is"):
        jaxgmm.calibrate(jax.random.key(2), sampling_prior(), "gibbs", path=path, **SMALL, **OPTIONS)


def test_coverage_is_that_of_the_ranks(good):
    """An interval of the draws contains the truth for certain ranks; EM has rows of its own."""
    column = good.ranks[:, good.quantities.index("means[0,0]")]
    rows = {(row.method, row.name, row.probability): row for row in good.coverage}
    assert rows["gibbs", "means[0,0]", 0.5].coverage == np.mean((column >= 32) & (column <= 95))
    em = rows["em", "means[0,0]", 0.9]
    assert em.undefined == 0
    assert em.coverage == em.coverage_with_misses
    assert em.error == pytest.approx(np.sqrt(em.coverage * (1 - em.coverage) / 32))


def test_the_page_is_at_most_100_columns_wide(good, bad):
    for page in (str(good), str(bad)):
        assert max(map(len, page.splitlines())) <= 100


def test_values_that_are_not_finite_have_no_rank():
    draws = jnp.array([[0.0, 1.0, jnp.nan], [1.0, 1.0, 0.0], [2.0, 1.0, 1.0]])
    ranks = np.array([module._rank(key, jnp.array([1.5, 1.0, 0.0]), draws) for key in jax.random.split(jax.random.key(0), 40)])
    assert (ranks[:, 0] == 2).all()
    assert (ranks[:, 2] == -1).all()
    assert set(ranks[:, 1]) == {0, 1, 2, 3}  # ties at random; misses a rank with probability 4 (3/4)^40 = 4e-5


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"covariance_type": "round"}, ValueError, "round"),
        ({"num_draws": 2}, ValueError, "num_draws is 2"),
        ({"intervals": (0.99,)}, ValueError, "raise num_draws"),
        ({"burn_in": 9}, TypeError, "gibbs has no option burn_in"),
        ({"path": 3}, TypeError, "path is int"),
        ({"prior": None}, TypeError, "fixed numbers"),
    ],
)
def test_arguments_that_are_refused(options, error, match):
    arguments = {"prior": sampling_prior(), "method": "gibbs", "num_components": 2, "covariance_type": "tied"} | options
    with pytest.raises(error, match=match):
        jaxgmm.calibrate(jax.random.key(1), **arguments)


@pytest.mark.slow
def test_bootstrap_is_not_ranked():
    few = SMALL | {"num_datasets": 12}
    found = jaxgmm.calibrate(jax.random.key(0), sampling_prior(), "bootstrap", **few, num_draws=31, progress=False)
    assert found.passed is None
    assert found.ranks.shape == (12, 0)
    assert {row.method for row in found.coverage} == {"bootstrap", "em"}


def test_a_method_that_draws_too_little():
    def few(key, start, x, prior):
        return jaxgmm.gibbs(key, start, x, prior, num_samples=5, num_chains=2, num_warmup=0)

    with pytest.raises(ValueError, match="2 chains of 5 draws; num_draws=31 with thin=1 needs 16 a chain"):
        jaxgmm.calibrate(jax.random.key(1), sampling_prior(), few, **SMALL, num_draws=31)


def test_a_method_receives_the_values_that_are_not_missing():
    """EM, the method and the ranked densities see the same observations."""
    seen = []

    def method(key, start, x, prior, *, num_samples):
        seen.append(x)
        return overconfident(key, start, x, prior, num_samples=num_samples)

    config = SBCConfig(method, (("num_samples", 31),), 2, "tied", 20, 31, 1, (0.5,), True, 0.2)
    found = jax.eval_shape(partial(module._calibrate_one, config), jax.random.key(0), sampling_prior(d=2))
    (x,) = seen
    assert isinstance(x, jaxgmm.Observations)
    assert x.mask().shape == (20, 2)
    assert found["rank"].shape == (15,)


@pytest.mark.slow
def test_missing_values():
    """Gibbs passes; a method that takes missing values for zeros fails."""

    def filled(key, start, x, prior, **options):
        return jaxgmm.gibbs(key, start, x.x, prior, num_chains=1, **options)

    size = {"num_datasets": 64, "num_observations": 40, "missing": 0.3, "thin": 5, "num_warmup": 50, "progress": False}
    model = {"num_components": 2, "covariance_type": "diag"}
    prior = sampling_prior("diag", 2)
    right = jaxgmm.calibrate(jax.random.key(0), prior, "gibbs", **model, **size)
    print(right)
    assert right.passed
    assert "with 30 % of the values missing" in str(right)
    assert not jaxgmm.calibrate(jax.random.key(0), prior, filled, **model, **size).passed


# The tests below are slow: 256 data sets each, about a minute.


def sd_for_variance(x, prior, *, num_components, covariance_type):
    """A wrong model of one feature with a shared covariance: it uses the variance as the sd."""
    shape = prior.degrees_of_freedom / 2
    weights = numpyro.sample("weights", dist.Dirichlet(prior.weight_concentration))
    variance = numpyro.sample("covariances", dist.InverseGamma(jnp.full((1, 1, 1), shape), prior.scale / 2).to_event(3))
    spread = jnp.sqrt(variance[0] / prior.mean_precision)
    means = numpyro.sample("means", dist.Normal(prior.mean * jnp.ones((num_components, 1)), spread).to_event(2))
    parts = dist.Normal(means[:, 0], jnp.full(num_components, variance[0, 0, 0]))
    numpyro.sample("x", dist.MixtureSameFamily(dist.Categorical(probs=weights), parts), obs=x[:, 0])


def slow_one(method, covariance_type, d, k=2, **options):
    prior, size = sampling_prior(covariance_type, d, k), {"num_datasets": 256, "num_observations": 100}
    recipe = {"num_components": k, "covariance_type": covariance_type, "batch_size": 64, "progress": False} | size | options
    found = jaxgmm.calibrate(jax.random.key(0), prior, method, **recipe)
    print(f"\n{covariance_type} D={d} K={k}\n{found}", flush=True)
    return found


@pytest.mark.slow
@pytest.mark.parametrize(
    ("covariance_type", "d"), [("tied", 1), ("full", 1), ("full", 2), ("tied", 2), ("diag", 2), ("spherical", 2)]
)
@pytest.mark.parametrize("method", ["gibbs", "nuts"])
def test_samplers_are_calibrated(method, covariance_type, d):
    """Each case fails for a correct sampler with probability at most 0.01."""
    assert slow_one(method, covariance_type, d).passed


@pytest.mark.slow
@pytest.mark.parametrize("tempering", ["data", "likelihood"])
@pytest.mark.parametrize(
    ("covariance_type", "d", "k"), [("full", 1, 2), ("tied", 2, 2), ("full", 2, 2), ("full", 1, 3), ("full", 2, 3)]
)
def test_smc_is_calibrated(covariance_type, d, k, tempering):
    """Each case fails for a correct sampler with probability at most 0.01."""
    assert slow_one("smc", covariance_type, d, k, num_observations=30, num_draws=63, tempering=tempering).passed


@pytest.mark.slow
def test_seven_tenths_of_the_sd_fails():
    """The exact power for one quantity of 11 is 0.98."""
    assert not slow_one(narrowed(0.7), "tied", 1, thin=20).passed


@pytest.mark.slow
def test_sd_for_variance_fails():
    found = slow_one("nuts", "tied", 1, model=sd_for_variance)
    assert not found.passed
    assert not found.rows[found.quantities.index("covariances[0,0,0]")].inside


@pytest.mark.slow
def test_laplace_fails_on_small_data():
    assert not slow_one("laplace", "tied", 1, num_observations=50).passed
