"""Tests of the values of observations: noise and labels in all their forms."""

import numpy as np

from jaxgmm.incomplete.values import as_labels, as_noise

OBSERVED = np.array([[True, False], [True, True], [False, True]])


def test_noise_has_a_leading_axis():
    """Noise of all rows has a first axis of length 1; zero noise is no noise; noise of missing values becomes 0."""
    assert as_noise([0.5, 0.2], OBSERVED, np.float32).shape == (1, 2)
    assert as_noise(np.eye(2), OBSERVED, np.float32).shape == (1, 2, 2)
    assert as_noise(np.zeros((3, 2)), OBSERVED, np.float32) is None
    matrices = as_noise(np.full((3, 2, 2), 0.1) + 0.1 * np.eye(2), OBSERVED, np.float32)
    np.testing.assert_allclose(matrices[0], [[0.2, 0], [0, 0]], rtol=1e-6)


def test_labels_of_ignored_rows():
    """Rows of weight 0 may have any label, and labels that restrict nothing are dropped."""
    kept = np.array([True, True, False])
    assert as_labels([-1, 0, -7], 3, kept).tolist() == [-1, 0, -1]
    assert as_labels([-1, -1, 5], 3, kept) is None
    assert as_labels(np.array([[True, True]] * 2 + [[False, False]]), 3, kept) is None
