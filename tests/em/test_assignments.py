"""from_labels and from_responsibilities: the M-step of given groups."""

import numpy as np
import pytest

import jaxgmm

import oracle
from helpers import OTHER_TWO_COVARIANCE_TYPES, assert_mixtures_close, random_data, random_weight

X, R = random_data(0, d=2), np.random.default_rng(0).dirichlet(np.ones(3), 60)


@pytest.mark.parametrize("covariance_type", OTHER_TWO_COVARIANCE_TYPES)
def test_moments_of_groups(covariance_type, x64):
    """from_responsibilities and from_labels give the weighted moments of the groups, without regularisation."""
    w = random_weight(0)
    labels = R.argmax(1)
    soft = jaxgmm.from_responsibilities(X, R, covariance_type=covariance_type, sample_weight=w)
    assert_mixtures_close(soft, oracle.mixture_of_groups(X, R, w, covariance_type), 1e-10)
    hard = jaxgmm.from_labels(X, labels, num_components=3, covariance_type=covariance_type, sample_weight=w)
    assert_mixtures_close(hard, oracle.mixture_of_groups(X, np.eye(3)[labels], w, covariance_type), 1e-10)


@pytest.mark.parametrize("covariance_type", ["full", "diag"])
def test_moments_of_many_groups(covariance_type, x64):
    """With 64 groups or more, the scatters of labels come from one matrix product and equal those of responsibilities."""
    labels, w = np.arange(60) % 20 * 3, random_weight(0)
    kind = {"covariance_type": covariance_type, "sample_weight": w}
    far = X + 1e4
    hard = jaxgmm.from_labels(far, labels, num_components=64, **kind)
    soft = jaxgmm.from_responsibilities(far, np.eye(64)[labels], **kind)
    assert_mixtures_close(hard, soft, 1e-10)


def test_a_label_that_never_occurs(x64):
    """Its component has weight 0, and the mean and covariance of all data."""
    mixture = jaxgmm.from_labels(X, np.zeros(60, int), num_components=3)
    assert mixture.weights.tolist() == [1, 0, 0]
    np.testing.assert_allclose(mixture.means, np.tile(X.mean(0), (3, 1)), rtol=1e-10)
    np.testing.assert_allclose(mixture.covariances[2], np.cov(X.T, ddof=0), rtol=1e-5)


def test_errors():
    """Errors say which labels, responsibilities and shapes were expected."""
    for wrong, error, words in [
        (lambda: jaxgmm.from_labels(X, np.full(60, 3), num_components=3), ValueError, "from 0 to num_components - 1 = 2"),
        (lambda: jaxgmm.from_labels(X, np.full(60, -1), num_components=3), ValueError, "go from -1 to -1"),
        (lambda: jaxgmm.from_labels(X, np.full(60, 0.5), num_components=3), ValueError, "integers"),
        (lambda: jaxgmm.from_labels(X, np.full(60, np.nan), num_components=3), ValueError, "NaN"),
        (lambda: jaxgmm.from_labels(X, np.full(60, "a"), num_components=3), TypeError, "strings"),
        (lambda: jaxgmm.from_labels(X, np.zeros(5, int), num_components=3), ValueError, r"\(60,\)"),
        (lambda: jaxgmm.from_responsibilities(X, R[:5]), ValueError, r"\(N, K\) with N=60"),
        (lambda: jaxgmm.from_responsibilities(X, -R), ValueError, ">= 0 were expected"),
        (lambda: jaxgmm.from_responsibilities(X, R * np.nan), ValueError, "NaN"),
        (lambda: jaxgmm.from_responsibilities(X, R[:, 0]), ValueError, r"\(N, K\)"),
    ]:
        with pytest.raises(error, match=words):
            wrong()
