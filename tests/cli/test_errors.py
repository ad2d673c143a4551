"""Test which errors refuse input, and which are faults of jaxgmm."""

import os

import jax.numpy as jnp
import numpy as np
import pytest

import jaxgmm
from jaxgmm.cli.errors import internal_error, refusal


def error_of(function):
    with pytest.raises(Exception) as caught:  # noqa: PT011
        function()
    return caught.value


@pytest.mark.parametrize(
    "function",
    [
        lambda: jaxgmm.fit_restarts(0, np.zeros((3, 1)), num_components=1),
        lambda: jaxgmm.make_mixture([1.0], [[0.0]], [[[-1.0]]]),
        lambda: jaxgmm.make_mixture([1.0]),
        lambda: jaxgmm.datasets.load("cars"),
        lambda: os.stat("/nowhere/at/all"),
        lambda: jaxgmm.sample(None, None, 1),
    ],
)
def test_refusals(function):
    error = error_of(function)
    assert refusal(error)
    assert "\n" not in refusal(error)


@pytest.mark.parametrize(
    "function",
    [
        lambda: len(3),
        lambda: jnp.zeros(2) + jnp.zeros(3),
        lambda: np.zeros(2).reshape(5),
        lambda: {}["weights"],
        lambda: jaxgmm.Mixture(1, 2, 3).num_components.real(),
    ],
)
def test_faults_of_ours(function):
    error = error_of(function)
    assert refusal(error) is None or isinstance(error, ValueError)
    assert internal_error(error).startswith(f"this is an error inside jaxgmm: {type(error).__name__}: ")


def test_errors_of_libraries_are_faults_of_ours():
    assert refusal(error_of(lambda: jnp.zeros(2).reshape(5))) is None
