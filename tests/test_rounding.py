"""The floors that keep covariances positive definite: nothing that rounding hides becomes zero, negative or NaN."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgmm
from jaxgmm import Status, rounding
from jaxgmm.em import loop
from jaxgmm.em import problem as problems

from helpers import OTHER_TWO_COVARIANCE_TYPES, TWO_COVARIANCE_TYPES, enabled_x64, random_mixture, slow_unless

e_step, m_step = jax.jit(jaxgmm.e_step), jax.jit(jaxgmm.m_step)
CLOUD = np.random.default_rng(0).normal(size=(13, 2))
LINE, LONGER = np.linspace(0, 1, 8)[:, None], np.linspace(0, 1, 16)[:, None]
# data whose groups have no covariance of their own, and the sizes of the groups; with equal shapes, all use the same programs
FLAT_GROUPS = {
    "equal points": ([[0.0, 1.0]] * 8 + [[5.0, 1.0]] * 8, (8, 8)),
    "one point alone": ([[0.0, 1.0]] * 15 + [[9.0, 1.0]], (15, 1)),
    "collinear points": (np.concatenate([np.hstack([LINE, 3 * LINE + 1]), 20 + np.hstack([LINE, -LINE])]), (8, 8)),
    "one line": (np.hstack([LONGER, 3 * LONGER + 1]), (5, 11)),
    "one point beside a cloud": (np.concatenate([CLOUD, [[262.0, -262.0]] * 3]), (13, 3)),
    "all equal": (np.full((16, 2), 0.12573022), (8, 8)),
    "zeros": (np.zeros((16, 2)), (8, 8)),
    "size 1e-13": (np.full((16, 2), 1e-13), (8, 8)),
}


def is_positive_definite(mixture):
    """Return whether all covariances have a factor in their own float type, and are symmetric."""
    matrices = np.asarray(jaxgmm.covariance.to_dense(mixture.covariances, mixture.covariance_type, *mixture.means.shape))
    np.testing.assert_array_equal(matrices, np.swapaxes(matrices, -1, -2))
    return np.isfinite(np.asarray(jaxgmm.linalg.cholesky(jnp.asarray(matrices)))).all()


def assert_answers(mixture, x):
    """Assert that no public function of a mixture and finite points gives NaN."""
    r = np.asarray(jaxgmm.responsibilities(mixture, x))
    np.testing.assert_allclose(r.sum(-1), 1, rtol=1e-6)
    assert not np.isnan(jaxgmm.log_prob(mixture, x)).any()
    np.testing.assert_array_equal(jaxgmm.predict(mixture, x), r.argmax(-1))
    assert not np.isnan(jaxgmm.bic(mixture, x))
    moments = e_step(mixture, x)
    for leaf in jax.tree.leaves((moments.count, moments.first, moments.second, jaxgmm.sample(jax.random.key(0), mixture, 20))):
        assert np.isfinite(leaf).all()


@pytest.mark.parametrize("covariance_type", TWO_COVARIANCE_TYPES)
@pytest.mark.parametrize("name", FLAT_GROUPS)
def test_public_steps_return_positive_definite_covariances(name, covariance_type):
    """Constructors, starts and steps in a user's own loop: covariances are positive definite, symmetric and give densities."""
    x, labels, k = np.float32(FLAT_GROUPS[name][0]), np.repeat([0, 1], FLAT_GROUPS[name][1]), 2
    made = [
        jaxgmm.from_labels(x, labels, num_components=k, covariance_type=covariance_type),
        jaxgmm.from_responsibilities(x, np.eye(k)[labels], covariance_type=covariance_type),
        jaxgmm.initialize(jax.random.key(0), x, num_components=k, covariance_type=covariance_type),
    ]
    for mixture in made:
        assert is_positive_definite(mixture)
        assert_answers(mixture, x)
    mixture = made[0]
    for _ in range(4):
        mixture = m_step(mixture, e_step(mixture, x))
        assert is_positive_definite(mixture)
    prior = jaxgmm.default_prior(x, num_components=k, covariance_type=covariance_type)
    assert is_positive_definite(m_step(mixture, e_step(mixture, x), prior))
    mixture = m_step(mixture, e_step(mixture, x), reg_covar=0.0)
    assert (jaxgmm.covariance.variances(mixture.covariances, covariance_type, 2) >= 0).all()


@pytest.mark.parametrize("covariance_type", TWO_COVARIANCE_TYPES)
@pytest.mark.parametrize("distance", [1e-4, 1e-2, 1.0, 30.0])
def test_first_step_towards_equal_points(distance, covariance_type):
    """A step from a wide component to points that are equal cancels nearly everything, and stays positive definite."""
    x = np.full((9, 2), 0.12573022, np.float32)
    for variance in (1e-8, 1e-4, 1.0, 100.0):
        cov = np.broadcast_to(variance * np.eye(2), (1, 2, 2)) if covariance_type in ("full", "tied") else [[variance] * 2]
        cov = cov if covariance_type != "spherical" else [[variance]]
        mixture = jaxgmm.make_mixture([1.0], x[:1] - np.float32(distance), np.float32(cov), covariance_type=covariance_type)
        for _ in range(3):
            mixture = m_step(mixture, e_step(mixture, x))
            assert is_positive_definite(mixture), (variance, mixture.covariances)


