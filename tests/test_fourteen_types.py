"""Whole fits of the fourteen covariance types: mclust's fixed points, the laws of a fit, and everything that takes a fit.

The figures are those of mclust (Fraley & Raftery) at tolerance 1e-11, from the same start labels, except for VVE. There, the
M-step of mclust is not a maximiser, and its fit of iris has the log-likelihood -238.0596.
"""

import csv
import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgmm
from jaxgmm.covariance.types import CODES, canonical, is_classic
from jaxgmm.em.covariance_chart import make_chart

from helpers import assert_mixtures_close, random_data, slow_unless

DATA = Path(__file__).parent / "data"
with (DATA / "mclust_start_labels.csv").open() as file:
    LABELS = {row["data"]: np.array(list(row["labels"]), int) - 1 for row in csv.DictReader(file)}
LIMITS = {
    "iris": "-401.8022 -384.3141 -361.4255 -339.4687 -338.7888 -307.1776 -256.3540 -237.5602 -258.1055 -214.0532 -231.1758 "
    "-186.0733 -222.7838 -180.1855",
    "faithful": "-1663.5396 -1637.4344 -1133.4554 -1132.6668 -1132.4224 -1131.8185 -1126.3159 -1124.5282 -1124.8319 nan "
    "-1126.1633 -1122.5494 -1125.6609 -1127.0717",
}
NEW = tuple(code for code in CODES if not is_classic(canonical(code)))
# by default, Newton's method, and eigenvectors; other tests use pooled variances and shared axes
SOME = ("VEE", "VEV")
N, D, K, STEPS = 40, 2, 3, 15


@jax.jit
def fit_to_the_end(start, x):
    """Fit until a step changes the objective by at most 1e-13 nats a row."""
    return jaxgmm.fit(start, x, tol=1e-13, max_iter=5000, accelerate=True)


@pytest.mark.parametrize("name", ["iris", pytest.param("faithful", marks=pytest.mark.slow)])
@pytest.mark.parametrize("code", slow_unless(CODES, ("VVE",)))
def test_fixed_points_of_mclust(name, code, x64):
    """From mclust's start, the log-likelihood is mclust's within 1e-6, relative; with VVE it is higher."""
    x = np.asarray(jaxgmm.datasets.load(name), float)
    start = jaxgmm.from_labels(x, LABELS[name], num_components=3, covariance_type=code)
    found = fit_to_the_end(start, x)
    expected = dict(zip(CODES, map(float, LIMITS[name].split()), strict=True))[code]
    if np.isfinite(expected):
        np.testing.assert_allclose(found.log_likelihood, expected, rtol=1e-6)
    assert jaxgmm.Status(int(found.status)).name == "CONVERGED"
    assert (np.diff(np.asarray(found.history)) >= -1e-9).all()


@pytest.mark.slow
def test_vve_from_the_estimate_of_mclust(x64):
    """The likelihood has a slope at mclust's estimate of thyroid with K=2; from there EM rises and ends without a slope.

    The file holds the end of me(x, "VVE", z) of mclust 6.0.0 with the tolerance 1e-12, where z are the labels of hc().
    """
    x = np.loadtxt(DATA / "thyroid.csv", delimiter=",", skiprows=1)
    table = np.loadtxt(DATA / "mclust_vve_thyroid.csv", delimiter=",", skiprows=1)
    weights, means, covariances = np.split(table, [1, 6], axis=1)
    estimate = jaxgmm.Mixture(*map(jnp.asarray, (weights[:, 0], means, covariances.reshape(2, 5, 5))), "VVE")
    fit = jax.jit(lambda start: jaxgmm.fit(start, x, tol=1e-13, max_iter=5000))(estimate)

    @jax.jit
    def slopes(mixture):
        chart = make_chart(mixture.covariances, "VVE", jnp.ones(2, bool))

        def log_likelihood(coordinates):
            moved = dataclasses.replace(mixture, covariances=chart.covariances(coordinates))
            return jaxgmm.log_prob(moved, x).sum()

        return abs(jax.grad(log_likelihood)(jnp.zeros(len(chart.components())))).max()

    np.testing.assert_allclose(jaxgmm.log_prob(estimate, x).sum(), -2498.5591, rtol=1e-7)
    assert slopes(estimate) > 100
    assert jaxgmm.Status(int(fit.status)).name == "CONVERGED"
    assert (np.diff(np.asarray(fit.history)) >= -1e-9).all()
    np.testing.assert_allclose(fit.log_likelihood, -2487.5024, rtol=1e-7)
    assert slopes(fit.mixture) < 1e-2


