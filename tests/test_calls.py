"""Calls that do not fit a signature: every public function says in one sentence which call was expected."""

import inspect

import jax
import numpy as np
import pytest

import jaxgmm
from jaxgmm.calls import public, public_with

# `model` is called by NumPyro; it is the independent description of the model, and imports nothing from the library
PUBLIC = [name for name in dir(jaxgmm) if inspect.isfunction(getattr(jaxgmm, name)) and name != "model"]
KEY, X = jax.random.key(0), np.zeros((4, 2))


def sentence(call):
    """Return the message of the TypeError that a call raises, which must be one sentence."""
    with pytest.raises(TypeError) as caught:
        call()
    words = str(caught.value)
    assert words.endswith("."), words
    assert "()" not in words, "Python's own message"
    return words


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_function(name):
    """Unknown options, too many values and missing ones get a sentence with the function's name, and its options."""
    function = getattr(jaxgmm, name)
    parameters = inspect.signature(function).parameters.values()
    positional = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
    assert sentence(lambda: function(**{"no such option": 1})).startswith(f"{name} has no option no such option; ")
    said = sentence(lambda: function(*[None] * (len(positional) + 1)))
    assert said.startswith(f"{name} takes "), said
    assert all(parameter in said for parameter in positional)
    if any(p.default is p.empty and p.kind is not p.VAR_KEYWORD for p in parameters):
        assert sentence(function).startswith(f"{name} was called without ")


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: jaxgmm.fit(X, num_components=2), "fit has no option num_components; the start decides it: .*initialize"),
        (lambda: jaxgmm.fit(X, n_components=2), "the start decides it"),
        (lambda: jaxgmm.fit(X), r"without x; fit\(mixture, x\) was expected"),
        (lambda: jaxgmm.initialize(KEY, X, 2), "takes key and x by position, .* as in num_components=2"),
        (lambda: jaxgmm.initialize(KEY, X, n_components=2), "it is called num_components here"),
        (lambda: jaxgmm.initialize(KEY, X), r"without num_components; initialize\(key, x, num_components=...\)"),
        (lambda: jaxgmm.default_prior(X, 2), "as in num_components=2"),
        (lambda: jaxgmm.fit_restarts(KEY, X, n_components=2), "it is called num_components here"),
        (lambda: jaxgmm.fit_restarts(KEY, X, num_components=2, n_init=5), "fit_restarts has no option n_init; .* num_restarts"),
        (lambda: jaxgmm.fit_restarts(KEY, X, num_components=2, max_iters=5), "did you mean max_iter"),
        (lambda: jaxgmm.fit_many(KEY, [X], n_components=2), "it is called num_components here"),
        (lambda: jaxgmm.select(KEY, X, covariance_type="diag"), "it is called covariance_types here"),
        (lambda: jaxgmm.select(KEY, X, 3), "as in num_components=3"),
        (lambda: jaxgmm.make_mixture([1.0], [[0.0]], [[1.0]], "diag"), "as in covariance_type='diag'"),
        (lambda: jaxgmm.nuts(KEY, None, X, None, draws=5), "it is called num_samples here"),
        (lambda: jaxgmm.nuts(KEY, None, X, None, random_state=5), "it is called key here"),
        (lambda: jaxgmm.log_prob(None, X, x=X), r"given x twice, .*log_prob\(mixture, x\) was expected"),
    ],
)
def test_common_slips(call, words):
    """The names of other libraries, and options by position, are answered by what to write."""
    with pytest.raises(TypeError, match=words):
        call()


def test_errors_from_within_are_left_alone():
    """A TypeError that the function itself raises, or a call inside it, keeps its message and its traceback."""

    def inner(a):
        return a

    @public
    def outer(a, *, b=0):
        return inner(a, c=b)

    with pytest.raises(TypeError, match=r"inner\(\) got an unexpected keyword"):
        outer(1)
    with pytest.raises(TypeError, match="mixture is NoneType"):
        jaxgmm.log_prob(None, X)


def test_functions_stay_what_they_are():
    """Signature, name and document are those of the function, for help, jit's static_argnames and editors."""

    @public_with("tol")
    def f(x, *, num_components, **options):
        """Do something."""
        return x * num_components, options

    assert str(inspect.signature(f)) == "(x, *, num_components, **options)"
    assert (f.__name__, f.__doc__) == ("f", "Do something.")
    assert f(2, num_components=3, tol=1) == (6, {"tol": 1})
    with pytest.raises(TypeError, match="f has no option to; did you mean tol"):
        f(2, num_components=3, to=1)
    jitted = jax.jit(jaxgmm.initialize, static_argnames=("num_components", "covariance_type"))
    assert jitted(KEY, np.arange(8.0).reshape(4, 2), num_components=2).means.shape == (2, 2)
