"""Whole fits: step by step against loops, what a result promises, how it ends, what is refused and what causes warnings."""

import warnings
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgmm
from jaxgmm import ComponentStatus, Status

import oracle
from helpers import (
    COVARIANCE_TYPES,
    assert_mixtures_close,
    random_data,
    random_mixture,
    random_prior,
    random_weight,
    slow_unless,
)

STEPS = 25
fit = partial(partial(jax.jit, static_argnames=("max_iter", "chunk_size"))(jaxgmm.fit), max_iter=STEPS)


CASES = [
    (covariance_type, regularisation) for regularisation in ("penalty", "prior") for covariance_type in COVARIANCE_TYPES
] + [
    ("full", "reg_covar"),
    ("diag", "reg_covar"),
]
# each type and each regularisation once; the single steps of all pairs are compared in test_m_step.py
FEW_CASES = [("full", "penalty"), ("tied", "prior"), ("diag", "reg_covar"), ("spherical", "prior")]


@pytest.mark.parametrize(("covariance_type", "regularisation"), slow_unless(CASES, FEW_CASES))
def test_steps_are_the_oracles(covariance_type, regularisation, x64):
    """With tol=0 a fit takes exactly max_iter steps, whose objectives and last state equal the oracle's."""
    start, x, w, prior = random_mixture(0, covariance_type), random_data(0), random_weight(0), random_prior(0, covariance_type)
    options = {"penalty": {}, "prior": {"prior": prior}, "reg_covar": {"reg_covar": 1e-3}}[regularisation]
    path = oracle.em(start, x, STEPS, w, **options)
    result = fit(start, x, sample_weight=w, tol=0.0, **options)
    assert bool(result.converged) or (int(result.num_iter) == STEPS and int(result.status) == Status.MAX_ITER)
    objectives = [oracle.objective(path[i], x, w, **options) for i in range(0, STEPS + 1, 5)]
    # rounding decides at which step an exact fixed point is reached; from there on the objective stays
    history = np.asarray(result.history)
    np.testing.assert_allclose(history[::5], objectives, rtol=1e-9)
    assert_mixtures_close(result.mixture, path[-1], 1e-8)
    np.testing.assert_allclose(result.log_likelihood, w @ oracle.log_prob(result.mixture, x), rtol=1e-11)
    np.testing.assert_allclose(result.objective, oracle.objective(result.mixture, x, w, **options), rtol=1e-11)
    if regularisation != "reg_covar":
        assert (np.diff(history) >= -1e-10 * abs(result.objective)).all()


def test_history_belongs_to_the_result(x64):
    """history[num_iter] is the objective, and so is every later entry; converging on the last allowed step is converged."""
    start, x, w = random_mixture(0, "full"), random_data(0), random_weight(0)
    whole = fit(start, x, sample_weight=w, tol=0.0)
    changes = np.abs(np.diff(whole.history)) / w.sum()
    assert (np.diff(changes[5:]) < 0).all()
    early = fit(start, x, sample_weight=w, tol=(changes[9] + changes[10]) / 2)
    n = int(early.num_iter)
    assert n == 11
    assert bool(early.converged)
    np.testing.assert_array_equal(early.history[: n + 1], whole.history[: n + 1])
    np.testing.assert_array_equal(early.history[n:], np.full(STEPS + 1 - n, early.objective))
    assert early.history.shape == (STEPS + 1,)
    assert float(early.history[n]) == float(early.objective)
    last = fit(start, x, sample_weight=w, tol=(changes[-2] + changes[-1]) / 2)
    assert int(last.num_iter) == STEPS
    assert Status(int(last.status)) == Status.CONVERGED


def test_no_steps(x64):
    """With max_iter=0 the fit is the start with its own log-likelihood, has status MAX_ITER and warns."""
    start, x = random_mixture(0, "full"), random_data(0)
    with pytest.warns(RuntimeWarning) as caught:
        result = jaxgmm.fit(start, x, max_iter=0)
    assert "max_iter" in str(caught[0].message)
    assert int(result.num_iter) == 0
    assert int(result.status) == Status.MAX_ITER
    assert result.history.shape == (1,)
    assert_mixtures_close(result.mixture, start, 1e-15)
    np.testing.assert_allclose(result.log_likelihood, oracle.log_prob(start, x).sum(), rtol=1e-11)
    assert float(result.history[0]) == float(result.objective)


