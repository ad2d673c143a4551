"""Laws of whole fits: what must not change when rows are repeated, dropped or reordered, components renamed, or units changed.

Every law is one data set of a vmapped fit for each covariance type, so that one compilation serves them all.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgmm

import oracle
from helpers import (
    OTHER_TWO_COVARIANCE_TYPES,
    TWO_COVARIANCE_TYPES,
    assert_mixtures_close,
    enabled_x64,
    random_data,
    random_mixture,
    random_prior,
    slow_unless,
)

N, PADDED, D, K, STEPS, BATCH = 48, 64, 2, 3, 20, 8
SHIFT, SCALE, UNITS = np.array([300.0, -20.0]), 1e-3, np.array([1e-3, 50.0])
ROTATION = np.array([[0.6, -0.8], [0.8, 0.6]])
SWAP = np.eye(D)[::-1]


@jax.jit
def fit_batch(starts, xs, sample_weights, priors=None, reg_covars=None):
    """Fit a batch of data sets with a fixed number of steps."""

    def one(start, x, w, prior, reg):
        return jaxgmm.fit(start, x, prior, sample_weight=w, tol=0.0, max_iter=STEPS, reg_covar=reg)

    return jax.vmap(one)(starts, xs, sample_weights, priors, reg_covars)


def stack(trees):
    """Stack pytrees leaf by leaf."""
    return jax.tree.map(lambda *leaves: jnp.stack([jnp.asarray(leaf) for leaf in leaves]), *trees)


def pad(x, w):
    """Pad rows to PADDED with NaN at weight 0."""
    missing = PADDED - len(x)
    return np.concatenate([x, np.full((missing, D), np.nan)]), np.concatenate([w, np.zeros(missing)])


def linear(mixture, matrix, shift=0.0):
    """Return the mixture of A x + b."""
    covariance_type, matrix = mixture.covariance_type, np.asarray(matrix, float)
    dense = [matrix @ oracle.dense(mixture, k) @ matrix.T for k in range(K)]
    return jaxgmm.Mixture(
        mixture.weights, mixture.means @ matrix.T + shift, jnp.asarray(oracle.store(dense, covariance_type)), covariance_type
    )


def linear_prior(prior, covariance_type, matrix, shift=0.0):
    """Return the prior of the mixture of A x + b."""
    matrix = np.asarray(matrix, float)
    if covariance_type in ("full", "tied"):
        scale = matrix @ prior.scale @ matrix.T
    else:
        scale = matrix**2 @ prior.scale if covariance_type == "diag" else prior.scale * (matrix[0] @ matrix[0])
    return jaxgmm.Prior(
        prior.weight_concentration,
        matrix @ prior.mean + shift,
        prior.mean_precision,
        prior.degrees_of_freedom,
        jnp.asarray(scale),
    )


def permuted(mixture, order):
    """Return the mixture with its components in another order."""
    covariances = mixture.covariances if mixture.covariance_type == "tied" else mixture.covariances[order]
    return jaxgmm.Mixture(mixture.weights[order], mixture.means[order], covariances, mixture.covariance_type)


def problem(covariance_type, seed=0):
    """Return a start, data and integer weights."""
    w = np.random.default_rng(seed).choice([0.0, 1.0, 2.0], N, p=[0.3, 0.5, 0.2])
    assert w.sum() <= PADDED
    return random_mixture(seed, covariance_type, d=D, spread=1.5), random_data(seed, n=N, d=D, spread=1.5), w


def assert_monotone(fits):
    """Assert that no step lowers the objective by more than rounding."""
    falls = -np.diff(np.asarray(fits.history), axis=1)
    assert not (falls > 1e-10 * abs(np.asarray(fits.objective))[:, None]).any()


@pytest.mark.parametrize("covariance_type", TWO_COVARIANCE_TYPES)
def test_penalised_likelihood(covariance_type, x64):
    """Fits without a prior are monotone and obey every law, to 1e-8 in float64.

    Integer weights are repetition and 0 is removal, NaN included; the order of rows and the names of components do not matter;
    translations, scales and (full, tied, diag) units of columns transform the fit.
    """
    start, x, w = problem(covariance_type)
    order, rows = np.array([2, 0, 1]), np.random.default_rng(1).permutation(N)
    units = np.diag(UNITS) if covariance_type != "spherical" else 50 * np.eye(D)
    silenced = np.where(w[:, None] > 0, x, np.nan)
    repeated = np.repeat(x, w.astype(int), axis=0)
    cases = [
        (start, *pad(x, w)),
        (start, *pad(silenced, w)),
        (start, *pad(repeated, np.ones(len(repeated)))),
        (start, *pad(x[rows], w[rows])),
        (permuted(start, order), *pad(x, w)),
        (linear(start, np.eye(D), SHIFT), *pad(x + SHIFT, w)),
        (linear(start, SCALE * np.eye(D)), *pad(SCALE * x, w)),
        (linear(start, units), *pad(x @ units, w)),
    ]
    fits = fit_batch(*(stack(part) for part in zip(*cases, strict=True)))
    base = fits.mixture[0]
    assert_monotone(fits)
    for same in (1, 2, 3):
        assert_mixtures_close(fits.mixture[same], base, 1e-8)
    assert_mixtures_close(fits.mixture[4], permuted(base, order), 1e-8)
    for i, matrix, shift in ((5, np.eye(D), SHIFT), (6, SCALE * np.eye(D), 0.0), (7, units, 0.0)):
        back = np.linalg.inv(matrix)
        assert_mixtures_close(linear(fits.mixture[i], back, -back @ (shift * np.ones(D))), base, 1e-8)
        jacobian = w.sum() * np.log(abs(np.linalg.det(matrix)))
        np.testing.assert_allclose(fits.log_likelihood[i] + jacobian, fits.log_likelihood[0], rtol=1e-9)
    np.testing.assert_allclose(fits.log_likelihood[jnp.array([1, 2, 3, 4])], fits.log_likelihood[0], rtol=1e-11)


@pytest.mark.parametrize("covariance_type", slow_unless(("tied", "diag"), ("tied",)))
def test_prior(covariance_type, x64):
    """With a prior that is transformed along, fits are monotone and equivariant under the same maps and under rotation.

    For diag a different order of columns takes the place of the rotation.
    """
    start, x, w = problem(covariance_type)
    prior, order = random_prior(0, covariance_type, d=D), np.array([2, 0, 1])
    renamed = jaxgmm.Prior(
        prior.weight_concentration[order], prior.mean, prior.mean_precision, prior.degrees_of_freedom, prior.scale
    )
    units = np.diag(UNITS) if covariance_type != "spherical" else 50 * np.eye(D)
    maps = [(np.eye(D), 0.0), (np.eye(D), SHIFT), (units, 0.0), (SWAP if covariance_type == "diag" else ROTATION, 0.0)]
    cases = [(linear(start, m, b), *pad(x @ m.T + b, w), linear_prior(prior, covariance_type, m, b)) for m, b in maps]
    cases.append((permuted(start, order), *pad(x, w), renamed))
    fits = fit_batch(*(stack(part) for part in zip(*cases, strict=True)))
    base = fits.mixture[0]
    assert_monotone(fits)
    for i, (matrix, shift) in enumerate(maps):
        back = np.linalg.inv(matrix)
        assert_mixtures_close(linear(fits.mixture[i], back, -back @ (shift * np.ones(D))), base, 1e-8)
    assert_mixtures_close(fits.mixture[4], permuted(base, order), 1e-8)
    np.testing.assert_allclose(fits.objective[4], fits.objective[0], rtol=1e-11)


@pytest.mark.parametrize("covariance_type", slow_unless(("full", "spherical"), ("spherical",)))
def test_plain_likelihood_is_free_of_rotation(covariance_type, x64):
    """With reg_covar=0, plain maximum likelihood, a rotation of the data rotates the fit."""
    start, x, w = problem(covariance_type)
    w = np.ones(N)
    cases = [(linear(start, m), *pad(x @ m.T, w)) for m in (np.eye(D), ROTATION)]
    starts, xs, weights = (stack(part) for part in zip(*cases, strict=True))
    fits = fit_batch(starts, xs, weights, None, jnp.zeros(2))
    assert_mixtures_close(linear(fits.mixture[1], ROTATION.T), fits.mixture[0], 1e-8)
    np.testing.assert_allclose(fits.log_likelihood[1], fits.log_likelihood[0], rtol=1e-11)


@pytest.mark.parametrize("covariance_type", OTHER_TWO_COVARIANCE_TYPES)
def test_offset_in_float32(covariance_type):
    """Data 1e4 sds from the origin give in float32 the fit of float64: means to 2e-3 sd, covariances to 1e-3."""
    x = random_data(0, n=PADDED, d=D, spread=1.5).astype(np.float32) + np.float32(1e4)
    start = random_mixture(0, covariance_type, d=D, spread=1.5)
    start = jaxgmm.Mixture(start.weights, start.means + 1e4, start.covariances, covariance_type)
    single = jax.jit(partial(jaxgmm.fit, tol=0.0, max_iter=STEPS))(start, x)
    path = oracle.em(start, x.astype(float), STEPS)
    np.testing.assert_allclose(single.mixture.means, path[-1].means, atol=2e-3)  # float32 holds 1e4 to 1e-3
    np.testing.assert_allclose(single.mixture.weights, path[-1].weights, rtol=1e-3)
    np.testing.assert_allclose(single.mixture.covariances, path[-1].covariances, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(single.log_likelihood, oracle.log_prob(path[-1], x.astype(float)).sum(), rtol=1e-4)


def float32_problems(covariance_type, offset, count=20):
    """Return float32 data with every feature `offset` sds from the origin, and starts that are moved with them."""
    starts, xs = [], []
    for seed in range(count):
        x = random_data(seed, n=200, spread=2.0)
        start = random_mixture(seed, covariance_type, spread=2.0)
        starts.append(
            jaxgmm.Mixture(start.weights, np.asarray(start.means) + offset * x.std(0), start.covariances, covariance_type)
        )
        xs.append((x + offset * x.std(0)).astype(np.float32))
    return jax.tree.map(lambda *leaves: np.stack(leaves).astype(np.float32), *starts), np.stack(xs)


@pytest.mark.slow
@pytest.mark.parametrize("covariance_type", TWO_COVARIANCE_TYPES)
def test_float32_fits_as_float64_fits(covariance_type):
    """Over 20 data sets with sound components (not flat or few), 25 steps in float32 stay within bounds of float64.

    The bounds are 1e-3 for weights and for covariances in units of the component's sds, at any offset; for means 1e-3 sd plus
    one unit in the last place of the offset; for the log-likelihood 5e-5 nats per row.
    """
    run = jax.jit(jax.vmap(partial(jaxgmm.fit, tol=0.0, max_iter=25)))
    for offset in (0.0, 1e2, 1e4):
        starts, xs = float32_problems(covariance_type, offset)
        single = jax.tree.map(np.asarray, run(starts, xs))
        with enabled_x64():
            wide = jax.tree.map(lambda leaf: leaf.astype(float), starts)
            double = jax.tree.map(np.asarray, run(wide, xs.astype(float)))
        sound = ~(double.component_status | single.component_status).any(1)
        assert sound.sum() >= 12
        matrices = [
            np.array([[oracle.dense(m[i], k) for k in range(K)] for i in np.flatnonzero(sound)])
            for m in (single.mixture, double.mixture)
        ]
        sds = np.sqrt(np.diagonal(matrices[1], axis1=-2, axis2=-1))  # (B, K, D)
        error = abs(matrices[0] - matrices[1]) / (sds[..., :, None] * sds[..., None, :])
        assert error.max() <= 1e-3, (offset, error.max())
        rounding = np.finfo(np.float32).eps * abs(double.mixture.means[sound]).max((1, 2), keepdims=True)
        error = abs(single.mixture.means.astype(float) - double.mixture.means)[sound]
        assert (error <= 1e-3 * sds + rounding).all(), (offset, (error / sds).max())
        np.testing.assert_allclose(single.mixture.weights[sound], double.mixture.weights[sound], atol=1e-3)
        error = abs(single.log_likelihood.astype(float) - double.log_likelihood)[sound] / xs.shape[1]
        assert error.max() <= 5e-5, (offset, error.max())


def test_float32_goes_on_where_rounding_hides_the_gain():
    """With overlapping components, where a step gains less than a float32 objective can show, float32 ends where float64 does.

    The log-likelihoods agree to 2e-6 nats per row, and the objective never falls far below its best.
    """
    rng = np.random.default_rng(5)
    x = (rng.normal(size=5000) + 2.0 * (rng.random(5000) < 0.3))[:, None].astype(np.float32)
    start = jaxgmm.make_mixture(
        np.float32([0.5, 0.5]), np.float32([[0.5], [0.7]]), np.ones((2, 1), np.float32), covariance_type="diag"
    )
    single = jaxgmm.fit(start, x, max_iter=3000)
    with enabled_x64():
        wide = jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf, float)), start)
        double = jaxgmm.fit(wide, x.astype(float), max_iter=3000)
        reached = jaxgmm.log_prob(
            jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf, float)), single.mixture), x.astype(float)
        )
        assert bool(single.converged)
        assert bool(double.converged)
        assert int(double.num_iter) > 100
        assert abs(float(reached.sum() - double.log_likelihood)) <= 2e-6 * len(x)
    history = np.asarray(single.history)[: int(single.num_iter) + 1]
    assert (history >= np.maximum.accumulate(history) - 64 * np.finfo(np.float32).eps * 2 * abs(history[0])).all()


def density_in_float64(mixture, x):
    """Return log p(x) of one diag component, in float64 NumPy."""
    m, v = np.asarray(mixture.means[0], float), np.asarray(mixture.covariances[0], float)
    return -0.5 * ((x - m) ** 2 / v + np.log(2 * np.pi * v)).sum(1)


@pytest.mark.parametrize("rows", [200_000, pytest.param(10_000_000, marks=pytest.mark.slow)])
def test_total_of_many_rows_in_float32(rows):
    """The log-likelihood of many float32 rows is exact to 1e-6, in memory far below that of the data."""
    x = np.random.default_rng(0).normal(size=(rows, 2)).astype(np.float32) + np.float32([3.0, -1.0])
    mixture = jaxgmm.make_mixture([1.0], np.float32([[3.1, -1.2]]), np.float32([[1.1, 0.9]]), covariance_type="diag")
    step = jax.jit(jaxgmm.e_step).lower(mixture, jnp.asarray(x)).compile()
    assert step.memory_analysis().temp_size_in_bytes < 4e6
    moments = step(mixture, jnp.asarray(x))
    expected = sum(density_in_float64(mixture, x[i : i + 1_000_000].astype(float)).sum() for i in range(0, rows, 1_000_000))
    np.testing.assert_allclose(moments.log_likelihood, expected, rtol=1e-6)
    np.testing.assert_allclose(moments.count[0], rows, rtol=1e-6)


def test_nested_models(x64):
    """A larger family started from the optimum of a smaller one does no worse: spherical <= diag <= full, tied <= full."""
    x, w = random_data(3, n=N, d=D), np.ones(N)

    def best(start, covariance_type):
        dense = [oracle.dense(start, k) for k in range(K)]
        inside = jaxgmm.Mixture(start.weights, start.means, jnp.asarray(oracle.store(dense, covariance_type)), covariance_type)
        fits = fit_batch(*(stack([part] * BATCH) for part in (inside, *pad(x, w))))
        return fits.mixture[0], float(fits.objective[0]), float(fits.history[0, 0])

    penalties = 1e-4  # what the penalty of one family differs by from another's
    begin = random_mixture(3, "spherical", d=D)
    spherical, low, _ = best(begin, "spherical")
    diag, middle, entry = best(spherical, "diag")
    _, high, _ = best(diag, "full")
    assert abs(entry - low) < penalties
    assert low <= middle + penalties
    assert middle <= high + penalties
    tied, pooled, _ = best(random_mixture(3, "tied", d=D), "tied")
    _, free, _ = best(tied, "full")
    assert pooled <= free + penalties
