"""Read files that hold a fitted mixture, and find the columns of new data that hold the mixture's features."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from pathlib import Path

from ..io.archive import load_with_names
from ..io.column_choice import listed, similar_name
from ..mixture import Mixture, as_mixture
from ..posterior.result import Posterior
from .data import Data, read_data
from .messages import warnings_to_stderr

COLUMNS_HELP = "those that have the names of the features of the fit"
FILE_HELP = "a json file written by jaxgmm fit, compare or select, or an npz file written by jaxgmm.save"


def read_mixture(path: Path) -> tuple[Mixture, list[str] | None]:
    """Return the single mixture in a file, and the names of its features if the file has them."""
    mixture, names = read_mixture_or_posterior(path)
    if isinstance(mixture, Posterior):
        raise ValueError(f"'{path}' holds draws from a posterior; one mixture was expected: give the file of the fit.")
    return mixture, names


def read_mixture_or_posterior(path: Path) -> tuple[Mixture | Posterior, list[str] | None]:
    """Return the single mixture or the posterior in a file, and the names of its features if the file has them."""
    if not path.is_file():
        raise ValueError(f"there is no file '{path}'; {FILE_HELP}, was expected.")
    with warnings_to_stderr():
        thing, names = load_with_names(path)
    if isinstance(thing, Posterior):
        return thing, names
    try:
        return as_mixture(thing, f"the content of '{path}'", single=True), names
    except TypeError as error:
        raise ValueError(f"'{path}' holds a {type(thing).__name__}; a mixture, a fit or a posterior was expected.") from error


def read_matching_data(arguments: argparse.Namespace, mixture: Mixture, names: list[str] | None) -> Data:
    """Return data whose columns are the features of a mixture.

    The columns are found by the names of the features. If the user chooses columns, or the features have no names, the number
    and the order of the columns must be those of the features.
    """
    data = read_data(arguments, None if arguments.columns is not None or names is None else _chooser(arguments, names))
    if data.x.shape[1] != mixture.num_features:
        raise ValueError(
            f"'{arguments.data}' has {data.x.shape[1]} columns to use ({listed(data.names)}), and the mixture in "
            f"'{arguments.mixture}' has {mixture.num_features} features; choose one column for each feature with --columns."
        )
    return data


def _chooser(arguments: argparse.Namespace, names: list[str]) -> Callable[[list[str]], list[str] | None]:
    """Return a function that receives the names of all columns and returns the names of the features.

    If a feature has no column, the function raises ValueError. If the fit had no names of features, the function returns None.
    """

    def choose(known: list[str]) -> list[str] | None:
        missing = [name for name in names if name not in known]
        if not missing:
            return names
        if all(re.fullmatch(r"column \d+", name) for name in names):  # the data of the fit had no names
            return None
        raise ValueError(
            f"'{arguments.data}' has no column '{missing[0]}'{similar_name(missing[0], known)}, which is a feature of the "
            f"mixture in '{arguments.mixture}'; its columns are {listed(known)}: rename one, or give --columns with the "
            f"columns to use for {listed(names)}, in this order."
        )

    return choose