def test_exact_fixed_point_stops(x64):
    """With tol=0 a fit ends when a step changes nothing at all, as with two points and one component."""
    x = np.array([[-1.0], [1.0]])
    result = fit(jaxgmm.make_mixture([1.0], [[0.5]], [[3.0]], covariance_type="diag"), x, tol=0.0)
    assert int(result.num_iter) < STEPS
    assert bool(result.converged)
    np.testing.assert_allclose(result.mixture.covariances, [[1.0]], rtol=1e-12)


def test_chunks_do_not_matter(x64):
    """chunk_size changes only the order of sums; rounding decides which step is the first to change nothing."""
    start, x, w = random_mixture(0, "spherical"), random_data(0), random_weight(0)
    whole, parts = (fit(start, x, sample_weight=w, tol=0.0, chunk_size=c) for c in (None, 7))
    assert_mixtures_close(whole.mixture, parts.mixture, 1e-10)
    common = int(min(whole.num_iter, parts.num_iter)) + 1
    np.testing.assert_allclose(whole.history[:common], parts.history[:common], rtol=1e-12)


def one_point_and_a_cloud(covariance_type="diag"):
    """Return data and a start: one component on a cloud, one on a single point away from it, and an absent one."""
    x = np.concatenate([np.random.default_rng(0).normal(size=(59, 3)), [[30.0, 30.0, 30.0]]])
    covariances = np.ones((3, 3)) if covariance_type == "diag" else [np.eye(3)] * 3
    return jaxgmm.make_mixture(
        [0.5, 0.5, 0.0], np.array([[0.0], [30], [0]]) * np.ones(3), covariances, covariance_type=covariance_type
    ), x


def test_statuses(x64):
    """Every status is reached inside jit, with finite parameters."""
    start, x, w = random_mixture(0, "full"), random_data(0), np.ones(60)
    spike, cloud = one_point_and_a_cloud("full")
    ends = {
        Status.CONVERGED: fit(start, x, sample_weight=w, tol=1e-2),
        Status.MAX_ITER: fit(start, x, sample_weight=w, tol=0.0),
        Status.EMPTY_DATA: fit(start, x, sample_weight=0 * w),
        Status.SINGULAR: fit(spike, cloud, sample_weight=w, reg_covar=0.0),
        Status.NONFINITE: fit(start, np.where(x == x[3, 1], np.nan, x), sample_weight=w),
    }
    for expected, result in ends.items():
        assert Status(int(result.status)) == expected
        assert bool(result.converged) == (expected == Status.CONVERGED)
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(result.mixture)), expected
    assert_mixtures_close(ends[Status.EMPTY_DATA].mixture, start, 1e-15)
    assert_mixtures_close(ends[Status.NONFINITE].mixture, start, 1e-15)
    singular = ends[Status.SINGULAR]  # the last finite state, with its own likelihood
    np.testing.assert_allclose(singular.log_likelihood, oracle.log_prob(singular.mixture, cloud).sum(), rtol=1e-9)
    assert len({status.sentence for status in Status}) == len(Status)
    assert all(len(status.sentence) > 30 for status in (*Status,))


def test_flat_components_keep_their_best_state():
    """Components on a line exhaust float32; the result is a state of its history and near the best of them.

    With status DECREASED it is the best.
    """
    line = np.linspace(-1, 1, 40, dtype=np.float32)[:, None]
    x = jnp.asarray(np.hstack([line, 3 * line + 1]))
    starts = jax.vmap(lambda key: jaxgmm.initialize(key, x, num_components=3))
    fits = jax.jit(lambda keys: jax.vmap(lambda start: jaxgmm.fit(start, x, tol=1e-6, max_iter=100))(starts(keys)))(
        jax.random.split(jax.random.key(0), 16)
    )
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(fits.mixture))
    last = np.take_along_axis(np.asarray(fits.history), np.asarray(fits.num_iter)[:, None], axis=1)[:, 0]
    np.testing.assert_array_equal(last, fits.objective)
    fell = np.asarray(fits.status) == Status.DECREASED
    best = np.nanmax(fits.history, axis=1)
    np.testing.assert_array_equal(best[fell], np.asarray(fits.objective)[fell])
    np.testing.assert_allclose(fits.objective, best, rtol=1e-3)


