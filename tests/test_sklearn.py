"""The estimator: scikit-learn's own checks, agreement with jaxgmm, and use in pipelines, searches and pickles."""

import os
import pickle
import subprocess
import sys

import numpy as np
import pytest

import jaxgmm

from helpers import COVARIANCE_TYPES, slow_unless

pytest.importorskip("sklearn", minversion="1.6")

from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import estimator_checks_generator

import jaxgmm.sklearn

X = jaxgmm.datasets.load("faithful")[:60]


def estimator(**options):
    return jaxgmm.sklearn.GaussianMixture(2, random_state=0, **options)


# one check of each group, for the run without the slow tests
TWIN = {
    "check_estimators_dtypes",
    "check_sample_weight_equivalence_on_dense_data",
    "check_methods_subset_invariance",
    "check_fit2d_1sample",
}


@pytest.mark.slow
@pytest.mark.parametrize("wide", ["0", "1"], ids=["float32", "float64"])
def test_all_checks_of_scikit_learn(wide):
    """check_estimator, in full: no check fails, is skipped or is expected to fail.

    SCIPY_ARRAY_API, without which scikit-learn skips its check of array API input, must be set before SciPy is imported.
    """
    code = """
import warnings
import jaxgmm.sklearn
from sklearn.utils.estimator_checks import check_estimator
warnings.simplefilter("ignore")
results = check_estimator(jaxgmm.sklearn.GaussianMixture(), on_skip=None)
assert {result["status"] for result in results} == {"passed"}, results
"""
    environment = os.environ | {"SCIPY_ARRAY_API": "1", "JAX_ENABLE_X64": wide}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)


@pytest.mark.filterwarnings("ignore")  # the checks have data with constant columns, few rows and the like
def test_checks_of_scikit_learn():
    """The small twin of the full run."""
    done = set()
    for one, check in estimator_checks_generator(jaxgmm.sklearn.GaussianMixture()):
        if check.func.__name__ in TWIN:
            check(one)
            done.add(check.func.__name__)
    assert done == TWIN


@pytest.mark.parametrize("covariance_type", slow_unless(COVARIANCE_TYPES, ("full",)))
def test_agrees_with_jaxgmm(covariance_type):
    """Methods are those of the mixture, attributes have scikit-learn's shapes, and weights are repetitions."""
    weight = np.arange(len(X)) % 3
    found = estimator(covariance_type=covariance_type).fit(X, sample_weight=weight)
    assert isinstance(found.mixture_.means, np.ndarray)
    assert found.converged_
    assert found.weights_[0] >= found.weights_[1]
    log_density = jaxgmm.log_prob(found.fit_, X)
    np.testing.assert_array_equal(found.score_samples(X), log_density)
    np.testing.assert_array_equal(found.predict(X), found.predict_proba(X).argmax(1))
    np.testing.assert_allclose(found.score(X, sample_weight=weight), found.lower_bound_, rtol=1e-5)
    np.testing.assert_allclose(found.lower_bound_, np.average(log_density, weights=weight), rtol=1e-5)
    theirs = jaxgmm.to_sklearn(found.fit_)
    for name in ("weights_", "means_", "covariances_", "precisions_", "precisions_cholesky_"):
        np.testing.assert_allclose(getattr(found, name), getattr(theirs, name), rtol=1e-5, atol=1e-12)
    np.testing.assert_array_equal(jaxgmm.from_sklearn(found).means, found.means_)
    x, labels = found.sample(4)
    assert x.shape == (4, 2)
    assert labels.shape == (4,)


def test_types_that_scikit_learn_lacks():
    """The estimator takes the codes of all covariance types, and its attributes have shapes of scikit-learn."""
    found = estimator(covariance_type="EEI").fit(X)
    assert found.mixture_.covariances.shape == (1, 2)
    assert found.covariances_.shape == found.precisions_.shape == (2, 2)
    np.testing.assert_array_equal(found.predict(X), jaxgmm.to_sklearn(found.fit_).predict(X))
    assert jaxgmm.from_sklearn(found).covariance_type == "EEI"
    np.testing.assert_allclose(found.bic(X), jaxgmm.bic(found.fit_, X), rtol=1e-6)


