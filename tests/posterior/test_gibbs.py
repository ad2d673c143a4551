"""gibbs: each conditional against its closed form, whole runs against enumeration and nuts; weights, lanes, bad input.

Statistical checks: z-scores under 5 (5.7e-7 each, a few hundred of them: false failure under 2e-4 a run), Kolmogorov-Smirnov
p-values over 1e-6, all with fixed keys.
"""

import dataclasses
import itertools
import warnings
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from scipy.special import gammaln

import jaxgmm
from jaxgmm import covariance
from jaxgmm.posterior import gibbs as module
from jaxgmm.posterior.conditionals import LabelledData, draw_state, gibbs_state, sum_by_labels
from jaxgmm.posterior.diagnostics import ess_mean, mcse_mean, mcse_sd
from jaxgmm.posterior.result import PosteriorStatus
from jaxgmm.priors.interface import ComponentSums

import oracle
from helpers import (
    COVARIANCE_TYPES,
    check_log_density,
    fitted,
    independent_prior,
    random_data,
    random_mixture,
    random_prior,
    two_groups,
)

K, D, M = 3, 2, 20000


def prior_for(kind, independent, k=K, d=D):
    prior = independent_prior(kind, k, d, False) if independent else random_prior(0, kind, k, d)
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, float), prior)


def assert_means(draws, expected, limit=5.0):
    """The mean of independent draws (M, ...) is as expected, within `limit` standard errors."""
    draws = np.asarray(draws, float)
    error = draws.std(0, ddof=1) / np.sqrt(len(draws))
    z = (draws.mean(0) - expected) / np.where(error > 0, error, 1e-6)
    assert abs(z).max() < limit, z


def expected_moments(groups, mixture, prior, kind):
    """E mu (K, D), var mu (K, D) and E Sigma (K, D, D | stored) given labels, by hand, component by component."""
    count, mean = (np.asarray(v, float) for v in (groups.count, groups.mean))
    scatter = np.asarray(groups.scatter, float)
    if not covariance.is_dense(kind):
        scatter = np.stack([np.diag(s) for s in scatter])
    m, independent = np.asarray(prior.mean, float), isinstance(prior, jaxgmm.IndependentPrior)
    centre, spread, total = np.zeros((K, D)), np.zeros((K, D, D)), np.zeros((K, D, D))
    for k in range(K):
        if independent:
            precision = np.linalg.inv(oracle.dense(mixture, k))
            inverse = np.linalg.inv(np.asarray(prior.mean_covariance, float))
            spread[k] = np.linalg.inv(count[k] * precision + inverse)
            centre[k] = spread[k] @ (count[k] * precision @ mean[k] + inverse @ m)
            total[k] = scatter[k] + count[k] * (spread[k] + np.outer(mean[k] - centre[k], mean[k] - centre[k]))
        else:
            kappa = float(prior.mean_precision)
            centre[k] = (count[k] * mean[k] + kappa * m) / (count[k] + kappa)
            shrunk = kappa * count[k] / (kappa + count[k])
            total[k] = scatter[k] + shrunk * np.outer(mean[k] - m, mean[k] - m)
    nu, scale = (np.asarray(v, float) for v in prior.covariance_law.inverse_wishart_parameters())
    if kind == "full":
        sigma = (scale + total) / (nu + count - D - 1)[:, None, None]
    elif kind == "tied":
        sigma = (scale + total.sum(0, keepdims=True)) / (nu + count.sum() - D - 1)
    elif kind == "diag":
        sigma = (scale + np.diagonal(total, axis1=1, axis2=2)) / (nu + count - 2)[:, None]
    else:
        sigma = (scale + np.trace(total, axis1=1, axis2=2)[:, None]) / (nu + D * count - 2)[:, None]
    if not independent:
        dense = np.asarray(covariance.to_dense(jnp.asarray(sigma), kind, K, D))
        spread = dense / (count + float(prior.mean_precision))[:, None, None]
    return centre, np.diagonal(spread, axis1=1, axis2=2), sigma


