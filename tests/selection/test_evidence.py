"""select with criterion="evidence": exact sums over labels, published values, errors of probabilities, table, refusals."""

import dataclasses
import json
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from exact_evidence import exact_log_evidence

import jaxgmm
from jaxgmm.posterior.result import PosteriorStatus
from jaxgmm.selection import evidence as module
from jaxgmm.selection.evidence import probabilities

from helpers import independent_prior

KEY = jax.random.key(0)
X = np.random.default_rng(3).normal(size=(10, 1)).astype(np.float32)
X[:4] += 3
PRIOR = jaxgmm.Prior(*(jnp.asarray(v, jnp.float32) for v in ([0.8, 0.8], [0.5], 0.5, 4.0, [[2.0]])))
OPTIONS = dict(num_components=(1, 2), covariance_types="full", criterion="evidence")


@pytest.fixture(scope="module")
def selection():
    """Return a selection with made-up runs of `smc`, whose log evidences are -21 and -20 for one and two components."""

    def made_up(key, x, prior, *, present, num_chains, **options):
        log_evidence = np.full(num_chains, present.sum() - 22.0)
        return SimpleNamespace(stats={"log_evidence": log_evidence, "log_evidence_error": 0.1}, status=PosteriorStatus.OK)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "smc", made_up)
        return jaxgmm.select(KEY, X, prior=PRIOR, num_restarts=1, max_iter=50, num_samples=500, num_chains=8, **OPTIONS)


def test_the_largest_evidence_is_best(selection):
    """Each evidence is that of its own number of components."""
    shares = np.exp([-1.0, 0.0]) / (1 + np.exp(-1))
    for (_, k), cell in selection.cells.items():
        assert cell.evidence.log_evidence == pytest.approx(k - 22)
        assert cell.evidence.log_evidence_error == 0.1
        assert cell.evidence.probability == pytest.approx(shares[k - 1])
        assert cell.criterion == pytest.approx(44 - 2 * k)
    assert selection.best.num_components == 2


@pytest.mark.slow
def test_evidence_is_the_sum_over_all_allocations():
    """|error| < 5 standard errors; with 8 runs, whose errors have 7 degrees of freedom, this fails 0.2 % of the time each."""
    selection = jaxgmm.select(KEY, X, prior=PRIOR, num_restarts=1, max_iter=50, num_samples=1000, num_chains=8, **OPTIONS)
    one = dataclasses.replace(PRIOR, weight_concentration=jnp.array([0.8]))
    exact = np.array([exact_log_evidence(X, prior, "full") for prior in (one, PRIOR)])
    shares = np.exp(exact - np.logaddexp.reduce(exact))
    for cell, value, share in zip(selection.cells.values(), exact, shares, strict=True):
        found = cell.evidence
        print(cell.num_components, value, share, found)
        assert found.log_evidence_error < 0.1
        assert abs(found.log_evidence - value) < 5 * found.log_evidence_error
        assert abs(found.probability - share) < 5 * found.probability_error
        assert cell.criterion == pytest.approx(-2 * found.log_evidence, rel=1e-6)
    assert selection.best.num_components == 1 + shares.argmax()


def test_records_and_table(selection):
    """The rows of all files have the evidence, its error, the probability and its error."""
    text = repr(selection)
    assert "p(K | x)" in text
    assert "*" in text.splitlines()[1 + selection.best.num_components]
    names = ["log_evidence", "log_evidence_error", "probability", "probability_error", "smc_status"]
    record = selection.to_dict()["cells"][1]
    assert list(record)[-5:] == names
    assert json.loads(selection.to_json())["cells"][1] == record
    assert selection.to_csv().splitlines()[0].endswith(",".join(names))
    assert selection.to_dataframe()["probability"].sum() == pytest.approx(1)


def test_errors_of_probabilities():
    """They are the standard deviations of the probabilities if the evidences vary with their errors."""
    value, error = np.array([-3.0, -2.0, -2.5, np.nan]), np.array([0.02, 0.01, 0.03, np.nan])
    p, p_error = probabilities(value, error)
    draws = np.exp(value[:3] + error[:3] * np.random.default_rng(0).normal(size=(20000, 3)))
    draws /= draws.sum(1, keepdims=True)
    np.testing.assert_allclose(p[:3], draws.mean(0), rtol=1e-2)
    np.testing.assert_allclose(p_error[:3], draws.std(0), rtol=0.05)
    assert (p[3], p_error[3]) == (0, 0)
    assert np.isnan(probabilities(np.array([np.nan]), np.array([0.1]))[0]).all()


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"prior": None}, TypeError, "needs one proper prior for all numbers"),
        ({"prior": {1: PRIOR, 2: PRIOR}}, ValueError, "must not depend on the number of components"),
        ({"prior": {"diag": PRIOR}}, ValueError, "one prior for each of the covariance types"),
        ({"num_components": (1, 3)}, ValueError, "prior is for K=2 components"),
        ({"prior": independent_prior("full", 2, 1, half_normal=True)}, TypeError, "closed form"),
        ({"covariance_types": ("VEE",)}, ValueError, r"'VEE' \(.*\), which criterion='evidence' does not support"),
        ({"sample_weight": np.full(10, 0.5)}, ValueError, "integers were expected"),
        ({"num_chains": 1}, ValueError, "num_chains is 1"),
        ({"num_samples": 10}, ValueError, "num_samples is 10"),
    ],
)
def test_refused(changes, error, message):
    with pytest.raises(error, match=message):
        jaxgmm.select(KEY, X, **({"prior": PRIOR} | OPTIONS | changes))


@pytest.mark.slow
def test_galaxies_under_chibs_prior():
    """K=2 and 3 with free and with equal variances: within 4 standard errors of the published values, and within 0.1."""
    x = np.asarray(jaxgmm.datasets.load("galaxies"), np.float32)
    array = lambda v: jnp.asarray(v, jnp.float32)  # noqa: E731
    laws = {"tied": jaxgmm.InverseWishart(array(6.0), array([[40.0]])), "diag": jaxgmm.InverseGamma(array(3.0), array([20.0]))}
    priors = {
        name: jaxgmm.IndependentPrior(array(np.ones(3)), array([20.0]), array([[100.0]]), law) for name, law in laws.items()
    }
    effort = dict(num_samples=1000, num_chains=20, num_restarts=2)
    found = jaxgmm.select(
        KEY, x, prior=priors, num_components=(2, 3), covariance_types=("tied", "diag"), criterion="evidence", **effort
    )
    print(found)
    published = {("tied", 2): -239.762, ("tied", 3): -226.811, ("diag", 2): -232.879, ("diag", 3): -226.789}
    for model, value in published.items():
        evidence = found.cells[model].evidence
        assert abs(evidence.log_evidence - value) < max(4 * evidence.log_evidence_error, 0.01)
        assert abs(evidence.log_evidence - value) < 0.1
    p = {name: found.cells[name, 3].evidence.probability for name in laws}
    assert p["diag"] / p["tied"] == pytest.approx(np.exp(-226.789 + 226.811), abs=0.1)
