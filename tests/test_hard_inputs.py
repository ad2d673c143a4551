"""Inputs that break mixture software.

Eager calls refuse them with what was expected, or fit and warn. Inside jit and vmap nothing raises: each data set's status says
what happened, and its parameters are finite wherever the start's are.
"""

import re
import warnings
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgmm
from jaxgmm import ComponentStatus, Status

from helpers import COVARIANCE_TYPES, TWO_COVARIANCE_TYPES, assert_mixtures_close, enabled_x64, slow_unless

N, D, K = 40, 2, 3
RNG = np.random.default_rng(0)
SOUND = RNG.normal(size=(N, D)) + np.array([[0, 0], [6, 0], [0, 6]])[np.arange(N) % K]
LINE = np.linspace(-1, 1, N)[:, None]
KEY = jax.random.key(0)


def quiet(function, *arguments, **options):
    """Return the result of a call and the text of its warnings."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = function(*arguments, **options)
    return result, " ".join(str(w.message) for w in caught)


def start_and_fit(key, x, w, covariance_type="full", **options):
    """Initialise and fit with fixed options."""
    return jaxgmm.fit(
        jaxgmm.initialize(key, x, num_components=K, covariance_type=covariance_type, sample_weight=w),
        x,
        sample_weight=w,
        tol=1e-6,
        max_iter=200,
        **options,
    )


def spoiled(value):
    """Return sound data with one entry replaced."""
    x = SOUND.copy()
    x[3, 1] = value
    return x


# what a fit must survive: name -> data (N, D), float64
SURVIVED = {
    "sound": SOUND,
    "identical points": np.full((N, D), 50.0),
    "fewer distinct points than components": np.repeat([[1.0, 2.0], [3.0, 5.0]], N // 2, axis=0),
    "constant column": np.hstack([SOUND[:, :1], np.full((N, 1), 7.0)]),
    "constant at 0.1": np.hstack([SOUND[:, :1], np.full((N, 1), 0.1)]),
    "collinear columns": np.hstack([LINE, 3 * LINE + 1]),
    "offset 1e6": SOUND + 1e6,
    "offset 1e8": SOUND + 1e8,
    "scale 1e-3": SOUND * 1e-3,
    "scale 1e-12": SOUND * 1e-12,
    "scale 1e12": SOUND * 1e12,
    "scale 1e140": SOUND * 1e140,
    "units 1e-6 and 1e6": SOUND * [1e-6, 1e6],
    "outlier 1e8": spoiled(1e8),
    "far-apart components": SOUND + 1e5 * np.array([[0, 0], [1, 0], [0, 1]])[np.arange(N) % K],
    "two values a column": (SOUND > 1).astype(float),
}
SPOILT = {
    "NaN": (spoiled(np.nan), Status.NONFINITE),
    "infinity": (spoiled(np.inf), Status.NONFINITE),
    "squares overflow": (SOUND * 1e200, Status.NONFINITE),
    "outlier 1e160": (spoiled(1e160), Status.NONFINITE),
    "all padding": (np.full((N, D), np.nan), Status.EMPTY_DATA),
}


@pytest.mark.parametrize("covariance_type", TWO_COVARIANCE_TYPES)
def test_batch(covariance_type, x64):
    """Under jit and vmap every fit is finite, and sound data in any unit converge; other statuses say what is wrong.

    Scale and offset change only the units of the result.
    """
    names = [*SURVIVED, *SPOILT]
    xs = np.stack([*SURVIVED.values(), *(x for x, _ in SPOILT.values())])
    weights = np.ones((len(xs), N))
    weights[names.index("all padding")] = 0
    fits = jax.jit(jax.vmap(partial(start_and_fit, KEY, covariance_type=covariance_type)))(xs, weights)
    status = dict(zip(names, (Status(int(s)) for s in fits.status), strict=True))
    found = {name: fits.mixture[i] for i, name in enumerate(names)}
    for i, name in enumerate(names):
        if name in SPOILT:
            assert status[name] == SPOILT[name][1], (name, status[name])
        else:
            assert status[name] == Status.CONVERGED, (name, status[name])
            assert np.isfinite([fits.log_likelihood[i], fits.objective[i]]).all(), name
            assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(found[name])), name
            assert (np.asarray(jaxgmm.covariance.variances(found[name].covariances, covariance_type, D)) > 0).all(), name
    for name, shift, scale, tolerance in [
        ("offset 1e6", 1e6, 1, 1e-7),
        ("offset 1e8", 1e8, 1, 1e-5),
        ("scale 1e-3", 0, 1e-3, 1e-8),
        ("scale 1e-12", 0, 1e-12, 1e-8),
        ("scale 1e12", 0, 1e12, 1e-8),
        ("scale 1e140", 0, 1e140, 1e-8),
    ]:
        back = jaxgmm.Mixture(
            found[name].weights, (found[name].means - shift) / scale, found[name].covariances / scale / scale, covariance_type
        )
        assert_mixtures_close(back, found["sound"], tolerance)
    if covariance_type in ("full", "diag"):
        mixed = found["units 1e-6 and 1e6"]
        units = np.array([1e-6, 1e6])
        square = np.outer(units, units) if covariance_type == "full" else units**2
        assert_mixtures_close(
            jaxgmm.Mixture(mixed.weights, mixed.means / units, mixed.covariances / square, covariance_type),
            found["sound"],
            1e-8,
        )
    if covariance_type == "full":
        r = np.asarray(jaxgmm.responsibilities(found["far-apart components"], SURVIVED["far-apart components"]))
        assert ((r == 0) | (r == 1)).all(), "nothing is shared over 1e5 sds"
    same = found["identical points"]
    assert np.allclose(same.means[same.weights > 0], 50), "no mean is invented"
    assert int((found["fewer distinct points than components"].weights > 1e-6).sum()) <= 2 or covariance_type == "tied"


def start_of(k):
    return jaxgmm.make_mixture(np.full(k, 1 / k), SOUND[:k], np.ones((k, D)), covariance_type="diag")


REFUSED = {
    "1 NaN": (lambda: start_and_fit(KEY, spoiled(np.nan), None), ValueError, "NaN in 1 of 40 rows"),
    "2 infinity": (lambda: start_and_fit(KEY, spoiled(-np.inf), None), ValueError, "infinity in 1 of 40 rows"),
    "3 no rows": (lambda: start_and_fit(KEY, SOUND[:0], None), ValueError, "0 rows; at least 3 were expected"),
    "4 no columns": (lambda: start_and_fit(KEY, SOUND[:, :0], None), ValueError, "at least one column"),
    "5 one row": (lambda: jaxgmm.fit(jaxgmm.make_mixture([1.0], [[0.0]], [[[1.0]]]), [[3.0]]), ValueError, "one row"),
    "6 N < K": (lambda: start_and_fit(KEY, SOUND[:2], None), ValueError, "2 rows; at least 3"),
    "19 scale 1e-30 in float32": (lambda: start_and_fit(KEY, SOUND * 1e-30, None), ValueError, "squares vanish.*rescale"),
    "21 scale 1e25 in float32": (lambda: start_and_fit(KEY, SOUND * 1e25, None), ValueError, "squares overflow.*rescale"),
    "22 subnormal": (lambda: start_and_fit(KEY, SOUND * 1e-42, None), ValueError, "rescale"),
    "33 K=0": (lambda: jaxgmm.initialize(KEY, SOUND, num_components=0), ValueError, "integer >= 1"),
    "34 K=True": (lambda: jaxgmm.initialize(KEY, SOUND, num_components=True), TypeError, "integer >= 1"),
    "37 negative weight": (
        lambda: jaxgmm.make_mixture([-0.5, 1.5], [[0.0], [1.0]], [[1.0]] * 2, covariance_type="diag"),
        ValueError,
        "-0.5",
    ),
    "38 weights of 1.8": (
        lambda: jaxgmm.make_mixture([0.8, 1.0], [[0.0], [1.0]], [[1.0]] * 2, covariance_type="diag"),
        ValueError,
        "1.8",
    ),
    "39 not positive definite": (
        lambda: jaxgmm.make_mixture([1.0], [[0.0, 0]], [[[1.0, 2], [2, 1]]]),
        ValueError,
        "positive definite",
    ),
    "40 negative sample_weight": (lambda: start_and_fit(KEY, SOUND, -np.ones(N)), ValueError, ">= 0 were expected"),
    "41 integers beyond float32": (lambda: start_and_fit(KEY, np.full((N, D), 2**40), None), ValueError, "2\\*\\*24"),
    "42 booleans": (lambda: start_and_fit(KEY, SOUND > 0, None), TypeError, "booleans"),
    "43 strings": (lambda: start_and_fit(KEY, SOUND.astype(str), None), TypeError, "strings"),
    "44 ragged": (lambda: start_and_fit(KEY, [[1.0, 2.0], [3.0]], None), ValueError, "jaxgmm.pad"),
    "47 masked": (lambda: start_and_fit(KEY, np.ma.masked_array(SOUND, SOUND > 1), None), TypeError, "mask would be lost"),
    "48 one dimension": (lambda: start_and_fit(KEY, SOUND[:, 0], None), ValueError, "reshape"),
    "49 three dimensions": (lambda: start_and_fit(KEY, SOUND[None], None), ValueError, "fit_many"),
    "52 complex": (lambda: start_and_fit(KEY, SOUND + 0j, None), TypeError, "complex"),
    "53 dates": (lambda: start_and_fit(KEY, np.full((N, D), np.datetime64("2020-01-01")), None), TypeError, "dates"),
    "55 K by position": (lambda: jaxgmm.initialize(KEY, SOUND, 2), TypeError, "num_components=2"),
    "56 data for a start": (lambda: jaxgmm.fit(SOUND, num_components=2), TypeError, "the start decides it"),
    "57 another library's name": (lambda: jaxgmm.fit_restarts(KEY, SOUND, n_components=2), TypeError, "called num_components"),
    "58 traced K": (
        lambda: jax.jit(lambda k: jaxgmm.initialize(KEY, SOUND, num_components=k))(2),
        TypeError,
        "static_argnames='num_components'",
    ),
    "59 a stack for one mixture": (
        lambda: jaxgmm.e_step(jax.tree.map(lambda leaf: leaf[None], start_of(K)), SOUND),
        ValueError,
        r"take one, as mixture\[0\], or use jax.vmap",
    ),
    "60 a prior for another K": (
        lambda: jaxgmm.fit(start_of(K), SOUND, jaxgmm.default_prior(SOUND, num_components=2)),
        ValueError,
        "prior is for K=2 components, the mixture has K=3",
    ),
    "61 no observation left": (
        lambda: quiet(jaxgmm.bootstrap, KEY, start_of(K), SOUND, sample_weight=np.full(N, 1e-3)),
        ValueError,
        "weights count observations",
    ),
    "54 beyond float32": (lambda: start_and_fit(KEY, spoiled(1e300), None), ValueError, "beyond float32"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case):
    """Eager calls raise with what was expected, before anything is computed."""
    call, error, words = REFUSED[case]
    with pytest.raises(error) as caught:
        call()
    assert re.search(words, str(caught.value)), str(caught.value)


def test_eager(x64, tmp_path):
    """Eager float64 calls fit and warn with words that name the problem; a sound fit does not warn."""
    fit = partial(quiet, start_and_fit, KEY, w=np.ones(N))
    result, said = fit(SOUND)
    assert bool(result.converged)
    assert said == ""
    for name, words in [
        ("constant column", "constant in column 1"),
        ("constant at 0.1", "constant in column 1"),
        ("identical points", "constant in column 0, 1"),
        ("outlier 1e8", "Component"),
    ]:
        result, said = fit(SURVIVED[name])
        assert re.search(words, said), (name, said)
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(result.mixture)), name
    assert "degenerate" not in fit(SURVIVED["constant at 0.1"])[1], "the column is to blame, no component"
    alone = int(np.argmin(fit(SURVIVED["outlier 1e8"])[0].mixture.weights))
    assert int(fit(SURVIVED["outlier 1e8"])[0].component_status[alone]) in (
        ComponentStatus.AT_FLOOR,
        ComponentStatus.FEW_POINTS,
    )
    on_disk = np.memmap(tmp_path / "x", dtype=float, mode="w+", shape=SOUND.shape)
    on_disk[:] = SOUND
    layouts = [
        on_disk,
        np.asfortranarray(SOUND),
        np.repeat(SOUND, 2, axis=0)[::2],
        SOUND.astype(">f8"),
        SOUND.tolist(),
        SOUND.astype(object),
    ]
    base = fit(SOUND)[0]
    for same in layouts:
        for a, b in zip(jax.tree.leaves(fit(same)[0]), jax.tree.leaves(base), strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("kind", "dtype"),
    [
        ("full", np.float32),
        pytest.param("tied", np.float64, marks=pytest.mark.slow),
        pytest.param("full", np.float64, marks=pytest.mark.slow),
        pytest.param("tied", np.float32, marks=pytest.mark.slow),
    ],
)
def test_collinear_columns_are_named(kind, dtype, x64):
    """Columns that determine one another are named, and no component is called degenerate for them."""
    shares = RNG.dirichlet([2.0, 3.0, 4.0], size=N).astype(dtype)
    doubled = np.column_stack([SOUND, 5 * SOUND[:, 0] - 2]).astype(dtype)
    for x, words in [(shares, "Columns 0, 1, 2 of x sum to a constant"), (doubled, "Columns 0, 2 of x are collinear")]:
        begin = jaxgmm.from_labels(x, np.arange(N) % 2, num_components=2, covariance_type=kind)
        for options in ({}, {"reg_covar": 0.0}):
            _, said = quiet(jaxgmm.fit, begin, x, tol=1e-6, max_iter=200, **options)
            assert words in said, (said, options)
            assert "degenerate" not in said


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", ["full", "tied"])
def test_collinear_columns_are_named_by_searches(kind, dtype, x64):
    """The best of several fits causes the warning of a single fit."""
    shares = RNG.dirichlet([2.0, 3.0, 4.0], size=N).astype(dtype)
    _, said = quiet(jaxgmm.fit_restarts, KEY, shares, num_components=2, covariance_type=kind, num_restarts=1)
    assert "sum to a constant" in said
    _, said = quiet(jaxgmm.select, KEY, shares, num_components=[2], covariance_types=[kind], num_restarts=1, max_iter=50)
    assert ("sum to a constant" in said) == (kind == "full"), "a tied covariance belongs to no component, so none is a spike"


COUNTS = np.where(np.arange(N) < 20, 1.0, 3.0)
# functions that take weights
OF_WEIGHTS = {
    "fit": lambda w: jaxgmm.fit(start_of(K), SOUND, sample_weight=w),
    "fit under a prior": lambda w: jaxgmm.fit(
        start_of(K), SOUND, jaxgmm.default_prior(SOUND, num_components=K, covariance_type="diag"), sample_weight=w
    ),
    "standard_errors": lambda w: jaxgmm.standard_errors(
        jaxgmm.fit(start_of(K), SOUND, sample_weight=COUNTS), SOUND, sample_weight=w
    ),
    "bic": lambda w: jaxgmm.bic(start_of(K), SOUND, sample_weight=w),
    "aic": lambda w: jaxgmm.aic(start_of(K), SOUND, sample_weight=w),
    "icl": lambda w: jaxgmm.icl(start_of(K), SOUND, sample_weight=w),
}
# the same, but compile for long
SEARCHES_OF_WEIGHTS = {
    "fit_restarts": lambda w: jaxgmm.fit_restarts(KEY, SOUND, num_components=2, num_restarts=1, sample_weight=w),
    "select": lambda w: jaxgmm.select(
        KEY, SOUND, num_components=[1], covariance_types=["diag"], num_restarts=1, sample_weight=w
    ),
}


@pytest.mark.parametrize("name", slow_unless(OF_WEIGHTS | SEARCHES_OF_WEIGHTS, OF_WEIGHTS))
def test_weights_that_do_not_count_observations(name, x64):
    """Normalised weights are named, with what to multiply them by; weights that count are silent."""
    call = (OF_WEIGHTS | SEARCHES_OF_WEIGHTS)[name]
    assert "count observations" not in quiet(call, COUNTS)[1]
    for scale in (1 / N, 1e-12):
        said = quiet(call, COUNTS * scale * N / COUNTS.sum())[1]
        assert "weights count observations: multiply them by" in said
        assert "to count the effective number of observations, 32.0," in said
        assert said.count("multiply them") == 1
        assert "fewer observations" not in said
        assert "degenerate" not in said


# calls of fit_many with starts and two data sets without rows
WITHOUT_ROWS = {
    "a list": lambda starts, none, zero: jaxgmm.fit_many(starts, [none, none]),
    "a list with weights": lambda starts, none, zero: jaxgmm.fit_many(starts, [none, none], sample_weight=[zero[0], zero[0]]),
    "a list and a key": lambda starts, none, zero: jaxgmm.fit_many(KEY, [none, none], num_components=K),
    "a stack": lambda starts, none, zero: jaxgmm.fit_many(starts, np.zeros((2, 0, D))),
    "a stack and a key": lambda starts, none, zero: jaxgmm.fit_many(KEY, np.zeros((2, 0, D)), num_components=K),
    "a stack of JAX": lambda starts, none, zero: jaxgmm.fit_many(starts, jnp.zeros((2, 0, D)), sample_weight=zero),
    "one that all share": lambda starts, none, zero: jaxgmm.fit_many(starts, none),
    "one with weights": lambda starts, none, zero: jaxgmm.fit_many(starts, none, sample_weight=zero),
}


@pytest.mark.parametrize("form", slow_unless(WITHOUT_ROWS, ("a list", "a stack of JAX")))
def test_data_sets_without_rows(form):
    """They are EMPTY_DATA in every form that fit_many takes."""
    starts = jax.tree.map(lambda leaf: np.stack([leaf] * 2), start_of(K))
    found = WITHOUT_ROWS[form](starts, SOUND[:0], np.zeros((2, 0)))
    assert found.status.tolist() == [Status.EMPTY_DATA] * 2


def test_a_data_set_without_rows_beside_another():
    """It changes no other fit, and `pad` gives it one row of weight 0."""
    starts, none = jax.tree.map(lambda leaf: np.stack([leaf] * 2), start_of(K)), SOUND[:0]
    mixed = jaxgmm.fit_many(starts, [none, SOUND], tol=1e-6)
    assert mixed.status.tolist() == [Status.EMPTY_DATA, Status.CONVERGED]
    padded, weight = jaxgmm.pad([none, none])
    assert padded.shape == (2, 1, D)
    assert not weight.any()


def start(weights, means, variance=1.0):
    """Return a start with equal spherical covariances."""
    return jaxgmm.make_mixture(weights, means, np.tile(variance * np.eye(D), (K, 1, 1)))


def test_hard_starts(x64):
    """Empty, absent, identical and collapsing components keep their place and are reported."""
    fit = partial(jaxgmm.fit, x=SOUND + 50, sample_weight=np.ones(N), tol=1e-6, max_iter=200)
    third = np.full(K, 1 / K)
    empty, _ = quiet(fit, start(third, [[50.0, 50], [56, 50], [1e6, -1e6]]))
    assert empty.component_status.tolist()[2] == ComponentStatus.EMPTY
    assert float(empty.mixture.weights[2]) == 0
    np.testing.assert_allclose(empty.mixture.means[2], [1e6, -1e6])
    absent, _ = quiet(fit, start([0.5, 0.5, 0], [[50.0, 50], [56, 50], [50, 56]]))
    assert float(absent.mixture.weights[2]) == 0
    assert bool(absent.converged)
    np.testing.assert_allclose(absent.mixture.means[2], [50, 56])
    assert float(absent.log_likelihood) == pytest.approx(float(empty.log_likelihood), rel=1e-6)
    same, said = quiet(fit, start(third, [[50.0, 50]] * 3))
    assert "all the same" in said
    np.testing.assert_allclose(same.mixture.means, np.tile((SOUND + 50).mean(0), (K, 1)), rtol=1e-8)
    far = quiet(fit, start(third, [[0.0, 0], [1e3, 0], [0, 1e3]]))[0]
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(far.mixture))


def test_collapse(x64):
    """With a component on one point, plain ML ends as SINGULAR at its last finite state; the default holds it at the floor."""
    x = np.concatenate([SOUND[:-1], [[30.0, 30.0]]])
    begin = start([0.45, 0.45, 0.1], [[0.0, 0], [4, 4], [30, 30]], 0.5)
    plain, said = quiet(jaxgmm.fit, begin, x, sample_weight=np.ones(N), tol=1e-6, max_iter=200, reg_covar=0.0)
    assert Status(int(plain.status)) == Status.SINGULAR
    assert "singular" in said
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((plain.mixture, plain.log_likelihood, plain.objective)))
    floor, _ = quiet(jaxgmm.fit, begin, x, sample_weight=np.ones(N), tol=1e-6, max_iter=200)
    assert bool(floor.converged)
    assert int(floor.component_status[2]) in (ComponentStatus.AT_FLOOR, ComponentStatus.FEW_POINTS)


def test_few_rows(x64):
    """N = K, D > N, and one row under a prior give finite fits, with a warning that says what is undetermined."""

    def begin(means):
        return jaxgmm.make_mixture(np.full(len(means), 1 / len(means)), means, np.ones_like(means), covariance_type="diag")

    spikes, said = quiet(jaxgmm.fit, begin(SOUND[:K]), SOUND[:K])
    assert "Component" in said
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(spikes.mixture))
    wide = RNG.normal(size=(5, 8))
    few, said = quiet(jaxgmm.fit, begin(wide[:2]), wide)
    assert "features" not in said, "two rows determine variances"
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(few.mixture))
    one = np.array([[3.0, 4.0]])
    single, _ = quiet(
        jaxgmm.fit, jaxgmm.make_mixture([1.0], [[0.0, 0.0]], [np.eye(2)]), one, jaxgmm.default_prior(one, num_components=1)
    )
    assert bool(single.converged)
    np.testing.assert_allclose(single.mixture.means[0], [3, 4])


@pytest.mark.parametrize(("kind", "rows"), slow_unless([("full", 9), ("tied", 10)], [("tied", 10)]))
def test_more_features_than_rows(kind, rows, x64):
    """The warning says how many rows the covariances need, and what else to do."""
    wide = RNG.normal(size=(5, 8))
    begin = jaxgmm.from_labels(wide, np.arange(5) % 2, num_components=2, covariance_type=kind)
    dense, said = quiet(jaxgmm.fit, begin, wide)
    assert f"8 features and 5 rows, and '{kind}' covariances of 2 components need at least {rows} rows" in said
    assert "'diag' or 'spherical', or a prior" in said
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(dense.mixture))


@pytest.mark.parametrize("offset", [0.0, 2.0**20])
def test_nearly_singular_component(offset, x64):
    """At a condition number of 4e8 the log-density is exact to 1e-7, also a million sds from the origin."""
    s = 1 - 5e-9
    matrix = np.array([[1.0, s], [s, 1.0]])
    point = np.array([0.25, 0.25 + 2.0**-17])  # exact in binary at both places
    u, v = (point[0] + point[1]) / np.sqrt(2), (point[0] - point[1]) / np.sqrt(2)
    expected = -0.5 * (u**2 / (1 + s) + v**2 / (1 - s)) - 0.5 * np.log((1 + s) * (1 - s)) - np.log(2 * np.pi)
    mixture = jaxgmm.make_mixture([1.0], [[offset, offset]], [matrix])
    np.testing.assert_allclose(jaxgmm.log_prob(mixture, point[None] + offset)[0], expected, rtol=1e-7)


def test_matrix_products_are_at_highest_precision():
    """Every matrix product of the E-step, the M-step and the density asks for the highest precision: TF32 errs by 1e-3."""
    mixture = jaxgmm.make_mixture([0.5, 0.5], np.zeros((2, 6)), np.tile(np.eye(6), (2, 1, 1)))

    def step(mixture, x):
        return jaxgmm.m_step(mixture, jaxgmm.e_step(mixture, x)), jaxgmm.log_prob(mixture, x)

    def products(jaxpr):
        for equation in jaxpr.eqns:
            if equation.primitive.name == "dot_general":
                yield equation
            for inner in jax.tree.leaves(
                list(equation.params.values()), is_leaf=lambda v: hasattr(v, "jaxpr") or hasattr(v, "eqns")
            ):
                if hasattr(inner, "jaxpr") or hasattr(inner, "eqns"):
                    yield from products(getattr(inner, "jaxpr", inner))

    found = list(products(jax.make_jaxpr(step)(mixture, jnp.zeros((20, 6))).jaxpr))
    assert found
    highest = jax.lax.Precision.HIGHEST
    for equation in found:
        assert equation.params["precision"] in (highest, (highest, highest)), equation


def test_empty_under_a_prior(x64):
    """A component that loses its data under a prior takes the prior's mode, is EMPTY, and the fit goes on to its end."""
    x = SOUND + 50
    begin = start(np.full(K, 1 / K), [[50.0, 50], [56, 50], [1e6, -1e6]])
    result = jaxgmm.fit(begin, x, jaxgmm.default_prior(x, num_components=K), tol=1e-8, max_iter=200)
    assert bool(result.converged)
    assert int(result.num_iter) > 1
    assert result.component_status.tolist()[2] == ComponentStatus.EMPTY
    assert not (np.diff(result.history) < -1e-10 * abs(float(result.objective))).any()


