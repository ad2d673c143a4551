"""Show progress bars. For all functions with an option `progress`, `is_shown` decides whether a bar is shown.

A compiled program advances a bar through a callback. Each bar is identified by a number, which is an argument of the program.
Therefore one compiled program serves all bars.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import count
from typing import Protocol, SupportsInt

import jax
import jax.numpy as jnp

_UPDATES = 50  # number of times that a compiled program updates its bar
_numbers = count(1)


class ProgressBar(Protocol):
    """The attributes of a progress bar of tqdm that this package uses."""

    @property
    def total(self) -> float | None:
        """The number of steps."""
        ...

    @property
    def unit(self) -> str:
        """The name of a step in the plural."""
        ...

    @property
    def disable(self) -> bool:
        """Whether the bar is hidden."""
        ...

    def update(self, n: float, /) -> object:
        """Advance the bar by a number of steps."""

    def set_postfix_str(self, s: str, /) -> object:
        """Show a text after the bar."""


_current: ContextVar[ProgressBar | None] = ContextVar("progress bar of the function that is running", default=None)
_bars: dict[int, ProgressBar] = {}  # the bars of compiled programs; the keys are the numbers that identify them


def is_shown(wanted: bool | None) -> bool:
    """Return whether a bar is shown: True shows it, False hides it, and None shows it if stderr is a terminal.

    Example:
        >>> is_shown(True), is_shown(False)
        (True, False)
    """
    return wanted if wanted is not None else sys.stderr is not None and sys.stderr.isatty()


@contextmanager
def progress_bar(total: int | None, unit: str, wanted: bool | None) -> Iterator[ProgressBar]:
    """Provide a progress bar of tqdm on stderr, to be used in a `with` statement.

    If an outer function already shows a bar, an inner function shows no second bar. If both functions count the same unit, the
    inner function advances the outer bar. The outer function must then not advance its bar.

    Args:
        total: the number of steps, or None if it is not known.
        unit: the name of a step in the plural, with a leading space.
        wanted: the option `progress`; see `is_shown`.

    Example:
        >>> with progress_bar(3, " fits", False) as bar:
        ...     bar.total
        3
    """
    from tqdm import tqdm  # imported on first use, so that importing jaxgmm does not wait for it

    outer = _current.get()
    if outer is not None and outer.unit == unit:
        yield outer
        return
    with tqdm(total=total, disable=outer is not None or not is_shown(wanted), unit=unit) as bar:
        bar.unit = unit  # a hidden bar of tqdm does not store its unit
        token = _current.set(bar)
        try:
            yield bar
        finally:
            _current.reset(token)


@contextmanager
def program_bar(total: int, unit: str, wanted: bool | None) -> Iterator[jax.Array | None]:
    """Show a bar for a compiled program, and provide the number () that identifies it; without a bar, provide None.

    See `progress_bar` for the arguments. The program passes the number to `advance`. The program must have finished when the
    `with` statement ends: use `jax.block_until_ready` on its result.
    """
    with progress_bar(total, unit, wanted) as bar:
        if bar.disable:
            yield None
            return
        number = next(_numbers)
        _bars[number] = bar
        try:
            yield jnp.asarray(number, jnp.int32)
            jax.effects_barrier()
        finally:
            del _bars[number]


def advance(number: jax.Array | None, step: jax.Array, total: int) -> None:
    """Advance a bar from inside a compiled program, about 50 times in total. If `number` is None, do nothing.

    Args:
        number: the number of a bar from `program_bar`, or None.
        step: (), the index of the step that has just been done, from 0 to total - 1.
        total: the number of steps.
    """
    if number is None:
        return
    every = -(-total // _UPDATES)
    done = jnp.where(step == total - 1, total - step // every * every, every)
    jax.lax.cond(
        ((step + 1) % every == 0) | (step == total - 1),
        lambda: jax.debug.callback(_advance, number, done),
        lambda: None,
    )


def advance_by(number: jax.Array | None, steps: jax.Array) -> None:
    """Advance the bar `number` by some steps () from inside a compiled program. `number` is None if there is no bar."""
    if number is not None:
        jax.debug.callback(_advance, number, steps)


def _advance(number: SupportsInt, steps: SupportsInt) -> None:
    """Advance the bar that `number` identifies; do nothing if the bar is gone because its program was interrupted."""
    bar = _bars.get(int(number))
    if bar is not None:
        bar.update(int(steps))
