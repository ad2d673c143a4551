"""The M-step: against loops and scikit-learn, closed forms, and components that hold no data."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgmm
from jaxgmm.em.kernels import unwhiten
from jaxgmm.em.m_step import PSEUDO_COUNT, data_covariance
from jaxgmm.priors.interface import ComponentSums
from jaxgmm.rounding import positive_factors

import oracle
from helpers import (
    COVARIANCE_TYPES,
    OTHER_TWO_COVARIANCE_TYPES,
    TWO_COVARIANCE_TYPES,
    assert_mixtures_close,
    random_data,
    random_mixture,
    random_prior,
    random_weight,
)

e_step, m_step = jax.jit(jaxgmm.e_step), jax.jit(jaxgmm.m_step)


@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
def test_m_step_is_the_oracles(covariance_type, x64):
    """With the penalty, a prior, reg_covar and plain ML, the M-step is that of the oracle."""
    mixture, x, w, prior = (
        random_mixture(0, covariance_type),
        random_data(0),
        random_weight(0),
        random_prior(0, covariance_type),
    )
    moments = e_step(mixture, x, sample_weight=w)
    assert_mixtures_close(m_step(mixture, moments), oracle.m_step(mixture, x, w), 1e-10)
    assert_mixtures_close(m_step(mixture, moments, prior), oracle.m_step(mixture, x, w, prior), 1e-10)
    for reg in (0.0, 1e-3):
        assert_mixtures_close(m_step(mixture, moments, reg_covar=reg), oracle.m_step(mixture, x, w, reg_covar=reg), 1e-10)


@pytest.mark.parametrize("covariance_type", TWO_COVARIANCE_TYPES)
def test_steps_are_scikit_learns(covariance_type, x64):
    """With reg_covar=1e-6, 1, 5 and 25 steps from one start end at the mixture that scikit-learn has."""
    start, x = random_mixture(1, covariance_type), random_data(1)
    ours, done = start, 0
    for steps in (1, 5, 25):
        for _ in range(steps - done):
            ours = m_step(ours, e_step(ours, x), reg_covar=1e-6)
        done = steps
        assert_mixtures_close(ours, scikit_learn(start, x, steps), 1e-6)


def scikit_learn(start, x, steps):
    """Return the mixture that scikit-learn has after some steps from the same start."""
    from sklearn.mixture import GaussianMixture

    covariance_type, dense = start.covariance_type, [oracle.dense(start, k) for k in range(3)]
    precisions = oracle.store([np.linalg.inv(m) for m in dense], covariance_type)
    precisions = {"tied": lambda p: p[0], "spherical": lambda p: p[:, 0]}.get(covariance_type, lambda p: p)(precisions)
    theirs = GaussianMixture(
        3,
        covariance_type=covariance_type,
        tol=0,
        reg_covar=1e-6,
        max_iter=steps,
        weights_init=np.asarray(start.weights),
        means_init=np.asarray(start.means),
        precisions_init=precisions,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tol=0 never converges there
        theirs.fit(x)
    covariances = theirs.covariances_.reshape(start.covariances.shape)
    return oracle.Mixture(theirs.weights_, theirs.means_, covariances, covariance_type)


@pytest.mark.parametrize("covariance_type", OTHER_TWO_COVARIANCE_TYPES)
def test_one_component_is_closed_form(covariance_type, x64):
    """With K=1 one step from any start gives the weighted mean and covariance."""
    x, w = random_data(4), random_weight(4)
    start = random_mixture(4, covariance_type, k=1)
    step = m_step(start, e_step(start, x, sample_weight=w), reg_covar=0.0)
    covariance = np.cov(x.T, aweights=w, ddof=0)
    np.testing.assert_allclose(step.weights, [1])
    np.testing.assert_allclose(step.means[0], w @ x / w.sum(), rtol=1e-12)
    diagonal = np.diag(covariance)
    expected = {"full": covariance, "tied": covariance, "diag": diagonal, "spherical": diagonal.mean(keepdims=True)}[
        covariance_type
    ]
    np.testing.assert_allclose(step.covariances[0], expected, rtol=1e-10)
    plain = m_step(start, e_step(start, x, sample_weight=w))
    np.testing.assert_allclose(plain.covariances[0], expected, rtol=3e-6)  # the penalty is worth 1e-6 of an observation


@pytest.mark.parametrize("covariance_type", OTHER_TWO_COVARIANCE_TYPES)
def test_empty_components_stay_where_they_are(covariance_type, x64):
    """A component without data keeps its mean and covariance at weight 0; one of weight 0 stays there, with a prior too."""
    mixture, x = random_mixture(5, covariance_type), random_data(5)
    far = jaxgmm.Mixture(mixture.weights, mixture.means.at[1].set(1e4), mixture.covariances, covariance_type)
    absent = jaxgmm.Mixture(jnp.asarray([0.4, 0.0, 0.6]), mixture.means, mixture.covariances, covariance_type)
    for start in (far, absent):
        step = m_step(start, e_step(start, x))
        assert float(step.weights[1]) == 0
        np.testing.assert_array_equal(step.means[1], start.means[1])
        if covariance_type != "tied":
            np.testing.assert_array_equal(step.covariances[1], start.covariances[1])
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(step))
    step = m_step(absent, e_step(absent, x), random_prior(5, covariance_type))
    assert float(step.weights[1]) == 0
    assert abs(float(step.weights.sum()) - 1) < 1e-12
    # with a prior, an empty component takes the mode of the prior
    prior = random_prior(5, covariance_type)
    step = m_step(far, e_step(far, x), prior)
    np.testing.assert_allclose(step.means[1], prior.mean, rtol=1e-9)
    assert float(step.weights[1]) > 0


@pytest.mark.parametrize("covariance_type", TWO_COVARIANCE_TYPES)
def test_data_covariance_does_not_depend_on_the_mixture(covariance_type, x64):
    """V within and between the components of any mixture is the covariance of the data in the storage of the type."""
    x, w = random_data(0), random_weight(0)
    expected = oracle.store([oracle.data_covariance(x, w, covariance_type)], covariance_type)

    @jax.jit
    def covariance_of_data(mixture, moments):
        sums = unwhiten(mixture, positive_factors(mixture), moments.count, moments.first, moments.second)
        return data_covariance(sums, 0.0, covariance_type)

    for seed in range(2):
        mixture = random_mixture(seed, covariance_type)
        moments = e_step(mixture, x, sample_weight=w)
        np.testing.assert_allclose(covariance_of_data(mixture, moments), expected, rtol=1e-9, atol=1e-12)


def test_data_covariance_of_a_constant_column_is_positive(x64):
    """A column without variance about 7 gets that of the rounding of 7, times enough for V's pseudo-count to hold it."""
    sums = ComponentSums(jnp.array([60.0]), jnp.zeros((1, 2)), jnp.array([[[30.0, 0.0], [0.0, 0.0]]]))
    found = data_covariance(sums, jnp.array([0.0, 7.0]), "full")
    expected = (4 * np.finfo(float).eps * 7) ** 2 * (1 + 60 / PSEUDO_COUNT)
    np.testing.assert_allclose(found[0], np.diag([0.5 * (1 + 1e-6), expected]), rtol=1e-12)


def test_refusals(x64):
    """Invalid regularisations are refused with what was expected."""
    mixture, prior = random_mixture(0, "full"), random_prior(0, "full")
    moments = jaxgmm.Moments(jnp.ones(3), jnp.zeros((3, 3)), jnp.broadcast_to(jnp.eye(3), (3, 3, 3)), jnp.array(0.0))
    for wrong, error, words in [
        (lambda: jaxgmm.m_step(mixture, moments, prior, reg_covar=1e-6), ValueError, "both given"),
        (lambda: jaxgmm.m_step(mixture, moments, reg_covar=-1.0), ValueError, ">= 0 was expected"),
        (lambda: jaxgmm.m_step(mixture, moments, random_prior(0, "diag")), ValueError, r"\(3, 3\) was expected"),
        (lambda: jaxgmm.m_step(mixture, moments, "weak"), TypeError, "Prior was expected"),
    ]:
        with pytest.raises(error, match=words):
            wrong()