def test_invalid_traced_weights(x64):
    """One invalid weight inside jit gives NONFINITE rather than EMPTY_DATA, and returns the start."""
    begin = start(np.full(K, 1 / K), SOUND[:K])
    fit = jax.jit(lambda w: jaxgmm.fit(begin, SOUND, sample_weight=w))
    for value in (np.nan, np.inf, -1.0):
        result = fit(np.where(np.arange(N) == 3, value, 1.0))
        assert Status(int(result.status)) == Status.NONFINITE, value
        assert_mixtures_close(result.mixture, begin, 1e-14)


def test_one_row_with_reg_covar(x64):
    """One row is enough with reg_covar, which then is the covariance."""
    result, said = quiet(jaxgmm.fit, jaxgmm.make_mixture([1.0], [[0.0, 0]], [np.eye(2)]), SOUND[:1], reg_covar=1e-6)
    np.testing.assert_allclose(result.mixture.covariances[0], 1e-6 * np.eye(2))
    assert "Component" in said


def test_far_offset_in_float32_causes_a_warning():
    """Data more than 1e5 sds from the origin, where float32 holds only a few values per sd, cause a warning."""
    x = (SOUND + 1e7).astype(np.float32)
    assert "float64" in quiet(jaxgmm.fit, jaxgmm.from_labels(x, np.arange(N) % K, num_components=K), x)[1]


