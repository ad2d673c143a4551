"""to_arviz: names, shapes, and leave-one-out by its definition; skipped where arviz is not installed."""

import sys

import jax
import numpy as np
import pytest

import jaxgmm

from helpers import OTHER_TWO_COVARIANCE_TYPES, random_data, random_mixture


def posterior(covariance_type="full", k=3, draws=(4, 100), **stats):
    rng = np.random.default_rng(0)
    one = random_mixture(0, covariance_type, k, 2)
    stack = jax.tree.map(lambda leaf: np.asarray(leaf) * (1 + 0.02 * rng.random((*draws, *[1] * leaf.ndim))), one)
    return jaxgmm.Posterior(stack, rng.normal(size=draws).astype(np.float32), None, np.array(0), stats)


@pytest.fixture
def arviz():
    return pytest.importorskip("arviz")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("covariance_type", OTHER_TWO_COVARIANCE_TYPES)
def test_names_and_shapes(arviz, covariance_type):
    """Shared axes are dropped, and statistics have ArviZ's names."""
    one = posterior(covariance_type, diverging=np.zeros((4, 100), bool), num_steps=np.ones((4, 100), int), khat=np.array(0.2))
    x = random_data(0, 15, 2)
    found = jaxgmm.to_arviz(one, x)
    dims = {
        "full": ("component", "feature", "other_feature"),
        "tied": ("feature", "other_feature"),
        "diag": ("component", "feature"),
        "spherical": ("component",),
    }[covariance_type]
    assert found["posterior"]["covariances"].dims == ("chain", "draw", *dims)
    assert found["posterior"]["means"].dims == ("chain", "draw", "component", "feature")
    assert set(found["sample_stats"].data_vars) == {"lp", "diverging", "n_steps"}
    np.testing.assert_allclose(found["log_likelihood"]["x"], jaxgmm.log_prob(one.mixture, x), rtol=1e-5)
    np.testing.assert_allclose(found["observed_data"]["x"], x, rtol=1e-6)
    predicted = found["posterior_predictive"]["x"]
    assert predicted.dims[:3] == ("chain", "draw", "observation")
    assert predicted.shape == (4, 100, 15, 2)
    means = np.asarray(one.mixture.means).mean((0, 1))
    assert np.asarray(predicted).min() > means.min() - 20
    assert abs(np.asarray(predicted).mean((0, 1, 2)) - np.asarray(one.mixture.weights).mean((0, 1)) @ means).max() < 0.3


@pytest.mark.filterwarnings("ignore")
def test_coordinates_have_names(arviz):
    pandas = pytest.importorskip("pandas")
    one, x = posterior(), random_data(0, 15, 2)
    found = jaxgmm.to_arviz(one, pandas.DataFrame(x, columns=["height", "weight"]))
    assert found["posterior"]["means"].coords["feature"].values.tolist() == ["height", "weight"]
    assert found["posterior"]["covariances"].coords["other_feature"].values.tolist() == ["height", "weight"]
    assert found["posterior"]["weights"].coords["component"].values.tolist() == [0, 1, 2]
    named = jaxgmm.to_arviz(one, x, feature_names=["a", "b"])
    assert named["posterior"]["means"].coords["feature"].values.tolist() == ["a", "b"]


def test_arviz_base_is_enough(monkeypatch):
    """Without arviz, its part arviz-base makes the result; its function takes all groups as one dict."""
    given = {}
    base = type(sys)("arviz_base")
    base.from_dict = lambda groups, dims, coords: given.update(groups=groups, dims=dims, coords=coords) or "tree"
    monkeypatch.setitem(sys.modules, "arviz", None)
    monkeypatch.setitem(sys.modules, "arviz_base", base)
    assert jaxgmm.to_arviz(posterior(), random_data(0, 15, 2)) == "tree"
    assert set(given["groups"]) == {"posterior", "sample_stats", "observed_data", "posterior_predictive", "log_likelihood"}
    assert given["coords"]["feature"] == ["feature 0", "feature 1"]


@pytest.mark.filterwarnings("ignore")
def test_leave_one_out(arviz):
    """arviz.loo equals the definition by raw importance ratios, whose tails are light here; weights are repetitions."""
    one, x = posterior(), random_data(0, 40, 2)
    weight = np.arange(40) % 3
    x[weight == 0] = np.nan
    with pytest.raises(ValueError, match="whole numbers"):
        jaxgmm.to_arviz(one, x, sample_weight=weight / 2)
    found = arviz.loo(jaxgmm.to_arviz(one, x, sample_weight=weight))
    log_likelihood = np.asarray(jaxgmm.log_prob(one.mixture, x[weight > 0]), float).reshape(400, -1)
    expected = -np.log(np.exp(-log_likelihood).mean(0)) @ weight[weight > 0]
    elpd = found.elpd_loo if hasattr(found, "elpd_loo") else found.elpd
    np.testing.assert_allclose(float(elpd), expected, rtol=1e-3)


def test_refused(monkeypatch):
    """Invalid arguments and a missing arviz raise errors that say what to do."""
    one, x = posterior(draws=(1, 4)), random_data(0, 15, 2)
    monkeypatch.setitem(sys.modules, "arviz", None)
    monkeypatch.setitem(sys.modules, "arviz_base", None)
    with pytest.raises(ImportError, match=r"jaxgmm\[arviz\]"):
        jaxgmm.to_arviz(one, x)
    fake = type(sys)("arviz")
    monkeypatch.setitem(sys.modules, "arviz", fake)
    with pytest.raises(TypeError, match="posterior is Mixture"):
        jaxgmm.to_arviz(one.mixture, x)
    with pytest.raises(ValueError, match="1 features"):
        jaxgmm.to_arviz(one, x[:, :1])
