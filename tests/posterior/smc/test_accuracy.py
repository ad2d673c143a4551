"""max_error of smc: runs are repeated with as many particles as the error requires."""

from types import SimpleNamespace
from typing import Any, cast

import jax
import numpy as np
import pytest

import jaxgmm
from jaxgmm.posterior.smc.accuracy import run_until_accurate

from helpers import independent_prior

KEY = jax.random.key(0)


@pytest.mark.parametrize(
    ("errors", "max_error", "sizes"),
    [
        ({1: 0.5}, None, [1]),
        ({1: 0.09}, 0.1, [1]),
        ({1: 0.25, 8: 0.09}, 0.1, [1, 8]),  # (0.25 / 0.1)^2 = 6.25, rounded up to a power of 2
        ({1: 0.11, 2: 0.12, 4: 0.1}, 0.1, [1, 2, 4]),
        ({1: np.inf, 4: np.nan, 16: 0.2, 64: 0.2}, 0.1, [1, 4, 16, 64]),  # 64 times as many particles are the most
    ],
)
def test_the_error_decides_the_number_of_particles(errors, max_error, sizes):
    """All calls have different keys."""
    calls = []

    def run(key, num_particles):
        calls.append((num_particles // 100, jax.random.key_data(key).tolist()))
        return cast(Any, SimpleNamespace(stats={"log_evidence_error": errors[num_particles // 100]}))

    found = run_until_accurate(run, KEY, 100, max_error)
    assert [size for size, _ in calls] == sizes
    assert len({tuple(key) for _, key in calls}) == len(sizes)
    assert found.stats["log_evidence_error"] is errors[sizes[-1]]


@pytest.mark.parametrize(
    ("options", "message"),
    [({"max_error": 0.0}, "> 0 was expected"), ({"max_error": 0.1, "num_chains": 1}, "num_chains=1")],
)
def test_invalid_input(options, message):
    x, prior = np.zeros((5, 1), np.float32), independent_prior("full", 2, 1, half_normal=False)
    with pytest.raises(ValueError, match=message):
        jaxgmm.smc(KEY, x, prior, num_components=2, **options)


def test_refused_under_jit():
    x, prior = np.zeros((5, 1), np.float32), independent_prior("full", 2, 1, half_normal=False)
    with pytest.raises(ValueError, match="max_error was given under jit"):
        jax.jit(lambda key: jaxgmm.smc(key, x, prior, num_components=2, max_error=0.1))(KEY)
