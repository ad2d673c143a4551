"""Test the methods of studies: named ones and functions of the user in one form; anything else is refused."""

import inspect

import jax
import numpy as np
import pytest

import jaxgmm
from jaxgmm.posterior.smc.smc import smc_like_start
from jaxgmm.studies import methods
from jaxgmm.studies.methods import FUNCTIONS, as_method


def test_names_are_the_public_functions():
    for name, function in FUNCTIONS.items():
        assert function is (smc_like_start if name == "smc" else getattr(jaxgmm, name))
        assert as_method(name)[0] == name


def test_options_are_bound():
    x = np.array([[0.0], [1.0], [2.0], [5.0]], np.float32)
    prior = jaxgmm.default_prior(x, num_components=1)
    start = jaxgmm.from_labels(x, [0, 0, 0, 0], num_components=1)
    name, draw = as_method("gibbs", num_samples=3, num_chains=2, num_warmup=0)
    assert name == "gibbs"
    posterior = jax.eval_shape(draw, jax.random.key(0), start, x, prior)
    assert posterior.mixture.means.shape == (2, 3, 1, 1)


def test_a_function_of_the_user():
    def halved(key, start, x, prior, *, num_samples=5):
        return num_samples

    name, draw = as_method(halved, num_samples=7)
    assert name == "halved"
    assert draw(None, None, None, None) == 7
    assert as_method(lambda key, start, x, prior: None)[0] == "custom"
    with pytest.raises(TypeError, match=r"cannot be called as method\(key, start, x, prior, thin="):
        as_method(halved, thin=2)
    with pytest.raises(TypeError, match="cannot be called"):
        as_method(lambda key: None)


def test_every_option_has_a_check():
    """An option that a method gains is checked before a study begins, unless it is a function or belongs to studies."""
    for function in FUNCTIONS.values():
        names = {p.name for p in inspect.signature(function).parameters.values() if p.kind is p.KEYWORD_ONLY}
        checked = {*methods._COUNTS, *methods._NUMBERS, *methods._FLAGS, *methods._CHOICES}
        assert names - methods._OWNED_BY_STUDIES - {"model", "kind"} <= checked
    assert set(methods._FIT_OPTIONS) <= checked


@pytest.mark.parametrize("bad", ["emcee", "", "NUTS"])
def test_unknown_names_are_refused(bad):
    with pytest.raises(ValueError, match="'nuts', 'gibbs', 'laplace', 'bootstrap'"):
        as_method(bad)


@pytest.mark.parametrize("bad", [None, 3, ["nuts"]])
def test_other_objects_are_refused(bad):
    with pytest.raises(TypeError, match="a function"):
        as_method(bad)


@pytest.mark.parametrize(
    ("method", "option"), [("laplace", "num_warmup"), ("gibbs", "progress"), ("nuts", "thin"), ("bootstrap", "x")]
)
def test_unknown_options_are_refused(method, option):
    with pytest.raises(TypeError, match=f"{method} has no option {option} here; it takes"):
        as_method(method, **{option: 1})


def test_bootstrap_takes_the_options_of_its_fits():
    assert as_method("bootstrap", tol=1e-4, num_samples=9)[1].keywords == {"tol": 1e-4, "num_samples": 9}


def test_unknown_temperings_are_refused():
    with pytest.raises(ValueError, match="tempering is 'rows'; one of 'data', 'likelihood' was expected"):
        as_method("smc", tempering="rows")
