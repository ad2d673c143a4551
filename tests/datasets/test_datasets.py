"""Test the classic data sets: their shapes, and numbers printed in their sources."""

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
    """The array is (N, D), float64 and finite, with the published means and first row, and each column has a name."""
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
    """Iris has three species of 50, and the other data sets have no known groups."""
    assert np.bincount(datasets.labels("iris")).tolist() == [50, 50, 50]
    assert datasets.labels("faithful") is None


def test_unknown_name():
    """An unknown name is refused with a list of the known ones."""
    with pytest.raises(ValueError, match="'faithful', 'galaxies', 'acidity', 'iris' was expected"):
        datasets.load("old faithful")
