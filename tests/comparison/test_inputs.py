"""Inputs of `compare`: what is invalid raises an error with a sentence, and what is missing is filled in."""

import numpy as np
import pytest

import jaxgmm
from jaxgmm.comparison.inputs import ComparisonOptions, prepare_inputs

from fabricated_comparisons import fabricate_fit, make_posterior, two_clusters


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"fit": "mixture"}, TypeError, "a jaxgmm.Fit was expected"),
        ({"posterior": "mixture"}, TypeError, "a jaxgmm.Posterior was expected"),
        ({"posterior": "empty"}, ValueError, "at least one posterior"),
        ({"posterior": "other"}, ValueError, "the same model"),
        ({"x": "wide"}, ValueError, "features"),
        ({"interval": 1.0}, ValueError, "under 1"),
        ({"interval": "0.9"}, TypeError, "number"),
        ({"feature_names": ["a"]}, ValueError, "one for each column"),
        ({"laplace": 1.5}, TypeError, "None, True or False"),
        ({"num_folds": -1}, ValueError, "num_folds"),
        ({"seed": 0.5}, TypeError, "seed"),
    ],
)
def test_refused_with_a_sentence(change, error, words):
    data = two_clusters()
    fit, other = fabricate_fit(data, "full"), fabricate_fit(data, "diag")
    posterior = make_posterior(fit, data)
    stand_ins = {
        ("fit", "mixture"): fit.mixture,
        ("posterior", "mixture"): posterior.mixture,
        ("posterior", "empty"): {},
        ("posterior", "other"): make_posterior(other, data),
        ("x", "wide"): np.ones((5, 3)),
    }
    arguments = {"fit": fit, "posterior": posterior, "x": data}
    for name, value in change.items():
        arguments[name] = stand_ins.get((name, value), value) if isinstance(value, str) else value
    with pytest.raises(error, match=words):
        jaxgmm.compare(**{"laplace": False, "scores": False} | arguments)


def test_weights_and_names_are_filled_in():
    """Rows of weight 0 do not count, whatever they contain."""
    x = two_clusters()
    fit = fabricate_fit(x)
    posteriors = {"nuts": make_posterior(fit, x)}
    inputs = prepare_inputs(fit, posteriors, x, None, None, ComparisonOptions(seed=np.int64(3)))
    assert inputs.feature_names == ["feature 0", "feature 1"]
    assert inputs.counts.tolist() == [1.0] * 100
    assert inputs.options.seed == 3
    weight = np.r_[0.0, np.full(99, 2.0)]
    x[0] = np.nan
    weighted = prepare_inputs(fit, posteriors, x, weight, ["a", "b"], ComparisonOptions())
    assert weighted.kept.tolist() == list(range(1, 100))
    assert weighted.counts.sum() == 198
    assert weighted.feature_names == ["a", "b"]


@pytest.mark.parametrize(
    "name", [1, None, *(pytest.param(name, marks=pytest.mark.slow) for name in (2.5, ("nuts", 4), np.int64(3), "nuts"))]
)
def test_names_become_text(name):
    """Posteriors may be named by numbers; their rows, page and files have the name as text."""
    x = two_clusters()
    fit = fabricate_fit(x)
    compared = jaxgmm.compare(fit, {name: make_posterior(fit, x)}, x, laplace=False, scores=False)
    assert list(compared.samplers) == list(compared.posteriors) == [str(name)]
    assert {row.method for row in compared.rows} == {str(name)}
    assert str(name) in repr(compared)
    assert compared.to_json()
    with pytest.raises(ValueError, match="same as text"):
        jaxgmm.compare(fit, {1: make_posterior(fit, x), "1": make_posterior(fit, x)}, x)
