"""select: published values, its table and records, cross-validation; a degenerate fit is never chosen."""

import dataclasses
import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgmm
from jaxgmm.em.result import Status

from helpers import random_data


@pytest.fixture(scope="module")
def faithful():
    """Return data and a sweep of two covariance types over two numbers of components, in float32."""
    x = jaxgmm.datasets.load("faithful")
    return x, jaxgmm.select(
        jax.random.key(0), x, num_components=(2, 3), covariance_types=("full", "tied"), num_restarts=4, max_iter=400
    )


def test_published_values(faithful):
    """BIC of faithful at the maxima that mclust approaches: 2314.2957 (tied, 3) and 2322.1917 (full, 2)."""
    _, selection = faithful
    np.testing.assert_allclose(selection.cells["tied", 3].criterion, 2314.2957, atol=0.02)
    np.testing.assert_allclose(selection.cells["full", 2].criterion, 2322.1917, atol=0.02)
    assert (selection.best.covariance_type, selection.best.num_components) == ("tied", 3)
    two = selection.cells["full", 2]
    assert two.status == Status.CONVERGED
    assert two.fit.mixture.means.shape == (2, 2)
    assert two.fit.component_status.shape == (2,)


def test_the_order_of_the_numbers_does_not_matter(faithful):
    """The starts of a model depend on its own number of components, not on its place among the others."""
    x, selection = faithful
    swept = jaxgmm.select(jax.random.key(0), x, num_components=(3, 2), covariance_types=("full",), num_restarts=4, max_iter=400)
    for name, cell in swept.cells.items():
        np.testing.assert_allclose(cell.criterion, selection.cells[name].criterion, rtol=1e-6)
        np.testing.assert_allclose(cell.fit.mixture.means, selection.cells[name].fit.mixture.means, rtol=1e-5)


def test_table(faithful):
    """The table has a row for each K and a column for each type, and marks the best."""
    lines = repr(faithful[1]).splitlines()
    assert lines[0].startswith("BIC")
    assert lines[1].split() == ["K", "full", "tied"]
    assert [line.split()[0] for line in lines[2:4]] == ["2", "3"]
    assert lines[3].rstrip().endswith("*")


def test_records(faithful):
    """to_dict has the keys of the JSON file; a data frame has a row for each cell; numbers that are not finite become None."""
    selection = faithful[1]
    record = selection.to_dict()
    assert list(record) == ["criterion", "cells", "best"]
    assert record["best"] == {"covariance_type": "tied", "num_components": 3}
    keys = ["covariance_type", "num_components", "criterion", "log_likelihood", "status", "spike"]
    assert [list(cell) for cell in record["cells"]] == [keys] * 4
    assert json.loads(selection.to_json()) == record
    frame = selection.to_dataframe()
    assert list(frame.columns) == keys
    assert frame["criterion"].tolist() == [cell.criterion for cell in selection.cells.values()]
    assert frame.loc[frame["criterion"].idxmin(), "num_components"] == 3
    failed = dataclasses.replace(selection.best, criterion=math.inf, log_likelihood=math.nan)
    assert (failed.to_dict()["criterion"], failed.to_dict()["log_likelihood"]) == (None, None)


@pytest.mark.slow
def test_published_values_of_small_data(x64):
    """Iris, full: 574.0178 (K=2), 580.8389 (K=3); galaxies, full: 442.2177 (K=3); without degenerate components."""
    options = {"covariance_types": "full", "num_restarts": 20, "tol": 1e-10}
    iris = jaxgmm.select(jax.random.key(0), jaxgmm.datasets.load("iris"), num_components=(2, 3), **options)
    galaxies = jaxgmm.select(jax.random.key(0), jaxgmm.datasets.load("galaxies"), num_components=3, **options)
    np.testing.assert_allclose([c.criterion for c in iris.cells.values()], [574.0178, 580.8389], atol=1e-3)
    np.testing.assert_allclose(galaxies.best.criterion, 442.2177, atol=1e-3)


@pytest.mark.slow
def test_held_out_rows_choose_the_truth():
    """Cross-validation finds three far clusters; its criterion is a little worse than that of the fitted rows.

    The cases "cv" of `test_weights_are_not_copied_for_each_fit` in test_sweep.py are small twins.
    """
    rng = np.random.default_rng(0)
    x = (rng.normal(size=(240, 2)) + 8 * rng.integers(3, size=240)[:, None]).astype(np.float32)
    selection = jaxgmm.select(
        jax.random.key(1), x, num_components=(2, 3), covariance_types="tied", criterion="cv", num_restarts=2, num_folds=3
    )
    assert selection.best.num_components == 3
    three = selection.cells["tied", 3]
    assert 0 < three.criterion + 2 * three.log_likelihood < 100  # held out is a little worse than fitted


def test_errors():
    """Errors name the option."""
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


@pytest.mark.parametrize(
    "counts", [np.int64(2), 2, [np.int32(2)], np.array(2), np.array([2]), jnp.array(2), jnp.array([2]), range(2, 3)]
)
def test_counts_of_every_kind(counts):
    """One number or several, of Python or NumPy; the cells are named by Python's."""
    x = random_data(0, 30, 1)
    swept = jaxgmm.select(jax.random.key(0), x, num_components=counts, covariance_types="diag", num_restarts=1, max_iter=5)
    assert list(swept.cells) == [("diag", 2)]
    assert type(swept.best.num_components) is int
    assert type(next(iter(swept.cells))[1]) is int


@pytest.mark.parametrize("counts", [2.0, "2", None, [2.5], [True], 0, []])
def test_counts_that_are_none(counts):
    """Anything else gets the sentence of every count."""
    with pytest.raises((TypeError, ValueError), match=r"num_components (is .*an integer >= 1 was expected|or .* is empty)"):
        jaxgmm.select(jax.random.key(0), np.zeros((9, 1)), num_components=counts)
