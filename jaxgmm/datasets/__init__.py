"""Small classic data sets, shipped as csv.

faithful   272 x 2   Old Faithful geyser: eruption length and waiting time, minutes. Azzalini & Bowman (1990), Applied
                     Statistics 39, 357-365.
galaxies    82 x 1   velocities of galaxies in the Corona Borealis region, 1000 km/s. Roeder (1990), JASA 85, 617-624; the
                     78th value is 26.960, as printed there (R's MASS has 26.690).
acidity    155 x 1   log acidity index of lakes in north-central Wisconsin. Crawford (1994), JASA 89, 911-925.
iris       150 x 4   sepal and petal lengths and widths, cm; three species of 50. Fisher (1936), Annals of Eugenics 7,
                     179-188.
"""

from __future__ import annotations

import csv
from importlib.resources import files

import numpy as np

NAMES = ("faithful", "galaxies", "acidity", "iris")


def load(name: str) -> np.ndarray:
    """A classic data set as a float64 array (N, D); iris without its species.

    Args:
        name: "faithful", "galaxies", "acidity" or "iris".

    Returns:
        (N, D), in the units that the head of this module tells; (N, 1) for one variable.

    Raises:
        ValueError: another name.

    Example:
        >>> import jaxgmm
        >>> jaxgmm.datasets.load("faithful").shape
        (272, 2)
    """
    return np.array([[float(row[c]) for c in columns(name)] for row in _read(name)])


def columns(name: str) -> list[str]:
    """Names of the measured columns of a data set, in the order of `load`.

    Args:
        name: as in `load`.

    Returns:
        D names.

    Raises:
        ValueError: another name.

    Example:
        >>> import jaxgmm
        >>> jaxgmm.datasets.columns("faithful")
        ['eruptions', 'waiting']
    """
    return [c for c in _read(name).fieldnames if c != "species"]


def labels(name: str) -> np.ndarray | None:
    """Known groups of a data set: the species of iris.

    Args:
        name: as in `load`.

    Returns:
        (N,) integers in the order of the sorted names; None for data without known groups.

    Raises:
        ValueError: another name.

    Example:
        >>> import jaxgmm, numpy as np
        >>> np.bincount(jaxgmm.datasets.labels("iris")).tolist(), jaxgmm.datasets.labels("galaxies")
        ([50, 50, 50], None)
    """
    rows = list(_read(name))
    if "species" not in rows[0]:
        return None
    species = [row["species"] for row in rows]
    return np.array([sorted(set(species)).index(s) for s in species])


def _read(name: str) -> csv.DictReader:
    if name not in NAMES:
        raise ValueError(f"name is {name!r}; one of {', '.join(map(repr, NAMES))} was expected.")
    return csv.DictReader((files(__name__) / f"{name}.csv").read_text().splitlines())