EVERY = [
    pytest.param(kind, independent, marks=() if (kind, independent) == ("full", True) else pytest.mark.slow)
    for kind in COVARIANCE_TYPES
    for independent in (False, True)
]


@pytest.mark.parametrize(("kind", "independent"), EVERY)
def test_parameters_given_labels(kind, independent):
    """Means of weights, means and covariances, variances of means: closed forms, one group of no rows among them. (Whole runs
    against enumeration try a Prior.)"""
    prior, mixture = prior_for(kind, independent), random_mixture(0, kind, K, D)
    mixture = jax.tree.map(lambda leaf: jnp.asarray(leaf, float), mixture)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(3, 12, D)) @ np.array([[1.0, 0.4], [0, 0.7]]) + rng.normal(size=(3, 1, D))
    scatter = np.stack([(rows - rows.mean(0)).T @ (rows - rows.mean(0)) for rows in x])
    scatter = scatter if covariance.is_dense(kind) else np.diagonal(scatter, axis1=1, axis2=2)
    count = np.array([12.0, 12.0, 0.0])
    scatter = scatter * (count > 0).reshape(-1, *[1] * (scatter.ndim - 1))
    groups = ComponentSums(*(jnp.asarray(v, float) for v in (count, x.mean(1), scatter)))

    @jax.jit
    def draw(keys):
        def one(key):
            state = draw_state(jax.random.split(key), gibbs_state(mixture), groups, prior, jnp.ones(K, bool), kind)
            found = covariance.from_factor(state.factors.lower, kind)
            again = covariance.factorize(found, kind, D)
            return jnp.exp(state.log_weights), state.means, found, again.half_log_det - state.factors.half_log_det

        return jax.vmap(one)(keys)

    weights, means, covariances, difference = draw(jax.random.split(jax.random.key(0), M))
    centre, variance, sigma = expected_moments(groups, mixture, prior, kind)
    concentration = np.asarray(prior.weight_concentration) + count
    assert_means(weights, concentration / concentration.sum())
    # a variance with so few degrees of freedom in the empty group has no variance of its own: leave it out there
    kept = count > 0 if sigma.shape[0] == K else np.ones(1, bool)
    assert_means(covariances[:, kept], sigma[kept])
    assert_means(means[:, :2], centre[:2])
    assert_means((means[:, :2] - centre[:2]) ** 2, variance[:2])
    np.testing.assert_allclose(difference, 0, atol=1e-3)


@pytest.mark.parametrize("kind", ["full", *(pytest.param(kind, marks=pytest.mark.slow) for kind in COVARIANCE_TYPES[1:])])
def test_rows_by_label(kind):
    """Labels sum up to the data whatever they are; their counts follow the responsibilities, a repeated row's labels are
    independent; a chunk changes nothing; the log-likelihood has them summed out."""
    n = 40
    x = random_data(0, n, D, spread=1.0).astype(np.float32)
    mixture = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), random_mixture(0, kind, K, D, spread=1.0))
    weight = np.where(np.arange(n) < 8, 0, 1 + np.arange(n) % 3).astype(np.float32)

    @partial(jax.jit, static_argnames="chunk")
    def group(keys, weight, chunk):
        center = mixture.means + 0.3
        return jax.vmap(lambda key: sum_by_labels(key, gibbs_state(mixture), LabelledData(x, weight), center, kind, chunk))(
            keys
        )

    keys = jax.random.split(jax.random.key(0), 4000)
    groups, log_likelihood = group(keys, weight, 64)
    share = np.asarray(jaxgmm.responsibilities(mixture, x), float)
    np.testing.assert_allclose(log_likelihood, weight @ np.asarray(jaxgmm.log_prob(mixture, x), float), rtol=1e-5)
    assert_means(groups.count, weight @ share)
    # one label with weight w would have w^2 here
    assert_means((np.asarray(groups.count, float) - weight @ share) ** 2, weight @ (share * (1 - share)))
    np.testing.assert_allclose(groups.count.sum(-1), weight.sum(), rtol=1e-6)
    np.testing.assert_allclose((groups.count[..., None] * groups.mean).sum(1), (weight @ x)[None].repeat(4000, 0), atol=2e-3)
    means, count = np.asarray(groups.mean, float), np.asarray(groups.count, float)
    diagonal = np.asarray(covariance.variances(groups.scatter, kind, D), float) + count[..., None] * means**2
    np.testing.assert_allclose(diagonal.sum(1), (weight @ x**2)[None].repeat(4000, 0), rtol=1e-4)
    if kind == "full":
        pieces, again = group(keys[:5], weight, 16)
        np.testing.assert_array_equal(pieces.count, groups.count[:5])
        np.testing.assert_allclose(pieces.scatter, groups.scatter[:5], rtol=1e-3, atol=1e-3)
        np.testing.assert_allclose(again, log_likelihood[:5], rtol=1e-6)


