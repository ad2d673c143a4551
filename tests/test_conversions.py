"""from_sklearn and to_sklearn: densities, labels and draws agree on both sides; stacks and other objects are refused."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgmm
from jaxgmm.covariance.estimates import MANY_STEPS, Member, estimate, narrow
from jaxgmm.covariance.types import is_dense

from helpers import COVARIANCE_TYPES, OTHER_TWO_COVARIANCE_TYPES, assert_mixtures_close, random_data, random_mixture

sklearn_mixture = pytest.importorskip("sklearn.mixture")


@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
def test_to_sklearn(covariance_type):
    """Scores, labels and probabilities agree, and the way back gives the same mixture."""
    mixture, x = random_mixture(0, covariance_type, 3, 2), random_data(0, 16, 2)
    found = jaxgmm.to_sklearn(mixture)
    np.testing.assert_allclose(found.score_samples(x), jaxgmm.log_prob(mixture, x), rtol=1e-5)
    probabilities = jaxgmm.responsibilities(mixture, x)
    np.testing.assert_allclose(found.predict_proba(x), probabilities, atol=1e-5)
    np.testing.assert_array_equal(found.predict(x), np.argmax(probabilities, -1))
    assert found.sample(5)[0].shape == (5, 2)
    assert_mixtures_close(jaxgmm.from_sklearn(found), mixture, 1e-6)
    own = sklearn_mixture._gaussian_mixture._compute_precision_cholesky(found.covariances_, covariance_type)
    np.testing.assert_allclose(found.precisions_cholesky_, own, rtol=1e-6, atol=1e-9)
    single = jaxgmm.to_sklearn(random_mixture(0, covariance_type, 1, 2))  # axes of length 1 are kept where they belong
    assert single.score_samples(x).shape == (16,)


@pytest.mark.parametrize("covariance_type", OTHER_TWO_COVARIANCE_TYPES)
def test_from_sklearn(covariance_type, x64):
    """All types of scikit-learn's own fits, in float64."""
    x = random_data(0, 16, 2)
    estimator = sklearn_mixture.GaussianMixture(2, covariance_type=covariance_type, reg_covar=1e-2, random_state=0).fit(x)
    mixture = jaxgmm.from_sklearn(estimator)
    assert mixture.covariance_type == covariance_type
    np.testing.assert_allclose(jaxgmm.log_prob(mixture, x), estimator.score_samples(x), rtol=1e-10)


@pytest.mark.parametrize(
    ("code", "expected"),
    [("EII", "spherical"), ("EEI", "diag"), ("VEI", "diag"), ("EVI", "diag"), ("VEE", "full"), ("EEV", "full")],
)
def test_types_that_scikit_learn_lacks(code, expected):
    """They become the simplest type that holds their covariances; from an estimator with the code, they are read back."""
    full, x = random_mixture(0, "full", 3, 2), random_data(0, 16, 2)
    scatters = full.covariances if is_dense(code) else np.diagonal(full.covariances, axis1=1, axis2=2)
    member = Member((code,), jnp.array(0))
    wide = estimate(jnp.asarray(scatters), jnp.ones(3), member.wide_type, num_steps=MANY_STEPS, member=member)
    mixture = jaxgmm.make_mixture(full.weights, full.means, narrow(np.asarray(wide), code), covariance_type=code)
    found = jaxgmm.to_sklearn(mixture)
    assert found.covariance_type == expected
    np.testing.assert_allclose(found.score_samples(x), jaxgmm.log_prob(mixture, x), rtol=1e-5)
    found.covariance_type = code
    again = jaxgmm.from_sklearn(found)
    assert again.covariance_type == code
    assert_mixtures_close(again, mixture, 1e-6)


def test_a_fit_keeps_its_outcome():
    x = jaxgmm.datasets.load("faithful")
    fit = jaxgmm.fit(jaxgmm.from_labels(x, (x[:, 0] > 3).astype(int), num_components=2), x)
    found = jaxgmm.to_sklearn(fit)
    assert found.converged_ is True
    assert found.n_iter_ == int(fit.num_iter)
    np.testing.assert_allclose(found.score(x) * len(x), fit.log_likelihood, rtol=1e-5)


def test_absent_components_and_singular_covariances():
    """Logarithms of weights stay finite, and no point belongs to an absent component."""
    mixture = jaxgmm.Mixture(jnp.array([1.0, 0.0]), jnp.array([[0.0], [9.0]]), jnp.array([[1.0], [0.0]]), "diag")
    found = jaxgmm.to_sklearn(mixture)
    assert found.predict([[9.5]]).tolist() == [0]
    np.testing.assert_allclose(found.score_samples([[0.5]]), jaxgmm.log_prob(mixture, [[0.5]]), rtol=1e-6)
    flat = jaxgmm.Mixture(jnp.ones(1), jnp.zeros((1, 2)), jnp.ones((1, 2, 2)), "full")
    assert np.isfinite(jaxgmm.to_sklearn(flat).score_samples([[1.0, 1.0]])).all()


def test_errors(monkeypatch):
    mixture = random_mixture(0, "full", 2, 2)
    with pytest.raises(ValueError, match=r"stack of shape \(3,\)"):
        jaxgmm.to_sklearn(jax.tree.map(lambda leaf: np.stack([leaf] * 3), mixture))
    with pytest.raises(ValueError, match="NaN or infinity"):
        jaxgmm.to_sklearn(jax.tree.map(lambda leaf: np.asarray(leaf) * np.nan, mixture))
    with pytest.raises(TypeError, match="outside jit"):
        jax.jit(lambda one: jaxgmm.to_sklearn(one).weights_)(mixture)
    with pytest.raises(ValueError, match="not fitted; call its method fit first"):
        jaxgmm.from_sklearn(sklearn_mixture.GaussianMixture())
    with pytest.raises(TypeError, match="take the last step"):
        jaxgmm.from_sklearn(mixture.weights)
    found = jaxgmm.to_sklearn(mixture)
    found.covariances_ = found.covariances_[:1]
    with pytest.raises(ValueError, match=r"covariances_ has shape \(1, 2, 2\)"):
        jaxgmm.from_sklearn(found)
    monkeypatch.setitem(sys.modules, "sklearn.mixture", None)
    with pytest.raises(ImportError, match=r"jaxgmm\[sklearn\]"):
        jaxgmm.to_sklearn(mixture)
