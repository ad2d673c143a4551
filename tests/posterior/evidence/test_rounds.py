"""evidence_rounds: draws become points of whole rounds. The ratios are tested with `log_evidence`."""

from types import SimpleNamespace

import jax
import numpy as np

from jaxgmm.posterior.evidence.rounds import _points_of_draws

from helpers import random_mixture


def test_draws_fill_rounds():
    """Each draw has its canonical labelling. The last round is filled with copies of the last draw."""
    draws = jax.tree.map(lambda *leaves: np.stack(leaves), *[random_mixture(seed, "diag", 2, 1) for seed in range(5)])
    space = SimpleNamespace(flatten=lambda mixture: mixture.means.ravel())
    labellings = SimpleNamespace(canonical=lambda mixture: jax.tree.map(lambda leaf: leaf[::-1], mixture))
    points, count = _points_of_draws(draws, space, labellings, 3)
    assert count == 5
    assert points.shape == (2, 3, 2)
    expected = draws.means[:, ::-1, 0]
    np.testing.assert_allclose(points.reshape(6, 2), expected[[0, 1, 2, 3, 4, 4]], rtol=1e-6)
    points, count = _points_of_draws(None, space, labellings, 3)
    assert count == 0
    assert points.shape == (0, 3, 0)
