"""Density scores: distances, leave-one-out and folds agree with closed forms, loops and ArviZ."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import jaxgmm
from jaxgmm.comparison import predictive_scores as scores
from jaxgmm.posterior.pareto import pareto_k, psis

from helpers import OTHER_TWO_COVARIANCE_TYPES, random_mixture

STEP = 1.2  # between two normals of variance one
KNOWN = {
    "total_variation": 2 * stats.norm.cdf(STEP / 2) - 1,
    "hellinger": np.sqrt(1 - np.exp(-(STEP**2) / 8)),
    "kl": STEP**2 / 2,
}


def normal_at(mean):
    """Return a mixture of one component with variance one."""
    return jaxgmm.make_mixture([1.0], [np.atleast_1d(mean)], [np.eye(len(np.atleast_1d(mean)))])


def stack_of(*mixtures):
    return jax.tree.map(lambda *leaves: np.stack(leaves), *mixtures)


def test_distances_on_a_grid_are_exact():
    em, draws = normal_at(0.0), stack_of(normal_at(STEP))
    places = scores.choose_points(np.random.default_rng(0), em, draws, 1000)
    p, q = (stats.norm(mean).logpdf(places.points[:, 0]) for mean in (STEP, 0.0))
    found = scores.distances(p, q, places.quadrature)
    for name, value in KNOWN.items():
        assert found[name] == pytest.approx(value, abs=2e-5)
        assert found[f"{name}_error"] == 0
    same = scores.distances(p, p, places.quadrature)
    assert max(same[name] for name in KNOWN) < 1e-12


def test_distances_by_simulation_are_within_their_errors():
    """Errors are below five standard errors: the three fail falsely with probability 2e-6."""
    em, draws = normal_at([0.0, 0.0]), stack_of(normal_at([STEP, 0.0]), normal_at([STEP, 0.0]))
    places = scores.choose_points(np.random.default_rng(1), em, draws, 4000)
    assert places.quadrature is None
    assert places.points.shape == (4000, 2)
    p, q = (stats.multivariate_normal([mean, 0.0]).logpdf(places.points) for mean in (STEP, 0.0))
    found = scores.distances(p, q, None)
    for name, value in KNOWN.items():
        assert abs(found[name] - value) < 5 * found[f"{name}_error"] < 0.2 * value
    apart = scores.distances(np.array([0.0, -np.inf]), np.array([-np.inf, 0.0]), None)
    assert apart["total_variation"] == apart["hellinger"] == 1
    assert apart["kl"] == np.inf


@pytest.mark.parametrize("kind", OTHER_TWO_COVARIANCE_TYPES)
def test_simulated_points_have_the_mixtures_moments(kind):
    """Means of 20000 points are within five standard errors, which fails falsely with probability 2e-6."""
    mixture = random_mixture(0, kind, 2, 2)
    stack = stack_of(mixture)
    x = scores.simulate(np.random.default_rng(0), stack, np.zeros(20000, int))
    weights, means = np.asarray(mixture.weights, float), np.asarray(mixture.means, float)
    assert (abs(x.mean(0) - weights @ means) < 5 * x.std(0) / np.sqrt(20000)).all()
    density = np.asarray(jaxgmm.log_prob(mixture, x[:2000]))
    again = np.asarray(jaxgmm.log_prob(mixture, jaxgmm.sample(jax.random.key(0), mixture, 2000)[0]))
    assert abs(density.mean() - again.mean()) < 5 * np.hypot(density.std(), again.std()) / np.sqrt(2000)


def test_batches_of_draws_join_up():
    stack = stack_of(*[random_mixture(seed, "diag", 2, 1) for seed in range(5)])
    x = np.linspace(-3, 3, 7)[:, None].astype(stack.means.dtype)
    *densities, shares = scores.pointwise(stack, x[:4], x[4:], 2)
    np.testing.assert_allclose(np.concatenate(densities, 1), jaxgmm.log_prob(stack, x), rtol=1e-5)
    np.testing.assert_allclose(shares, jaxgmm.responsibilities(stack, x[:4]), atol=1e-6)


def normal_means(seed, n=30, count=4000):
    """Return y (N,) ~ N(mu, 1) and the log-likelihoods (M, N) of exact draws of mu under a flat prior."""
    rng = np.random.default_rng(seed)
    y = rng.normal(1.0, 1.0, n)
    mu = rng.normal(y.mean(), 1 / np.sqrt(n), count)
    return y, stats.norm(mu[:, None], 1).logpdf(y)


def without(y, out):
    """Return the exact log predictive density of the rows `out` given the others."""
    rest = np.delete(y, out)
    return stats.norm(rest.mean(), np.sqrt(1 + 1 / len(rest))).logpdf(y[out])


def test_leave_one_out_is_exact_where_that_is_known():
    """PSIS-LOO of a normal mean is exact up to a Monte Carlo error below 0.02 nats for 4000 draws."""
    y, log_likelihood = normal_means(0)
    found = scores.leave_one_out(log_likelihood, np.ones(30), 30.0)
    exact = np.array([without(y, [n])[0] for n in range(30)])
    assert found["elpd_loo"] == pytest.approx(exact.sum(), abs=0.1)
    assert found["elpd_loo_se"] == pytest.approx(np.sqrt(30) * exact.std(), rel=0.02)
    everything = stats.norm(y.mean(), np.sqrt(1 + 1 / 30)).logpdf(y).sum()
    assert found["p_loo"] == pytest.approx(everything - exact.sum(), abs=0.1)
    assert found["num_khat_high"] == 0
    # a row of weight two is two rows, one of which is left out
    twice = scores.leave_one_out(np.concatenate([log_likelihood, log_likelihood[:, :1]], 1), np.ones(31), 31.0)
    weighed = scores.leave_one_out(log_likelihood, np.r_[2.0, np.ones(29)], 31.0)
    assert {k: pytest.approx(v) for k, v in twice.items()} == weighed
    # draws from elsewhere, with their ratios
    mu = np.random.default_rng(1).normal(y.mean() + 0.05, 0.25, 4000)
    ratio = stats.norm(y.mean(), 1 / np.sqrt(30)).logpdf(mu) - stats.norm(y.mean() + 0.05, 0.25).logpdf(mu)
    corrected = scores.leave_one_out(stats.norm(mu[:, None], 1).logpdf(y), np.ones(30), 30.0, ratio)
    assert corrected["elpd_loo"] == pytest.approx(exact.sum(), abs=0.1)


def test_folds_are_exact_where_that_is_known():
    y, log_likelihood = normal_means(2)
    folds = scores.assign_folds(np.random.default_rng(0), 30, 4)
    assert sorted(np.bincount(folds)) == [7, 7, 8, 8]
    found, khat = scores.posterior_on_folds(log_likelihood, np.ones(30), folds)
    assert khat.shape == (4,)
    assert (khat < 0.7).all()
    for f in range(4):
        np.testing.assert_allclose(found[folds == f], without(y, np.flatnonzero(folds == f)), atol=0.1)


def test_em_is_fitted_again_without_each_fold():
    x = np.random.default_rng(0).normal(size=(40, 1)).astype(np.float32)
    x[20:] += 6
    weight = np.ones(40)
    weight[3] = 2
    prior = jaxgmm.default_prior(x, num_components=2)
    fit = jaxgmm.fit(jaxgmm.from_labels(x, np.arange(40) // 20, num_components=2), x, prior)
    folds = np.arange(40) % 3
    found = np.asarray(scores.refit(fit.mixture, x, prior, scores.without_folds(x.dtype, weight, folds)))
    for f in range(3):
        kept = folds != f
        repeated = np.repeat(x[kept], weight[kept].astype(int), axis=0)
        again = jaxgmm.fit(fit.mixture, repeated, prior).mixture
        np.testing.assert_allclose(found[f], jaxgmm.log_prob(again, x), atol=1e-3)


def test_smoothing_against_arviz():
    arviz = pytest.importorskip("arviz")
    _, log_likelihood = normal_means(3)
    ours, khat = psis(-3 * log_likelihood)
    theirs, k = arviz.psislw((-3 * log_likelihood).T)
    np.testing.assert_allclose(khat, k, rtol=1e-6)
    np.testing.assert_allclose(ours, np.asarray(theirs).T, rtol=1e-6)
    data = arviz.from_dict(posterior={"a": np.zeros((1, 4000))}, log_likelihood={"y": log_likelihood[None]})
    reference = arviz.loo(data)
    found = scores.leave_one_out(log_likelihood, np.ones(30), 30.0)
    expected = {"elpd_loo": reference.elpd_loo, "elpd_loo_se": reference.se, "p_loo": reference.p_loo}
    assert {name: found[name] for name in expected} == pytest.approx(expected, rel=1e-6)


def test_smoothing_by_hand():
    """Stacked sets give the same weights; k-hat is that of `pareto_k`; only the tail changes, and keeps its order."""
    ratios = np.random.default_rng(0).exponential(size=(1000, 3)) * [0.3, 0.6, 0.9]
    weights, khat = psis(ratios)
    for q in range(3):
        one, k = psis(ratios[:, q])
        np.testing.assert_allclose(one, weights[:, q])
        assert k == pytest.approx(khat[q]) == pytest.approx(pareto_k(ratios[:, q]))
        body = np.argsort(ratios[:, q])[:-95]  # 3 sqrt(M) are the tail
        np.testing.assert_allclose(np.diff((weights - ratios)[body, q]), 0, atol=1e-9)
        assert (np.diff(weights[np.argsort(ratios[:, q]), q]) >= -1e-12).all()
    assert psis(np.zeros(20))[1] == np.inf
    assert psis(np.zeros(200))[1] == 0
    np.testing.assert_allclose(np.exp(psis(np.array([0.0, -np.inf] * 50))[0]).sum(), 1)


def test_grid_reaches_as_far_as_the_draws():
    em = jaxgmm.make_mixture([0.5, 0.5], [[0.0], [100.0]], [[[1e-4]], [[1.0]]])
    wide = jaxgmm.make_mixture([0.5, 0.5], [[0.0], [100.0]], [[[400.0]], [[1.0]]])
    places = scores.choose_points(np.random.default_rng(0), em, stack_of(wide), 1000)
    assert len(places.points) == 1000
    assert places.points.min() <= -150
    for mixture in (em, wide):
        density = np.exp(np.asarray(jaxgmm.log_prob(mixture, jnp.asarray(places.points)), float))
        assert (density * places.quadrature).sum() == pytest.approx(1, abs=5e-3)


def test_distances_where_both_densities_vanish():
    """A grid that reaches as far as extreme draws has points without density, which add nothing and cause no warning."""
    x = np.linspace(-9, 10, 2001)
    log_p, log_q = stats.norm.logpdf(x), stats.norm.logpdf(x, 1)
    width = np.full(2001, x[1] - x[0])
    empty = np.full(3, -np.inf)
    expected = scores.distances(log_p, log_q, width)
    found = scores.distances(np.r_[empty, log_p], np.r_[empty, log_q], np.r_[np.full(3, 1e30), width])
    assert found == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("d", [1, 2])
def test_points_where_draws_overflow(d):
    """Draws that are not finite, or whose covariance is not positive definite after rounding, give no point and no error."""
    rng = np.random.default_rng(0)
    one = jaxgmm.make_mixture([0.5, 0.5], np.zeros((2, d)), np.stack([np.eye(d)] * 2))
    stack = jax.tree.map(lambda leaf: np.repeat(np.asarray(leaf, float)[None], 50, 0), one)
    stack.covariances[:10, 0] = np.inf
    stack.means[5:15, 1] = np.nan
    stack.covariances[15:20, 1, -1, -1] = -1e-12
    with np.errstate(all="raise"):
        for draws in (stack, stack[:10]):
            points, quadrature = scores.choose_points(rng, one, draws, 200)
            assert np.isfinite(points).all()
            assert (quadrature is None) == (d == 2)