def censored(rng, repeats):
    """Return one feature with a group of equal values at a detector limit, far from two broad groups."""
    groups = [rng.normal(1, 0.4, 600), np.clip(rng.normal(40, 15, 300), 5, None), np.full(repeats, 262.0)]
    return np.concatenate(groups)[:, None]


@pytest.mark.parametrize("covariance_type", ["full", "diag"])
@pytest.mark.parametrize("repeats", [30, 3000])
@pytest.mark.parametrize("variance", [500.0, 2000.0, 50_000.0])
def test_equal_values_in_float32_are_at_the_floor(variance, repeats, covariance_type):
    """A group of equal values far from the others is AT_FLOOR in float32 as in float64, and the fit converges."""
    x = censored(np.random.default_rng(0), repeats)
    covariances = np.array([1.0, 200.0, variance]).reshape(3, *[1] * (2 if covariance_type == "full" else 1))
    begin = jaxgmm.make_mixture([0.6, 0.3, 0.1], [[1.0], [40.0], [230.0]], covariances, covariance_type=covariance_type)
    single, said = quiet(jaxgmm.fit, begin, x)
    with enabled_x64():
        wide = jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf, float)), begin)
        double, _ = quiet(jaxgmm.fit, wide, x)
    assert Status(int(single.status)) == Status(int(double.status)) == Status.CONVERGED, said
    assert single.component_status.tolist() == double.component_status.tolist() == [0, 0, ComponentStatus.AT_FLOOR]
    assert_mixtures_close(single.mixture, double.mixture, 2e-3)


