"""Test the ranked quantities: label invariance, the order of the components, each value against a plain loop."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import multivariate_normal

import jaxgmm
from jaxgmm.calibration.quantities import fixed_points, in_order, independent_parameters, quantities, quantity_names
from jaxgmm.studies.parameters import parameter_names

from helpers import OTHER_TWO_COVARIANCE_TYPES, TWO_COVARIANCE_TYPES, random_mixture, random_prior

_at = jax.jit(quantities)
X = np.random.default_rng(0).normal(size=(6, 2))


def shuffled(mixture, order):
    shared = mixture.covariances.shape[0] == 1
    covariances = mixture.covariances if shared else mixture.covariances[order]
    return jaxgmm.Mixture(mixture.weights[order], mixture.means[order], covariances, mixture.covariance_type)


@pytest.mark.parametrize("covariance_type", OTHER_TWO_COVARIANCE_TYPES)
def test_the_order_of_the_components_does_not_matter(covariance_type):
    """Neither for label-invariant quantities nor for single parameters, whose components are sorted."""
    mixture, prior = random_mixture(1, covariance_type, 3, 2), random_prior(1, covariance_type, 3, 2)
    prior = jaxgmm.Prior(jnp.full(3, 2.0), *list(prior.__dict__.values())[1:])  # exchangeable
    found, names = _at(mixture, X, prior), quantity_names(3, 2, covariance_type)
    assert found.shape == (len(names.names),) == (len(names.label_invariant),)
    for order in ([2, 0, 1], [1, 0, 2]):
        np.testing.assert_allclose(_at(shuffled(mixture, np.array(order)), X, prior), found, rtol=1e-5, atol=1e-5)


def test_values_against_a_loop():
    """Compare log-likelihood, sorted weights, densities at points and the covariance of a full mixture with NumPy."""
    mixture, prior = random_mixture(2, "full", 3, 2), random_prior(2, "full", 3, 2)
    found = dict(zip(quantity_names(3, 2, "full").names, np.asarray(_at(mixture, X, prior)), strict=True))
    w, m, s = (np.asarray(leaf, float) for leaf in (mixture.weights, mixture.means, mixture.covariances))

    def log_density(x):
        return np.log(sum(w[k] * multivariate_normal(m[k], s[k]).pdf(x) for k in range(3)))

    total = log_density(X).sum()
    assert found["log-likelihood"] == pytest.approx(total, rel=1e-5)
    assert found["log joint density"] == pytest.approx(total + float(jaxgmm.log_prior(mixture, prior)), rel=1e-5)
    assert [found["largest weight"], found["2nd largest weight"]] == pytest.approx(np.sort(w)[:0:-1])
    for name, point in zip("abc", np.asarray(fixed_points(prior, "full")), strict=True):
        assert found[f"log density at {name}"] == pytest.approx(log_density(point), rel=1e-4)
    center = w @ m
    whole = sum(w[k] * (s[k] + np.outer(m[k] - center, m[k] - center)) for k in range(3))
    assert found["log det covariance"] == pytest.approx(np.log(np.linalg.det(whole)), abs=1e-4)
    order = np.argsort(m[:, 0])
    assert found["weights[0]"] == pytest.approx(w[order[0]])
    assert found["means[2,1]"] == pytest.approx(m[order[2], 1])
    assert found["covariances[1,1,0]"] == pytest.approx(s[order[1], 1, 0])


@pytest.mark.parametrize("covariance_type", TWO_COVARIANCE_TYPES)
def test_names_match_values(covariance_type):
    """Each name is the place of the value in the mixture's fields; stacks keep their axes."""
    mixture = in_order(random_mixture(3, covariance_type, 2, 3))
    stack = jax.tree.map(lambda leaf: jnp.stack([leaf, 2 * leaf]), mixture)
    names = parameter_names(2, 3, covariance_type)
    del names[1]  # the last weight is one minus the rest
    for name, value in zip(names, np.asarray(independent_parameters(stack)).T, strict=True):
        field, index = name.rstrip("]").split("[")
        place = tuple(map(int, index.split(",")))
        np.testing.assert_allclose(value, [getattr(mixture, field)[place], 2 * getattr(mixture, field)[place]], rtol=1e-6)


def test_fixed_points_depend_on_the_prior_alone():
    """They lie one prior sd of the means from the prior mean, for both families of priors."""
    prior = jaxgmm.Prior(*map(jnp.asarray, ([1.0], [1.0, 2.0], 0.25, 4.0, [[4.0, 1.0], [1.0, 16.0]])))
    np.testing.assert_allclose(fixed_points(prior, "full"), [[-1, -2], [1, 2], [3, 6]], rtol=1e-6)
    scale = jaxgmm.InverseGamma(jnp.array(2.0), jnp.array(1.0))
    free = jaxgmm.IndependentPrior(jnp.ones(1), jnp.zeros(2), jnp.diag(jnp.array([9.0, 4.0])), scale)
    np.testing.assert_allclose(fixed_points(free, "spherical"), [[-3, -2], [0, 0], [3, 2]])
