"""Progress bars of what takes long."""

from __future__ import annotations

import sys
from typing import Any


def progress_bar(total: int, unit: str, wanted: bool | None) -> Any:
    """tqdm's bar, a context on stderr. wanted: True or False insists, None is on a terminal only.

    Example:
        >>> with progress_bar(3, " fits", False) as bar:
        ...     bar.total
        3
    """
    from tqdm import tqdm  # no import of jaxgmm waits for it

    return tqdm(total=total, disable=not (sys.stderr.isatty() if wanted is None else wanted), unit=unit)
