"""Validation of user input: invalid data, weights, priors and options get a sentence, the same from every function."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgmm
from jaxgmm import validation

from helpers import random_data, random_mixture, random_prior

X = random_data(0, n=12, d=2)
START = random_mixture(0, "full", k=2, d=2)


class Sparse:
    """Looks like a scipy.sparse matrix."""

    nnz, shape = 3, (12, 2)

    def toarray(self):
        return X


def spoiled(value, dtype=float):
    x = X.astype(dtype)
    x[3, 1] = value
    return x


BAD_DATA = {
    "NaN": (spoiled(np.nan), ValueError, "contains NaN in 1 of 12 rows"),
    "infinity": (spoiled(np.inf), ValueError, "contains infinity in 1 of 12 rows"),
    "None": (spoiled(None, object), ValueError, "contains NaN in 1 of 12 rows"),
    "no rows": (X[:0], ValueError, "rows"),
    "no columns": (X[:, :0], ValueError, "at least one column was expected"),
    "one dimension": (X[:, 0], ValueError, r"reshape\(-1, 1\)"),
    "three dimensions": (X[None], ValueError, "jax.vmap or jaxgmm.fit_many"),
    "strings": (X.astype(str), TypeError, "holds strings; real numbers were expected"),
    "bytes": (X.astype("S8"), TypeError, "byte strings"),
    "list of strings": ([["1", "2"], ["3", "4"]], TypeError, "strings"),
    "objects": (np.array([[object()] * 2] * 12), TypeError, "Python objects"),
    "dates": (np.full((12, 2), np.datetime64("2020-01-01")), TypeError, "dates"),
    "time differences": (np.full((12, 2), np.timedelta64(3, "s")), TypeError, "time differences"),
    "booleans": (X > 0, TypeError, "booleans"),
    "complex": (X + 1j, TypeError, "complex"),
    "masked": (np.ma.masked_array(X, X > 1), TypeError, "masked array"),
    "sparse": (Sparse(), TypeError, "toarray"),
    "ragged": ([[1.0, 2.0], [3.0]], ValueError, "ragged"),
    "a key": (jax.random.key(0), TypeError, "random key"),
    "integers beyond float32": (np.full((12, 2), 2**40), ValueError, r"limit 2\*\*24"),
    "floats beyond float32": (spoiled(1e300), ValueError, "beyond float32"),
}

FUNCTIONS = {
    "fit": lambda x: jaxgmm.fit(START, x),
    "initialize": lambda x: jaxgmm.initialize(jax.random.key(0), x, num_components=2),
    "from_labels": lambda x: jaxgmm.from_labels(x, np.zeros(12, int), num_components=2),
    "from_responsibilities": lambda x: jaxgmm.from_responsibilities(x, np.full((12, 2), 0.5)),
    "default_prior": lambda x: jaxgmm.default_prior(x, num_components=2),
    "log_prob": lambda x: jaxgmm.log_prob(START, x),
    "responsibilities": lambda x: jaxgmm.responsibilities(START, x),
    "predict": lambda x: jaxgmm.predict(START, x),
    "e_step": lambda x: jaxgmm.e_step(START, x),
}


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("case", BAD_DATA)
def test_invalid_data(case, function):
    """Every function that takes data checks NumPy-like input before JAX converts it."""
    value, error, words = BAD_DATA[case]
    if case == "no rows" and function in ("log_prob", "responsibilities", "predict", "e_step"):
        return  # no points have no densities, which is valid
    with pytest.raises(error, match=words):
        FUNCTIONS[function](value)


@pytest.mark.parametrize("function", ["fit", "initialize", "from_labels", "from_responsibilities", "default_prior"])
def test_concrete_jax_arrays_are_checked(function):
    """Where a NaN would make an estimate NaN, the values of concrete JAX arrays are checked too, and their magnitude."""
    for value, words in [(np.nan, "NaN"), (np.inf, "infinity"), (1e25, "squares overflow")]:
        with pytest.raises(ValueError, match=words):
            FUNCTIONS[function](jnp.asarray(X, jnp.float32).at[3, 1].set(value))
    with pytest.raises(ValueError, match="squares vanish"):
        FUNCTIONS[function](jnp.asarray(X, jnp.float32) * 1e-25)


def test_wrong_width():
    """Data with another number of columns than the mixture has features are refused."""
    for function in ("fit", "log_prob", "responsibilities", "predict", "e_step"):
        with pytest.raises(ValueError, match="3 features"):
            FUNCTIONS[function](np.zeros((12, 3)))


def test_valid_data_of_every_kind():
    """Lists, integers, half precision, Fortran order, strides, big endian and read-only arrays give the same numbers."""
    whole = np.round(4 * X)
    kinds = [
        whole.tolist(),
        whole.astype(int),
        whole.astype(np.int8),
        whole.astype(np.float16),
        np.asfortranarray(whole),
        np.repeat(whole, 2, axis=0)[::2],
        whole.astype(">f8"),
        whole.astype(object),
        jnp.asarray(whole, jnp.bfloat16),
        whole.astype(np.longdouble),
    ]
    frozen = whole.copy()
    frozen.setflags(write=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for value in [*kinds, frozen]:
            array = validation.as_data(value, check_values=True)
            assert array.dtype == jnp.float32
            np.testing.assert_array_equal(array, whole.astype(np.float32))


def test_data_frames():
    """Anything with columns and to_numpy is a data frame, as those of pandas and polars; missing values become NaN."""

    class Frame:
        columns = ("a", "b")

        def __init__(self, values):
            self.values = values

        def to_numpy(self):
            return self.values

    np.testing.assert_array_equal(validation.as_data(Frame(X)), X.astype(np.float32))
    with pytest.raises(ValueError, match="NaN"):
        validation.as_data(Frame(spoiled(None, object)))


def test_dtypes(x64):
    """With float64 enabled, float32 and float64 are kept, and integers up to 2**53 are exact."""
    assert validation.as_data(X).dtype == jnp.float64
    assert validation.as_data(X.astype(np.float32)).dtype == jnp.float32
    assert float(validation.as_data([[2**40, 1]])[0, 0]) == 2**40


def test_lists_of_tracers():
    """A list that holds traced numbers is converted to an array."""
    value = jax.jit(lambda a: jaxgmm.log_prob(START, [[a, 0.0], [0.0, a]]))(1.0)
    np.testing.assert_allclose(value, jaxgmm.log_prob(START, [[1.0, 0.0], [0.0, 1.0]]), rtol=1e-5)


def test_traced_values_are_not_checked():
    """Inside jit no value is refused: the result is NaN or has a status."""
    value = jax.jit(lambda x: jaxgmm.log_prob(START, x))(jnp.asarray(spoiled(np.nan)))
    assert np.isnan(value[3])
    assert np.isfinite(np.delete(value, 3)).all()


@pytest.mark.parametrize(
    ("value", "error"),
    [
        (0, ValueError),
        (-1, ValueError),
        (2.0, TypeError),
        (True, TypeError),
        (None, TypeError),
        ("2", TypeError),
        (np.True_, TypeError),
    ],
)
def test_number_of_components(value, error):
    """K is a positive integer; True and 2.0 are refused."""
    for function in (
        lambda: jaxgmm.initialize(jax.random.key(0), X, num_components=value),
        lambda: jaxgmm.default_prior(X, num_components=value),
        lambda: jaxgmm.from_labels(X, np.zeros(12, int), num_components=value),
    ):
        with pytest.raises(error, match=r"num_components is .*an integer >= 1 was expected"):
            function()


STATIC = {
    "num_components": lambda k: jaxgmm.default_prior(X, num_components=k),
    "num_samples": lambda n: jaxgmm.sample(jax.random.key(0), START, n),
    "max_iter": lambda n: jaxgmm.fit(START, X, max_iter=n),
    "chunk_size": lambda n: jaxgmm.e_step(START, X, chunk_size=n),
    "accelerate": lambda n: jaxgmm.fit(START, X, accelerate=n > 1),
    "num_restarts": lambda n: jaxgmm.fit_restarts(jax.random.key(0), X, num_components=2, num_restarts=n),
    "dims": lambda n: jaxgmm.marginal(START, n),
    "num_chains": lambda n: jaxgmm.bootstrap(jax.random.key(0), START, X, num_chains=n),
}


@pytest.mark.parametrize("name", STATIC)
def test_traced_options_that_must_be_static(name):
    """A count, a flag or features inside jit or vmap: the sentence names static_argnames."""
    for transform in (jax.jit, lambda f: jax.vmap(lambda n: f(n))):
        with pytest.raises(TypeError, match=rf"{name} is traced, .*static_argnames='{name}'"):
            transform(STATIC[name])(jnp.arange(2, 4) if transform is not jax.jit else 2)
    with pytest.raises(TypeError, match=r"integer >= 1 was expected: use int\(num_components\)"):
        jaxgmm.default_prior(X, num_components=jnp.asarray(2))


def test_weights_that_count_are_silent():
    """Repetitions, masks, fractions of rows and survey weights count observations; one row of any weight says nothing."""
    rng = np.random.default_rng(0)
    for weight in (np.ones(9), rng.integers(0, 4, 9), rng.random(9), np.full(9, 0.2), 1000 * rng.random(9), np.eye(9)[0] / 2):
        assert validation.small_weights_message(jnp.asarray(weight, float)) is None
    for weight in (np.full(9, 1 / 9), rng.dirichlet(np.ones(9)), 1e-12 * rng.random(9), np.full(5, 0.2)):
        assert "count observations" in validation.small_weights_message(jnp.asarray(weight, float))
    assert validation.small_weights_message(None) is None
    assert jax.jit(lambda w: w if validation.small_weights_message(w) is None else -w)(jnp.full(9, 1 / 9))[0] > 0


def test_options():
    """Unknown covariance types, methods and keys are refused by name, with the valid choices."""
    with pytest.raises(ValueError, match="covariance_type is 'fulll'; one of 'full', 'tied', 'diag', 'spherical' was expected"):
        jaxgmm.initialize(jax.random.key(0), X, num_components=2, covariance_type="fulll")
    with pytest.raises(ValueError, match="covariance_type is None"):
        jaxgmm.default_prior(X, num_components=2, covariance_type=None)
    with pytest.raises(ValueError, match="'k-means"):
        jaxgmm.initialize(jax.random.key(0), X, num_components=2, method="kmeans")
    for key in (0, np.zeros(2, np.uint32), None, jax.random.split(jax.random.key(0), 2), jnp.zeros(3)):
        with pytest.raises(TypeError, match="random key was expected"):
            jaxgmm.initialize(key, X, num_components=2)
    validation.check_key(jax.random.PRNGKey(0))


@pytest.mark.parametrize("value", [None, "1e-3", True, 1j, [1e-3, 1e-4], np.datetime64("2020-01-01")])
def test_numbers(value):
    """tol must be one real number."""
    with pytest.raises(TypeError, match=r"tol is .*a number >= 0 was expected"):
        jaxgmm.fit(START, X, tol=value)
    validation.check_number(np.float32(1e-3), "tol")
    validation.check_number(jnp.asarray(0), "tol")


def test_sample_weights():
    """Weights of wrong length, negative, NaN or all zero are refused; rows of weight 0 may hold anything."""
    for function in (
        lambda w: jaxgmm.fit(START, X, sample_weight=w),
        lambda w: jaxgmm.default_prior(X, num_components=2, sample_weight=w),
        lambda w: jaxgmm.initialize(jax.random.key(0), X, num_components=2, sample_weight=w),
    ):
        for weight, words in [
            (np.ones(5), r"\(12,\)"),
            (-np.ones(12), ">= 0 were expected"),
            (np.zeros(12), "0 for every row"),
            (np.full(12, np.nan), "NaN"),
            (jnp.zeros(12), "0 for every row"),
            (np.ones((12, 1)), r"\(12,\)"),
        ]:
            with pytest.raises(ValueError, match=words):
                function(weight)
    kept = np.arange(12) > 3
    for dirty in (np.where(kept[:, None], X, np.nan), jnp.where(kept[:, None], jnp.asarray(X), jnp.inf)):
        prior = jaxgmm.default_prior(dirty, num_components=2, sample_weight=kept.astype(float))
        np.testing.assert_allclose(prior.mean, X[4:].mean(0), rtol=1e-5)


def test_prior_values():
    """An improper prior is refused by name, by MAP-EM and by sample_prior."""
    import dataclasses

    prior = random_prior(0, "full", k=2, d=2)
    for field, value, words in [
        ("weight_concentration", [0.0, 1.0], "> 0"),
        ("mean_precision", -1.0, "> 0 w"),
        ("degrees_of_freedom", 1.0, "> 1 was expected"),
        ("scale", np.zeros((2, 2)), "positive definite"),
        ("mean", [np.nan, 0.0], "NaN"),
    ]:
        wrong = dataclasses.replace(prior, **{field: jnp.asarray(value, jnp.float32)})
        for function in (
            lambda p: jaxgmm.fit(START, X, p),
            lambda p: jaxgmm.sample_prior(jax.random.key(0), p, num_components=2, num_samples=3),
        ):
            with pytest.raises(ValueError, match=f"prior.{field}.*{words}"):
                function(wrong)


@pytest.mark.parametrize("offset", [0, 16])
def test_large_arrays_are_copied(offset):
    """Wherever the memory lies, what the caller writes to it afterwards is not seen."""
    memory = np.zeros(2**21 + 128, np.uint8)
    first = -memory.ctypes.data % 64 + offset
    x = memory[first : first + 2**21].view(np.float32).reshape(-1, 2)
    taken = validation.as_data(x)
    x[:] = 7
    assert float(taken.max()) == 0
    assert float(jax.jit(lambda y: validation.as_data(x).max() + y)(1.0)) == 8  # and inside the caller's jit
