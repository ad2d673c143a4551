"""likelihood_ratio_test: statistics against closed forms and published values, p-values, the size of the test, refusals."""

import math
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import jaxgmm
from jaxgmm.selection.fit_pairs import Pairs, Search
from jaxgmm.selection.likelihood_ratio import _collect

from helpers import random_mixture

KEY = jax.random.key(0)
OPTIONS = {"num_components": 1, "covariance_type": "tied", "num_samples": 19, "num_restarts": 2, "progress": False}


@pytest.fixture(scope="module")
def acidity():
    """Return data, and the test of one component against two as in the example of the docstring, the small twin."""
    x = np.asarray(jaxgmm.datasets.load("acidity"))
    return x, jaxgmm.likelihood_ratio_test(KEY, x, **OPTIONS)


@pytest.mark.slow
def test_statistic_and_p_value(acidity):
    """l_1 is that of a normal distribution, l_2 is -185.949 (mclust), and the p-value counts replicates."""
    x, found = acidity
    one = stats.norm(x.mean(), x.std()).logpdf(x).sum()
    assert float(found.null.log_likelihood) == pytest.approx(one, abs=1e-3)
    assert float(found.alternative.log_likelihood) == pytest.approx(-185.94926, abs=1e-3)
    assert found.statistic == pytest.approx(2 * (-185.94926 - one), abs=4e-3)
    assert (found.null.mixture.num_components, found.alternative.mixture.num_components) == (1, 2)
    weights = found.alternative.mixture.weights
    assert weights[0] >= weights[1]
    assert found.replicates.shape == (19,)
    assert found.num_rejected == 0
    assert found.p_value == (1 + (found.replicates >= found.statistic).sum()) / 20 == 1 / 20
    assert found.p_value_error == pytest.approx(math.sqrt(0.05 * 0.95 / 20))
    # under one component, the statistic is of the size of a chi-squared number with few degrees of freedom, and not negative
    assert found.replicates.min() > -1e-3
    assert found.num_negative == 0
    assert found.replicates.max() < 30


@pytest.mark.slow
def test_units_do_not_matter(acidity):
    """With the same key, the replicates of shifted and scaled data are shifted and scaled, and their statistics equal."""
    x, found = acidity
    other = jaxgmm.likelihood_ratio_test(KEY, 100 * x - 7, **OPTIONS)
    np.testing.assert_allclose(other.statistic, found.statistic, atol=0.01)
    np.testing.assert_allclose(other.replicates, found.replicates, atol=0.02)


def pairs(statistic):
    """Return fits (1,) to data with a given statistic."""
    mixture = jax.tree.map(lambda leaf: leaf[None], random_mixture(0, "full", k=2, d=1))
    zero = jnp.zeros(1)
    fit = jaxgmm.Fit(mixture, zero, zero, jnp.zeros((1, 0)), zero.astype(int), zero.astype(int), jnp.zeros((1, 2), int))
    return Pairs(fit, fit, np.array([statistic]))


def test_replicates_without_a_sound_fit_are_left_out():
    search = Search(1, None, 2, 2, {})
    with pytest.warns(RuntimeWarning, match="2 of 6 replicates have no sound fit"):
        found = _collect(pairs(3.0), np.array([1.0, np.nan, 4.0, 3.0, np.nan, 2.0]), search)
    assert (found.p_value, found.num_rejected, found.num_negative) == (3 / 5, 2, 0)
    assert "2 replicates without a sound fit" in repr(found)
    with pytest.warns(RuntimeWarning, match="1 of 2 replicates is negative"):
        found = _collect(pairs(3.0), np.array([-1e-4, -4.0]), search)
    assert found.num_negative == 1
    with pytest.warns(RuntimeWarning, match="no sound fit to the data"):
        found = _collect(pairs(np.nan), np.array([1.0, 4.0]), search)
    assert math.isnan(found.p_value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_components": 0}, "num_components is 0"),
        ({"num_samples": 0}, "num_samples is 0"),
        ({"num_restarts": 0}, "num_restarts is 0"),
        ({"covariance_type": "round"}, "covariance_type is 'round'"),
        ({"num_components": 155}, "155"),
        ({"prior": None}, "no option prior"),
    ],
)
def test_refusals(options, message):
    x = jaxgmm.datasets.load("acidity")
    with pytest.raises((TypeError, ValueError), match=message):
        jaxgmm.likelihood_ratio_test(KEY, x, **(OPTIONS | options))