@pytest.mark.parametrize("covariance_type", slow_unless(COVARIANCE_TYPES, ("full",)))
def test_a_fall_is_reported_at_any_tol(covariance_type):
    """In float32 with an outlier at 1e8 the history falls by rounding only, or the status is DECREASED, at tol=0 too."""
    x = spoiled(1e8).astype(np.float32)
    run = jax.jit(partial(jaxgmm.fit, tol=0.0, max_iter=60))
    for seed in range(4):
        begin = jaxgmm.initialize(jax.random.key(seed), x, num_components=2, covariance_type=covariance_type)
        result = run(begin, x)
        assert float(result.objective) == float(result.history[-1])
        fall = (np.maximum.accumulate(result.history) - result.history).max() / abs(float(result.objective))
        assert fall < 1e-4 or int(result.status) == Status.DECREASED


@pytest.mark.slow
def test_selection_in_float32_is_that_in_float64():
    """Where a group of equal values lies far from two broad groups, every cell of a sweep ends alike in both float types.

    By default, `test_equal_values_in_float32_are_at_the_floor` compares single fits of such data.

    With k-means++ alone, few starts find two components with an objective of -2747.29 or more.
    """
    x = censored(np.random.default_rng(0), 30)
    sweep = partial(jaxgmm.select, KEY, num_components=[1, 2, 3], covariance_types=["full"])
    single, _ = quiet(sweep, x.astype(np.float32))
    with enabled_x64():
        double, _ = quiet(sweep, x)
    for name, cell in single.cells.items():
        other = double.cells[name]
        assert (cell.status, cell.spike, cell.sound) == (other.status, other.spike, other.sound), name
        np.testing.assert_allclose(cell.criterion, other.criterion, rtol=1e-4)
    assert min(float(swept.cells["full", 2].fit.objective) for swept in (single, double)) > -2747.34
    assert single.cells["full", 3].status == Status.CONVERGED
    assert single.best.num_components == double.best.num_components