def enumerated(x, prior):
    """p(z | x) of all labellings of a few numbers under a spherical Prior: (z (L, N), probability (L,))."""
    c, m, kappa, nu, scale = (np.asarray(leaf, float) for leaf in jax.tree.leaves(prior))
    labellings = np.array(list(itertools.product(range(len(c)), repeat=len(x))))
    logs = []
    for z in labellings:
        total = 0.0
        for k in range(len(c)):
            rows = x[z == k, 0]
            n = len(rows)
            total += gammaln(c[k] + n)
            if n:
                s = scale + ((rows - rows.mean()) ** 2).sum() + kappa * n / (kappa + n) * (rows.mean() - m[0]) ** 2
                total += gammaln((nu + n) / 2) - gammaln(nu / 2) + nu / 2 * np.log(scale) - (nu + n) / 2 * np.log(s)
                total += 0.5 * np.log(kappa / (kappa + n)) - n / 2 * np.log(np.pi)
        logs.append(total)
    probability = np.exp(np.array(logs) - max(logs))
    return labellings, probability / probability.sum()


RUN = dict(num_samples=150, num_chains=32, num_warmup=30)


@jax.jit
def run_lanes(keys, starts, xs, priors, weights):
    def one(key, start, x, prior, weight):
        return jaxgmm.gibbs(key, start, x, prior, sample_weight=weight, **RUN)

    return jax.vmap(one)(keys, starts, xs, priors, weights)


def stack(trees):
    return jax.tree.map(lambda *leaves: jnp.stack([jnp.asarray(leaf) for leaf in leaves]), *trees)


def lanes():
    """Spherical, D=1: few numbers; the same as two repeated ones; padded; one component absent; NaN; all silenced;
    half rows; a start beyond all numbers."""
    x = np.array([[-1.5], [-1.0], [-1.0], [0.4], [1.2], [1.2], [1.2]], np.float32)
    prior = jaxgmm.Prior(*(jnp.asarray(v, jnp.float32) for v in ([1.5, 2.5], [0.2], 0.5, 3.0, 0.8)))
    start = jaxgmm.make_mixture([0.5, 0.5], [[-1.0], [1.0]], [[0.5], [0.5]], covariance_type="spherical")
    start = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), start)
    repeated = x.copy()
    repeated[[2, 5, 6]] = np.nan
    ones, counts = np.ones(7, np.float32), np.array([1, 2, 0, 1, 3, 0, 0], np.float32)
    padded = x.copy()
    padded[5:] = np.nan
    absent = dataclasses.replace(start, weights=jnp.array([1.0, 0.0], jnp.float32))
    poisoned = x.copy()
    poisoned[3] = np.nan
    return [
        (start, x, prior, ones),
        (start, repeated, prior, counts),
        (start, padded, prior, (np.arange(7) < 5).astype(np.float32)),
        (absent, x, prior, ones),
        (start, x, prior, ones),
        (start, x, prior, 0 * ones),
        (start, x, prior, 0.5 * ones),
        (dataclasses.replace(start, means=1e30 * start.means), x, prior, ones),
    ], poisoned


