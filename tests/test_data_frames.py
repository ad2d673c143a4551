"""Names of columns come from data frames; mixtures, fits and posteriors become data frames with the names that are given."""

import types

import jax
import numpy as np
import pytest

import jaxgmm
from jaxgmm.data_frames import check_names, column_names, parameter_values

from helpers import COVARIANCE_TYPES, random_mixture


def test_names_of_columns():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"height": [1.0, 2.0], 7: [3.0, 4.0]})
    assert column_names(frame) == ["height", "7"]
    assert column_names(pandas.DataFrame(np.zeros((2, 2)))) is None
    assert column_names(np.zeros((2, 2))) is None
    polars = types.SimpleNamespace(columns=["a", "b"], to_numpy=lambda: np.zeros((2, 2)))
    assert column_names(polars) == ["a", "b"]
    assert check_names(None, 2) == ["feature 0", "feature 1"]
    with pytest.raises(ValueError, match="2 names; one for each column of x was expected: 3"):
        check_names(["a", "b"], 3)


@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
def test_a_mixture_has_a_row_for_each_component(covariance_type):
    pytest.importorskip("pandas")
    mixture = random_mixture(0, covariance_type, 3, 2)
    frame = mixture.to_dataframe(["a", "b"])
    assert list(frame.columns[:6]) == ["component", "weight", "mean a", "mean b", "variance a", "variance b"]
    assert frame["component"].tolist() == [0, 1, 2]
    dense = np.asarray(jaxgmm.covariance.to_dense(mixture.covariances, covariance_type, 3, 2))
    np.testing.assert_allclose(frame["weight"], mixture.weights, rtol=1e-6)
    np.testing.assert_allclose(frame["mean b"], mixture.means[:, 1], rtol=1e-6)
    np.testing.assert_allclose(frame["variance b"], dense[:, 1, 1], rtol=1e-6)
    if covariance_type in ("full", "tied"):
        np.testing.assert_allclose(frame["covariance a, b"], dense[:, 0, 1], rtol=1e-6)
    stack = jax.tree.map(lambda leaf: np.stack([leaf] * 4), mixture)
    assert stack.to_dataframe().shape == (12, len(frame.columns) + 1)
    assert stack.to_dataframe()["axis 0"].tolist() == np.repeat(np.arange(4), 3).tolist()


def test_a_fit_and_a_stack_of_fits_have_their_outcomes():
    pytest.importorskip("pandas")
    mixture = random_mixture(0, "diag", 2, 1)
    numbers = [np.array(v) for v in (-3.5, -4.0, [-4.0, -4.0], 7, 0, [0, 2])]
    fit = jaxgmm.Fit(mixture, *numbers)
    frame = fit.to_dataframe()
    assert frame["component_status"].tolist() == ["OK", "AT_FLOOR"]
    assert frame["status"].tolist() == ["CONVERGED"] * 2
    assert frame["log_likelihood"].tolist() == [-3.5] * 2
    assert frame["num_iter"].tolist() == [7] * 2
    fits = jax.tree.map(lambda leaf: np.stack([leaf] * 3), fit)
    assert fits.to_dataframe(["x"]).shape == (6, frame.shape[1] + 1)
    named = fits.to_dataframe(["x"], groups=["c", "a", "b", "a"])
    assert list(named.columns) == ["group", *fit.to_dataframe(["x"]).columns]
    assert named["group"].tolist() == ["a", "a", "b", "b", "c", "c"]
    for stack, labels in ((fits, ["a", "b"]), (fit, ["a"])):
        with pytest.raises(ValueError, match=r"different labels, but the fits have the shape \("):
            stack.to_dataframe(groups=labels)


def test_a_posterior_is_summarised():
    pytest.importorskip("pandas")
    rng, one = np.random.default_rng(0), random_mixture(0, "full", 2, 2)
    draws = jax.tree.map(lambda leaf: np.asarray(leaf) * (1 + 0.1 * rng.random((4, 50, *[1] * leaf.ndim))), one)
    posterior = jaxgmm.Posterior(draws, rng.normal(size=(4, 50)), None, np.array(0), {})
    frame = posterior.to_dataframe(["a", "b"])
    assert list(frame.columns) == ["parameter", "component", "mean", "sd", "median", "lower", "upper", "r_hat", "ess_bulk"]
    row = frame[(frame["parameter"] == "mean b") & (frame["component"] == 1)].iloc[0]
    expected = np.asarray(draws.means)[..., 1, 1]
    assert row["mean"] == pytest.approx(expected.mean())
    assert row["lower"] < row["median"] < row["upper"]
    assert row["r_hat"] == pytest.approx(1, abs=0.05)
    with pytest.raises(TypeError, match="outside jit"):
        jax.jit(lambda mixture: parameter_values(mixture)["weight"])(one)


def test_compare_and_select_take_the_names_of_a_frame():
    pandas = pytest.importorskip("pandas")
    from jaxgmm.comparison.inputs import ComparisonOptions, prepare_inputs

    mixture = random_mixture(0, "diag", 2, 2)
    zero = np.zeros(())
    fit = jaxgmm.Fit(mixture, zero, zero, np.zeros(2), zero, zero, np.zeros(2))
    draws = jax.tree.map(lambda leaf: np.asarray(leaf)[None, None], mixture)
    posterior = {"nuts": jaxgmm.Posterior(draws, np.zeros((1, 1)), None, np.array(0), {})}
    frame = pandas.DataFrame({"height": [1.0, 2.0, 4.0], "weight": [2.0, 1.0, 5.0]})
    options = ComparisonOptions()
    assert prepare_inputs(fit, posterior, frame, None, None, options).feature_names == ["height", "weight"]
    assert prepare_inputs(fit, posterior, frame, None, ["a", "b"], options).feature_names == ["a", "b"]
    assert prepare_inputs(fit, posterior, frame.to_numpy(), None, None, options).feature_names == ["feature 0", "feature 1"]
