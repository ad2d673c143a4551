"""Test intervals: closed forms, a slow float64 oracle by finite differences, invariances, vmap."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import multivariate_normal, norm

import jaxgmm
from jaxgmm.studies import intervals
from jaxgmm.studies.intervals import draw_intervals
from jaxgmm.studies.parameters import free_entries, values

from helpers import OTHER_TWO_COVARIANCE_TYPES, enabled_x64

wald_intervals = jax.jit(intervals.wald_intervals, static_argnames="probabilities")


@pytest.fixture(scope="module")
def x64():
    """Enable 64-bit numbers for the tests that use this fixture."""
    with enabled_x64():
        yield


@pytest.fixture(scope="module")
def faithful(x64):
    """Return data and their fit."""
    x = jaxgmm.datasets.load("faithful")
    start = jaxgmm.from_labels(x, (x[:, 1] > 67).astype(int), num_components=2)
    return x, jaxgmm.fit(start, x, tol=1e-13).mixture


def log_likelihood(parameters, x):
    """Compute it by SciPy for K = 2, D = 2, full, from the logit of a weight, the means, log variances and covariances."""
    weight = 1 / (1 + np.exp(-parameters[0]))
    means = parameters[1:5].reshape(2, 2)
    density = 0
    for k, fraction in enumerate((weight, 1 - weight)):
        first, cross, second = parameters[5 + 3 * k : 8 + 3 * k]
        matrix = np.array([[np.exp(first), cross], [cross, np.exp(second)]])
        density = density + fraction * multivariate_normal(means[k], matrix).pdf(x)
    return np.log(density).sum()


def test_finite_differences(faithful):
    """The ends agree with those from a Hessian by finite differences in the transformed parameters, mapped back."""
    x, mixture = faithful
    estimate = values(mixture)
    at = np.concatenate([[np.log(estimate[0] / estimate[1])], estimate[2:]])
    logs = np.array([5, 7, 8, 10])  # of variances
    at[logs] = np.log(at[logs])
    step = 1e-4 * np.maximum(abs(at), 0.1)
    size = len(at)
    hessian = np.empty((size, size))
    for i in range(size):
        for j in range(i + 1):
            a, b = np.eye(size)[i] * step[i], np.eye(size)[j] * step[j]
            corners = [log_likelihood(at + s * a + t * b, x) for s, t in ((1, 1), (1, -1), (-1, 1), (-1, -1))]
            hessian[i, j] = hessian[j, i] = (corners[0] - corners[1] - corners[2] + corners[3]) / (4 * step[i] * step[j])
    errors = np.sqrt(np.diag(np.linalg.inv(-hessian)))
    found = wald_intervals(mixture, x, probabilities=(0.5, 0.9))
    for q, p in enumerate((0.5, 0.9)):
        for sign, ends in ((-1, found.lower), (1, found.upper)):
            end = at + sign * norm.ppf((1 + p) / 2) * errors
            end[logs] = np.exp(end[logs])
            expected = 1 / (1 + np.exp(-end[0]))
            np.testing.assert_allclose(ends[q, 0], expected, rtol=2e-4)
            np.testing.assert_allclose(ends[q, 2:], end[1:], rtol=2e-4)
    assert bool(found.defined.all())
    np.testing.assert_allclose(found.lower[:, 1], 1 - found.upper[:, 0], rtol=1e-9)  # the two weights sum to 1


@pytest.mark.parametrize("covariance_type", ["full", "spherical"])
def test_one_component(covariance_type, x64):
    """K = 1: mean -+ z s / sqrt(N), variance exp(-+ z sqrt(2 / N)) (spherical: N D values); a weight of 1 is known."""
    x = np.random.default_rng(0).normal(size=(80, 2)) * [1, 3]
    mixture = jaxgmm.from_labels(x, np.zeros(80, int), num_components=1, covariance_type=covariance_type)
    found = wald_intervals(mixture, x, probabilities=(0.9,))
    z = norm.ppf(0.95)
    variances = np.asarray(jaxgmm.covariance.variances(mixture.covariances, covariance_type, 2))[0]
    for sign, ends in ((-1, found.lower[0]), (1, found.upper[0])):
        np.testing.assert_allclose(ends[0], 1)
        np.testing.assert_allclose(ends[1:3], x.mean(0) + sign * z * np.sqrt(variances / 80), rtol=1e-8)
        spread = np.exp(sign * z * np.sqrt(2 / (160 if covariance_type == "spherical" else 80)))
        np.testing.assert_allclose(ends[3], variances[0] * spread, rtol=1e-8)


def test_units_and_order(faithful):
    """Intervals follow a change of units and of the order of the components."""
    x, mixture = faithful
    found = wald_intervals(mixture, x)
    scale = np.array([10.0, 0.1])
    other = jaxgmm.Mixture(
        mixture.weights[::-1], mixture.means[::-1] * scale, mixture.covariances[::-1] * np.outer(scale, scale), "full"
    )
    moved = wald_intervals(other, x * scale)
    order = np.array([1, 0, 4, 5, 2, 3, 9, 10, 11, 6, 7, 8])
    factor = np.concatenate([np.ones(2), np.tile(scale, 2), np.tile([100.0, 1.0, 0.01], 2)])
    for end in ("lower", "upper"):
        np.testing.assert_allclose(getattr(moved, end), (getattr(found, end)[:, order]) * factor, rtol=1e-6)


def test_vmap_and_undefined_intervals():
    """vmap agrees with single calls; two equal components have no interval, nor has an absent one."""
    x = jaxgmm.datasets.load("acidity").astype(np.float32)
    sound = jaxgmm.fit(jaxgmm.from_labels(x, (x[:, 0] > 5.3).astype(int), num_components=2), x).mixture
    same = jaxgmm.Mixture(jnp.array([0.5, 0.5]), sound.means[jnp.array([0, 0])], sound.covariances[jnp.array([0, 0])], "full")
    one = jaxgmm.from_labels(x, np.zeros(len(x), int), num_components=1)
    absent = jaxgmm.Mixture(jnp.array([1.0, 0.0]), one.means[jnp.array([0, 0])], one.covariances[jnp.array([0, 0])], "full")
    stack = jax.tree.map(lambda *leaves: jnp.stack(leaves), sound, same, absent)
    stacked = jax.jit(jax.vmap(wald_intervals, in_axes=(0, None)))(stack, x)
    alone = wald_intervals(sound, x)
    for a, b in zip(stacked, alone, strict=True):
        np.testing.assert_allclose(a[0], b, rtol=1e-4)
    assert not stacked.defined[1].any()
    assert bool(jnp.isnan(stacked.lower[1]).all())
    assert stacked.defined[2].tolist() == [True, False] * 3
    assert bool(
        (alone.lower[1] < alone.lower[0]).all() & (alone.upper[0] < alone.upper[1]).all()
    )  # the 90 % interval contains the 50 % one


def test_draws():
    """The ends are quantiles with equal tails over the draws; a NaN among the draws leaves the interval undefined."""
    draws = np.random.default_rng(1).normal(size=(3, 200, 2)).astype(np.float32)
    draws[2, 7, 1] = np.nan
    found = draw_intervals(draws, (0.5, 0.9))
    assert found.lower.shape == (3, 2, 2)
    assert found.defined.tolist() == [[True, True], [True, True], [True, False]]
    np.testing.assert_allclose(found.lower[0, :, 0], np.quantile(draws[0, :, 0], [0.25, 0.05]), rtol=1e-4)
    np.testing.assert_allclose(found.upper[1, :, 1], np.quantile(draws[1, :, 1], [0.75, 0.95]), rtol=1e-4)
    assert np.isnan(found.upper[2, :, 1]).all()


@pytest.mark.parametrize("covariance_type", OTHER_TWO_COVARIANCE_TYPES)
def test_order_of_entries(covariance_type):
    """The entries are those of `values`, also inside jit."""
    k, d = 2, 3
    shape = jaxgmm.covariance.storage_shape(covariance_type, k, d)
    rng = np.random.default_rng(0)
    means, covariances = jnp.array(rng.normal(size=(k, d))), jnp.array(rng.normal(size=shape))
    mixture = jaxgmm.Mixture(jnp.array([0.3, 0.7]), means, covariances, covariance_type)
    np.testing.assert_allclose(jax.jit(free_entries)(mixture), values(mixture), rtol=1e-6)


@pytest.mark.parametrize("wrong", [0.9, (), (0.0,), (1.0,), ("0.9",), (float("nan"),), "0.9"])
def test_only_probabilities_are_accepted(wrong):
    with pytest.raises(ValueError, match="numbers between 0 and 1"):
        draw_intervals(np.zeros((3, 1)), wrong)