@pytest.fixture(scope="module")
def many():
    parts, poisoned = lanes()
    keys = jax.random.split(jax.random.key(0), len(parts))
    inputs = [stack(part) for part in zip(*parts, strict=True)]
    clean = run_lanes(keys, *inputs)
    before = run_lanes._cache_size()
    inputs[1] = inputs[1].at[4].set(poisoned)
    dirty = run_lanes(keys, *inputs)
    assert run_lanes._cache_size() == before == 1
    return parts, clean, dirty


def test_exact_posterior_of_labels(many):
    """Against enumeration of all labellings, z < 5 by effective sample sizes: the law of the count and the mean weight; repetition
    by weights has the law of repeated rows, padding that of the rows left."""
    parts, clean, _ = many
    x, prior = parts[0][1], parts[0][2]
    for lane, rows in ((0, x), (1, x), (2, x[:5])):
        labellings, probability = enumerated(rows.astype(float), prior)
        counts = np.asarray(clean.stats["counts"][lane, ..., 0], float)  # (C, S)
        n = len(rows)
        law = np.array([probability[(labellings == 0).sum(1) == j].sum() for j in range(n + 1)])
        hits = (counts[..., None] == np.arange(n + 1)).astype(float)
        assert counts.max() <= n
        assert (counts == np.floor(counts)).all()
        z = (hits.mean((0, 1)) - law) / np.sqrt(law * (1 - law) / ess_mean(hits))
        assert abs(z).max() < 5, (lane, z)
        weights = np.asarray(clean.mixture.weights[lane, ..., 0], float)
        expected = (1.5 + law @ np.arange(n + 1)) / (4 + n)
        assert abs(weights.mean() - expected) < 5 * mcse_mean(weights), lane


def test_lanes_keep_to_themselves(many):
    """NaN in one lane changes no bit in another, and has its status; log densities are right, absent components stay absent."""
    parts, clean, dirty = many
    others = np.array([0, 1, 2, 3, 5, 6, 7])
    for left, right in zip(jax.tree.leaves(clean), jax.tree.leaves(dirty), strict=True):
        np.testing.assert_array_equal(np.asarray(left)[others], np.asarray(right)[others])
    assert int(clean.status[4]) != PosteriorStatus.NONFINITE == int(dirty.status[4])
    # half labels cannot be drawn; a start without density is no start
    assert int(clean.status[6]) == int(clean.status[7]) == PosteriorStatus.NONFINITE
    for b in (0, 1, 2, 3, 5):
        assert int(clean.status[b]) in (PosteriorStatus.OK, PosteriorStatus.UNMIXED)
        _, x, prior, weight = parts[b]
        check_log_density(jax.tree.map(lambda leaf, b=b: leaf[b], clean), x, prior, weight, rtol=1e-4)
    assert (clean.mixture.weights[3] == jnp.array([1.0, 0.0])).all()
    # no data: the prior comes back
    weights, means = (np.asarray(leaf[5], float) for leaf in (clean.mixture.weights, clean.mixture.means))
    assert stats.kstest(weights[..., 0].ravel(), stats.beta(1.5, 2.5).cdf).pvalue > 1e-6
    scale = np.sqrt(0.8 / (3 * 0.5))
    assert stats.kstest((means[..., 0, 0].ravel() - 0.2) / scale, stats.t(3).cdf).pvalue > 1e-6


