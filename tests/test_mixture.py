"""Mixture: what make_mixture accepts and refuses, how stacks are indexed and printed, and how parameters are counted."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgmm
from jaxgmm.posterior.nuts import _split_starts

from helpers import COVARIANCE_TYPES, TWO_COVARIANCE_TYPES, random_data, random_mixture, random_prior


def test_fields_are_kept(x64):
    """Values keep the dtype of the means; integers become the default float; weights are scaled to sum to one exactly."""
    mixture = jaxgmm.make_mixture([0.25, 0.75], [[0, 1], [2, 3]], [[1, 2], [3, 4]], covariance_type="diag")
    assert {leaf.dtype for leaf in jax.tree.leaves(mixture)} == {np.dtype("float64")}
    np.testing.assert_array_equal(mixture.means, [[0, 1], [2, 3]])
    np.testing.assert_array_equal(mixture.covariances, [[1, 2], [3, 4]])
    rounded = jaxgmm.make_mixture(
        [0.3333333, 0.3333333, 0.3333333], np.zeros((3, 1)), np.ones((3, 1)), covariance_type="spherical"
    )
    assert abs(float(rounded.weights.sum()) - 1) < 1e-15
    assert (mixture.num_components, mixture.num_features, mixture.batch_shape) == (2, 2, ())


@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
def test_number_of_parameters(covariance_type):
    """The number of parameters is K - 1 weights, K D means and the covariances' free entries, as scikit-learn counts them."""
    covariances = {"full": 3 * 10, "tied": 10, "diag": 12, "spherical": 3}[covariance_type]
    assert jaxgmm.num_parameters(random_mixture(0, covariance_type, d=4)) == 2 + 12 + covariances


def test_stacks():
    """Leading axes can be indexed, one mixture cannot, and no mixture can be changed in place."""
    one = random_mixture(0, "full")
    stack = jax.tree.map(lambda leaf: jnp.stack([jnp.stack([leaf, 2 * leaf])] * 3), one)
    assert stack.batch_shape == (3, 2)
    assert stack[0].batch_shape == (2,)
    assert stack[1, 1].batch_shape == ()
    np.testing.assert_array_equal(stack[2, 1].means, 2 * one.means)
    np.testing.assert_array_equal(stack[:, 0].weights, jnp.stack([one.weights] * 3))
    with pytest.raises(IndexError, match="one mixture"):
        one[0]
    with pytest.raises(dataclasses.FrozenInstanceError):
        one.weights = one.means
    made = jaxgmm.make_mixture(*(np.stack([leaf] * 2) for leaf in jax.tree.leaves(one)))
    assert made.batch_shape == (2,)


def test_a_pytree():
    """jit, vmap, grad and tree.map apply to a mixture, whose covariance type is part of the structure."""
    mixture = random_mixture(0, "diag")
    assert len(jax.tree.leaves(mixture)) == 3
    same = jax.jit(lambda m: m)(mixture)
    assert same.covariance_type == "diag"
    assert same.means.shape == (3, 3)
    gradient = jax.grad(lambda m: (m.means**2).sum())(mixture)
    np.testing.assert_allclose(gradient.means, 2 * mixture.means, rtol=1e-6)
    assert jax.tree.structure(mixture) != jax.tree.structure(random_mixture(0, "spherical"))
    assert "Mixture" in repr(jax.tree.map(lambda _: None, mixture)) + repr(jax.tree.structure(mixture))


def test_repr():
    """The text shows weights, means and standard deviations; for a stack their ranges; for a traced mixture one line."""
    text = repr(jaxgmm.make_mixture([0.25, 0.75], [[0.0], [5.0]], [[4.0], [9.0]], covariance_type="spherical"))
    assert text.splitlines()[0] == "Mixture spherical, K=2 components, D=1 features, float32"
    assert text.splitlines()[1:] == ["  k  weight  mean   sd", "  0  0.2500   [0]  [2]", "  1  0.7500   [5]  [3]"]
    stack = jax.tree.map(lambda leaf: jnp.stack([leaf] * 4), random_mixture(0, "full"))
    assert "stacked (4,)" in repr(stack)
    assert len(repr(stack).splitlines()) == 5
    seen = []
    jax.jit(lambda m: seen.append(repr(m)) or m.weights)(random_mixture(0, "full"))
    assert "K=3" in seen[0]
    assert "\n" not in seen[0]


