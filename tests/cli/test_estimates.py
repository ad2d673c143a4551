"""Test the fits of `jaxgmm fit` and `jaxgmm compare` beyond what test_readme.py sees of them."""

import argparse

import numpy as np
import pytest

from jaxgmm.cli.estimates import fit_maximum_likelihood, fit_mode, maximum_likelihood_line
from jaxgmm.priors.interface import reason_without_mode

from helpers import random_data


def arguments(**changes):
    given = {"num_components": 2, "covariance_type": "tied", "restarts": 1, "seed": 0, "data": "x.csv", "command": "fit"}
    return argparse.Namespace(**(given | changes))


def test_maximum_likelihood_is_above_the_mode():
    x = random_data(0, 40, 2, 2)
    mode = fit_mode(arguments(), x, ["a", "b"])
    maximum = fit_maximum_likelihood(mode.fit, x)
    assert float(maximum.log_likelihood) > float(mode.fit.log_likelihood)
    record = mode.record | {"maximum_likelihood": {"log_likelihood": -1.0}}
    at_mode = float(mode.fit.log_likelihood)
    assert maximum_likelihood_line(record) == (
        f"Maximum likelihood, by EM from this mode: log-likelihood -1.000 nats ({at_mode:.3f} at the mode)."
    )


def test_a_prior_without_a_mode():
    """If samplers need a prior that EM does not take, the fit maximises the likelihood, and the record has the law."""
    x = random_data(0, 40, 2, 2)
    mode = fit_mode(arguments(covariance_type="VEI"), x, ["a", "b"], is_sampled=True)
    assert reason_without_mode(mode.prior)
    assert float(mode.fit.log_likelihood) == pytest.approx(float(fit_maximum_likelihood(mode.fit, x).log_likelihood), abs=1e-2)
    assert mode.record["prior"]["scale"]["shape_sd"] == 1.0


def test_more_components_than_rows():
    with pytest.raises(ValueError, match="at least one row per component"):
        fit_mode(arguments(num_components=9), np.zeros((8, 1)), ["a"])