def test_refused_values():
    with pytest.raises(ValueError, match="NaN"):
        jaxgmm.likelihood_ratio_test(KEY, np.full((9, 1), np.nan), **OPTIONS)
    with pytest.raises(TypeError, match="a value is traced"):
        jax.jit(lambda x: jaxgmm.likelihood_ratio_test(KEY, x, **OPTIONS).statistic)(jnp.ones((9, 1)))


@pytest.mark.slow
def test_weights_count_rows(acidity):
    """Integer weights give the statistic of repeated rows."""
    x, _ = acidity
    weight = np.random.default_rng(0).integers(0, 3, len(x)).astype(np.float32)
    with_weights = jaxgmm.likelihood_ratio_test(KEY, x, sample_weight=weight, **OPTIONS)
    repeated = jaxgmm.likelihood_ratio_test(KEY, np.repeat(x, weight.astype(int), 0), **OPTIONS)
    assert with_weights.statistic == pytest.approx(repeated.statistic, abs=0.01)


@pytest.mark.slow
def test_published_statistics():
    """mclust's bootstrap test of faithful (EEE): 299.220 (p .002) and 27.721 (p .002), at fits 0.01 nats below the maxima."""
    x = jaxgmm.datasets.load("faithful")
    for k, statistic in ((1, 299.220), (2, 27.721)):
        options = OPTIONS | {"num_components": k, "num_samples": 99, "num_restarts": 5}
        found = jaxgmm.likelihood_ratio_test(KEY, x, **options)
        print(found)
        assert found.statistic == pytest.approx(statistic, abs=0.03)
        assert found.p_value == 0.01


@pytest.mark.slow
def test_size():
    """Under one component, the p-value with 19 replicates is uniform on 1/20, ..., 1.

    The statistic does not depend on mean and variance, so that data and replicates are exchangeable and the size is exact. Of
    100 data sets, those with p <= 0.1 and p <= 0.5 are binomial numbers; the test fails falsely with probability 2e-4.
    """
    rng = np.random.default_rng(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        keys = jax.random.split(KEY, 100)
        p = [jaxgmm.likelihood_ratio_test(k, rng.normal(size=(40, 1)).astype(np.float32), **OPTIONS).p_value for k in keys]
    for level in (0.1, 0.5):
        count = int((np.array(p) <= level + 1e-9).sum())
        low, high = stats.binom(100, level).ppf([5e-5, 1 - 5e-5])
        print(f"p <= {level}: {count} of 100, accepted from {low:.0f} to {high:.0f}")
        assert low <= count <= high


@pytest.mark.slow
def test_incomplete_rows():
    """Replicates have the holes and the noise of the rows; the null fit is that of `fit`; two clusters are always found."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(24, 2)).astype(np.float32) + 9 * (np.arange(24) % 2)[:, None]
    x[rng.random(24) < 0.2, 1] = np.nan
    rows = jaxgmm.observations(x, noise=np.full(2, 0.1), sample_weight=1.0 + (np.arange(24) == 3))
    options = {"num_components": 1, "covariance_type": "diag", "num_restarts": 1, "num_samples": 4, "progress": False}
    found = jaxgmm.likelihood_ratio_test(jax.random.key(0), rows, **options)
    start = jaxgmm.initialize(jax.random.key(0), rows, num_components=1, covariance_type="diag")
    np.testing.assert_allclose(found.null.log_likelihood, jaxgmm.fit(start, rows).log_likelihood, rtol=1e-5)
    again = jaxgmm.log_prob(found.alternative, rows) @ rows.weight
    np.testing.assert_allclose(found.alternative.log_likelihood, again, rtol=1e-5)
    assert found.p_value == 1 / 5
    assert np.isfinite(found.replicates).all()


def test_incomplete_rows_that_are_refused():
    x = np.where(np.eye(4, 2) > 0, np.nan, np.arange(8.0).reshape(4, 2))
    for options, message in (
        ({"labels": [0, 0, -1, -1]}, "leave the labels out"),
        ({"limits": (None, [3.0, np.inf])}, "does not take limits"),
        ({"sample_weight": [1, 1, 1.5, 1]}, "whole numbers were expected, because likelihood_ratio_test draws"),
    ):
        with pytest.raises(ValueError, match=message):
            jaxgmm.likelihood_ratio_test(jax.random.key(0), jaxgmm.observations(x, **options), num_components=1)