def test_sound_groups_are_left_as_they_are(x64):
    """The floors change no sound covariance: the groups' moments are exact, and factors are those of the covariances."""
    x = np.random.default_rng(0).normal(size=(40, 2)) * [1.0, 1e-4]
    mixture = jaxgmm.from_labels(x, np.arange(40) % 2, num_components=2)
    np.testing.assert_allclose(mixture.covariances[0], np.cov(x[::2].T, ddof=0), rtol=1e-12)
    factors = rounding.positive_factors(mixture)
    np.testing.assert_array_equal(factors.lower, jaxgmm.linalg.cholesky(mixture.covariances))


@pytest.mark.parametrize("d", [2, 6])
def test_scatter_is_raised_only_where_rounding_hides_it(d, x64):
    """Near the present covariance the scatter is second - first first' / count; a collapsed one is positive definite."""
    rng = np.random.default_rng(0)
    z = rng.normal(size=(200, d))
    count, first, second = jnp.array([200.0]), jnp.asarray(z.sum(0))[None], jnp.asarray(z.T @ z)[None]
    plain = second - first[:, :, None] * first[:, None] / 200
    np.testing.assert_allclose(rounding.scatter_about_mean(count, first, second, "full"), plain, rtol=1e-14)
    flat = np.full((200, d), 3.1)
    moments = count, jnp.asarray(flat.sum(0))[None], jnp.asarray(flat.T @ flat)[None]
    raised = rounding.scatter_about_mean(*moments, "full")
    assert np.isfinite(jaxgmm.linalg.cholesky(raised)).all()
    assert float(abs(raised).max()) < 1e-12 * d * 200 * 3.1**2
    diagonal = rounding.scatter_about_mean(moments[0], moments[1], jnp.asarray((flat**2).sum(0))[None], "diag")
    assert (np.asarray(diagonal) > 0).all()


SINGULAR = {
    "diag": (jnp.array([[0.0, 1.0], [1.0, 0.0]]), "diag"),
    "spherical": (jnp.array([[0.0], [1.0]]), "spherical"),
    "full": (jnp.array([[[1.0, 2.0], [2.0, 4.0]], [[0.0, 0.0], [0.0, 0.0]]]), "full"),
    "tied": (jnp.array([[[1.0, 2.0], [2.0, 4.0]]]), "tied"),
    "all zero": (jnp.zeros((2, 2)), "diag"),
    "no covariance": (jnp.array([[[1.0, 2.0], [2.0, 1.0]], [[1.0, 0.0], [0.0, 1.0]]]), "full"),
    "negative": (jnp.array([[-1.0, 1.0], [1.0, 1.0]]), "diag"),
    "all negative": (jnp.array([[-1.0], [-1.0]]), "spherical"),
}


@pytest.mark.parametrize("name", SINGULAR)
def test_densities_of_degenerate_mixtures(name):
    """A mixture written by hand with singular covariances, or none, has a density without NaN; points go to what is nearest."""
    covariances, covariance_type = SINGULAR[name]
    mixture = jaxgmm.Mixture(jnp.array([0.5, 0.5]), jnp.array([[0.0, 0.0], [4.0, 8.0]]), covariances, covariance_type)
    x = np.float32([[0, 0], [4, 8], [1, 2], [1, -1], [1e4, 3]])
    assert_answers(mixture, x)
    if "negative" not in name and name != "no covariance":
        assert jaxgmm.predict(mixture, x)[:2].tolist() == [0, 1]
    stack = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), mixture)
    np.testing.assert_array_equal(jaxgmm.log_prob(stack, x)[1], jaxgmm.log_prob(mixture, x))
    conditional = jaxgmm.condition(mixture, 0, [1.0])
    assert not np.isnan(conditional.covariances).any()
    assert not np.isnan(conditional.means).any()


def test_a_component_on_one_point_wins_there_and_only_there():
    """A singular component has all of its own point and nothing elsewhere; values that are not finite stay NaN."""
    mixture = jaxgmm.Mixture(jnp.array([0.5, 0.5]), jnp.array([[1.0], [0.0]]), jnp.array([[0.0], [4.0]]), "diag")
    np.testing.assert_allclose(jaxgmm.responsibilities(mixture, [[1.0], [1.1]]), [[1, 0], [0, 1]], atol=1e-5)
    broken = jaxgmm.Mixture(mixture.weights, mixture.means, mixture.covariances.at[0].set(jnp.nan), "diag")
    assert np.isnan(jaxgmm.log_prob(broken, [[1.0]])).all()


