"""Test the configuration of a calibration: default options, refused arguments and priors, the fingerprint in files."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgmm
from jaxgmm.calibration.config import SBCConfig, check_counts, check_thresholds, fingerprint, method_options, validate_prior

COUNTS = {"num_components": 2, "num_datasets": 4, "num_observations": 20, "num_draws": 31, "thin": None, "batch_size": None}


def sampling_prior():
    return jaxgmm.Prior(*map(jnp.asarray, (np.full(2, 3.0), np.zeros(1), 0.1, 5.0, np.full((1, 1), 3.0))))


def own_method(key, start, x, prior, *, num_samples, width=1.0):
    raise AssertionError("not called")


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        ({"num_components": 0}, ValueError, "num_components is 0"),
        ({"num_draws": 2}, ValueError, "num_draws is 2"),
        ({"num_datasets": 0}, ValueError, "num_datasets is 0"),
        ({"num_observations": 1}, ValueError, "num_observations is 1"),
        ({"thin": 0}, ValueError, "thin is 0"),
        ({"batch_size": 1.5}, TypeError, "batch_size is 1.5"),
    ],
)
def test_counts_that_are_refused(change, error, match):
    check_counts(**COUNTS)
    with pytest.raises(error, match=match):
        check_counts(**(COUNTS | change))


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        (((0.5, 1.0), 31, 0.01, None), ValueError, "probabilities"),
        (((0.99,), 31, 0.01, None), ValueError, "at most 0.938; raise num_draws"),
        (((0.5,), 31, 1.0, None), ValueError, "alpha is 1"),
        (((0.5,), 31, 0.0, None), ValueError, "alpha is 0"),
        (((0.5,), 31, 0.01, "yes"), TypeError, "progress"),
    ],
)
def test_thresholds_that_are_refused(arguments, error, match):
    check_thresholds((0.5, 0.9), 31, 0.01, None)
    with pytest.raises(error, match=match):
        check_thresholds(*arguments)


def test_options_are_completed():
    """The method makes as many draws as are ranked and thinned away, over its chains; a user's function only if it can."""
    defaults = {"num_warmup": 200, "num_chains": 1}
    assert method_options("gibbs", {}, 31, None) == ("gibbs", defaults | {"num_samples": 31 * 20}, 20)
    assert method_options("gibbs", {"num_chains": 2}, 31, 3) == ("gibbs", defaults | {"num_chains": 2, "num_samples": 48}, 3)
    assert method_options("laplace", {}, 31, None) == ("laplace", {"num_samples": 31}, 1)
    assert method_options(own_method, {"width": 2.0}, 31, 2) == ("own_method", {"width": 2.0, "num_samples": 62}, 2)
    assert method_options(lambda key, start, x, prior: None, {}, 31, None) == ("custom", {}, 1)


@pytest.mark.parametrize(
    ("method", "options", "error", "match"),
    [
        ("gibbs", {"num_samples": 9}, TypeError, "set num_draws"),
        ("gibbs", {"num_chains": 0}, ValueError, "num_chains is 0"),
        ("gibbs", {"burn_in": 9}, TypeError, "gibbs has no option burn_in"),
        (own_method, {"width": [1.0]}, TypeError, "width is list"),
    ],
)
def test_options_that_are_refused(method, options, error, match):
    with pytest.raises(error, match=match):
        method_options(method, options, 31, None)


@pytest.mark.parametrize("bad", [jaxgmm.default_prior, lambda x: sampling_prior(), "default", None, 3.0])
def test_only_priors_are_accepted(bad):
    with pytest.raises(TypeError, match=r"fixed numbers.*uses the data twice"):
        validate_prior(bad, 2, "tied")


def test_a_prior_scaled_by_data_is_refused():
    x = np.linspace(-1, 1, 20)[:, None].astype(np.float32)
    with pytest.raises(ValueError, match=r"default_prior.*uses the data twice"):
        validate_prior(jaxgmm.default_prior(x, num_components=2), 2, "full")


def test_improper_priors_and_stacks_are_refused():
    prior = sampling_prior()
    improper = jaxgmm.Prior(prior.weight_concentration, prior.mean, prior.mean_precision, jnp.array(-1.0), prior.scale)
    with pytest.raises(ValueError, match="improper"):
        validate_prior(improper, 2, "tied")
    with pytest.raises(ValueError, match="stack"):
        validate_prior(jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), prior), 2, "tied")


def test_whether_the_prior_has_a_mode():
    prior = sampling_prior()
    assert validate_prior(prior, 2, "tied")[1]
    sparse = jaxgmm.Prior(jnp.full(2, 0.5), prior.mean, prior.mean_precision, prior.degrees_of_freedom, prior.scale)
    assert not validate_prior(sparse, 2, "tied")[1]
    half_normal = jaxgmm.HalfNormal(jnp.ones(1), jnp.array(1.0))
    assert not validate_prior(jaxgmm.IndependentPrior(jnp.full(2, 3.0), jnp.zeros(1), jnp.eye(1), half_normal), 2, "tied")[1]


def test_the_fingerprint_separates_calibrations():
    """Keys, options, functions and priors differ in it; everything is of a type of JSON."""

    def of(method="gibbs", seed=0, options=(("num_chains", 1),), prior=None):
        config = SBCConfig(method, options, 2, "tied", 20, 31, 1, (0.5,), True)
        return fingerprint(jax.random.key(seed), config, prior or sampling_prior(), "gibbs", 8, 4)

    one = of()
    assert one == of()
    assert one["key"] == [0, 0]
    assert one["prior"]["weight_concentration"] == [3, 3]
    assert one["batch_size"] == 4
    moved = jax.tree.map(lambda leaf: leaf + 1, sampling_prior())
    for other in (of(seed=1), of(options=(("num_chains", 2),)), of(prior=moved), of(method=own_method)):
        assert other != one
    assert of(method=own_method)["method"].endswith("own_method")
    assert of(options=(("model", own_method), ("start", None), ("grid", (1, 2))))["options"]["grid"] == "(1, 2)"
