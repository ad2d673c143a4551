"""Show progress bars."""

from __future__ import annotations

import sys
from typing import Any


def progress_bar(total: int, unit: str, wanted: bool | None) -> Any:
    """Return a progress bar of tqdm on stderr, to be used in a `with` statement.

    Args:
        total: the number of steps.
        unit: the name of a step in the plural, with a leading space.
        wanted: True shows the bar, False hides it, and None shows it if stderr is a terminal.

    Example:
        >>> with progress_bar(3, " fits", False) as bar:
        ...     bar.total
        3
    """
    from tqdm import tqdm  # imported on first use, so that importing jaxgmm does not wait for it

    return tqdm(total=total, disable=not (sys.stderr.isatty() if wanted is None else wanted), unit=unit)
