"""Read the prior of `jaxgmm calibrate` from a TOML file."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..covariance.types import is_coupled, is_dense
from ..priors.conjugate import Prior
from ..priors.independent import IndependentPrior
from ..studies.prior_table import prior_from_table, read_prior_table
from ..validation import check_count


def read_prior(
    path: Path | None, num_components: int, num_features: int | None, covariance_type: str
) -> Prior | IndependentPrior:
    """Return the prior that a TOML file defines by numbers or lists of numbers; missing fields get default values.

    Args:
        path: the file; None means that all fields have their defaults.
        num_components: K.
        num_features: D; None means the length of the list `mean` in the file, or 1 if there is no such list.
        covariance_type: the covariance type, which determines the shape of the scale.
    """
    table = {} if path is None else read_prior_table(path)
    mean = np.asarray(table.get("mean", 0.0))
    d = num_features or (len(mean) if mean.ndim else 1)
    check_count(d, "num_features")
    has_wishart_law = is_dense(covariance_type) and not is_coupled(covariance_type)
    defaults = {
        "weight_concentration": 3.0,
        "mean": 0.0,
        "mean_precision": 0.1,
        "degrees_of_freedom": d + 4.0,
        "scale": 3.0 if has_wishart_law else d + 2.0,
    }
    shapes = {"num_components": num_components, "num_features": d, "covariance_type": covariance_type}
    return prior_from_table(table, defaults=defaults, normalised=True, **shapes)
