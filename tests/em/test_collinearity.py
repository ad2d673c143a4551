"""Test which columns are named as collinear."""

import numpy as np
import pytest

from jaxgmm.em.collinearity import collinear_columns

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("weighted", [False, True])
def test_collinear_columns(dtype, weighted):
    """The columns of a direction without variance are found in any unit and at any offset; sound data have none."""
    z = RNG.normal(size=(300, 4)) * [1.0, 1e-3, 1e3, 1.0] + [0.0, 1e-2, 1e4, 3.0]
    weight = RNG.integers(0, 3, 300).astype(dtype) if weighted else None
    cases = [
        (z, [], False),
        (np.column_stack([z, z[:, 0]]), [0, 4], False),
        (np.column_stack([z, 1e6 * z[:, 1] - z[:, 2]]), [1, 2, 4], False),
        (np.column_stack([z[:, 0], 5 - z[:, 0]]), [0, 1], True),
        (RNG.dirichlet(np.ones(5), 300), [0, 1, 2, 3, 4], True),
        (np.column_stack([RNG.dirichlet(np.ones(3), 300), z[:, 3], 2 * z[:, 3]]), [0, 1, 2, 3, 4], False),
        (np.column_stack([z, np.full(300, 0.1)]), [], False),
        (z[:4], [], False),
        (z[:, :1], [], False),
    ]
    for x, expected, is_sum in cases:
        columns, found_sum = collinear_columns(x.astype(dtype), None if weight is None else weight[: len(x)])
        assert columns.tolist() == expected
        assert found_sum == is_sum
