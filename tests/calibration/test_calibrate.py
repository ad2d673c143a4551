"""Calibration: a right method passes, wrong ones do not, a killed run goes on bitwise, a prior scaled by data is refused.

False-failure rates: a right method leaves its bands with probability 0.01 at most over all quantities (exact, Bonferroni).
Power of the broken twin, exact for one quantity (draws of half the posterior's sd, 32 data sets, 11 quantities, alpha 0.01): 0.66.
"""

import csv
import io
import json

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from scipy.stats import norm

import jaxgmm
from jaxgmm.calibration import calibrate as room
from jaxgmm.calibration.bands import inside_probability, rank_shares, simultaneous_band

SMALL = {"num_components": 2, "covariance_type": "tied", "num_datasets": 32, "num_observations": 20, "batch_size": 12}
OPTIONS = {"thin": 10, "num_warmup": 50, "progress": False}


def sampling_prior(kind="tied", d=1, k=2):
    """Components some four standard deviations apart, of expected variance one."""
    nu = d + 4.0
    scale = {"full": 3 * np.eye(d), "tied": 3 * np.eye(d), "diag": (d + 2) * np.ones(d), "spherical": d + 2.0}[kind]
    return jaxgmm.Prior(*(jnp.asarray(v, jnp.float32) for v in (np.full(k, 3.0), np.zeros(d), 0.1, nu, scale)))


def narrowed(share):
    """Gibbs draws drawn together around their mean: every linear function has `share` of its sd."""

    def method(key, start, x, prior, *, num_samples, num_warmup=200):
        posterior = jaxgmm.gibbs(key, start, x, prior, num_samples=num_samples, num_chains=1, num_warmup=num_warmup)
        mixture = room.in_order(posterior.mixture)
        together = jax.tree.map(lambda leaf: share * leaf + (1 - share) * leaf.mean(1, keepdims=True), mixture)
        return jaxgmm.Posterior(together, posterior.log_density, prior, posterior.status, {}, "narrowed")

    return method


HALF = narrowed(0.5)


@pytest.fixture(scope="module")
def good():
    return jaxgmm.calibrate(jax.random.key(1), sampling_prior(), "gibbs", **SMALL, **OPTIONS)


@pytest.fixture(scope="module")
def bad():
    return jaxgmm.calibrate(jax.random.key(1), sampling_prior(), HALF, **SMALL, **OPTIONS)


def test_a_right_method_passes(good):
    """Fails a right sampler with probability 0.01 at most."""
    assert good.passed
    assert all(row["inside"] for row in good.rows)
    assert good.ranks.shape == (32, len(good.quantities)) == (32, 11)
    assert good.ranks.min() >= 0
    assert good.ranks.max() <= good.num_draws == 127
    assert "calibrated." in str(good)
    assert "NOT" not in str(good)
    assert 0.009 < good.thresholds["false_failure_rate"] <= 0.01


def test_a_narrow_posterior_fails(bad):
    """Draws of half the sd: the least power, of a single quantity, is that of the file's head."""
    shares = rank_shares(127, lambda u: norm.cdf(0.5 * norm.ppf(u)))
    power = 1 - inside_probability(simultaneous_band(32, 127, 0.01 / 11), shares)
    assert 0.6 < power < 0.75
    assert not bad.passed
    assert "NOT calibrated" in str(bad)
    assert "too narrow" in str(bad)


def test_one_program_for_all_batches(good):
    """32 data sets in batches of 12: the last is filled up; another key and prior compile nothing."""
    before = room._batch._cache_size()
    moved = jax.tree.map(lambda leaf: leaf + 0, sampling_prior())
    jaxgmm.calibrate(jax.random.key(2), moved, "gibbs", **(SMALL | {"num_datasets": 13}), **OPTIONS)
    assert room._batch._cache_size() == before


def test_a_killed_one_goes_on_bitwise(good, tmp_path, monkeypatch):
    path, batches = tmp_path / "calibration.npz", []

    def dies(design, keys, prior):
        batches.append(len(keys))
        if len(batches) == 3:
            raise KeyboardInterrupt
        return whole(design, keys, prior)

    whole = room._batch
    monkeypatch.setattr(room, "_batch", dies)
    with pytest.raises(KeyboardInterrupt):
        jaxgmm.calibrate(jax.random.key(1), sampling_prior(), "gibbs", path=path, **SMALL, **OPTIONS)
    again = jaxgmm.calibrate(jax.random.key(1), sampling_prior(), "gibbs", path=path, **SMALL, **OPTIONS)
    assert batches == [12, 12, 12, 12]  # two, the one that died, and only that again
    np.testing.assert_array_equal(again.ranks, good.ranks)
    np.testing.assert_array_equal(again.ess, good.ess)
    assert again.to_json() == good.to_json()
    with pytest.raises(ValueError, match="its key is"):
        jaxgmm.calibrate(jax.random.key(2), sampling_prior(), "gibbs", path=path, **SMALL, **OPTIONS)


