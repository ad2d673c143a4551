"""`compare` and `modes` with observations: the scores of rows are those of their observed values, computed here by a loop."""

import dataclasses
import math

import jax
import numpy as np
import pytest

import jaxgmm
from jaxgmm.comparison.predictive_scores import assign_folds

from helpers import random_data

NAMES = ["length", "width"]


def some_rows():
    """Return two clusters of 40 rows with weights, noise and some labels; a fifth of the second column is missing."""
    rng = np.random.default_rng(0)
    x = random_data(0, n=40, d=2) + 9 * (np.arange(40) % 2)[:, None]
    x[rng.random(40) < 0.2, 1] = np.nan
    labels = np.where(np.arange(40) % 8 == 0, 0, -1)
    weight = np.where(np.arange(40) == 3, 0.0, 1.0)
    return jaxgmm.observations(x, noise=np.full(2, 0.1), labels=labels, sample_weight=weight)


@pytest.fixture(scope="module")
def compared():
    """Return rows, prior, EM's fit, made-up draws around the fit and the comparison, in float32."""
    rows = some_rows()
    prior = jaxgmm.default_prior(rows, num_components=2, covariance_type="diag")
    start = jaxgmm.make_mixture([0.5, 0.5], [[0.0, 0.0], [9.0, 9.0]], np.ones((2, 2)), covariance_type="diag")
    fit = jaxgmm.fit(start, rows, prior)
    rng = np.random.default_rng(1)
    factor = np.exp(0.1 * rng.normal(size=(2, 150, 2))).astype(np.float32)
    weights = np.asarray(fit.mixture.weights) * factor
    means = np.asarray(fit.mixture.means) + 0.1 * rng.normal(size=(2, 150, 2, 2)).astype(np.float32)
    covariances = np.asarray(fit.mixture.covariances) * factor[..., None]
    mixture = jaxgmm.Mixture(weights / weights.sum(-1, keepdims=True), means, covariances, "diag")
    density = np.asarray(jaxgmm.log_prob(mixture, rows)) @ np.asarray(rows.weight) + jaxgmm.log_prior(mixture, prior)
    draws = jaxgmm.Posterior(mixture, density, prior, np.array(0), {}, "gibbs")
    comparison = jaxgmm.compare(fit, draws, rows, num_folds=3, modes=False, feature_names=NAMES, progress=False)
    return rows, prior, fit, draws, comparison


def test_scores_of_rows_by_a_loop(compared):
    """EM's scores are sums of weighted densities of observed values, with the rows of a fold left out of the fit or not."""
    rows, prior, fit, _, comparison = compared
    density = comparison.density["gibbs"]
    kept = np.flatnonzero(np.arange(40) != 3)
    here = np.asarray(jaxgmm.log_prob(fit, rows), float)[kept]
    np.testing.assert_allclose(density.lpd_em, here.sum(), rtol=1e-5)
    folds, total = assign_folds(np.random.default_rng(0), 39, 3), 0.0
    for fold in range(3):
        weight = np.zeros(40)
        weight[kept[folds != fold]] = 1
        other = jaxgmm.fit(fit.mixture, dataclasses.replace(rows, weight=weight.astype(np.float32)), prior)
        total += np.asarray(jaxgmm.log_prob(other, rows), float)[kept[folds == fold]].sum()
    np.testing.assert_allclose(density.elpd_folds_em, total, rtol=1e-3)
    assert math.isfinite(density.elpd_loo)
    assert density.num_rows == 39
    clustering = comparison.clustering["gibbs"]
    r = np.asarray(jaxgmm.responsibilities(fit, rows), float)[kept]
    entropy = -(r * np.log(np.where(r > 0, r, 1))).sum(-1).mean()
    np.testing.assert_allclose(clustering.entropy_em, entropy, atol=1e-5)


def test_the_comparison_is_complete(compared):
    """No note says that fit and data do not match, Laplace's approximation is used, and the labels identify components."""
    comparison = compared[-1]
    sampler = comparison.samplers["gibbs"]
    assert not any("not made on these data" in note or "did not maximise" in note for note in sampler.notes)
    assert sampler.identified
    assert all(math.isfinite(row.laplace_sd) and math.isfinite(row.em_se) for row in comparison.rows)
    assert comparison.meta.total_weight == 39
    assert "length" in str(comparison.details())


def test_modes_are_optima(compared):
    """Each mode has the objective of the rows and the prior at its parameters, and the modes hold all draws."""
    rows, prior, fit, draws, _ = compared
    found = jaxgmm.modes(draws, rows, num_starts=8, progress=False)
    np.testing.assert_allclose(found.mass.sum(), 1, rtol=1e-5)
    for i in range(len(found.mass)):
        mode = jax.tree.map(lambda leaf, i=i: leaf[i], found.mixture)
        value = rows.weight @ jaxgmm.log_prob(mode, rows) + jaxgmm.log_prior(mode, prior)
        np.testing.assert_allclose(found.objective[i], value, rtol=1e-4)
    np.testing.assert_allclose(found.objective.max(), fit.objective, atol=0.1)
