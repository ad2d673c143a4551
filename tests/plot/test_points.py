"""Test the picture of data: points, or their density if there are many."""

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from jaxgmm import plot
from jaxgmm.plot.points import MOST_POINTS


@pytest.fixture
def ax():
    return Figure().subplots()


def test_many_points_are_a_density(ax):
    """Cells have the colours of their points, full cells are stronger than empty ones, and outliers do not shrink the data."""
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(0, 1, (MOST_POINTS, 2)), rng.normal(20, 1, (MOST_POINTS // 2, 2)), [[1e6, 0.0]]])
    r = np.stack([x[:, 0] < 10, x[:, 0] >= 10], 1).astype(float)
    plot.scatter(ax, x, responsibilities=r)
    assert not ax.collections
    (image,) = ax.images
    picture, (left, right, bottom, top) = np.asarray(image.get_array()), image.get_extent()
    assert -10 < left < -2
    assert 22 < right < 100
    assert picture.shape[2] == 3

    def shade(at):
        """Return the colour of the cell at a point (at, at)."""
        column = int((at - left) / (right - left) * picture.shape[1])
        return picture[int((at - bottom) / (top - bottom) * picture.shape[0]), column]

    assert shade(10.0).tolist() == [1, 1, 1]
    for at, color in ((0.0, plot.color(0)), (20.0, plot.color(1))):
        assert abs(shade(at) - to_rgb(color)).max() < 0.35
    assert ax.get_xlim() == (left, right)


def test_few_points_are_points(ax):
    plot.scatter(ax, np.zeros((5, 2)))
    assert len(ax.collections) == 1
    assert not ax.images
