"""The classic data: shapes, and numbers that their sources print."""

import numpy as np
import pytest

from jaxgmm import datasets


@pytest.mark.parametrize(
    ("name", "shape", "mean", "first"),
    [
        ("faithful", (272, 2), [3.487783, 70.897059], [3.6, 79]),
        ("galaxies", (82, 1), [20.83146], [9.172]),
        ("acidity", (155, 1), [5.105], [2.928524]),
        ("iris", (150, 4), [5.843333, 3.057333, 3.758, 1.199333], [5.1, 3.5, 1.4, 0.2]),
    ],
)
def test_load(name, shape, mean, first):
    """(N, D) float64, no gaps, the published means and first row, a name for each column."""
    x = datasets.load(name)
    assert x.shape == shape
    assert x.dtype == np.float64
    assert np.isfinite(x).all()
    np.testing.assert_allclose(x.mean(0), mean, atol=2e-4)
    np.testing.assert_allclose(x[0], first)
    assert len(datasets.columns(name)) == shape[1]


def test_galaxies_has_roeders_value():
    """The 78th velocity is 26.960, as in Roeder (1990), not 26.690."""
    assert np.sort(datasets.load("galaxies")[:, 0])[77] == 26.960
    assert 26.690 not in datasets.load("galaxies")


def test_labels():
    """iris has three species of 50, the others no known groups."""
    assert np.bincount(datasets.labels("iris")).tolist() == [50, 50, 50]
    assert datasets.labels("faithful") is None


def test_unknown_name():
    """Another name is refused with those there are."""
    with pytest.raises(ValueError, match="'faithful', 'galaxies', 'acidity', 'iris' was expected"):
        datasets.load("old faithful")