def test_coverage_is_that_of_the_ranks(good):
    """An interval of the draws holds the truth where its rank says so; the EM rows are there beside."""
    column = good.ranks[:, good.quantities.index("means[0,0]")]
    rows = {(row["method"], row["name"], row["probability"]): row for row in good.coverage}
    assert rows["gibbs", "means[0,0]", 0.5]["coverage"] == np.mean((column >= 32) & (column <= 95))
    em = rows["em", "means[0,0]", 0.9]
    assert em["undefined"] == 0
    assert em["coverage"] == em["coverage_with_misses"]
    assert em["error"] == pytest.approx(np.sqrt(em["coverage"] * (1 - em["coverage"]) / 32))


def test_what_is_undefined_counts_as_a_miss():
    found = room._covered(np.array([True, True, False, True]), np.array([True, False, True, True]))
    assert found["coverage"] == pytest.approx(2 / 3)
    assert found["coverage_with_misses"] == 0.5
    assert found["undefined"] == 0.25


def test_for_programs(good, tmp_path):
    found = json.loads(good.to_json(tmp_path / "c.json"))
    assert found == json.loads((tmp_path / "c.json").read_text())
    assert found["passed"] is True
    assert found["design"]["prior"]["mean_precision"] == pytest.approx(0.1)
    rows = list(csv.DictReader(io.StringIO(good.to_csv())))
    assert len(rows) == len(good.rows) + len(good.coverage)
    assert {row["kind"] for row in rows} == {"rank", "coverage"}
    z, difference, lower, upper = good.ecdf("log-likelihood")
    assert z.shape == difference.shape == lower.shape == upper.shape == (129,)
    assert z[0] == difference[0] == 0
    assert z[-1] == 1
    assert abs(difference[-1]) < 1e-12
    np.testing.assert_array_equal(good.band()[1], lower)
    with pytest.raises(ValueError, match="'log-likelihood'"):
        good.ecdf("weights")


def test_the_page_fits(good, bad):
    many = [row | {"method": "of_" * 12, "probability": p} for row in good.coverage for p in np.linspace(0.1, 0.9, 9)]
    fields = {name: getattr(good, name) for name in good.__dataclass_fields__}
    for page in (str(good), str(bad), str(jaxgmm.Calibration(**(fields | {"coverage": many})))):
        assert max(map(len, page.splitlines())) <= 100


def test_values_that_are_not_finite_have_no_rank_and_do_not_pass(good):
    draws = jnp.array([[0.0, 1.0, jnp.nan], [1.0, 1.0, 0.0], [2.0, 1.0, 1.0]])
    ranks = np.array([room._rank(key, jnp.array([1.5, 1.0, 0.0]), draws) for key in jax.random.split(jax.random.key(0), 40)])
    assert (ranks[:, 0] == 2).all()
    assert (ranks[:, 2] == -1).all()
    assert set(ranks[:, 1]) == {0, 1, 2, 3}  # ties by lot; misses one with probability 4 (3/4)^40 = 4e-5
    lost = good.ranks.copy()
    lost[3, 0] = -1
    fields = {name: getattr(good, name) for name in good.__dataclass_fields__}
    assert not jaxgmm.Calibration(**(fields | {"ranks": lost})).passed


@pytest.mark.parametrize("bad", [jaxgmm.default_prior, lambda x: sampling_prior(), "default", None, 3.0])
def test_a_prior_that_is_no_fixed_one(bad):
    with pytest.raises(TypeError, match="fixed numbers.*uses them twice"):
        jaxgmm.calibrate(jax.random.key(0), bad, "gibbs", num_components=2)


def test_a_prior_scaled_by_data_is_refused():
    x = np.linspace(-1, 1, 20)[:, None].astype(np.float32)
    with pytest.raises(ValueError, match="default_prior.*uses them twice"):
        jaxgmm.calibrate(jax.random.key(0), jaxgmm.default_prior(x, num_components=2), "gibbs", num_components=2)