# log-likelihoods at the posterior modes that mclust 6.0.0 (R 4.2.2) finds from the same start labels, by
# me(x, modelName, z = unmap(labels), prior = priorControl(), control = emControl(tol = c(1e-12, 1e-12), itmax = c(5000, 5000)))
MODES = {
    "iris": {"VVV": -192.6952838653, "EEE": -257.7393766098, "VVI": -312.8856385205, "VII": -384.4786762153},
    "faithful": {"VVV": -1128.1349931759, "EEE": -1126.4271792027, "VVI": -1204.9848588753, "VII": -1637.5033579281},
}


@pytest.mark.slow  # `test_m_step_is_the_oracles` is a small twin
@pytest.mark.parametrize("name", ["iris", "faithful"])
@pytest.mark.parametrize("code", MODES["iris"])
def test_posterior_modes_of_mclust(name, code, x64):
    """Under mclust's default prior, EM ends at mclust's mode; in the other types, the prior of mclust is not a density."""
    x = np.asarray(jaxgmm.datasets.load(name), float)
    k, d = 3, x.shape[1]
    scale = np.cov(x.T) / k ** (2 / d)
    average = np.diag(scale).mean()  # mclust has one number for VVI, too
    scale = {"VVI": np.full(d, average), "VII": np.asarray(average)}.get(code, scale)
    prior = jaxgmm.Prior(np.ones(k), x.mean(0), np.asarray(0.01), np.asarray(d + 2.0), scale)
    start = jaxgmm.from_labels(x, LABELS[name], num_components=k, covariance_type=code)
    found = jax.jit(lambda start, prior: jaxgmm.fit(start, x, prior, tol=1e-13, max_iter=5000))(start, prior)
    assert jaxgmm.Status(int(found.status)).name == "CONVERGED"
    np.testing.assert_allclose(found.log_likelihood, MODES[name][code], rtol=1e-6)


def fit_batch(starts, xs, weights):
    """Fit a batch of data sets with a fixed number of steps."""
    return jax.vmap(lambda start, x, w: jaxgmm.fit(start, x, sample_weight=w, tol=0.0, max_iter=STEPS))(starts, xs, weights)


def transformed(mixture, matrix, shift, order):
    """Return the mixture of A x + b with its components in another order."""
    dense = mixture.covariances.ndim == 3
    covariances = matrix @ mixture.covariances @ matrix.T if dense else mixture.covariances * jnp.diag(matrix) ** 2
    covariances = covariances if len(covariances) == 1 else covariances[order]
    return jaxgmm.Mixture(
        mixture.weights[order], (mixture.means @ matrix.T + shift)[order], covariances, mixture.covariance_type
    )


@pytest.mark.parametrize("code", slow_unless(NEW, SOME))
def test_laws(code, x64):
    """Fits are monotone. Order, repetition, shifts and units do what they should; so do rotations of dense covariances."""
    rng = np.random.default_rng(0)
    x, w = random_data(0, n=N, d=D, spread=1.5), rng.choice([0.0, 1.0, 2.0], N)
    start = jaxgmm.from_labels(x, rng.integers(0, K, N), num_components=K, covariance_type=code)
    rows = np.repeat(x, w.astype(int), axis=0)[:N]
    weights = np.where(np.arange(N) < w.sum(), 1.0, 0.0)
    assert w.sum() <= N
    same, order = np.arange(K), np.array([2, 0, 1])
    turn = np.array([[0.6, -0.8], [0.8, 0.6]]) if start.covariances.ndim == 3 else 0.01 * np.eye(D)
    units = np.diag([10.0, 0.1]) if code in ("EEI", "VEI", "EVI", "VEE", "EVV") else 50.0 * np.eye(D)
    maps = [(np.eye(D), 0.0, same), (np.eye(D), 0.0, order), (turn, 3.0, same), (units, -2.0, order)]
    starts = [transformed(start, *arguments) for arguments in maps]
    data = [x @ matrix.T + shift for matrix, shift, _ in maps]
    padded = np.concatenate([rows, np.full((N - len(rows), D), np.nan)])
    cases = [*starts, starts[0]], [*data, padded], [w] * 4 + [weights]
    stacked = [jax.tree.map(lambda *leaves: jnp.stack([jnp.asarray(leaf) for leaf in leaves]), *case) for case in cases]
    fits = jax.jit(fit_batch)(*stacked)
    assert (np.diff(np.asarray(fits.history)) >= -1e-10 * abs(np.asarray(fits.objective))[:, None]).all()
    for i, arguments in enumerate([*maps, maps[0]]):
        # the iterations inside a step depend on rounding where they have not converged
        assert_mixtures_close(fits.mixture[i], transformed(fits.mixture[0], *arguments), 1e-6, scale=50.0)


