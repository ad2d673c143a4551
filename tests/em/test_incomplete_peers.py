"""Fits of incomplete rows end where those of other programs end.

The figures were printed by these programs:

    tgmm 0.4.3: GaussianMixture(missing="em", reg_covar=0, tol=1e-13) from the same start
    astroML 1.0.2: XDGMM, 400 of its EM steps from the same start
    mclust 6.0.0: MclustSSC.fit(x, class, modelName=..., control=emControl(tol=c(1e-12, 1e-14), itmax=c(1e5, 1e4)))
"""

import jax
import numpy as np
import pytest

import jaxgmm

from helpers import slow_unless

pytestmark = pytest.mark.usefixtures("x64")
SPECIES = np.repeat([0, 1, 2], 50)


def iris():
    """Return the four measurements of Fisher's iris data."""
    return np.asarray(jaxgmm.datasets.load("iris"), float)[:, :4]


@pytest.mark.parametrize(
    ("kind", "log_likelihood"),
    slow_unless(
        [("full", -188.00944974984844), ("diag", -276.27954677282673), ("spherical", 150 * -2.218495663712584)],
        [("full", -188.00944974984844)],
    ),
)
def test_missing_values_against_tgmm(kind, log_likelihood):
    """A fifth of the values of iris is missing; the fixed points have the same log-likelihood within 1e-6."""
    x = iris()
    holes = np.random.default_rng(0).random(x.shape) < 0.2
    holes[holes.all(1)] = False
    start = jaxgmm.from_labels(x, SPECIES, num_components=3, covariance_type=kind)
    found = jaxgmm.fit(start, jaxgmm.observations(np.where(holes, np.nan, x)), reg_covar=0.0, tol=1e-13, max_iter=1000)
    np.testing.assert_allclose(found.log_likelihood, log_likelihood, rtol=0, atol=1e-6)


def test_noise_of_each_row_against_astroml():
    """Extreme deconvolution with a matrix of noise for each row: the start, ten plain steps, and the fixed point."""
    x, rng = iris(), np.random.default_rng(0)
    roots = rng.normal(size=(150, 4, 4)) * 0.08
    noisy = x + np.einsum("nij,nj->ni", roots, rng.normal(size=(150, 4)))
    start = jaxgmm.from_labels(noisy, SPECIES, num_components=3)
    rows = jaxgmm.observations(noisy, noise=roots @ np.swapaxes(roots, 1, 2))
    found = jaxgmm.fit(start, rows, reg_covar=0.0, tol=1e-12, max_iter=1000)
    np.testing.assert_allclose(found.history[0], -308.79125972155, rtol=0, atol=1e-9)
    np.testing.assert_allclose(found.log_likelihood, -284.6025614023557, rtol=0, atol=1e-6)
    assert found.converged


@pytest.mark.parametrize(
    ("code", "log_likelihood", "weights", "means"),
    [
        pytest.param(
            "VVV",
            -186.398116176943,
            [0.333333317249, 0.360269918121, 0.306396764630],
            [
                [5.00600002442, 3.42800005443, 1.46200000782, 0.245999997394],
                [6.04186587241, 2.81901410377, 4.39717238809, 1.367907256722],
                [6.52083979512, 2.93430227437, 5.50429360242, 2.038264025198],
            ],
            marks=pytest.mark.slow,
        ),
        (
            "EEE",
            -258.856207584933,
            [0.333333333333, 0.335096583952, 0.331570082714],
            [
                [5.00600000000, 3.42800000000, 1.46200000000, 0.24600000000],
                [5.94113120177, 2.76849599728, 4.26578019975, 1.32588288524],
                [6.58628148313, 2.97660484689, 5.55302902712, 2.02984087786],
            ],
        ),
        pytest.param(
            "EEV",
            -216.339013839671,
            [0.333333333310, 0.368413576062, 0.298253090628],
            [
                [5.00600000003, 3.42800000008, 1.46200000001, 0.245999999996],
                [6.05530764110, 2.82440263942, 4.42074740026, 1.376093515171],
                [6.51731427314, 2.93079407241, 5.50540249104, 2.046455911440],
            ],
            marks=pytest.mark.slow,
        ),
    ],
)
def test_known_labels_against_mclust(code, log_likelihood, weights, means):
    """Every second label of iris is known. MclustSSC starts with equal responsibilities in the other rows."""
    x, labels = iris(), np.where(np.arange(150) % 2, -1, SPECIES)
    start = jaxgmm.from_responsibilities(
        x, np.where(labels[:, None] < 0, 1 / 3, labels[:, None] == np.arange(3)), covariance_type=code
    )
    rows = jaxgmm.observations(x, labels=labels)
    found = jaxgmm.fit(start, rows, reg_covar=0.0, tol=1e-14, max_iter=1000)
    np.testing.assert_allclose(found.log_likelihood, log_likelihood, rtol=0, atol=1e-8)
    np.testing.assert_allclose(found.mixture.weights, weights, rtol=0, atol=1e-6)
    np.testing.assert_allclose(found.mixture.means, means, rtol=0, atol=1e-5)
    if code == "EEE":  # mclust prints the BIC with the opposite sign
        np.testing.assert_allclose(jaxgmm.bic(found, rows), 637.9677, rtol=0, atol=1e-4)


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
@pytest.mark.filterwarnings("ignore:x has . rows? in which nothing is observed")
def test_mean_imputation_is_worse():
    """With 30 % of iris missing, EM's mixtures have the higher log-likelihood of the complete data for each of 20 masks.

    Both methods start at the clusters of the three species, and have the default prior of their data. By maximum likelihood, 19
    of the 20 masks have this result; for the other one, EM ends where a component is nearly singular.
    """
    x, masks = iris(), np.random.default_rng(0).random((20, 150, 4)) < 0.3
    start = jaxgmm.fit(jaxgmm.from_labels(x, SPECIES, num_components=3), x).mixture
    starts = jax.tree.map(lambda leaf: np.stack([leaf] * 20), start)
    means = np.nanmean(np.where(masks, np.nan, x), 1, keepdims=True)
    totals = []
    for sets in ([jaxgmm.observations(x, missing=mask) for mask in masks], list(np.where(masks, means, x))):
        priors = jax.tree.map(lambda *leaves: np.stack(leaves), *[jaxgmm.default_prior(one, num_components=3) for one in sets])
        totals.append(np.asarray(jaxgmm.log_prob(jaxgmm.fit_many(starts, sets, priors).mixture, x)).sum(-1))
    print(*totals)
    assert (totals[0] >= totals[1]).sum() == 20
