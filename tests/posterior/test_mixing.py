"""mixing: the rule that says whether chains have mixed, and that every sampler and `relabel` follow it."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgmm
from jaxgmm.posterior import diagnostics
from jaxgmm.posterior.mixing import (
    Mixing,
    _sort_components,
    judge_mixing,
    label_invariant_draws,
    measure_mixing,
    parameter_draws,
)
from jaxgmm.posterior.result import PosteriorStatus, is_good, needs_warning

from fabricated_comparisons import fabricate_fit, make_posterior, two_clusters
from helpers import OTHER_TWO_COVARIANCE_TYPES, random_mixture, slow_unless

OK, FEW, UNMIXED = PosteriorStatus.OK, PosteriorStatus.FEW_DRAWS, PosteriorStatus.UNMIXED
measure = jax.jit(measure_mixing)


def chains(correlation, num_samples, *, num_chains=4, apart=0.0):
    """Return autoregressive chains (C, S) with the given correlation of successive draws; one chain is moved."""
    noise = np.random.default_rng(0).normal(size=(num_chains, num_samples))
    draws = noise.copy()
    for s in range(1, num_samples):
        draws[:, s] = correlation * draws[:, s - 1] + np.sqrt(1 - correlation**2) * noise[:, s]
    draws[0] += apart
    return draws.astype(np.float32)


@pytest.mark.parametrize("correlation", [-0.5, 0.0, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("num_samples", [101, 1000])
def test_effective_sizes_are_those_of_the_diagnostics(correlation, num_samples):
    draws = chains(correlation, num_samples) + 100
    found = measure(jnp.asarray(draws)[None])
    assert float(found.ess) == pytest.approx(float(diagnostics.ess_bulk(draws)), rel=0.01)
    folded = abs(draws - np.median(draws))
    largest = max(float(found.rhat), float(measure(jnp.asarray(folded)[None]).rhat))
    assert largest == pytest.approx(float(diagnostics.rhat(draws)), rel=1e-3)


def test_the_worst_of_all_quantities_counts_and_constants_do_not():
    good, bad = chains(0.0, 400), chains(0.95, 400)
    alone = measure(jnp.asarray(bad)[None])
    together = measure(jnp.stack([good, bad, np.full_like(good, 0.1), 1 + 1e-7 * np.sign(good)]))
    np.testing.assert_allclose(together, alone, rtol=1e-5)
    assert judge_mixing(measure(jnp.ones((2, 4, 400))), 4, 400) == OK
    broken = measure(jnp.stack([good, good]).at[1, 0, 0].set(jnp.nan))
    assert np.isnan(broken).all()
    assert judge_mixing(broken, 4, 400) == UNMIXED


@pytest.mark.parametrize(
    ("rhat", "ess", "num_samples", "status"),
    [
        (1.0099, 400, 1000, OK),
        (1.0101, 400, 1000, FEW),
        (1.0, 399, 1000, FEW),
        (1.07, 400, 1000, UNMIXED),
        (1.0, 79, 1000, UNMIXED),
        (1.145, 19, 100, UNMIXED),
        (1.0, 400, 100, OK),
        (1.1, 60, 100, FEW),
        (1.0, 1e9, 3, FEW),
        (np.nan, np.nan, 1, FEW),
        (np.inf, 400, 1000, UNMIXED),
        (np.nan, 400, 1000, UNMIXED),
        (1.0, np.nan, 1000, UNMIXED),
    ],
)
def test_the_rule(rhat, ess, num_samples, status):
    assert judge_mixing(Mixing(jnp.asarray(rhat), jnp.asarray(ess)), 4, num_samples) == status


@pytest.mark.parametrize("num_samples", [1, 2, 3])
def test_few_draws_have_no_r_hat(num_samples):
    assert np.isnan(measure(jnp.asarray(chains(0.0, num_samples))[None])).all()


@pytest.mark.parametrize("covariance_type", OTHER_TWO_COVARIANCE_TYPES)
def test_quantities(covariance_type):
    """Those of the first kind do not depend on the order of the components; every parameter is among those of the second."""
    rng = np.random.default_rng(0)
    one = random_mixture(0, covariance_type, 3, 2)
    stack = jax.tree.map(lambda leaf: jnp.asarray(leaf * np.exp(0.1 * rng.random((2, 5, *[1] * leaf.ndim)))), one)
    order = np.array([2, 0, 1])
    shared = stack.covariances.shape[2] == 1
    turned = jaxgmm.Mixture(
        stack.weights[..., order],
        stack.means[:, :, order],
        stack.covariances if shared else stack.covariances[:, :, order],
        covariance_type,
    )
    density = jnp.zeros((2, 5))
    np.testing.assert_array_equal(label_invariant_draws(stack, density), label_invariant_draws(turned, density))
    rows = np.asarray(parameter_draws(stack))
    assert rows.shape[1:] == (2, 5)
    assert {float(v) for v in np.ravel(stack.means[0, 0])} <= {float(v) for v in rows[:, 0, 0]}


@pytest.mark.parametrize("k", [1, 2, 3, 6, 7])
def test_components_in_order(k):
    leaf = np.random.default_rng(k).normal(size=(2, 30, k, 2))
    np.testing.assert_array_equal(_sort_components(jnp.asarray(leaf)), np.sort(jnp.asarray(leaf), 2))


def test_relabelled_parameters_are_judged_where_labels_are_identified():
    """A chain that is moved in one covariance is seen after `relabel`; independent draws have no chains to judge."""
    x = two_clusters()
    fit = fabricate_fit(x)
    posterior = make_posterior(fit, x)
    assert jaxgmm.relabel(posterior, fit.mixture, x).status == OK
    moved = posterior.mixture.covariances.at[0, :, 1, 0, 1].add(0.1).at[0, :, 1, 1, 0].add(0.1)
    unmixed = dataclasses.replace(posterior, mixture=dataclasses.replace(posterior.mixture, covariances=moved))
    assert jaxgmm.relabel(unmixed, fit.mixture, x).status == UNMIXED
    for method in ("laplace", "bootstrap"):
        assert jaxgmm.relabel(dataclasses.replace(unmixed, method=method), fit.mixture, x).status == OK
    for status in (PosteriorStatus.DIVERGENCES, PosteriorStatus.NONFINITE):
        worse = dataclasses.replace(unmixed, status=jnp.array(status))
        assert jaxgmm.relabel(worse, fit.mixture, x).status == status
    few = jax.tree.map(lambda leaf: leaf[:, :50] if leaf.shape[:2] == (4, 500) else leaf, posterior)
    assert jaxgmm.relabel(few, fit.mixture, x).status == FEW


def test_few_draws_are_neither_good_nor_a_warning():
    assert not is_good(FEW)
    assert not needs_warning(np.asarray(FEW))
    assert [status for status in PosteriorStatus if not needs_warning(np.asarray(status))] == [
        OK,
        PosteriorStatus.FULL_WARMUP,
        FEW,
    ]


@pytest.mark.parametrize("num_samples", slow_unless([1, 3, 20], (3, 20)))
def test_samplers_do_not_praise_few_draws(num_samples):
    """With one draw a chain nothing can be said about agreement."""
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(0, 1, (60, 1)), rng.normal(9, 1, (40, 1))]).astype(np.float32)
    prior = jaxgmm.default_prior(x, num_components=2)
    fit = jaxgmm.fit(jaxgmm.from_labels(x, np.arange(100) // 60, num_components=2), x, prior)
    posterior = jaxgmm.gibbs(jax.random.key(0), fit, x, prior, num_samples=num_samples)
    assert posterior.status == FEW
    assert np.isnan(posterior.stats["rhat"]) == np.isnan(posterior.stats["ess"]) == (num_samples < 4)
    assert "too few draws" in " ".join(str(posterior).split())
