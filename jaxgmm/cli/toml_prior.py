"""Read the prior of `jaxgmm calibrate` from a TOML file."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..covariance.types import prior_scale_shape
from ..priors.conjugate import Prior
from ..studies.prior_table import prior_from_table, read_prior_table
from ..validation import check_count


def read_prior(path: Path | None, num_components: int, num_features: int | None, covariance_type: str) -> Prior:
    """Return the Prior that a TOML file defines by numbers or lists of numbers; missing fields get default values.

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
    is_matrix = len(prior_scale_shape(covariance_type, d)) == 2
    defaults = {
        "weight_concentration": 3.0,
        "mean": 0.0,
        "mean_precision": 0.1,
        "degrees_of_freedom": d + 4.0,
        "scale": 3.0 if is_matrix else d + 2.0,
    }
    return prior_from_table(
        table, defaults=defaults, num_components=num_components, num_features=d, covariance_type=covariance_type
    )