def test_traced_input_is_not_looked_at():
    """Inside jit shapes are checked and values are not."""
    make = jax.jit(lambda w: jaxgmm.make_mixture(w, jnp.zeros((2, 1)), jnp.ones((2, 1)), covariance_type="diag"))
    assert make(jnp.array([2.0, -1.0])).weights.tolist() == [2, -1]
    with pytest.raises(ValueError, match=r"\(2,\) was expected"):
        make(jnp.ones(3))


FIT_X = random_data(0, 40, 2)
FIT_KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def fitted_once():
    """A fit, its prior, and a posterior."""
    prior = jaxgmm.default_prior(FIT_X, num_components=2)
    fit = jaxgmm.fit(random_mixture(0, "full", 2, 2), FIT_X, prior, max_iter=1000, tol=1e-6)
    return fit, prior, jaxgmm.laplace(FIT_KEY, fit.mixture, FIT_X, prior, num_samples=20)


def two(fit):
    """Return a stack of a fit, or of a mixture, twice."""
    return jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), fit)


# what takes a mixture: name -> (function of a mixture or fit, prior and posterior; whether it takes a stack)
TAKES_A_MIXTURE = {
    "num_parameters": (lambda m, prior, draws: jnp.asarray(jaxgmm.num_parameters(m)), True),
    "log_prob": (lambda m, prior, draws: jaxgmm.log_prob(m, FIT_X), True),
    "responsibilities": (lambda m, prior, draws: jaxgmm.responsibilities(m, FIT_X), True),
    "predict": (lambda m, prior, draws: jaxgmm.predict(m, FIT_X), True),
    "marginal": (lambda m, prior, draws: jaxgmm.marginal(m, 0), True),
    "condition": (lambda m, prior, draws: jaxgmm.condition(m, 0, [1.0]), True),
    "log_prior": (lambda m, prior, draws: jaxgmm.log_prior(m, prior), True),
    "bic": (lambda m, prior, draws: jaxgmm.bic(m, FIT_X), True),
    "aic": (lambda m, prior, draws: jaxgmm.aic(m, FIT_X), True),
    "icl": (lambda m, prior, draws: jaxgmm.icl(m, FIT_X), True),
    "sample": (lambda m, prior, draws: jaxgmm.sample(FIT_KEY, m, 3), False),
    "e_step": (lambda m, prior, draws: jaxgmm.e_step(m, FIT_X), False),
    "m_step": (lambda m, prior, draws: jaxgmm.m_step(m, jaxgmm.e_step(random_mixture(0, "full", 2, 2), FIT_X)), False),
    "fit": (lambda m, prior, draws: jaxgmm.fit(m, FIT_X, tol=1e-6), False),
    "standard_errors": (lambda m, prior, draws: jaxgmm.standard_errors(m, FIT_X, prior), False),
    "relabel": (lambda m, prior, draws: jaxgmm.relabel(draws, m, FIT_X), False),
    "laplace": (lambda m, prior, draws: jaxgmm.laplace(FIT_KEY, m, FIT_X, prior, num_samples=20), False),
    "gibbs": (lambda m, prior, draws: jaxgmm.gibbs(FIT_KEY, m, FIT_X, prior, num_samples=5, num_warmup=0), False),
    "bootstrap": (lambda m, prior, draws: jaxgmm.bootstrap(FIT_KEY, m, FIT_X, prior, num_samples=2, max_iter=1), False),
}


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("name", TAKES_A_MIXTURE)
def test_a_fit_is_a_mixture(name, fitted_once):
    """Every function of a mixture takes a fit; one that takes no stack refuses it and says how to take one."""
    fit, prior, draws = fitted_once
    function, takes_stacks = TAKES_A_MIXTURE[name]
    left, right = function(fit, prior, draws), function(fit.mixture, prior, draws)
    for a, b in zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True):
        np.testing.assert_array_equal(a, b)
    if takes_stacks:
        function(two(fit), prior, draws)
        return
    for stack, first in ((two(fit), r"\.mixture\[0\]"), (two(fit.mixture), r"\[0\]")):
        with pytest.raises(ValueError, match=rf"is a stack of shape \(2,\); one mixture .*{first}, or use jax.vmap"):
            function(stack, prior, draws)
    for other in (FIT_X, None, "mixture"):
        with pytest.raises(TypeError, match=r"a jaxgmm\.Mixture or a Fit was expected"):
            function(other, prior, draws)


