"""Replicates of observations: their law, and the observations of which none can be drawn."""

import jax
import numpy as np
import pytest

import jaxgmm
from jaxgmm.incomplete.replicates import as_design, draw_like


@pytest.mark.usefixtures("x64")
def test_replicates_have_the_law_of_the_observations():
    """Values are missing where they were, the moments are those of mixture plus noise, and known labels are drawn again.

    The z-scores of 12 moments are below 5: a false failure has probability 7e-6; the key is fixed.
    """
    mixture = jaxgmm.make_mixture([0.3, 0.7], [[0.0, 1.0], [4.0, 2.0]], [np.eye(2)] * 2)
    x = np.where(np.arange(8)[:, None] % np.array([2, 3]) == 0, np.nan, 1.0)[1:]
    labels = np.array([0, -1, 1, -1, 0, 1, -1])[: len(x)]
    x[5] = [1.0, np.nan]
    design = as_design(jaxgmm.observations(x, noise=[0.5, 2.0], labels=labels), None, "test")
    drawn = jax.vmap(lambda key: draw_like(key, mixture, design))(jax.random.split(jax.random.key(0), 4000))
    values, mask = np.asarray(drawn.x), np.asarray(design.mask())
    assert (values[:, ~mask] == 0).all()
    mean, variance = np.array([2.8, 1.7]), np.array([1 + 16 * 0.21 + 0.5, 1 + 0.21 + 2.0])
    z = (values.mean(0) - mean) / np.sqrt(variance / 4000)
    assert (abs(z[mask]) < 5).all()
    ratio = values.var(0)[mask] / np.broadcast_to(variance, mask.shape)[mask]
    assert (abs(ratio - 1) < 5 * np.sqrt(3 / 4000)).all()
    new = np.asarray(drawn.allowed)
    assert (new[:, labels < 0] == -1).all()
    assert abs(new[:, labels >= 0].mean(0) - 0.7).max() < 5 * np.sqrt(0.21 / 4000)


def test_designs_that_are_refused():
    """Partly known labels, limits and weights that are not whole numbers are named; a row of weight 2 stands twice."""
    cases = [
        ("labels allows several", {"labels": np.tile([True, True, False], (3, 1))}),
        ("does not take limits", {"limits": (None, [[np.inf], [5.0], [np.inf]])}),
        ("whole numbers were expected", {"sample_weight": [1.0, 0.5, 2.0]}),
    ]
    for message, options in cases:
        given = jaxgmm.observations(np.array([[1.0], [np.nan] if "limits" in options else [2.0], [3.0]]), **options)
        with pytest.raises(ValueError, match=message):
            as_design(given, given.weight, "bootstrap")
    repeated = as_design(jaxgmm.observations(np.array([[1.0], [2.0]]), noise=[0.1], sample_weight=[2.0, 0.0]), [2.0, 0.0], "x")
    np.testing.assert_array_equal(repeated.x, [[1.0], [1.0]])
