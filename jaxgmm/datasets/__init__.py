"""Load small classic data sets, which the package contains as csv files.

faithful   272 x 2   Old Faithful geyser: duration of an eruption and time until the next one, minutes. Azzalini & Bowman
                     (1990), Applied Statistics 39, 357-365.
galaxies    82 x 1   velocities of galaxies in the Corona Borealis region, 1000 km/s. Roeder (1990), JASA 85, 617-624; the
                     78th value is 26.960, as in this article (R's MASS has 26.690).
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
    """Load a classic data set as a float64 array (N, D). The array of iris does not contain the species; see `labels`.

    Args:
        name: "faithful", "galaxies", "acidity" or "iris".

    Returns:
        x (N, D), in the units that `help(jaxgmm.datasets)` lists; a data set of a single variable has shape (N, 1).

    Raises:
        ValueError: there is no data set of that name.

    Example:
        >>> import jaxgmm
        >>> jaxgmm.datasets.load("faithful").shape
        (272, 2)
    """
    rows = read_rows(name)
    return np.array([[float(value) for column, value in row.items() if column != "species"] for row in rows])


def columns(name: str) -> list[str]:
    """Return the names of the columns that `load` returns, in the same order.

    Args:
        name: the name of a data set, as for `load`.

    Returns:
        D names.

    Raises:
        ValueError: there is no data set of that name.

    Example:
        >>> import jaxgmm
        >>> jaxgmm.datasets.columns("faithful")
        ['eruptions', 'waiting']
    """
    return [column for column in read_rows(name)[0] if column != "species"]


def labels(name: str) -> np.ndarray | None:
    """Return the known group of each row of a data set; for iris, the groups are the species.

    Args:
        name: the name of a data set, as for `load`.

    Returns:
        Group numbers (N,); 0 is the group whose name is the first in alphabetical order. None if the groups are not known.

    Raises:
        ValueError: there is no data set of that name.

    Example:
        >>> import jaxgmm, numpy as np
        >>> np.bincount(jaxgmm.datasets.labels("iris")).tolist(), jaxgmm.datasets.labels("galaxies")
        ([50, 50, 50], None)
    """
    rows = read_rows(name)
    if "species" not in rows[0]:
        return None
    species = [row["species"] for row in rows]
    return np.array([sorted(set(species)).index(s) for s in species])


def read_rows(name: str) -> list[dict[str, str]]:
    """Return the rows of a data set's csv file, each as a dict of texts by column name. The rows of iris include the species.

    Raises:
        ValueError: there is no data set of that name.

    Example:
        >>> import jaxgmm
        >>> jaxgmm.datasets.read_rows("faithful")[0]
        {'eruptions': '3.6', 'waiting': '79'}
    """
    if name not in NAMES:
        raise ValueError(f"name is {name!r}; one of {', '.join(map(repr, NAMES))} was expected.")
    return list(csv.DictReader((files(__name__) / f"{name}.csv").read_text().splitlines()))
