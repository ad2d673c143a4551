"""Fits of several numbers of components share the data and their weights."""

import jax
import numpy as np
import pytest

import jaxgmm
from jaxgmm.row_sums import has_weights
from jaxgmm.selection import sweep

from helpers import slow_unless

CASES = [(criterion, weighted) for criterion in ("bic", "aic", "icl", "cv") for weighted in (False, True)]


@pytest.mark.parametrize(("criterion", "weighted"), slow_unless(CASES, [("bic", False), ("icl", True), ("cv", True)]))
def test_weights_are_not_copied_for_each_fit(criterion, weighted, monkeypatch):
    """All fits share one row of weights, or none; only cross-validation has a row for each fold."""
    clusters = 20.0 * (np.arange(40) % 2)[:, None]
    x, weight = np.random.default_rng(0).normal(size=(40, 1)) + clusters, 1.0 + np.arange(40) % 3
    shapes = []
    for name in ("fit_many", "_sweep_starts"):
        function = getattr(sweep, name)

        def spy(*args, function=function, name=name, **options):
            given = options["sample_weight"] if name == "fit_many" else args[2]
            shapes.append(given.shape if has_weights(given) else None)
            return function(*args, **options)

        monkeypatch.setattr(sweep, name, spy)
    found = jaxgmm.select(
        jax.random.key(0),
        x,
        num_components=[1, 2],
        covariance_types="diag",
        num_restarts=1,
        num_folds=2,
        max_iter=5,
        criterion=criterion,
        sample_weight=weight if weighted else None,
    )
    shared = (40,) if weighted else None
    assert shapes == [shared, shared] + ([(2, 40), (4, 40)] if criterion == "cv" else [])
    assert found.best.num_components == 2
    if criterion == "cv":  # held out is a little worse than fitted
        assert 0 < found.best.criterion + 2 * found.best.log_likelihood < 100