def test_priors_that_are_improper_or_many():
    prior = sampling_prior()
    improper = jaxgmm.Prior(prior.weight_concentration, prior.mean, prior.mean_precision, jnp.array(-1.0), prior.scale)
    with pytest.raises(ValueError, match="improper"):
        jaxgmm.calibrate(jax.random.key(0), improper, "gibbs", num_components=2)
    many = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), prior)
    with pytest.raises(ValueError, match="stack"):
        jaxgmm.calibrate(jax.random.key(0), many, "gibbs", num_components=2)


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"num_draws": 2}, ValueError, "num_draws is 2"),
        ({"num_datasets": 0}, ValueError, "num_datasets is 0"),
        ({"num_observations": 1}, ValueError, "num_observations is 1"),
        ({"thin": 0}, ValueError, "thin is 0"),
        ({"batch_size": 1.5}, TypeError, "batch_size is 1.5"),
        ({"intervals": (0.5, 1.0)}, ValueError, "probabilities"),
        ({"intervals": (0.99,)}, ValueError, "raise num_draws"),
        ({"alpha": 1.0}, ValueError, "alpha is 1"),
        ({"num_samples": 9}, TypeError, "num_draws says"),
        ({"num_chains": 0}, ValueError, "num_chains is 0"),
        ({"burn_in": 9}, TypeError, "gibbs has no option burn_in"),
        ({"path": 3}, TypeError, "path is int"),
    ],
)
def test_designs_that_make_no_sense(options, error, match):
    with pytest.raises(error, match=match):
        jaxgmm.calibrate(jax.random.key(1), sampling_prior(), "gibbs", num_components=2, covariance_type="tied", **options)


def test_too_few_draws_of_ones_own_method():
    def few(key, start, x, prior):
        return jaxgmm.gibbs(key, start, x, prior, num_samples=5, num_chains=2, num_warmup=0)

    with pytest.raises(ValueError, match="2 chains of 5 draws; num_draws=31 with thin=1 needs 16 a chain"):
        jaxgmm.calibrate(jax.random.key(1), sampling_prior(), few, **SMALL, num_draws=31)


# what follows is slow: 256 data sets each, in a minute or so


def sd_for_variance(x, prior, *, num_components, covariance_type):
    """A wrong model of one feature, tied: its sd stands where the variance belongs."""
    shape = prior.degrees_of_freedom / 2
    weights = numpyro.sample("weights", dist.Dirichlet(prior.weight_concentration))
    variance = numpyro.sample("covariances", dist.InverseGamma(jnp.full((1, 1, 1), shape), prior.scale / 2).to_event(3))
    spread = jnp.sqrt(variance[0] / prior.mean_precision)
    means = numpyro.sample("means", dist.Normal(prior.mean * jnp.ones((num_components, 1)), spread).to_event(2))
    parts = dist.Normal(means[:, 0], jnp.full(num_components, variance[0, 0, 0]))
    numpyro.sample("x", dist.MixtureSameFamily(dist.Categorical(probs=weights), parts), obs=x[:, 0])


def slow_one(method, kind, d, **options):
    prior, size = sampling_prior(kind, d), {"num_datasets": 256, "num_observations": 100}
    recipe = {"num_components": 2, "covariance_type": kind, "batch_size": 64, "progress": False} | size | options
    found = jaxgmm.calibrate(jax.random.key(0), prior, method, **recipe)
    print(f"\n{kind} D={d}\n{found}", flush=True)
    return found


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "d"), [("tied", 1), ("full", 1), ("full", 2), ("tied", 2), ("diag", 2), ("spherical", 2)])
@pytest.mark.parametrize("method", ["gibbs", "nuts"])
def test_samplers_are_calibrated(method, kind, d):
    """Each fails a right sampler with probability 0.01 at most."""
    assert slow_one(method, kind, d).passed


@pytest.mark.slow
def test_seven_tenths_of_the_sd_fails():
    """Power for one quantity of 11, exact: 0.98."""
    assert not slow_one(narrowed(0.7), "tied", 1, thin=20).passed


@pytest.mark.slow
def test_sd_for_variance_fails():
    found = slow_one("nuts", "tied", 1, model=sd_for_variance)
    assert not found.passed
    assert not found.rows[found.quantities.index("covariances[0,0,0]")]["inside"]


@pytest.mark.slow
def test_laplace_fails_on_small_data():
    assert not slow_one("laplace", "tied", 1, num_observations=50).passed
