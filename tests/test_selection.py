"""Criteria against published values and scikit-learn's; the sweep never lets a spike win."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgmm
from jaxgmm.em.result import Status

from helpers import COVARIANCE_TYPES, random_data, random_mixture, random_weight


@pytest.fixture(scope="module")
def faithful():
    """A sweep of two types over two data-sized K, at float32 as a user has it."""
    x = jaxgmm.datasets.load("faithful")
    return x, jaxgmm.select(
        jax.random.key(0), x, num_components=(1, 2, 3), covariance_types=("full", "tied"), num_restarts=4, max_iter=400
    )


def test_published_values(faithful):
    """Faithful, mclust's optima taken to the end: BIC 2314.2957 (tied, 3), 2322.1917 (full, 2)."""
    x, selection = faithful
    np.testing.assert_allclose(selection.cells["tied", 3].criterion, 2314.2957, atol=0.02)
    np.testing.assert_allclose(selection.cells["full", 2].criterion, 2322.1917, atol=0.02)
    assert (selection.best.covariance_type, selection.best.num_components) == ("tied", 3)
    one = selection.cells["full", 1]
    np.testing.assert_allclose(one.fit.mixture.means[0], x.mean(0), rtol=1e-5)
    assert one.status == Status.CONVERGED
    assert one.fit.component_status.shape == (1,)


def test_it_prints_as_a_table(faithful):
    """A row for each K, a column for each type, the best marked."""
    lines = repr(faithful[1]).splitlines()
    assert lines[0].startswith("BIC")
    assert lines[1].split() == ["K", "full", "tied"]
    assert [line.split()[0] for line in lines[2:5]] == ["1", "2", "3"]
    assert lines[4].rstrip().endswith("*")


@pytest.mark.slow
def test_published_values_of_small_data(x64):
    """Iris full K=2 574.0178, K=3 580.8389; galaxies full K=3 442.2177: the sound maxima, in spite of spikes."""
    options = {"covariance_types": "full", "num_restarts": 20, "tol": 1e-10}
    iris = jaxgmm.select(jax.random.key(0), jaxgmm.datasets.load("iris"), num_components=(2, 3), **options)
    galaxies = jaxgmm.select(jax.random.key(0), jaxgmm.datasets.load("galaxies"), num_components=3, **options)
    np.testing.assert_allclose([c.criterion for c in iris.cells.values()], [574.0178, 580.8389], atol=1e-3)
    np.testing.assert_allclose(galaxies.best.criterion, 442.2177, atol=1e-3)


@pytest.mark.slow
def test_published_icl(x64):
    """Faithful, tied K=3: ICL 2358.390, from the maximum itself."""
    x = jaxgmm.datasets.load("faithful")
    best = jaxgmm.fit_restarts(jax.random.key(0), x, num_components=3, covariance_type="tied", tol=1e-13)
    np.testing.assert_allclose(jaxgmm.icl(best.mixture, x), 2358.390, atol=1e-3)


@pytest.mark.parametrize("kind", COVARIANCE_TYPES)
def test_criteria_are_scikit_learns(kind, x64):
    """BIC and AIC of the same parameters, to 1e-9; over a stack as one by one; weights as repetition."""
    mixture_module = pytest.importorskip("sklearn.mixture")
    mixture, x = random_mixture(0, kind), random_data(0)
    peer = mixture_module.GaussianMixture(3, covariance_type=kind)
    covariances = np.asarray(mixture.covariances)
    covariances = {"tied": covariances[0], "spherical": covariances[..., 0]}.get(kind, covariances)
    if kind in ("full", "tied"):
        peer.precisions_cholesky_ = np.swapaxes(np.linalg.inv(np.linalg.cholesky(covariances)), -1, -2)
    else:
        peer.precisions_cholesky_ = 1 / np.sqrt(covariances)
    peer.weights_, peer.means_, peer.covariances_ = np.asarray(mixture.weights), np.asarray(mixture.means), covariances
    np.testing.assert_allclose(jaxgmm.bic(mixture, x), peer.bic(x), rtol=1e-9)
    np.testing.assert_allclose(jaxgmm.aic(mixture, x), peer.aic(x), rtol=1e-9)
    stack = jax.tree.map(lambda a, b: jnp.stack([a, b]), mixture, random_mixture(1, kind))
    np.testing.assert_allclose(jaxgmm.bic(stack, x)[0], jaxgmm.bic(mixture, x), rtol=1e-12)
    counts = np.ceil(random_weight(0))
    repeated = np.repeat(x, counts.astype(int), axis=0)
    np.testing.assert_allclose(jaxgmm.icl(mixture, x, sample_weight=counts), jaxgmm.icl(mixture, repeated), rtol=1e-10)


def test_absent_components_have_no_parameters(x64):
    """A component of weight 0 changes nothing."""
    mixture, x = random_mixture(0, "full"), random_data(0)
    more = jaxgmm.Mixture(
        jnp.append(mixture.weights, 0),
        jnp.append(mixture.means, mixture.means[:1], 0),
        jnp.append(mixture.covariances, mixture.covariances[:1], 0),
        "full",
    )
    for criterion in (jaxgmm.bic, jaxgmm.aic, jaxgmm.icl):
        np.testing.assert_allclose(criterion(more, x), criterion(mixture, x), rtol=1e-12)


def test_held_out_rows_choose_the_truth():
    """Three far clusters: cross-validation and the best cell find them, and each row is held out once."""
    rng = np.random.default_rng(0)
    x = (rng.normal(size=(240, 2)) + 8 * rng.integers(3, size=240)[:, None]).astype(np.float32)
    selection = jaxgmm.select(
        jax.random.key(1), x, num_components=(2, 3), covariance_types="tied", criterion="cv", num_restarts=2, num_folds=3
    )
    assert selection.best.num_components == 3
    three = selection.cells["tied", 3]
    assert 0 < three.criterion + 2 * three.log_likelihood < 100  # held out is a little worse than fitted


def test_refusals():
    """Options by name."""
    x, key = np.random.default_rng(0).normal(size=(20, 2)), jax.random.key(0)
    for options, message in (
        ({"criterion": "dic"}, "criterion is 'dic'"),
        ({"num_components": []}, "empty"),
        ({"covariance_types": "round"}, "'round'"),
        ({"num_folds": 1}, "num_folds is 1"),
        ({"num_components": 21}, "20 rows"),
    ):
        with pytest.raises(ValueError, match=message):
            jaxgmm.select(key, x, **options)