def draw_prior(rng, prior, kind, size):
    """Mixtures from a prior, by NumPy and SciPy."""
    nu, scale = (np.asarray(leaf, float) for leaf in prior.covariance_law.inverse_wishart_parameters())
    shape = (size, *covariance.storage_shape(kind, K, D))
    if covariance.is_dense(kind):
        covariances = stats.invwishart(float(nu), scale).rvs(size * shape[1], random_state=rng).reshape(shape)
    else:
        covariances = scale / 2 / rng.gamma(nu / 2, size=shape)
    if isinstance(prior, jaxgmm.IndependentPrior):
        spread = np.broadcast_to(np.asarray(prior.mean_covariance, float), (size, K, D, D))
    else:
        spread = np.asarray(covariance.to_dense(covariances, kind, K, D), float) / float(prior.mean_precision)
    noise = rng.normal(size=(size, K, D, 1))
    means = np.asarray(prior.mean) + (np.linalg.cholesky(spread) @ noise)[..., 0]
    weights = rng.dirichlet(np.asarray(prior.weight_concentration, float), size)
    return [np.asarray(leaf, np.float32) for leaf in (weights, means, covariances)]


def geweke(kind, independent, chains, steps, n=6):
    """Prior draws of parameters (and data from them) moved by the sampler's own sweeps: they must stay prior draws."""
    prior = prior_for(kind, independent)
    drawn, fresh = (draw_prior(np.random.default_rng(seed), prior, kind, chains * more) for seed, more in ((0, 1), (1, 4)))

    def step(state, key):
        keys = jax.random.split(key, 5)
        edges = jnp.cumsum(jnp.exp(state.log_weights))[:-1]
        labels = (jax.random.uniform(keys[0], (n, 1)) > edges).sum(-1)
        root = jnp.broadcast_to(state.factors.lower, (K, *state.factors.lower.shape[1:]))
        noise = jax.random.normal(keys[1], (n, D))
        x = state.means[labels] + covariance.transform(root[labels], noise, kind)
        groups, _ = sum_by_labels(keys[2], state, LabelledData(x, None), jnp.broadcast_to(prior.mean, (K, D)), kind, 64)
        return draw_state(keys[3:], state, groups, prior, jnp.ones(K, bool), kind), None

    @jax.jit
    @jax.vmap
    def move(key, *mixture):
        state, _ = jax.lax.scan(step, gibbs_state(jaxgmm.Mixture(*mixture, kind)), jax.random.split(key, steps))
        return jnp.exp(state.log_weights), state.means, covariance.from_factor(state.factors.lower, kind)

    moved = move(jax.random.split(jax.random.key(0), chains), *drawn)
    values = []
    for a, b in zip(moved, fresh, strict=True):
        a, b = np.asarray(a).reshape(chains, -1), b.reshape(4 * chains, -1)
        values += [stats.ks_2samp(a[:, i], b[:, i]).pvalue for i in range(a.shape[1])]
    assert min(values) > 1e-6, values


def test_joint_law_is_kept():
    """Geweke (2004): 21 entries at 1e-6 each."""
    geweke("full", True, 1000, 6)


@pytest.mark.slow
@pytest.mark.parametrize("independent", [False, True])
@pytest.mark.parametrize("kind", COVARIANCE_TYPES)
def test_joint_law_is_kept_in_every_type(kind, independent):
    """The same, ten times as many chains, five times as long."""
    geweke(kind, independent, 20000, 40)


def test_refused_by_name():
    """Half-normal scales, fractions as weights, options that make no sense."""
    x, start, prior = two_groups(0, 30, 2, "full")
    half = independent_prior("full", 2, 2, True)
    for change, error, sentence in (
        (dict(prior=half), TypeError, "HalfNormal.*sample with nuts"),
        (dict(sample_weight=np.full(30, 0.5)), ValueError, "sample_weight has 0.5; integers"),
        (dict(num_warmup=-1), ValueError, "num_warmup is -1"),
        (dict(num_chains=0), ValueError, "num_chains is 0"),
        (dict(progress=1), TypeError, "progress is 1"),
        (dict(start=dataclasses.replace(start, weights=jnp.array([1.0, 0.0]))), ValueError, "empty component"),
    ):
        with pytest.raises(error, match=sentence):
            jaxgmm.gibbs(**dict(key=jax.random.key(0), start=start, x=x, prior=prior) | change)


