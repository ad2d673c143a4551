"""Programs that serve several covariance types."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgmm
from jaxgmm.selection import sweep
from jaxgmm.selection.members import members_of, of_type

from helpers import random_data, random_mixture


def test_members_of():
    """Dense types share programs, and the others do; a type that is alone has its own."""
    members = members_of(["full", "VEI", "tied", "EVE"])
    assert members["VEI"] is None
    assert [members[name].types for name in ("full", "tied", "EVE")] == [("full", "tied", "EVE")] * 3
    assert [int(members[name].index) for name in ("full", "tied", "EVE")] == [0, 1, 2]


@pytest.mark.parametrize(("name", "shape"), [("tied", (1, 2, 2)), ("EVE", (3, 2, 2))])
def test_of_type(name, shape):
    """The fit of a wide type gets the storage of its own type."""
    mixture = random_mixture(0, "full", 3, 2)
    fit = jaxgmm.Fit(mixture, *[jnp.zeros(())] * 5, jnp.zeros(3))
    found = of_type(fit, name).mixture
    assert found.covariance_type == name
    assert found.covariances.shape == shape
    assert of_type(fit, "full") is fit


def test_types_share_programs():
    """`select` compiles one program of starts and one of fits for all types of a kind, and none for a single type more."""
    x = random_data(0, 40, 2)
    options = {"num_components": [1, 2], "num_restarts": 2, "max_iter": 3, "progress": False}
    before = sweep._sweep_starts._cache_size(), sweep._best._cache_size()
    swept = jaxgmm.select(jax.random.key(0), x, covariance_types=["EII", "VEI", "diag", "spherical", "EEI"], **options)
    assert (sweep._sweep_starts._cache_size(), sweep._best._cache_size()) == (before[0] + 1, before[1] + 1)
    shapes = {"EII": (1, 1), "VEI": (2, 2), "diag": (2, 2), "spherical": (2, 1), "EEI": (1, 2)}
    for name, shape in shapes.items():
        cell = swept.cells[name, 2]
        assert cell.fit.mixture.covariances.shape == shape
        np.testing.assert_allclose(cell.criterion, jaxgmm.bic(cell.fit, x), rtol=1e-4)
    text = repr(swept).splitlines()
    assert text[1].split() == ["K", "EII", "VEI", "VVI", "VII", "EEI"]
    assert "best first: " in text[-1]
    assert [cell.criterion for cell in swept.ranked] == sorted(cell.criterion for cell in swept.cells.values())
