"""Warnings of a fit: only remedies that apply to the call; columns that are to blame are named instead of components."""

import itertools

import numpy as np
import pytest

from jaxgmm import ComponentStatus, Status
from jaxgmm.em import fit_warnings
from jaxgmm.em.fit_warnings import collinear_columns

from helpers import COVARIANCE_TYPES

RNG = np.random.default_rng(0)


def remedies():
    """Yield every status with every kind of call."""
    booleans = [False, True]
    for kind, k, *flags in itertools.product(COVARIANCE_TYPES, [1, 3], booleans, booleans, booleans, booleans):
        call = fit_warnings._Call(kind, k, *flags)
        for status in (*Status, *ComponentStatus):
            yield status, call


def test_remedies_apply():
    """No prior is advised where there is one, no simpler type where there is none, no option that is set or not allowed."""
    for status, call in remedies():
        said = fit_warnings._advise(status, call)
        assert said.endswith("."), said
        assert ".." not in said
        assert "use use" not in said
        if status not in fit_warnings._REMEDIES:
            assert said == status.sentence
            continue
        assert said.startswith(status.cause)
        advice = said.removeprefix(status.cause)
        assert not (call.has_prior and "prior" in advice), (status, call, said)
        assert not (call.covariance_type in ("diag", "spherical") and "covariance_type" in advice), (status, call, said)
        assert not (call.num_components == 1 and "fewer components" in advice), (status, call, said)
        assert not (call.accelerate and "accelerate" in advice), (status, call, said)
        assert not (not call.has_reg_covar and "reg_covar" in advice), (status, call, said)
        assert not (not call.is_float32 and "float64" in advice), (status, call, said)


def test_sentences_hold_every_remedy():
    """The sentence of a status, which knows no call, ends with what is advised where everything applies."""
    for status in fit_warnings._REMEDIES:
        assert status.cause in status.sentence
        assert status.cause != status.sentence.removesuffix(".")


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