def test_judgement_finds_the_gravest():
    """Chains apart and NaN each have their status; so has a start without density."""
    good = jax.random.normal(jax.random.key(0), (4, 100))
    judge = lambda value=0.0, draws=good, rhat=1.0: int(module._judge(jnp.asarray(value), draws, jnp.asarray(rhat)))  # noqa: E731
    assert judge() == PosteriorStatus.OK
    assert judge(rhat=1.3) == judge(rhat=np.nan) == PosteriorStatus.UNMIXED
    assert judge(value=-np.inf) == judge(draws=good.at[0, 0].set(jnp.nan)) == PosteriorStatus.NONFINITE


def test_float64_far_from_the_origin(x64, monkeypatch):
    """Double precision in, double precision out; offsets and units cost nothing; a second call compiles nothing; a bad
    status is said aloud."""
    x, start, prior = two_groups(0, 40, 2, "diag", np.float64)
    shift, scale = 1e4, np.array([1e-3, 1e3])
    start = dataclasses.replace(start, means=start.means * scale + shift, covariances=start.covariances * scale**2)
    prior = dataclasses.replace(prior, mean=prior.mean * scale + shift, scale=prior.scale * scale**2)
    x = x * scale + shift
    options = dict(num_samples=60, num_chains=2, num_warmup=20)
    posterior = jaxgmm.gibbs(jax.random.key(0), start, x, prior, **options)
    assert posterior.log_density.dtype == jnp.float64
    assert posterior.mixture.batch_shape == (2, 60)
    check_log_density(posterior, x, prior, rtol=1e-9)
    assert int(posterior.status) == PosteriorStatus.OK
    assert posterior.method == "gibbs"
    assert (posterior.stats["counts"][..., 0] == 40 // 3).all()  # ten standard deviations apart
    size = module._sample._cache_size()
    again = jaxgmm.gibbs(jax.random.key(1), start, x + 1, prior, **options)
    assert module._sample._cache_size() == size
    assert not (again.log_density == posterior.log_density).any()
    bad = dataclasses.replace(posterior, status=jnp.array(PosteriorStatus.UNMIXED))
    monkeypatch.setattr(module, "_sample", lambda *args, **options: bad)
    with pytest.warns(RuntimeWarning, match="chains disagree"):
        jaxgmm.gibbs(jax.random.key(0), start, x, prior, **options)


@pytest.mark.slow
def test_progress(capsys):
    """A bar that reaches its end, and the draws of a run without it."""
    x, start, prior = two_groups(0, 40, 1, "spherical")
    options = dict(num_samples=73, num_chains=2, num_warmup=20)
    quiet = jaxgmm.gibbs(jax.random.key(0), start, x, prior, **options)
    assert capsys.readouterr().err == ""
    shown = jaxgmm.gibbs(jax.random.key(0), start, x, prior, progress=True, **options)
    assert "94/94" in capsys.readouterr().err
    np.testing.assert_allclose(shown.mixture.means, quiet.mixture.means, rtol=1e-4)


def invariants(posterior, x, *, labels):
    """What no labelling changes, as (C, S, Q): log density, density at five points, sorted weights, total variance; with
    `labels`, every parameter too."""
    mixture = posterior.mixture
    points = np.quantile(x, [0.05, 0.25, 0.5, 0.75, 0.95], axis=0)
    flat = lambda leaf: np.asarray(leaf, float).reshape(*posterior.log_density.shape, -1)  # noqa: E731
    kind, d = mixture.covariance_type, mixture.num_features
    variances = np.broadcast_to(covariance.variances(mixture.covariances, kind, d), mixture.means.shape)
    total = (np.asarray(mixture.weights)[..., None] * (variances + (mixture.means - x.mean(0)) ** 2)).sum(-2)
    parts = [posterior.log_density, jaxgmm.log_prob(mixture, points), np.sort(mixture.weights, -1), total]
    parts += [mixture.weights, mixture.means, mixture.covariances] if labels else []
    return np.concatenate([flat(part) for part in parts], -1)


def agreement(x, start, prior, *, labels=True, num_chains=64, num_samples=1000, num_warmup=200):
    """Largest |z| between nuts and gibbs, of means and of standard deviations."""
    options = dict(num_samples=2000, num_chains=8)
    found = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        gibbs = jaxgmm.gibbs(
            jax.random.key(1), start, x, prior, num_chains=num_chains, num_samples=num_samples, num_warmup=num_warmup
        )
        for posterior in (jaxgmm.nuts(jax.random.key(2), start, x, prior, **options), gibbs):
            posterior = jaxgmm.relabel(posterior, start, x)
            found.append((posterior, invariants(posterior, np.asarray(x), labels=labels)))
    (nuts, a), (gibbs, b) = found
    z = (a.mean((0, 1)) - b.mean((0, 1))) / np.hypot(mcse_mean(a), mcse_mean(b))
    z_sd = (a.std((0, 1)) - b.std((0, 1))) / np.hypot(mcse_sd(a), mcse_sd(b))
    keep = np.isfinite(z)  # a weight of one component is constant
    print(
        f"|z| means {abs(z[keep]).max():.2f} sds {abs(z_sd[keep]).max():.2f} of {keep.sum()}; least ESS nuts {np.nanmin(ess_mean(a)):.0f} "
        f"gibbs {np.nanmin(ess_mean(b)):.0f}; status {nuts.status} {gibbs.status}, R-hat {float(gibbs.stats['rhat']):.4f}, "
        f"identified {bool(nuts.stats['labels_identified'])} {bool(gibbs.stats['labels_identified'])}"
    )
    return abs(z[keep]).max(), abs(z_sd[keep]).max()


def chib(k):
    array = partial(jnp.asarray, dtype=jnp.float32)
    scale = jaxgmm.InverseGamma(array(3.0), array(20.0))
    return jaxgmm.IndependentPrior(jnp.ones(k, jnp.float32), array([20.0]), array([[100.0]]), scale)


@pytest.mark.slow
@pytest.mark.parametrize("k", [2, 3])
def test_galaxies_under_the_prior_of_chib(k):
    """NUTS and Gibbs, |z| < 4 on means and standard deviations of every invariant (and K=2, every parameter), some 25
    quantities: false failure under 4e-3."""
    x = np.asarray(jaxgmm.datasets.load("galaxies"), np.float32)
    prior = chib(k)
    if (
        k == 2
    ):  # where the objective is highest, a small group apart, there is little mass and no way out: start at the other mode
        near = jaxgmm.from_labels(x, (abs(x[:, 0] - 21) > 4).astype(int), num_components=2, covariance_type="spherical")
        start = jaxgmm.fit(near, x, prior).mixture
    else:
        start = jaxgmm.fit_restarts(jax.random.key(0), x, prior, num_components=k, covariance_type="spherical").mixture
    assert max(agreement(x, start, prior, labels=k == 2)) < 4


@pytest.mark.slow
@pytest.mark.parametrize(("name", "k", "kind"), [("faithful", 2, "full"), ("iris", 3, "tied"), ("iris", 3, "diag")])
def test_agreement_on_real_data(name, k, kind):
    """|z| < 4, up to 60 quantities: false failure under 8e-3."""
    x = np.asarray(jaxgmm.datasets.load(name), np.float32)
    fit, prior = fitted(x, k, kind)
    assert max(agreement(x, fit.mixture, prior)) < 4


@pytest.mark.slow
@pytest.mark.parametrize("kind", COVARIANCE_TYPES)
def test_agreement_on_made_data(kind):
    """N=2000, D=4, K=3, default prior: |z| < 4, up to 90 quantities: false failure under 2e-2."""
    x = random_data(5, 2000, 4, 3, spread=1.5).astype(np.float32)
    fit, prior = fitted(x, 3, kind)
    assert max(agreement(x, fit.mixture, prior, num_chains=16)) < 4
