"""Restarts as one batch: the best objective among the finite, and never a spike where there is a choice."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgmm
from jaxgmm.em.many import best_of, has_spike
from jaxgmm.em.result import ComponentStatus, Fit, Status


def test_iris_full_k3_is_the_published_maximum(x64):
    """Restarts that end in spikes have larger likelihoods; the best sound one is the tight published -180.1855."""
    x = jaxgmm.datasets.load("iris")
    best = jaxgmm.fit_restarts(jax.random.key(0), x, num_components=3, num_restarts=12, tol=1e-10)
    np.testing.assert_allclose(best.log_likelihood, -180.1855, atol=1e-3)
    assert not best.component_status.any()


def test_one_call_is_the_best_of_its_fits():
    """The same keys one by one give no better sound fit; under jit and vmap over keys too."""
    x = jaxgmm.datasets.load("faithful").astype(np.float32)
    run = partial(jaxgmm.fit_restarts, num_components=3, covariance_type="tied", num_restarts=4)
    keys = jax.random.split(jax.random.key(1), 2)
    best = jax.jit(jax.vmap(lambda key: run(key, jnp.asarray(x)).objective))(keys)
    for key, objective in zip(keys, best, strict=True):
        starts = [jaxgmm.initialize(k, x, num_components=3, covariance_type="tied") for k in jax.random.split(key, 4)]
        alone = max(float(jaxgmm.fit(start, x).objective) for start in starts)
        np.testing.assert_allclose(objective, alone, rtol=1e-5)


def stack(objectives, weights, component_status, kind, status=(0, 0, 0)):
    """A stack of three made-up fits with two components in one dimension."""
    covariances = {"full": jnp.ones((3, 2, 1, 1)), "tied": jnp.ones((3, 1, 1, 1)), "diag": jnp.ones((3, 2, 1))}[kind]
    mixture = jaxgmm.Mixture(jnp.array(weights), jnp.zeros((3, 2, 1)), covariances, kind)
    objective = jnp.array(objectives)
    return Fit(mixture, objective, objective, objective[:, None], jnp.ones(3), jnp.array(status), jnp.array(component_status))


def test_ranking():
    """Spikes and failures rank below; tied has no spikes; where all are spikes the best objective wins."""
    weights, fine = [[0.5, 0.5], [0.999, 0.001], [0.4, 0.6]], [[0, 0]] * 3
    total = jnp.array(100.0)
    assert int(best_of(stack([1.0, 9.0, 2.0], weights, fine, "full"), total)) == 2
    assert int(best_of(stack([1.0, 9.0, 2.0], weights, fine, "tied"), total)) == 1
    floor = [[0, 0], [0, 0], [0, ComponentStatus.AT_FLOOR]]
    assert int(best_of(stack([1.0, 9.0, 2.0], weights, floor, "diag"), total)) == 0
    assert has_spike(stack([1.0, 9.0, 2.0], weights, floor, "diag"), total).tolist() == [False, True, True]
    spikes = [[0, ComponentStatus.AT_FLOOR]] * 3
    assert int(best_of(stack([1.0, 9.0, 2.0], weights, spikes, "full"), total)) == 1
    broken = (0, 0, Status.NONFINITE)
    assert int(best_of(stack([1.0, np.nan, 2.0], weights, fine, "full", broken), total)) == 0


def test_refusals():
    """Counts and options are refused by name."""
    x = jaxgmm.datasets.load("acidity")
    with pytest.raises(TypeError, match="num_restarts is 2.0"):
        jaxgmm.fit_restarts(jax.random.key(0), x, num_components=2, num_restarts=2.0)
    with pytest.raises(ValueError, match="155 rows"):
        jaxgmm.fit_restarts(jax.random.key(0), x, num_components=200)