def test_component_statuses(x64):
    """OK, EMPTY, AT_FLOOR and FEW_POINTS are each reported for the component that has them."""
    spike, cloud = one_point_and_a_cloud()
    w, sound = np.ones(60), [ComponentStatus.OK, ComponentStatus.EMPTY]
    held = fit(spike, cloud, sample_weight=w, tol=1e-8)
    assert held.component_status.tolist() == [ComponentStatus.OK, ComponentStatus.AT_FLOOR, ComponentStatus.EMPTY]
    three = np.where(np.arange(60)[:, None] >= 57, 30.0 + cloud[::-1], cloud)
    for share, state in [(1.0, ComponentStatus.OK), (0.5, ComponentStatus.FEW_POINTS)]:  # diag needs two observations
        few = fit(spike, three, sample_weight=np.where(np.arange(60) >= 57, share, 1.0), tol=1e-8)
        assert few.component_status.tolist() == [ComponentStatus.OK, state, ComponentStatus.EMPTY]
    lost = jaxgmm.Mixture(spike.weights, spike.means.at[1].set(1e6), spike.covariances, "diag")
    empty = fit(lost, np.random.default_rng(1).normal(size=(60, 3)), sample_weight=w, tol=1e-8)
    assert empty.component_status.tolist() == [sound[0], sound[1], sound[1]]
    assert bool(empty.converged)
    np.testing.assert_allclose(empty.mixture.means[1:], lost.means[1:], rtol=1e-12)
    np.testing.assert_allclose(empty.mixture.covariances[1:], lost.covariances[1:])
    assert empty.mixture.weights.tolist() == [1, 0, 0]
    assert len({status.sentence for status in ComponentStatus}) == 4


def test_weight_zero_stays_zero_under_a_prior(x64):
    """With a start weight of exactly 0 the fit and its objective are those of the mixture without that component."""
    start, x = random_mixture(0, "full"), random_data(0)
    w, prior = random_weight(0), random_prior(0, "full")
    absent = jaxgmm.Mixture(jnp.array([0.5, 0.0, 0.5]), start.means, start.covariances)
    result = fit(absent, x, prior, sample_weight=w, tol=0.0)
    assert float(result.mixture.weights[1]) == 0
    assert int(result.component_status[1]) == ComponentStatus.EMPTY
    keep = np.array([0, 2])
    smaller = jaxgmm.Mixture(absent.weights[keep], absent.means[keep], absent.covariances[keep])
    fewer = jaxgmm.Prior(
        prior.weight_concentration[keep], prior.mean, prior.mean_precision, prior.degrees_of_freedom, prior.scale
    )
    path = oracle.em(smaller, x, STEPS, w, prior=fewer)
    np.testing.assert_allclose(result.mixture.means[keep], path[-1].means, rtol=1e-8)
    np.testing.assert_allclose(result.objective, oracle.objective(path[-1], x, w, prior=fewer), rtol=1e-10)


def test_dtype_is_the_datas():
    """float32 data give a float32 fit; integers, half precision and lists become the default float."""
    start, x = random_mixture(0, "diag", k=2, d=2), random_data(0, d=2)
    for data in (x.astype(np.float32), (10 * x).astype(int), x.astype(np.float16), jnp.asarray(x, jnp.bfloat16), x.tolist()):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            result = jaxgmm.fit(start, data, max_iter=3)
        assert {leaf.dtype for leaf in jax.tree.leaves((result.mixture, result.objective, result.history))} == {
            np.dtype("float32")
        }


