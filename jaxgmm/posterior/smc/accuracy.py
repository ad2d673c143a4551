"""Repeat the runs of `smc` with more particles until the error of the log evidence is small enough."""

from __future__ import annotations

import math
from collections.abc import Callable

import jax

from ...validation import check_number, is_traced
from ..result import Posterior

_MOST = 64  # the number of particles grows at most by this factor


def check_max_error(max_error: float | None, num_chains: int, *arrays: object) -> None:
    """Raise an error if `max_error` is invalid, or if it cannot be used with one run or with traced arrays."""
    if max_error is None:
        return
    check_number(max_error, "max_error", exclusive=True)
    if num_chains == 1:
        raise ValueError(
            "max_error was given with num_chains=1: several runs are needed, because their differences give the error."
        )
    if is_traced(max_error, *arrays):
        raise ValueError(
            "max_error was given under jit or vmap, where the number of particles must be fixed: choose num_samples instead."
        )


def run_until_accurate(
    run: Callable[[jax.Array, int], Posterior], key: jax.Array, num_particles: int, max_error: float | None
) -> Posterior:
    """Return the first posterior whose stats["log_evidence_error"] is at most `max_error`, or the one with most particles.

    Each repetition has as many particles as the last error requires, because the error is proportional to one over the square
    root of this number. The number is multiplied by a power of 2, so that few programs are compiled.

    run: a function of a random key and the number of particles. max_error: None for a single call of `run`.
    """
    factor = 1
    posterior = run(key, num_particles)
    while max_error is not None and factor < _MOST:
        error = float(posterior.stats["log_evidence_error"])
        if error <= max_error:
            break
        required = (error / max_error) ** 2 if math.isfinite(error) else 4.0
        factor = min(_MOST, factor * 2 ** math.ceil(math.log2(max(2.0, required))))
        posterior = run(jax.random.fold_in(key, factor), factor * num_particles)
    return posterior