def test_float64(x64):
    """With float64 enabled, float64 data give float64 results."""
    found = estimator().fit(X)
    assert found.means_.dtype == np.float64
    assert found.score_samples(X.astype(float)).dtype == np.float64


@pytest.mark.filterwarnings("ignore:The chains")
def test_priors_restarts_and_posteriors():
    """A prior gives the posterior mode; draws are kept on request and forgotten by the next fit."""
    found = estimator(prior="default", n_init=3, posterior="gibbs", posterior_options={"num_samples": 5}).fit(X)
    assert found.prior_.mean.shape == (2,)
    assert found.fit_.objective != found.fit_.log_likelihood
    assert isinstance(found.posterior_, jaxgmm.Posterior)
    assert isinstance(found.posterior_.mixture.means, np.ndarray)
    assert found.posterior_.mixture.means.shape[-3:] == (5, 2, 2)
    np.testing.assert_allclose(found.bic(X), jaxgmm.bic(found.fit_, X), rtol=1e-6)
    np.testing.assert_allclose(found.aic(X, np.ones(60)), jaxgmm.aic(found.fit_, X), rtol=1e-6)
    given = found.set_params(prior=found.prior_, posterior=None, n_init=1).fit(X)
    assert given.fit_.objective == pytest.approx(float(jaxgmm.fit(found.fit_, X, found.prior_).objective), rel=1e-5)
    assert not hasattr(given, "posterior_")


def test_in_pipelines_searches_and_pickles():
    """Clones and pickles work, a search finds the number of components, and weights reach fit."""
    pipeline = make_pipeline(StandardScaler(), estimator(prior="default"))
    search = GridSearchCV(pipeline, {"gaussianmixture__n_components": [1, 2]}, cv=2).fit(X)
    assert search.best_params_ == {"gaussianmixture__n_components": 2}
    again = pickle.loads(pickle.dumps(search.best_estimator_))
    np.testing.assert_array_equal(again.predict(X), search.best_estimator_.predict(X))
    assert clone(again[-1]).get_params()["prior"] == "default"
    assert not hasattr(clone(again[-1]), "means_")
    weighted = pipeline.fit(X, gaussianmixture__sample_weight=np.ones(len(X)))
    assert abs(weighted[-1].weights_.sum() - 1) < 1e-6


def test_warnings_and_errors():
    with pytest.warns(ConvergenceWarning, match="max_iter") as caught:
        found = estimator(max_iter=1).fit(X)
    assert not found.converged_
    assert caught[0].filename == __file__
    with pytest.warns(RuntimeWarning, match="Components 1:"):  # with this seed, it is the first component of the start
        found = estimator().set_params(random_state=3).fit(np.append(X, [[20.0, 500.0]] * 30, 0))
    np.testing.assert_allclose(found.weights_, [2 / 3, 1 / 3], rtol=1e-3)
    assert found.fit_.component_status.tolist() == [0, 2]
    with pytest.raises(NotFittedError):
        estimator().predict(X)
    for options, words in [
        ({"init_params": "kmeans"}, "init_params is 'kmeans'; one of"),
        ({"prior": "conjugate"}, "prior is 'conjugate'; one of 'default'"),
        ({"n_init": 0}, "n_init is 0"),
        ({"covariance_type": "round"}, "covariance_type is 'round'"),
    ]:
        with pytest.raises(ValueError, match=words):
            estimator(**options).fit(X)
    with pytest.raises(TypeError, match="a posterior needs a proper prior"):
        estimator(posterior="gibbs").fit(X)


def test_without_scikit_learn(monkeypatch):
    """The package works without it, and the estimator says what to install."""
    for name in ("sklearn", "sklearn.base"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, "jaxgmm.sklearn")
    monkeypatch.delattr(jaxgmm, "sklearn")
    assert "sklearn" not in dir(jaxgmm)  # help(jaxgmm) imports every name in dir
    with pytest.raises(ImportError, match=r"pip install 'jaxgmm\[sklearn\]'"):
        jaxgmm.sklearn  # noqa: B018