def test_float64_data_make_a_float64_fit(x64):
    """The result has the dtype of the data, whatever that of the start."""
    start = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), random_mixture(0, "full"))
    assert fit(start, random_data(0), sample_weight=random_weight(0)).mixture.means.dtype == np.float64


def test_repr_says_how_it_ended(x64):
    """The text of a fit shows its status, its likelihood and the components with problems."""
    spike, cloud = one_point_and_a_cloud()
    text = repr(fit(spike, cloud, sample_weight=np.ones(60), tol=1e-8))
    assert "CONVERGED" in text
    assert "log-likelihood" in text
    assert "component 1: AT_FLOOR" in text
    assert "weight" in text


def test_eager_warnings():
    """Warnings point at the user's own line, and sound fits do not warn."""
    x = np.random.default_rng(0).normal(size=(40, 2)) + np.repeat([[-3.0, 3.0], [3.0, -3.0]], 20, axis=0)
    start = jaxgmm.make_mixture([0.5, 0.5], [x[0], x[-1]], np.ones((2, 2)), covariance_type="diag")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        jaxgmm.fit(start, x, max_iter=200, tol=1e-4)
    same = jaxgmm.make_mixture([0.5, 0.5], [[0.0, 0.0]] * 2, np.ones((2, 2)), covariance_type="diag")
    flat = np.column_stack([x[:, 0], np.full(40, 7.0)])
    for begin, data, options, words in [
        (start, x, {"max_iter": 1}, "max_iter"),
        (start, flat, {}, "constant in column 1"),
        (same, x, {}, "all the same"),
    ]:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            jaxgmm.fit(begin, data, **({"max_iter": 200, "tol": 1e-4} | options))
        assert words in " ".join(str(w.message) for w in caught)
        assert {w.filename for w in caught} == {__file__}
        assert {w.category for w in caught} == {RuntimeWarning}


def refusals():
    """Return invalid calls, with the error and the words that each must give."""
    start, x = random_mixture(0, "full"), random_data(0)
    prior = random_prior(0, "full")
    fit = jaxgmm.fit

    def changed(**values):
        fields = {
            name: getattr(prior, name)
            for name in ("weight_concentration", "mean", "mean_precision", "degrees_of_freedom", "scale")
        }
        return jaxgmm.Prior(**(fields | {name: jnp.asarray(value, jnp.float32) for name, value in values.items()}))

    stack = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), start)
    return {
        "negative tol": (lambda: fit(start, x, tol=-1e-3), ValueError, "tol is -0.001; a finite number >= 0 was expected"),
        "NaN tol": (lambda: fit(start, x, tol=float("nan")), ValueError, "tol is nan"),
        "infinite tol": (lambda: fit(start, x, tol=float("inf")), ValueError, "tol is inf"),
        "tol of a string": (lambda: fit(start, x, tol="1e-3"), TypeError, "tol"),
        "negative max_iter": (lambda: fit(start, x, max_iter=-1), ValueError, "max_iter is -1; an integer >= 0 was expected"),
        "float max_iter": (lambda: fit(start, x, max_iter=2.0), TypeError, "max_iter is 2.0"),
        "bool max_iter": (lambda: fit(start, x, max_iter=True), TypeError, "max_iter is True"),
        "negative reg_covar": (lambda: fit(start, x, reg_covar=-1e-6), ValueError, "reg_covar"),
        "NaN reg_covar": (lambda: fit(start, x, reg_covar=np.nan), ValueError, "reg_covar"),
        "chunk_size 0": (lambda: fit(start, x, chunk_size=0), ValueError, "chunk_size is 0; an integer >= 1 was expected"),
        "prior with reg_covar": (lambda: fit(start, x, prior, reg_covar=1e-6), ValueError, "give one"),
        "prior of another type": (lambda: fit(start, x, 3.0), TypeError, "Prior was expected"),
        "prior of another covariance type": (
            lambda: fit(start, x, random_prior(0, "diag")),
            ValueError,
            r"\(3, 3\) was expected",
        ),
        "prior of another K": (lambda: fit(start, x, random_prior(0, "full", k=2)), ValueError, r"\(3,\) was expected"),
        "concentration below 1": (lambda: fit(start, x, changed(weight_concentration=[0.5, 1, 1])), ValueError, ">= 1"),
        "degrees of freedom too small": (
            lambda: fit(start, x, changed(degrees_of_freedom=2.0)),
            ValueError,
            "> 2 was expected",
        ),
        "mean_precision 0": (lambda: fit(start, x, changed(mean_precision=0.0)), ValueError, "prior.mean_precision .* > 0 w"),
        "scale not positive definite": (lambda: fit(start, x, changed(scale=-np.eye(3))), ValueError, "positive definite"),
        "not a mixture": (lambda: fit(np.ones(3), x), TypeError, "Mixture.* was expected"),
        "a stack": (lambda: fit(stack, x), ValueError, "use jax.vmap"),
        "wrong width": (lambda: fit(start, x[:, :2]), ValueError, "2 features"),
        "no rows": (lambda: fit(start, x[:0]), ValueError, "no rows"),
        "fewer rows than components": (lambda: fit(start, x[:2]), ValueError, "2 rows and the mixture 3 components"),
        "one row, no prior": (lambda: fit(random_mixture(0, "full", k=1), x[:1]), ValueError, "one row"),
        "concrete JAX NaN": (
            lambda: fit(start, jnp.asarray(x).at[3, 1].set(jnp.nan)),
            ValueError,
            "contains NaN in 1 of 60 rows",
        ),
        "weights of another length": (lambda: fit(start, x, sample_weight=np.ones(3)), ValueError, r"\(60,\)"),
        "negative weights": (lambda: fit(start, x, sample_weight=-np.ones(60)), ValueError, ">= 0 were expected"),
        "NaN weights": (lambda: fit(start, x, sample_weight=np.full(60, np.nan)), ValueError, "contains NaN"),
        "all weights 0": (lambda: fit(start, x, sample_weight=np.zeros(60)), ValueError, "0 for every row"),
    }


