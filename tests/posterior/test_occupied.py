"""condition_on_occupied: which draws and components are kept, and what other functions make of them."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgmm
from jaxgmm.density import log_prob
from jaxgmm.posterior.occupied import _choose_draws
from jaxgmm.posterior.result import PosteriorStatus

X = np.float32([[-5.0], [-5.5], [-4.5], [-5.2], [5.0], [5.5], [4.8]])


def fabricate(covariance_type="diag"):
    """Return two chains of 40 draws with at most four components; every third draw has three occupied ones, the others two.

    The component near 5 comes before the one near -5 in half of the draws. One component of positive weight is empty.
    """
    rng = np.random.default_rng(0)
    shape = (2, 40)
    weights = rng.dirichlet([4.0, 3.0, 0.3], shape)
    means = np.array([-5.0, 5.0, 0.0])[:, None] + 0.3 * rng.normal(size=(*shape, 3, 1))
    variances = 1 + 0.1 * rng.random((*shape, 3, 1))
    third = (np.arange(40) % 3 == 0)[None, :, None]
    counts = np.where(third, [3.0, 3.0, 1.0], [4.0, 3.0, 0.0]) * np.ones((*shape, 1))
    absent = np.zeros((*shape, 1))
    order = np.where((np.arange(40) % 2 == 0)[None, :, None], [0, 1, 2, 3], [1, 2, 3, 0]) * np.ones((*shape, 1), int)
    pick = lambda leaf: np.take_along_axis(leaf, order.reshape(*shape, 4, *[1] * (leaf.ndim - 3)), 2)  # noqa: E731
    extend = lambda leaf: np.concatenate([leaf, np.full((*shape, 1, *leaf.shape[3:]), 99.0)], 2)  # noqa: E731
    weights, counts = pick(np.concatenate([weights, absent], 2)), pick(np.concatenate([counts, absent], 2))
    stored = variances[:, :, :1, :, None] if covariance_type == "tied" else pick(extend(variances))
    mixture = jaxgmm.Mixture(*(jnp.asarray(v, jnp.float32) for v in (weights, pick(extend(means)), stored)), covariance_type)
    scale = jnp.array([[2.0]]) if covariance_type == "tied" else jnp.array([2.0])
    prior = jaxgmm.Prior(jnp.ones(4), jnp.zeros(1), jnp.array(0.1), jnp.array(4.0), scale)
    stats = {
        "num_components": jnp.full(shape, 3),
        "num_occupied": jnp.asarray((counts > 0).sum(-1)),
        "counts": jnp.asarray(counts),
    }
    return jaxgmm.Posterior(mixture, jnp.zeros(shape), prior, jnp.array(0), stats, "telescope")


@pytest.mark.parametrize("covariance_type", ["diag", pytest.param("tied", marks=pytest.mark.slow)])
def test_the_most_frequent_number(covariance_type):
    """The draws with two occupied components stay, relabelled; weights are shares; the density is that of two components."""
    posterior = fabricate(covariance_type)
    found = jaxgmm.condition_on_occupied(posterior, X)
    mixture = found.mixture
    assert mixture.means.shape == (2, 26, 2, 1)
    np.testing.assert_allclose(mixture.weights.sum(-1), 1, rtol=1e-5)
    assert (np.sign(mixture.means[..., 0]) == np.sign(mixture.means[0, 0, :, 0])).all()
    assert (np.abs(mixture.means) < 7).all()
    assert float(found.stats["prob_occupied"]) == pytest.approx(52 / 80)
    assert bool(found.stats["labels_identified"])
    assert found.prior.weight_concentration.shape == (2,)
    expected = log_prob(mixture, X).sum(-1) + jaxgmm.log_prior(mixture, found.prior)
    np.testing.assert_allclose(found.log_density, expected, rtol=1e-4)


def test_functions_take_the_result():
    """partition and predictions take both posteriors; without a prior, the density is the likelihood."""
    posterior = dataclasses.replace(fabricate(), prior=None)
    found = jaxgmm.condition_on_occupied(posterior, X, num_occupied=2)
    np.testing.assert_allclose(found.log_density, log_prob(found.mixture, X).sum(-1), rtol=1e-4)
    for one in (posterior, found):
        assert jaxgmm.partition(one, X).labels.tolist() == [0, 0, 0, 0, 1, 1, 1]
        assert np.isfinite(jaxgmm.predictive_log_prob(one, X)).all()
    assert "relabelled" in str(found)


@pytest.mark.slow
def test_compare_and_modes_take_the_result():
    found = jaxgmm.condition_on_occupied(fabricate(), X)
    start = jaxgmm.from_labels(X, [0] * 4 + [1] * 3, num_components=2, covariance_type="diag")
    fit = jaxgmm.fit(start, X, found.prior)
    assert float(jaxgmm.modes(found, X).mass[0]) == 1
    assert jaxgmm.compare(fit, found, X).rows[0].method == "telescope"


def test_functions_for_one_number_of_components_refuse_the_draws():
    posterior = fabricate()
    start = jaxgmm.from_labels(X, [0] * 4 + [1] * 3, num_components=2, covariance_type="diag")
    fit = jaxgmm.fit(start, X, dataclasses.replace(posterior.prior, weight_concentration=jnp.ones(2)))
    calls = {
        "modes": lambda: jaxgmm.modes(posterior, X),
        "log_evidence": lambda: jaxgmm.log_evidence(jax.random.key(0), posterior, X),
        "compare": lambda: jaxgmm.compare(fit, posterior, X),
    }
    for name, call in calls.items():
        with pytest.raises(ValueError, match=rf"{name} expects draws with one number .*condition_on_occupied"):
            call()


def test_every_chain_gives_as_many_draws():
    """Draws are evenly spaced, and a chain with few draws is left out."""
    wanted = np.zeros((3, 12), bool)
    wanted[0, :8] = wanted[1, ::3] = True
    (chains, draws), complete = _choose_draws(wanted)
    assert chains.tolist() == [[0], [1]]
    assert draws.tolist() == [[0, 2, 4, 6], [0, 3, 6, 9]]
    assert not complete
    assert _choose_draws(wanted[:2])[1]


def test_a_chain_without_such_draws_makes_the_result_unmixed():
    posterior = fabricate()
    numbers = posterior.stats["num_occupied"].at[1].set(3)
    stats = posterior.stats | {"num_occupied": numbers}
    found = jaxgmm.condition_on_occupied(dataclasses.replace(posterior, stats=stats), X, num_occupied=2)
    assert found.mixture.means.shape[:2] == (1, 26)
    assert int(found.status) == PosteriorStatus.UNMIXED


def test_invalid_input():
    posterior = fabricate()
    with pytest.raises(ValueError, match="one of 2, 3 was expected"):
        jaxgmm.condition_on_occupied(posterior, X, num_occupied=1)
    with pytest.raises(ValueError, match="from telescope was expected"):
        jaxgmm.condition_on_occupied(dataclasses.replace(posterior, stats={}), X)
    with pytest.raises(ValueError, match="NONFINITE"):
        jaxgmm.condition_on_occupied(dataclasses.replace(posterior, status=jnp.array(6)), X)
    with pytest.raises(TypeError, match="traced"):
        jax.jit(lambda posterior: jaxgmm.condition_on_occupied(posterior, X).log_density)(posterior)
    with pytest.raises(ValueError, match="features"):
        jaxgmm.condition_on_occupied(posterior, np.zeros((3, 2), np.float32))
