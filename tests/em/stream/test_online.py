"""Test stochastic EM over batches: single steps against loops in NumPy, and the exact passes at the end."""

import jax
import numpy as np
import pytest
from streamed_problem import problem

import jaxgmm
from jaxgmm.em.loop import Options
from jaxgmm.em.problem import EMProblem
from jaxgmm.em.stream import online
from jaxgmm.em.stream.batches import Layout, Source
from jaxgmm.em.stream.run import Run

from helpers import COVARIANCE_TYPES, random_prior

FIRST_EXACT = online.stochastic_passes(1000) + 1  # the index in `history` of the mixture that stochastic EM found


def overlapping(n, seed=0):
    """Return rows of three overlapping clusters in random order."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, 2)) + 2.2 * rng.integers(0, 3, n)[:, None]


def raw_step(mixture, s, rows, rate, v, total):
    """Return the sums (count, first, second) of a row in data units and the mixture after one block of rows, by definition."""
    r = np.asarray(jaxgmm.responsibilities(mixture, rows))
    found = r.mean(0), r.T @ rows / len(rows), np.einsum("nk,ni,nj->kij", r, rows, rows) / len(rows)
    s = [(1 - rate) * a + rate * b for a, b in zip(s, found, strict=True)]
    count = s[0] * total
    means = s[1] / s[0][:, None]
    scatter = total * (s[2] - s[0][:, None, None] * np.einsum("ki,kj->kij", means, means))
    covariances = (scatter + 1e-6 * v) / (count + 1e-6)[:, None, None]
    return s, jaxgmm.make_mixture(s[0], means, covariances)


@pytest.mark.filterwarnings("ignore:EM reached max_iter:RuntimeWarning")
def test_steps_are_those_of_sums_in_data_units(x64):
    """Sums in data units need no change of coordinates; blended in this way, they give the mixtures of two blocks."""
    x = overlapping(256)
    start = jaxgmm.initialize(jax.random.key(0), x, num_components=3)
    run = Run(start, EMProblem(None, None, None, None), 0.0, Options(10, False, None), Source([x], Layout(2)), online=True)

    class Bar:
        update = set_postfix_str = staticmethod(lambda *_: None)

    run.make_pass(Bar())
    expected = jaxgmm.fit(start, x, tol=0, max_iter=1).mixture  # an EM step
    r = np.asarray(jaxgmm.responsibilities(start, x))
    s = [r.mean(0), r.T @ x / 256, np.einsum("nk,ni,nj->kij", r, x, x) / 256]
    v = np.cov(x.T, bias=True) * (1 + 1e-6 * np.eye(2))
    average = [0, 0, 0]
    for t in range(2):  # the blocks of a batch are its even and its odd rows
        s, expected = raw_step(expected, s, x[t::2], (t + 20) ** -0.6, v, 256)
        share = 4 / (t + 4)
        average = [a + share * (b - a) for a, b in zip(average, s, strict=True)]
    (batch,) = run.source.read()
    state = online.online_rows(run.online, run.problem, batch, 256)
    center = np.asarray(run.problem.center)
    np.testing.assert_allclose(state.mixture.means + center, expected.means, rtol=1e-9)
    np.testing.assert_allclose(state.mixture.covariances, expected.covariances, rtol=1e-8)
    np.testing.assert_allclose(state.mixture.weights, expected.weights, rtol=1e-10)
    assert int(state.step) == 2
    averaged = online.end_online(run.problem, state, run.trial, 0.0).proposal.mixture
    np.testing.assert_allclose(averaged.means + center, average[1] / average[0][:, None], rtol=1e-9)


def assert_ends_exactly(fit, expected, atol):
    """The objective is that of the start until the exact passes, never falls, and ends where EM ends."""
    history = np.asarray(fit.history, float)
    assert len(history) == 1001
    np.testing.assert_array_equal(history[:FIRST_EXACT], history[0])
    np.testing.assert_allclose(history[0], expected.history[0], rtol=1e-6)
    assert history[FIRST_EXACT] > history[0]
    assert (np.diff(history[FIRST_EXACT:]) >= -1e-6 * abs(history[-1])).all()
    assert fit.converged
    assert fit.num_iter > FIRST_EXACT, "an EM step follows before the fit can converge"
    assert history[fit.num_iter] == fit.objective
    np.testing.assert_allclose(fit.objective, expected.objective, atol=atol)


def one_fit(dtype):
    """Return the fits of `fit` and of stochastic EM, and the rows."""
    x = overlapping(4000).astype(dtype)
    start = jaxgmm.initialize(jax.random.key(0), x[:500], num_components=3)
    return jaxgmm.fit(start, x), jaxgmm.fit_batches(start, [x[:3000], x[3000:]], online=True), x


def test_fits_in_float32():
    """Stochastic EM saves EM steps, and the fit ends at the optimum."""
    expected, fit, _ = one_fit(np.float32)
    assert_ends_exactly(fit, expected, 4e-3)
    assert fit.num_iter - FIRST_EXACT < expected.num_iter


@pytest.mark.slow
def test_rows_in_the_order_of_the_clusters():
    """From an optimum, stochastic EM over such rows does not lead away."""
    expected, _, x = one_fit(np.float32)
    x = x[np.argsort(x[:, 0])]
    misled = jaxgmm.fit_batches(expected, [x[:3000], x[3000:]], online=True)
    assert misled.history[FIRST_EXACT] == misled.history[0], "the result of stochastic EM is worse, and is not used"
    assert misled.objective >= misled.history[0]
    assert misled.converged


@pytest.mark.slow
def test_fits_in_float64(x64):
    """The same holds in float64, where tol decides when a fit ends."""
    expected, fit, _ = one_fit(np.float64)
    assert_ends_exactly(fit, expected, 4e-3)
    assert fit.num_iter - FIRST_EXACT < expected.num_iter


def test_few_steps_are_exact(x64):
    """With less than four steps, no pass is stochastic; a fit of no steps evaluates the start."""
    start, _, _, batches = problem()
    with pytest.warns(RuntimeWarning):
        plain, found = (jaxgmm.fit_batches(start, batches, tol=0.0, max_iter=3, online=flag) for flag in (False, True))
    np.testing.assert_array_equal(found.history, plain.history)
    with pytest.raises(TypeError, match="online is 1"):
        jaxgmm.fit_batches(start, batches, online=1)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("regularisation", [None, "prior", "reg_covar"])
@pytest.mark.parametrize("kind", COVARIANCE_TYPES)
def test_all_options(kind, regularisation, x64):
    """With each covariance type, weights and regularisation, the objective never falls, and ends at an optimum of EM."""
    start, x, w, batches = problem(kind)
    prior = random_prior(0, kind) if regularisation == "prior" else None
    options = {"reg_covar": 1e-6 if regularisation == "reg_covar" else None, "tol": 1e-9}
    fit = jaxgmm.fit_batches(start, batches, prior, online=True, accelerate=regularisation == "prior", **options)
    history = np.asarray(fit.history)
    assert (np.diff(history) >= -1e-9 * abs(history[-1])).all()
    again = jaxgmm.fit(fit, x, prior, sample_weight=w, **options)
    np.testing.assert_allclose(again.objective, fit.objective, atol=1e-5 * len(x))
    np.testing.assert_allclose(again.history[0], fit.objective, rtol=1e-10)