@pytest.mark.parametrize("case", refusals())
def test_refusals(case):
    """Invalid options and data are refused by name, with what was expected."""
    wrong, error, words = refusals()[case]
    with pytest.raises(error, match=words):
        wrong()


@pytest.mark.parametrize("covariance_type", ["tied", "diag"])
def test_independent_prior_ends_at_a_stationary_point(covariance_type, x64):
    """With means independent of covariances, fits are monotone and end where the log joint is stationary.

    Its derivative vanishes in means and covariances, and is one constant in the weights (Lagrange), per unit of weight.
    """
    x, w = random_data(6, d=2, spread=1.5), random_weight(6)
    matrix = jnp.asarray([[1.2, 0.3], [0.3, 0.9]])
    wishart = covariance_type in ("full", "tied")
    scale = (
        jaxgmm.InverseWishart(jnp.asarray(4.5), matrix)
        if wishart
        else jaxgmm.InverseGamma(jnp.asarray(2.5), jnp.asarray([0.7, 1.1]) if covariance_type == "diag" else jnp.asarray(0.7))
    )
    prior = jaxgmm.IndependentPrior(jnp.asarray([1.5, 2.0, 1.0]), jnp.asarray([0.5, -1.0]), 3 * matrix, scale)
    result = fit(random_mixture(6, covariance_type, d=2), x, prior, sample_weight=w, tol=0.0, max_iter=1500)
    history = np.asarray(result.history)
    assert not (np.diff(history) < -1e-10 * abs(float(result.objective))).any()

    def log_joint(mixture):
        return (w @ jaxgmm.log_prob(mixture, x) + jaxgmm.log_prior(mixture, prior)) / w.sum()

    value, gradient = jax.jit(jax.value_and_grad(log_joint))(result.mixture)
    np.testing.assert_allclose(value * w.sum(), result.objective, rtol=1e-11)
    np.testing.assert_allclose(gradient.means, 0, atol=1e-8)
    np.testing.assert_allclose(gradient.covariances, 0, atol=1e-8)
    np.testing.assert_allclose(gradient.weights, gradient.weights[0], rtol=1e-7)