@pytest.mark.parametrize("code", slow_unless(NEW, ("VVE",)))
def test_everything_that_takes_a_fit(code, x64, tmp_path):
    """A MAP fit is sampled, marginalised, conditioned, saved, counted, refitted from resamples, and passed to make_mixture."""
    x = np.asarray(jaxgmm.datasets.load("faithful"), float)[:64]
    prior = jaxgmm.default_prior(x, num_components=2, covariance_type=code)
    fits = jaxgmm.fit_many(jax.random.key(0), x[None], prior, num_components=2, covariance_type=code, progress=False)
    fit = jax.tree.map(lambda leaf: leaf[0], fits)
    assert fit.converged
    assert (np.diff(np.asarray(fit.history)) >= -1e-9).all()
    mixture = fit.mixture
    checked = jaxgmm.make_mixture(mixture.weights, mixture.means, mixture.covariances, covariance_type=code)
    assert_mixtures_close(checked, mixture, 1e-12)
    jaxgmm.save(tmp_path / "fit.npz", fit)
    loaded = jaxgmm.load(tmp_path / "fit.npz").mixture
    assert loaded.covariance_type == code
    assert_mixtures_close(loaded, mixture, 1e-12)
    one = jaxgmm.marginal(mixture, 1)
    np.testing.assert_allclose(one.means, mixture.means[:, 1:])
    assert np.isfinite(jaxgmm.log_prob(one, x[:, 1:])).all()
    assert np.isfinite(jaxgmm.bic(fit, x))
    assert jaxgmm.sample(jax.random.key(1), mixture, 5)[0].shape == (5, 2)
    if code not in ("EII", "EEI"):
        broken = mixture.covariances.at[0].set(jnp.eye(2) * jnp.array([1.0, 9.0]) if code[2] != "I" else jnp.array([1.0, 9.0]))
        with pytest.raises(ValueError, match=f"covariances are not of covariance_type='{code}'"):
            jaxgmm.make_mixture(mixture.weights, mixture.means, broken, covariance_type=code)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The draws come from the normal approximation")
@pytest.mark.parametrize("code", NEW)
def test_everything_that_takes_a_posterior(code, tmp_path):
    """In float32, draws are relabelled, compared, plotted, saved and averaged; so are those given rows with missing values."""
    x = np.asarray(jaxgmm.datasets.load("faithful"), np.float32)[:64]
    shape = {"num_components": 2, "covariance_type": code}
    prior = jaxgmm.default_prior(x, normalised=True, **shape)
    fit = jaxgmm.fit_restarts(jax.random.key(0), x, num_restarts=2, tol=1e-6, progress=False, **shape)
    posterior = jaxgmm.laplace(jax.random.key(1), fit, x, prior, num_samples=40, num_chains=2)
    relabelled = jaxgmm.relabel(posterior, fit, x)
    jaxgmm.save(tmp_path / "posterior.npz", relabelled)
    loaded = jaxgmm.load(tmp_path / "posterior.npz")
    assert loaded.mixture.covariance_type == code
    np.testing.assert_array_equal(loaded.mixture.covariances, relabelled.mixture.covariances)
    comparison = jaxgmm.compare(fit, posterior, x, laplace=False, modes=False, num_folds=2, progress=False)
    assert "covariances" in str(comparison)
    jaxgmm.plot.comparison_figure(comparison, fit.mixture, x).savefig(tmp_path / "comparison.png")
    jaxgmm.write_report(tmp_path / "page.html", comparison, fit, x)
    assert np.isfinite(jaxgmm.predictive_log_prob(posterior, x)).all()
    draws = jaxgmm.bootstrap(jax.random.key(2), fit, x, num_samples=8, progress=False)
    assert np.isfinite(draws.mixture.covariances).all()
    incomplete = jaxgmm.observations(np.where(np.arange(128).reshape(64, 2) % 9 == 0, np.nan, x))
    refit = jaxgmm.fit(fit, incomplete, tol=1e-6)
    assert np.isfinite(jaxgmm.standard_errors(refit, incomplete).means).all()
    assert np.isfinite(jaxgmm.impute(refit, incomplete)).all()
    given = jaxgmm.laplace(jax.random.key(3), refit, incomplete, prior, num_samples=8)
    batches = jaxgmm.fit_batches(fit, lambda: iter([x[:20], x[20:]]), tol=1e-5, online=True, progress=False)
    for mixture in (relabelled.mixture, given.mixture, batches.mixture):
        assert mixture.covariance_type == code
        assert mixture.covariances.dtype == np.float32
        assert np.isfinite(mixture.covariances).all()


def test_reg_covar_stays_in_the_family(x64):
    """A positive reg_covar is refused where it would give covariances of another type."""
    x = random_data(1, n=N, d=D)
    for code in ("VEI", "EVI", "VEE", "EVE", "VEV", "EVV"):
        unit = np.stack([np.eye(D)] * 2) if code[2] != "I" else np.ones((2, D))
        start = jaxgmm.make_mixture([0.5, 0.5], np.zeros((2, D)), unit, covariance_type=code)
        with pytest.raises(ValueError, match=f"not of covariance_type='{code}'"):
            jaxgmm.fit(start, x, reg_covar=1e-3)


