"""coclustering: co-clustering matrices and entropies against averages by NumPy, in any order of the components."""

import numpy as np
import predictive_draws
import pytest
from predictive_draws import K, N, shares, shuffled
from scipy.special import entr

import jaxgmm
from jaxgmm.posterior.coclustering import KINDS


@pytest.fixture(scope="module")
def posterior():
    return predictive_draws.posterior()


@pytest.fixture(scope="module")
def x():
    return predictive_draws.points()


def binary_entropy(p):
    return entr(p) + entr(1 - p)


def test_coclustering(posterior, x):
    expected = np.einsum("sik,sjk->ij", shares(), shares()) / len(shares())
    np.fill_diagonal(expected, 1)
    got = np.asarray(jaxgmm.coclustering(posterior, x))
    np.testing.assert_allclose(got, expected, atol=1e-5)
    assert (got == got.T).all()
    assert (np.diagonal(got) == 1).all()
    assert got.max() <= 1
    np.testing.assert_allclose(jaxgmm.coclustering(shuffled(), x), expected, atol=1e-5)


def test_entropies(posterior, x):
    total, within, pairs = (np.asarray(jaxgmm.assignment_entropy(posterior, x, kind=kind)) for kind in KINDS)
    np.testing.assert_allclose(total, entr(shares().mean(0)).sum(-1), atol=1e-5)
    np.testing.assert_allclose(within, entr(shares()).sum(-1).mean(0), atol=1e-5)
    # by Jensen's inequality, because the difference is a mutual information
    assert (within < total).all()
    assert (total <= np.log(K) + 1e-6).all()
    together = np.einsum("sik,sjk->ij", shares(), shares()) / len(shares())
    others = ~np.eye(N, dtype=bool)
    expected = [binary_entropy(together[i, others[i]]).mean() for i in range(N)]
    np.testing.assert_allclose(pairs, expected, atol=1e-5)
    other = shuffled()
    np.testing.assert_allclose(jaxgmm.assignment_entropy(other, x, kind="within"), within, atol=1e-5)
    np.testing.assert_allclose(jaxgmm.assignment_entropy(other, x, kind="pairs"), pairs, atol=1e-5)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda p, x: jaxgmm.coclustering(p, x[:, :1]), "has 1 features, the mixture 2"),
        (lambda p, x: jaxgmm.coclustering(p, x[0]), "reshape"),
        (lambda p, x: jaxgmm.assignment_entropy(p, x, kind="both"), "'total', 'within', 'pairs'"),
    ],
)
def test_invalid_arguments(posterior, x, call, words):
    with pytest.raises(ValueError, match=words):
        call(posterior, x)
