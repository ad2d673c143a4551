"""Test the JSON records that commands write."""

import argparse
import json

import numpy as np

import jaxgmm
from jaxgmm.cli.records import arrays_as_lists, command_record, data_record, fit_record, mixture_record

from helpers import fitted, random_data


def test_records_start_with_versions_command_and_options():
    arguments = argparse.Namespace(command="fit", seed=3, data="points.csv")
    record = command_record(arguments, {"num_components": 2})
    assert record["jaxgmm"] == jaxgmm.__version__
    assert record["command"] == "fit"
    assert record["options"] == {"num_components": 2, "seed": 3}
    data = data_record(arguments, np.zeros((5, 1)), ["height"], {})["data"]
    assert data == {"source": "points.csv", "feature_names": ["height"], "num_observations": 5}


def test_a_fit_and_its_prior():
    fit, prior = fitted(random_data(0, 40, 2, 2).astype(np.float32), 2, "tied")
    record = fit_record(fit)
    assert record["status"] == "CONVERGED"
    assert record["objective"] == record["history"][-1]
    assert record["component_status"] == ["OK", "OK"]
    assert mixture_record(fit.mixture)["covariance_type"] == "tied"
    assert np.array(mixture_record(fit.mixture)["covariances"]).shape == (1, 2, 2)
    assert set(arrays_as_lists(prior)) == {"weight_concentration", "mean", "mean_precision", "degrees_of_freedom", "scale"}
    assert json.dumps([record, mixture_record(fit.mixture), arrays_as_lists(prior)])