@jax.jit
def fit_without_penalty(start, x, weight):
    """Return the fit by plain maximum likelihood."""
    return jaxgmm.fit(start, x, sample_weight=weight, reg_covar=0.0, max_iter=100)


@pytest.mark.parametrize("code", slow_unless([code for code in NEW if code not in ("EII", "EEI")], ("VEV",)))
def test_singular_scatters(code, x64):
    """Without a penalty, a component on equal rows, or with fewer rows than features, is reported; no number is NaN."""
    x = random_data(3, 12, 4, spread=3.0)
    x[:5] = x[0]
    start = jaxgmm.from_labels(x, (np.arange(12) < 5).astype(int), num_components=2, covariance_type=code)
    equal_rows = fit_without_penalty(start, x, np.ones(12))
    few_rows = fit_without_penalty(start, x, (np.arange(12) > 8).astype(float))
    if code[0] == "V":  # with equal volumes, the component has the volume of the others, and takes more rows
        assert int(equal_rows.status) == jaxgmm.Status.SINGULAR
    if code[2] != "I":
        assert int(few_rows.status) == jaxgmm.Status.SINGULAR or (np.asarray(few_rows.component_status) != 0).any()
    for fit in (equal_rows, few_rows):
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(fit.mixture))
        assert np.isfinite(fit.log_likelihood)


# mclust's BIC, in the order of the codes; with its sign, higher is better
BIC = {
    ("iris", 1): "-1804.085 -1804.085 -1522.120 -1522.120 -1522.120 -1522.120 -829.978 -829.978 -829.978 -829.978 -829.978 "
    "-829.978 -829.978 -829.978",
    ("iris", 2): "-1123.412 -1012.235 -1042.968 -956.282 -1007.308 -857.551 -688.097 -656.327 -657.226 -605.184 -644.600 "
    "-561.728 -658.331 -574.018",
    ("iris", 3): "-878.765 -853.814 -813.050 -779.157 -797.834 -744.638 -632.965 -605.398 -666.549 -636.426 -644.781 "
    "-562.552 -656.036 -580.840",
    ("faithful", 2): "-3452.998 -3458.305 -2354.601 -2350.607 -2352.618 -2346.065 -2325.220 -2322.972 -2324.273 -2320.433 "
    "-2329.115 -2325.416 -2327.598 -2322.192",
    ("faithful", 3): "-3377.701 -3336.598 -2323.014 -2332.687 -2332.205 -2342.366 -2314.316 -2322.103 -2342.319 -2336.271 "
    "-2325.322 -2329.648 -2339.983 -2349.696",
}


@pytest.mark.slow
@pytest.mark.parametrize(("name", "counts", "best"), [("faithful", (2, 3), ("tied", 3)), ("iris", (1, 2, 3), ("VEV", 2))])
def test_published_bic(name, counts, best, x64):
    """The sweep over all types finds the best model of mclust, and in no model a worse BIC; with one component it is equal."""
    x = np.asarray(jaxgmm.datasets.load(name), float)
    found = jaxgmm.select(
        jax.random.key(0),
        x,
        num_components=counts,
        covariance_types="all",
        num_restarts=10,
        tol=1e-9,
        max_iter=5000,
        progress=False,
    )
    assert len(found.cells) == 14 * len(counts)
    assert (found.best.covariance_type, found.best.num_components) == best
    for count in counts:
        for code, value in zip(CODES, map(float, BIC[name, count].split()), strict=True):
            criterion = found.cells[canonical(code), count].criterion
            assert criterion <= -value + 0.01, (code, count)
            assert count > 1 or criterion >= -value - 0.01, code


@pytest.mark.slow
@pytest.mark.parametrize("code", NEW)
def test_derivative_of_a_fit(code, x64):
    """The derivative of a fit by the implicit function theorem agrees with finite differences."""
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(size=(20, 2)), rng.normal(size=(20, 2)) * [1, 2] + [4, 1]])
    start = jaxgmm.from_labels(x, np.repeat([0, 1], 20), num_components=2, covariance_type=code)

    @jax.jit
    def value(x):
        found = jaxgmm.fit(start, x, tol=0.0, max_iter=600)
        return jnp.sin(found.mixture.means).sum() + jnp.cos(found.mixture.covariances).sum() + found.mixture.weights[0]

    direction = rng.normal(size=x.shape)
    slope = jax.jit(lambda x: jax.jvp(value, (x,), (direction,))[1])(jnp.asarray(x))
    step = 1e-4
    difference = (value(x + step * direction) - value(x - step * direction)) / (2 * step)
    np.testing.assert_allclose(slope, difference, rtol=1e-5, atol=1e-6)
