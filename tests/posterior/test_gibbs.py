"""Gibbs sampling: whole runs against enumeration and against nuts; weights, batches of data sets, invalid input.

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
from jaxgmm.posterior.diagnostics import ess_mean, mcse_mean, mcse_sd
from jaxgmm.posterior.mixing import Mixing
from jaxgmm.posterior.result import PosteriorStatus

from helpers import (
    COVARIANCE_TYPES,
    check_log_density,
    fitted,
    independent_prior,
    random_data,
    two_groups,
)


def enumerated(x, prior):
    """Return all labellings (L, N) of a few numbers, and their probabilities (L,) given the numbers under a spherical Prior."""
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
def run_batch(keys, starts, xs, priors, weights):
    def one(key, start, x, prior, weight):
        return jaxgmm.gibbs(key, start, x, prior, sample_weight=weight, **RUN)

    return jax.vmap(one)(keys, starts, xs, priors, weights)


def stack(trees):
    return jax.tree.map(lambda *leaves: jnp.stack([jnp.asarray(leaf) for leaf in leaves]), *trees)


def cases():
    """Return data sets with starts, priors and weights, spherical, D=1, and rows with a NaN.

    In order: few numbers; the same with integer weights for repetition; padded; one component absent; to be spoiled by NaN; all
    weights 0; weights of 1/2; a start whose density underflows.
    """
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
    parts, poisoned = cases()
    keys = jax.random.split(jax.random.key(0), len(parts))
    inputs = [stack(part) for part in zip(*parts, strict=True)]
    clean = run_batch(keys, *inputs)
    before = run_batch._cache_size()
    inputs[1] = inputs[1].at[4].set(poisoned)
    dirty = run_batch(keys, *inputs)
    assert run_batch._cache_size() == before == 1
    return parts, clean, dirty


def test_exact_posterior_of_labels(many):
    """The law of the count and the mean weight agree with the enumeration of all labellings, z < 5 by effective sample sizes.

    Weights have the law of repeated rows, padding that of the rows without it.
    """
    parts, clean, _ = many
    x, prior = parts[0][1], parts[0][2]
    for b, rows in ((0, x), (1, x), (2, x[:5])):
        labellings, probability = enumerated(rows.astype(float), prior)
        counts = np.asarray(clean.stats["counts"][b, ..., 0], float)  # (C, S)
        n = len(rows)
        law = np.array([probability[(labellings == 0).sum(1) == j].sum() for j in range(n + 1)])
        hits = (counts[..., None] == np.arange(n + 1)).astype(float)
        assert counts.max() <= n
        assert (counts == np.floor(counts)).all()
        z = (hits.mean((0, 1)) - law) / np.sqrt(law * (1 - law) / ess_mean(hits))
        assert abs(z).max() < 5, (b, z)
        weights = np.asarray(clean.mixture.weights[b, ..., 0], float)
        expected = (1.5 + law @ np.arange(n + 1)) / (4 + n)
        assert abs(weights.mean() - expected) < 5 * mcse_mean(weights), b


def test_data_sets_of_a_batch_are_independent(many):
    """NaN in one data set changes no bit of another's result, and has its status; absent components stay absent."""
    parts, clean, dirty = many
    others = np.array([0, 1, 2, 3, 5, 6, 7])
    for left, right in zip(jax.tree.leaves(clean), jax.tree.leaves(dirty), strict=True):
        np.testing.assert_array_equal(np.asarray(left)[others], np.asarray(right)[others])
    assert int(clean.status[4]) != PosteriorStatus.NONFINITE == int(dirty.status[4])
    # half a label cannot be drawn, and the last start has no density
    assert int(clean.status[6]) == int(clean.status[7]) == PosteriorStatus.NONFINITE
    for b in (0, 1, 2, 3, 5):
        assert int(clean.status[b]) in (PosteriorStatus.OK, PosteriorStatus.FEW_DRAWS, PosteriorStatus.UNMIXED)
        _, x, prior, weight = parts[b]
        check_log_density(jax.tree.map(lambda leaf, b=b: leaf[b], clean), x, prior, weight, rtol=1e-4)
    assert (clean.mixture.weights[3] == jnp.array([1.0, 0.0])).all()
    # without data the posterior is the prior
    weights, means = (np.asarray(leaf[5], float) for leaf in (clean.mixture.weights, clean.mixture.means))
    assert stats.kstest(weights[..., 0].ravel(), stats.beta(1.5, 2.5).cdf).pvalue > 1e-6
    scale = np.sqrt(0.8 / (3 * 0.5))
    assert stats.kstest((means[..., 0, 0].ravel() - 0.2) / scale, stats.t(3).cdf).pvalue > 1e-6


def test_invalid_input():
    """A half-normal prior, fractions as weights, and invalid options are refused by name."""
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


def test_the_most_serious_status_is_reported():
    """Chains that disagree, NaN, and a start without density each have their status; the most serious one is reported."""
    good = jax.random.normal(jax.random.key(0), (4, 100))

    def judge(value=0.0, draws=good, rhat=1.0, ess=400.0):
        return int(module._judge(jnp.asarray(value), draws, Mixing(jnp.asarray(rhat), jnp.asarray(ess))))

    assert judge() == PosteriorStatus.OK
    assert judge(rhat=1.3) == judge(rhat=np.nan) == PosteriorStatus.UNMIXED
    assert judge(rhat=1.03) == judge(ess=300.0) == judge(draws=good[:, :2]) == PosteriorStatus.FEW_DRAWS
    assert judge(value=-np.inf) == judge(draws=good.at[0, 0].set(jnp.nan)) == PosteriorStatus.NONFINITE


def test_float64_far_from_the_origin(x64, monkeypatch):
    """float64 stays float64 under offsets and units; a second call compiles nothing; a bad status is a warning."""
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
    assert int(posterior.status) == PosteriorStatus.FEW_DRAWS  # 120 draws, where 200 effective ones are wanted
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
    """The bar reaches its end, and the draws are those of a run without it."""
    x, start, prior = two_groups(0, 40, 1, "spherical")
    options = dict(num_samples=73, num_chains=2, num_warmup=20)
    quiet = jaxgmm.gibbs(jax.random.key(0), start, x, prior, **options)
    assert capsys.readouterr().err == ""
    shown = jaxgmm.gibbs(jax.random.key(0), start, x, prior, progress=True, **options)
    assert "94/94" in capsys.readouterr().err
    np.testing.assert_allclose(shown.mixture.means, quiet.mixture.means, rtol=1e-4)


def invariants(posterior, x, *, labels):
    """Return label-invariant quantities (C, S, Q): log density, density at five points, sorted weights, total variance.

    labels: if True, every parameter too.
    """
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
    """Return the largest |z| between nuts and gibbs, of means and of standard deviations."""
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
        f"|z| means {abs(z[keep]).max():.2f} sds {abs(z_sd[keep]).max():.2f} of {keep.sum()}; "
        f"least ESS nuts {np.nanmin(ess_mean(a)):.0f} gibbs {np.nanmin(ess_mean(b)):.0f}; "
        f"status {nuts.status} {gibbs.status}, R-hat {float(gibbs.stats['rhat']):.4f}, "
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
    if k == 2:  # the highest mode, a small separate group, has little mass, and chains do not leave it: start at the other mode
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
