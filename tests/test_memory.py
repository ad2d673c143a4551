"""Test that sizes that cannot be allocated are refused in words, by every function that has such an option."""

import jax
import numpy as np
import pytest

import jaxgmm
from jaxgmm.calibration.config import check_counts
from jaxgmm.memory import check_memory, free_memory, tree_bytes

X = np.random.default_rng(0).normal(size=(20, 2)).astype(np.float32)
KEY = jax.random.key(0)
MANY = 2 * 10**9


@pytest.fixture(scope="module")
def fit():
    return jaxgmm.fit(jaxgmm.from_labels(X, np.arange(20) % 2, num_components=2), X, jaxgmm.default_prior(X, num_components=2))


def prior():
    return jaxgmm.default_prior(X, num_components=2)


def posterior(fit):
    draws = jax.tree.map(lambda leaf: leaf[None, None], fit.mixture)
    return jaxgmm.Posterior(draws, np.zeros((1, 1), np.float32), prior(), np.asarray(0), {}, "laplace")


COUNTS = {"num_components": 2, "num_datasets": 5, "num_observations": 5, "num_draws": 5, "thin": None, "batch_size": None}
FUNCTIONS = {
    "sample": lambda fit, n: jaxgmm.sample(KEY, fit, n),
    "fit": lambda fit, n: jaxgmm.fit(fit, X, max_iter=n),
    "fit_restarts": lambda fit, n: jaxgmm.fit_restarts(KEY, X, num_components=2, num_restarts=n),
    "select": lambda fit, n: jaxgmm.select(KEY, X, num_components=[2], num_restarts=n),
    "nuts": lambda fit, n: jaxgmm.nuts(KEY, fit, X, prior(), num_samples=n),
    "gibbs": lambda fit, n: jaxgmm.gibbs(KEY, fit, X, prior(), num_samples=n),
    "gibbs chains": lambda fit, n: jaxgmm.gibbs(KEY, fit, X, prior(), num_chains=n),
    "smc": lambda fit, n: jaxgmm.smc(KEY, X, prior(), num_components=2, num_samples=n),
    "telescope": lambda fit, n: jaxgmm.telescope(KEY, X, prior(), max_components=3, num_samples=n),
    "laplace": lambda fit, n: jaxgmm.laplace(KEY, fit, X, prior(), num_samples=n),
    "log_evidence": lambda fit, n: jaxgmm.log_evidence(KEY, posterior(fit), X, num_samples=n),
    "predictive_sample": lambda fit, n: jaxgmm.predictive_sample(KEY, posterior(fit), n),
    "bootstrap": lambda fit, n: jaxgmm.bootstrap(KEY, fit, X, num_samples=n),
    "sample_prior": lambda fit, n: jaxgmm.sample_prior(KEY, prior(), num_components=2, num_samples=n),
    "calibrate": lambda fit, n: check_counts(**COUNTS | {"num_datasets": n}),
    "calibrate rows": lambda fit, n: check_counts(**COUNTS | {"num_observations": n}),
    "Design": lambda fit, n: jaxgmm.Design(num_datasets=n),
    "Design rows": lambda fit, n: jaxgmm.Design(num_observations=(n,)),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_refuse(fit, monkeypatch, name):
    """More than the memory holds, more than JAX can count, and more than 64 bits."""
    monkeypatch.setattr("jaxgmm.memory.free_memory", lambda: 1e9)
    with pytest.raises(ValueError, match=rf"{MANY}.* takes at least .* GB of memory, more than is free"):
        FUNCTIONS[name](fit, MANY)
    for number in (10**15, 10**30):
        with pytest.raises(ValueError, match=rf"is {number}; an integer from \d+ to 2147483647 was expected"):
            FUNCTIONS[name](fit, number)


def test_the_free_memory():
    assert 1e6 < free_memory() < 1e16
    check_memory(1e6, "n=1")
    with pytest.raises(ValueError, match=r"n=1 takes at least 1e.18 GB"):
        check_memory(1e27, "n=1")


def test_systems_that_tell_less(monkeypatch, tmp_path):
    monkeypatch.setattr("pathlib.Path.read_text", lambda self: "nonsense")
    assert free_memory() > 1e6


def test_bytes_of_traced_trees():
    assert jax.eval_shape(lambda m: tree_bytes(m) * m, np.zeros((3, 2), np.float32)).shape == (3, 2)
    assert tree_bytes({"a": np.zeros(3), "b": None}) == 24
