"""`select` of observations: its values are those of the criteria, by a slow computation where folds are held out."""

import warnings

import jax
import numpy as np
import pytest

import jaxgmm
from jaxgmm.selection.sweep import _folds

from helpers import random_data

OPTIONS = {"covariance_types": ["diag"], "num_restarts": 1, "tol": 1e-6, "max_iter": 200}


def some_rows(dtype=float, *, labelled=False):
    """Return two clusters of 40 rows, in which a fifth of the second column is missing and one row observes nothing."""
    rng = np.random.default_rng(0)
    x = random_data(0, n=40, d=2) + 8 * (np.arange(40) % 2)[:, None]
    x[rng.random(40) < 0.2, 1] = np.nan
    x[7] = np.nan
    labels = np.where(np.arange(40) % 5 == 0, 1 - np.arange(40) % 2, -1) if labelled else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the empty row
        return jaxgmm.observations(x.astype(dtype), labels=labels)


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_criteria_are_those_of_the_fits():
    """Each value is the criterion of its fit, the fit is that of EM from the clusters, and N has no empty row."""
    rows = some_rows()
    found = jaxgmm.select(jax.random.key(0), rows, num_components=[1, 2], **OPTIONS)
    assert found.best.num_components == 2
    for k in (1, 2):
        cell = found.cells["diag", k]
        np.testing.assert_allclose(cell.criterion, jaxgmm.bic(cell.fit, rows), rtol=1e-12)
        free = k - 1 + 4 * k
        np.testing.assert_allclose(cell.criterion, -2 * cell.log_likelihood + free * np.log(39), rtol=1e-12)
        centers = [[0.0, 0.0], [8.0, 8.0]] if k == 2 else [[4.0, 4.0]]
        start = jaxgmm.make_mixture(np.full(k, 1 / k), centers, np.full((k, 2), 9.0), covariance_type="diag")
        other = jaxgmm.fit(start, rows, tol=1e-6, max_iter=200)
        np.testing.assert_allclose(cell.log_likelihood, other.log_likelihood, atol=1e-4)


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_cross_validation_by_a_loop():
    """The value is -2 times the log-likelihood of the held-out rows under fits to the other rows; labels keep components."""
    rows = some_rows(labelled=True)
    key = jax.random.key(0)
    found = jaxgmm.select(key, rows, num_components=2, criterion="cv", num_folds=2, **OPTIONS).cells["diag", 2]
    folds, total = _folds(jax.random.split(key, 3)[1], 40, 2), 0.0
    for fold in range(2):
        train, held = (jax.tree.map(lambda leaf, own=own: leaf[own], rows) for own in (folds != fold, folds == fold))
        fit = jaxgmm.fit(found.fit, train, tol=1e-6, max_iter=200)
        total += held.weight @ jaxgmm.log_prob(fit, held)
    np.testing.assert_allclose(found.criterion, -2 * total, rtol=1e-5)
    assert found.fit.mixture.means[0, 0] > found.fit.mixture.means[1, 0] + 5  # label 0 marks the upper cluster


def test_float32_and_errors():
    """In float32, the value is the criterion of the fit; labels beyond the smallest K and empty columns are refused."""
    rows = some_rows(np.float32, labelled=True)
    cell = jaxgmm.select(jax.random.key(0), rows, num_components=2, criterion="icl", **OPTIONS).best
    assert cell.fit.mixture.means.dtype == np.float32
    np.testing.assert_allclose(cell.criterion, jaxgmm.icl(cell.fit, rows), rtol=1e-5)
    with pytest.raises(ValueError, match="labels has the value 1"):
        jaxgmm.select(jax.random.key(0), rows, num_components=[1, 2])
    empty = jaxgmm.observations(np.stack([np.arange(9.0), np.full(9, np.nan)], 1))
    with pytest.raises(ValueError, match="x has no value in column 1"):
        jaxgmm.select(jax.random.key(0), empty, num_components=[1, 2])
