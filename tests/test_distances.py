"""Distances between mixtures: against numeric integrals, quantiles, other solvers and laws; stacks, gradients, refusals."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, stats

import jaxgmm
from jaxgmm.wasserstein import gaussian_w2_squared

from helpers import COVARIANCE_TYPES, enabled_x64, random_mixture

KEY = jax.random.key(0)
P = jaxgmm.make_mixture([0.3, 0.7], [[0.0], [4.0]], [[[1.0]], [[0.25]]])
Q = jaxgmm.make_mixture([0.2, 0.5, 0.3], [[-1.0], [3.0], [6.0]], [[2.0], [1.0], [0.5]], covariance_type="diag")


def density(mixture, x):
    """Return the density of a mixture of one feature in float64."""
    variances = np.asarray(mixture.covariances, float).reshape(-1)
    means, weights = np.asarray(mixture.means, float)[:, 0], np.asarray(mixture.weights, float)
    return sum(w * stats.norm.pdf(x, m, np.sqrt(v)) for w, m, v in zip(weights, means, variances, strict=True))


def integral(function):
    return integrate.quad(function, -15, 20, points=[-1, 0, 3, 4, 6], limit=200, epsabs=1e-13)[0]


def test_l2_is_the_integral():
    expected = np.sqrt(integral(lambda x: (density(P, x) - density(Q, x)) ** 2))
    found = jaxgmm.distance(P, Q)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert float(found.error) == 0
    np.testing.assert_allclose(jaxgmm.distance(Q, P), expected, rtol=1e-6)


def test_kl_is_the_integral_within_its_error():
    """The estimate is within 5 standard errors, by chance outside in 6e-7."""
    expected = integral(lambda x: density(P, x) * np.log(density(P, x) / density(Q, x)))
    found = jaxgmm.distance(P, Q, kind="kl", key=KEY, num_samples=20_000)
    assert abs(float(found) - expected) < 5 * float(found.error)
    assert 0 < float(found.error) < 0.05
    assert "+-" in repr(found)
    far = jaxgmm.make_mixture([1.0], [[1e8]], [[[1e-4]]])
    found = jaxgmm.distance(P, far, kind="kl", key=KEY, num_samples=20_000)
    assert float(found.error) == np.inf or float(found) > 1e10


@pytest.mark.parametrize("kind", ["l2", "wasserstein"])
def test_laws_of_a_metric(kind):
    """Symmetry, the triangle inequality, and 0 for the same mixture with its components in another order."""
    mixtures = [
        random_mixture(seed, kind=name, k=k) for seed, (name, k) in enumerate(zip(COVARIANCE_TYPES, (2, 3, 4, 3), strict=True))
    ]
    found = {(i, j): float(jaxgmm.distance(mixtures[i], mixtures[j], kind=kind)) for i in range(4) for j in range(4)}
    for i, j, k in itertools.permutations(range(4), 3):
        assert found[i, j] == pytest.approx(found[j, i], rel=1e-5)
        assert found[i, j] <= found[i, k] + found[k, j]
    full = mixtures[0]
    shuffled = jax.tree.map(lambda leaf: leaf[::-1], full)
    assert float(jaxgmm.distance(full, shuffled, kind=kind)) < 1e-6
    assert found[0, 1] > 0.01


def test_wasserstein_is_the_best_coupling():
    """With equal weights the best coupling is a permutation; its marginals are the weights; MW2 is at least W2."""
    k = 4
    p, q = random_mixture(0, "full", k=k), random_mixture(1, "diag", k=k)
    p, q = (jaxgmm.make_mixture([1 / k] * k, m.means, m.covariances, covariance_type=m.covariance_type) for m in (p, q))
    dense = np.stack([np.diag(v) for v in np.asarray(q.covariances, float)])
    costs = gaussian_w2_squared(np.asarray(p.means)[:, None], np.asarray(p.covariances)[:, None], np.asarray(q.means), dense)
    best = min(sum(costs[i, order[i]] for i in range(k)) / k for order in itertools.permutations(range(k)))
    found = jaxgmm.distance(p, q, kind="wasserstein")
    np.testing.assert_allclose(found, np.sqrt(best), rtol=1e-5)
    found = jaxgmm.distance(P, Q, kind="wasserstein")
    np.testing.assert_allclose(found.plan.sum(1), P.weights, atol=1e-6)
    np.testing.assert_allclose(found.plan.sum(0), Q.weights, atol=1e-6)
    grid = np.linspace(-12, 15, 200_001)
    inner = np.linspace(1e-4, 1 - 1e-4, 20_000)
    quantiles = []
    for mixture in (P, Q):
        cdf = np.cumsum(density(mixture, grid))
        quantiles.append(np.interp(inner, cdf / cdf[-1], grid))
    assert float(found) >= np.sqrt(((quantiles[0] - quantiles[1]) ** 2).mean())


def test_stacks_broadcast():
    stack = jax.tree.map(lambda *leaves: jnp.stack(leaves), *[random_mixture(seed, "full", k=2, d=1) for seed in range(3)])
    for options in ({"kind": "l2"}, {"kind": "wasserstein"}, {"kind": "kl", "key": KEY, "num_samples": 50}):
        found = jaxgmm.distance(stack, P, **options)
        assert found.value.shape == found.error.shape == (3,)
        if options["kind"] != "kl":
            np.testing.assert_allclose(found.value[1], jaxgmm.distance(stack[1], P, **options), rtol=1e-6)
        assert "stacked (3,)" in repr(found)


def test_absent_components_do_not_count():
    padded = jaxgmm.Mixture(
        jnp.append(P.weights, 0.0),
        jnp.append(P.means, jnp.full((1, 1), jnp.nan), 0),
        jnp.append(P.covariances, P.covariances[:1] * 0, 0),
    )
    for kind in ("l2", "wasserstein"):
        np.testing.assert_allclose(jaxgmm.distance(padded, Q, kind=kind), jaxgmm.distance(P, Q, kind=kind), rtol=1e-6)


def test_traced_l2_and_its_gradient():
    with enabled_x64():
        p, q = (jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), m) for m in (P, Q))
        value = jax.jit(lambda p, q: jaxgmm.distance(p, q).value)
        np.testing.assert_allclose(value(p, q), jaxgmm.distance(p, q), rtol=1e-12)
        slope = jax.grad(value)(p, q).means[1, 0]
        step = jnp.array([[0.0], [1e-5]])
        moved = [value(jaxgmm.Mixture(p.weights, p.means + s * step, p.covariances), q) for s in (1, -1)]
        np.testing.assert_allclose(slope, (moved[0] - moved[1]) / 2e-5, rtol=1e-6)
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(jax.grad(value)(p, p)))


def test_units():
    """Densities in extreme units neither over- nor underflow: the L2 distance scales with unit^(-D/2), MW2 with the unit."""
    p, q = random_mixture(0, "full"), random_mixture(1, "full")
    unit = 1e-8
    a, b = (jaxgmm.Mixture(m.weights, m.means * unit, m.covariances * unit**2) for m in (p, q))
    np.testing.assert_allclose(float(jaxgmm.distance(a, b)) * unit**1.5, jaxgmm.distance(p, q), rtol=1e-4)
    options = {"kind": "wasserstein"}
    np.testing.assert_allclose(float(jaxgmm.distance(a, b, **options)) / unit, jaxgmm.distance(p, q, **options), rtol=1e-4)


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((P, Q), {"kind": "w2"}, "'l2', 'kl', 'wasserstein' was expected"),
        ((P, Q), {"kind": "kl"}, "key is None"),
        ((P, Q), {"kind": "kl", "key": KEY, "num_samples": 1}, "num_samples is 1"),
        ((P, random_mixture(0, "full", d=2)), {}, "p has 1 features and q has 2"),
        ((P, 3.0), {}, "q is float"),
        ((P, jaxgmm.Mixture(P.weights, P.means, -P.covariances)), {}, "q has a covariance that is not positive definite"),
        ((jaxgmm.Mixture(P.weights, P.means * jnp.nan, P.covariances), Q), {}, "p holds NaN"),
        (
            (jax.tree.map(lambda leaf: leaf[None].repeat(2, 0), P), jax.tree.map(lambda leaf: leaf[None].repeat(3, 0), Q)),
            {},
            "broadcast",
        ),
    ],
)
def test_refusals(arguments, options, message):
    with pytest.raises((TypeError, ValueError), match=message):
        jaxgmm.distance(*arguments, **options)


def test_traced_wasserstein_is_refused():
    with pytest.raises(TypeError, match="runs on the host"):
        jax.jit(lambda p: jaxgmm.distance(p, Q, kind="wasserstein").value)(P)