@pytest.mark.parametrize("covariance_type", slow_unless(("full", "tied"), ("full",)))
def test_flat_components_far_from_0_cause_a_warning(covariance_type):
    """A direction with few floats per sd is found though each column is sound, where the means' rounding loses likelihood."""
    z = np.random.default_rng(0).normal(size=(40, 2))
    x = np.stack([1e3 * z[:, 0] + 1e6, 1e3 * z[:, 0] + z[:, 1] - 1e6], 1)
    labels, said = np.arange(N) % 2, {}
    for shift in (0, [1e6, -1e6]):
        moved = (x - shift).astype(np.float32)
        begin = jaxgmm.from_labels(moved, labels, num_components=2, covariance_type=covariance_type)
        said[bool(shift)] = quiet(jaxgmm.fit, begin, moved)[1]
    assert "so flat, in some direction, at their distance from 0" in said[False]
    assert "distance from 0" not in said[True]
    with enabled_x64():
        begin = jaxgmm.from_labels(x, labels, num_components=2, covariance_type=covariance_type)
        assert not quiet(jaxgmm.fit, begin, x)[1]


@pytest.mark.parametrize("covariance_type", TWO_COVARIANCE_TYPES)
@pytest.mark.parametrize("size", [1e-13, 2e-15])
def test_tiny_units_in_float32(size, covariance_type):
    """Constant, tied and sound columns near the smallest sizes that float32 allows are fitted, with no variance of 0."""
    sound = SOUND[:, :1] / abs(SOUND[:, 0]).max()
    columns = [np.hstack([sound, np.ones((N, 1))]), np.ones((N, 2)), np.hstack([sound, np.arange(N)[:, None] % 3])]
    for column in columns:
        x = (size * column).astype(np.float32)
        begin = jaxgmm.initialize(KEY, x, num_components=2, covariance_type=covariance_type)
        result, _ = quiet(jaxgmm.fit, begin, x)
        assert bool(result.converged)
        for mixture in (begin, result.mixture):
            assert np.isfinite(jaxgmm.density.positive_factors(mixture).half_log_det).all()
            assert (jaxgmm.covariance.variances(mixture.covariances, covariance_type, D) > 0).all()
