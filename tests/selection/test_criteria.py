"""bic, aic and icl: scikit-learn's and published values, absent components, weights."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgmm

from helpers import TWO_COVARIANCE_TYPES, random_data, random_mixture, random_weight


@pytest.mark.parametrize("covariance_type", TWO_COVARIANCE_TYPES)
def test_criteria_are_scikit_learns(covariance_type, x64):
    """BIC and AIC of the same parameters agree to 1e-9; a stack gives the single values; weights act as repetition."""
    mixture_module = pytest.importorskip("sklearn.mixture")
    mixture, x = random_mixture(0, covariance_type), random_data(0)
    peer = mixture_module.GaussianMixture(3, covariance_type=covariance_type)
    covariances = np.asarray(mixture.covariances)
    covariances = {"tied": covariances[0], "spherical": covariances[..., 0]}.get(covariance_type, covariances)
    if covariance_type in ("full", "tied"):
        peer.precisions_cholesky_ = np.swapaxes(np.linalg.inv(np.linalg.cholesky(covariances)), -1, -2)
    else:
        peer.precisions_cholesky_ = 1 / np.sqrt(covariances)
    peer.weights_, peer.means_, peer.covariances_ = np.asarray(mixture.weights), np.asarray(mixture.means), covariances
    np.testing.assert_allclose(jaxgmm.bic(mixture, x), peer.bic(x), rtol=1e-9)
    np.testing.assert_allclose(jaxgmm.aic(mixture, x), peer.aic(x), rtol=1e-9)
    stack = jax.tree.map(lambda a, b: jnp.stack([a, b]), mixture, random_mixture(1, covariance_type))
    np.testing.assert_allclose(jaxgmm.bic(stack, x)[0], jaxgmm.bic(mixture, x), rtol=1e-12)
    counts = np.ceil(random_weight(0))
    repeated = np.repeat(x, counts.astype(int), axis=0)
    np.testing.assert_allclose(jaxgmm.icl(mixture, x, sample_weight=counts), jaxgmm.icl(mixture, repeated), rtol=1e-10)


def test_absent_components_have_no_parameters(x64):
    """A component of weight 0 changes no criterion."""
    mixture, x = random_mixture(0, "full"), random_data(0)
    more = jaxgmm.Mixture(
        jnp.append(mixture.weights, 0),
        jnp.append(mixture.means, mixture.means[:1], 0),
        jnp.append(mixture.covariances, mixture.covariances[:1], 0),
        "full",
    )
    for criterion in (jaxgmm.bic, jaxgmm.aic, jaxgmm.icl):
        np.testing.assert_allclose(criterion(more, x), criterion(mixture, x), rtol=1e-12)


@pytest.mark.slow
def test_published_icl(x64):
    """ICL of faithful with three tied components is 2358.390, at the maximum itself."""
    x = jaxgmm.datasets.load("faithful")
    best = jaxgmm.fit_restarts(jax.random.key(0), x, num_components=3, covariance_type="tied", tol=1e-13)
    np.testing.assert_allclose(jaxgmm.icl(best.mixture, x), 2358.390, atol=1e-3)
