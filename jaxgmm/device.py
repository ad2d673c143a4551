"""How much to work through at a time: what a cache holds on a CPU, much more where thousands of threads wait for work."""

from __future__ import annotations

import jax


def on_cpu() -> bool:
    """Whether programs run on a CPU by default."""
    return jax.default_backend() == "cpu"


def widened(number: int, times: int) -> int:
    """A number measured on a CPU, so many times as much on a GPU or TPU, where small pieces are all overhead."""
    return number if on_cpu() else number * times