def test_nuts_takes_fits(fitted_once):
    """One, or a stack of them, of which the first is the start and the others are further optima."""
    fit, _, _ = fitted_once
    for given in (two(fit), two(fit.mixture)):
        first, others = _split_starts(given)
        np.testing.assert_array_equal(first.means, fit.mixture.means)
        assert others.batch_shape == (1,)
    assert _split_starts(fit) == (fit.mixture, None)


def test_many_fits_are_starts():
    """fit_many takes a stack of fits, and refuses options that only a key can use."""
    starts = two(random_mixture(0, "full", 2, 2))
    fits = jaxgmm.fit_many(starts, [FIT_X, FIT_X], max_iter=3)
    again = jaxgmm.fit_many(fits, [FIT_X, FIT_X], max_iter=3)
    np.testing.assert_array_equal(again.mixture.means, jaxgmm.fit_many(fits.mixture, [FIT_X, FIT_X], max_iter=3).mixture.means)
    for option in ({"num_components": 2}, {"covariance_type": "diag"}, {"method": "k-means"}):
        with pytest.raises(ValueError, match=f"{next(iter(option))} was given together with starts"):
            jaxgmm.fit_many(fits, [FIT_X, FIT_X], **option)
    with pytest.raises(ValueError, match=r"mixtures has leading axes \(\)"):
        jaxgmm.fit_many(random_mixture(0, "full", 2, 2), [FIT_X])


@pytest.mark.parametrize("scale", [1e-150, 1e-81, 1e-42, 1e77, 1e150])
@pytest.mark.parametrize("kind", TWO_COVARIANCE_TYPES)
def test_extreme_units(scale, kind, x64):
    """Sound covariances are taken in any unit whose squares are numbers, and others refused; all functions follow the unit."""
    one = random_mixture(0, kind, 2, 2)
    mixture = jaxgmm.make_mixture(one.weights, scale * one.means, scale * (scale * one.covariances), covariance_type=kind)
    assert "Mixture" in repr(mixture)
    x = np.asarray(FIT_X)
    np.testing.assert_allclose(jaxgmm.log_prob(mixture, scale * x), jaxgmm.log_prob(one, x) - 2 * np.log(scale), rtol=1e-9)
    np.testing.assert_allclose(jaxgmm.responsibilities(mixture, scale * x), jaxgmm.responsibilities(one, x), atol=1e-9)
    for prior in (None, random_prior(0, kind, 2, 2)):
        in_units = prior and dataclasses.replace(prior, mean=scale * prior.mean, scale=scale * (scale * prior.scale))
        errors, expected = jaxgmm.standard_errors(mixture, scale * x, in_units), jaxgmm.standard_errors(one, x, prior)
        np.testing.assert_allclose(errors.means / scale, expected.means, rtol=1e-6)
        np.testing.assert_allclose(errors.covariances / scale / scale, expected.covariances, rtol=1e-6)
    if kind in ("full", "tied"):
        spoiled = np.array(mixture.covariances)
        spoiled[0, 0, 1] *= 1.5
        with pytest.raises(ValueError, match="symmetric"):
            jaxgmm.make_mixture(mixture.weights, mixture.means, spoiled, covariance_type=kind)
        singular = np.array(mixture.covariances)
        singular[0] = scale * np.ones((2, 2)) * scale
        singular[0, 0, 1] = singular[0, 1, 0] = 1.1 * scale * scale
        with pytest.raises(ValueError, match="positive definite"):
            jaxgmm.make_mixture(mixture.weights, mixture.means, singular, covariance_type=kind)