@pytest.mark.parametrize("covariance_type", OTHER_TWO_COVARIANCE_TYPES)
def test_gradients_at_a_singular_covariance_are_finite(covariance_type):
    """The gradient of the log-density is finite wherever the log-density is."""
    sound = random_mixture(0, covariance_type, k=2, d=2)
    mixture = jaxgmm.Mixture(sound.weights, sound.means, sound.covariances.at[0].set(0.0), covariance_type)
    x = jnp.asarray(mixture.means[:1]) + 1e-3
    gradient = jax.grad(lambda m: jaxgmm.log_prob(m, x).sum(), allow_int=True)(mixture)
    assert np.isfinite(jaxgmm.log_prob(mixture, x)).all()
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((gradient.weights, gradient.means, gradient.covariances)))


@pytest.mark.parametrize("reg_covar", [0.0, 1e-12, 1e-6])
@pytest.mark.parametrize("covariance_type", ["full", "tied"])
def test_reg_covar_below_rounding(reg_covar, covariance_type):
    """On collinear columns a fit that converges has covariances that `make_mixture` accepts, whatever reg_covar is."""
    z = np.random.default_rng(0).normal(size=200)
    x = np.float32(np.stack([100 * z, 200 * z], 1))
    start = jaxgmm.from_labels(x, (z > 0.3).astype(int), num_components=2, covariance_type=covariance_type)
    result = jax.jit(jaxgmm.fit)(start, x, reg_covar=reg_covar)
    assert is_positive_definite(result.mixture)
    if int(result.status) == Status.CONVERGED:
        assert (result.component_status == jaxgmm.ComponentStatus.AT_FLOOR).all()
    m = result.mixture
    jaxgmm.make_mixture(m.weights, m.means, m.covariances, covariance_type=covariance_type)


GROUPS = np.arange(60) % 2
TWO = np.random.default_rng(1).normal(size=(60, 2))
# data of two groups whose objective float32 rounds in different ways
ROUNDED = {
    "sound": TWO + 6 * GROUPS[:, None],
    "far groups": TWO + 1e5 * GROUPS[:, None],
    "narrow group": TWO * np.where(GROUPS, 1.0, 1e-3)[:, None] + 300 * GROUPS[:, None],
    "flat": TWO @ [[1.0, 1.0], [0.0, 1e-3]] + 6 * GROUPS[:, None],
    "far from 0": TWO + 1e6,
    "outlier": np.concatenate([TWO[1:] + 6 * GROUPS[1:, None], [[1e8, 0.0]]]),
    "terms that cancel": 0.23 * (np.random.default_rng(2).normal(size=(60, 10)) + 3 * GROUPS[:, None]),
}


@jax.jit
def path_of_steps(start, x):
    """Return the centred problem, and each step's mixture with its objective and the two rounding errors."""
    options = loop.Options(max_iter=0, accelerate=False, chunk_size=None, history=False)
    problem = problems.prepare(start, problems.EMProblem(x, None, None, None), jnp.zeros((), x.dtype))

    def advance(state, _):
        state = loop.step(problem, state._replace(status=jnp.array(loop._RUNNING)), options)
        value = loop.evaluate(state.mixture, problem, None)
        error, _ = rounding.objective_error(state.mixture, value.factors, value.sums.count, value.objective)
        return state, (state.mixture, value.objective, error)

    return problem, jax.lax.scan(advance, loop.init(problem, options), None, length=30)[1]


@jax.jit
def objectives(mixtures, problem):
    """Return the objective at each of some mixtures."""
    return jax.lax.map(lambda mixture: loop.evaluate(mixture, problem, None).objective, mixtures)


CASES = [(name, covariance_type) for name in ROUNDED for covariance_type in ("full", "diag")]


@pytest.mark.parametrize(
    ("name", "covariance_type"),
    slow_unless(CASES, [*((name, "full") for name in ROUNDED), ("narrow group", "diag"), ("outlier", "diag")]),
)
def test_objective_error_is_that_of_float32(name, covariance_type):
    """Against float64 at the same parameters, the objective errs by little more than the bound, and falls by no more than 8."""
    x = np.float32(ROUNDED[name])
    start = jaxgmm.from_labels(x, GROUPS, num_components=2, covariance_type=covariance_type)
    problem, (mixtures, found, error) = jax.device_get(path_of_steps(start, x))
    with enabled_x64():
        widen = lambda tree: jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf, float)), tree)  # noqa: E731
        exact = np.asarray(objectives(widen(mixtures), widen(problem)))
    found = np.asarray(found, float)
    assert (abs(found - exact) <= 4 * error).all(), (abs(found - exact) / error).max()
    assert (-np.diff(found) <= loop._LARGEST_FALL * error[1:]).all(), (-np.diff(found) / error[1:]).max()
    if name in ("sound", "far from 0", "terms that cancel"):
        assert (error < 1e-6 * (abs(exact) + x.size)).all()  # the bound is not loose where nothing is flat or far
