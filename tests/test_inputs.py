"""Validation of mixtures, data, weights and priors together: each invalid input gets a sentence, valid ones one float type."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgmm
from jaxgmm.inputs import as_dtype, check_sampling_options, validate_inputs

from helpers import random_data, random_mixture, random_prior

X, START, PRIOR = random_data(0, 30, 2), random_mixture(0, "full", 2, 2), random_prior(0, "full", 2, 2)
NAN = X.copy()
NAN[3, 1] = np.nan


def validate(mixture=START, x=X, prior=PRIOR, sample_weight=None, **options):
    return validate_inputs(mixture, x, prior, sample_weight, **options)


def as_start(**change):
    return validate(name="start", prior_is="required", is_start=True, **change)


@pytest.mark.parametrize(
    ("change", "error", "sentence"),
    [
        (dict(x=NAN), ValueError, "x contains NaN in 1 of 30 rows"),
        (dict(x=X[:, :1]), ValueError, "1 features, the mixture 2"),
        (dict(x=X[:0]), ValueError, "no rows"),
        (dict(sample_weight=np.ones(5)), ValueError, r"sample_weight has shape \(5,\)"),
        (dict(prior=None), TypeError, "prior is None"),
        (dict(prior="flat"), TypeError, "Prior or IndependentPrior was expected"),
        (
            dict(mixture=dataclasses.replace(START, weights=jnp.array([1.0, 0.0]))),
            ValueError,
            "empty component .*: 1;",
        ),
        (dict(mixture=dataclasses.replace(START, means=START.means * jnp.nan)), ValueError, "the fit that it came from failed"),
        (dict(mixture=dataclasses.replace(START, covariances=-START.covariances)), ValueError, "not positive definite"),
        (dict(mixture=jax.tree.map(lambda leaf: leaf[None], START)), ValueError, "start is a stack of shape"),
        (dict(mixture=3), TypeError, "start is int"),
        (dict(prior=random_prior(0, "diag", 2, 2)), ValueError, "prior.scale has shape"),
        (dict(prior=dataclasses.replace(PRIOR, degrees_of_freedom=jnp.array(0.5))), ValueError, "improper"),
        (dict(prior=dataclasses.replace(PRIOR, scale=-PRIOR.scale)), ValueError, "not positive definite"),
    ],
)
def test_invalid_inputs(change, error, sentence):
    """Each is refused by name."""
    with pytest.raises(error, match=sentence):
        as_start(**change)


def test_a_fit_is_a_start():
    """Its mixture is taken."""
    fit = jaxgmm.fit(START, X)
    assert as_start(mixture=fit).mixture.covariance_type == "full"
    np.testing.assert_array_equal(as_start(mixture=fit).mixture.means, fit.mixture.means)


def test_rows_of_weight_zero_may_hold_anything():
    """They become 0, and the weights come back in the data's dtype."""
    inputs = as_start(x=NAN, sample_weight=(np.arange(30) != 3) * 1)
    assert np.isfinite(inputs.x).all()
    assert inputs.weight.dtype == inputs.x.dtype


def test_one_float_type(x64):
    """Everything takes the data's dtype: float32 data make a float64 mixture and prior float32."""
    inputs = validate(x=X.astype(np.float32))
    assert {leaf.dtype for leaf in jax.tree.leaves((inputs.mixture, inputs.x, inputs.prior))} == {np.dtype("float32")}


def test_what_is_not_required():
    """Without a prior, with a prior of the user's own, and with a mixture that no sampler could start from."""
    assert validate(prior=None).prior is None
    own = {"anything": object()}
    assert validate(prior=own, prior_is="unchecked").prior is own
    empty = dataclasses.replace(START, weights=jnp.array([1.0, 0.0]))
    np.testing.assert_array_equal(validate(mixture=empty).mixture.weights, [1.0, 0.0])


def test_traced_values_are_not_checked():
    """A traced start with NaN is not refused: the result's status reports it."""
    broken = dataclasses.replace(START, means=START.means * jnp.nan)
    assert np.isnan(jax.jit(lambda start: as_start(mixture=start).mixture.means)(broken)).all()


def test_sampling_options():
    """A key and two counts."""
    key = jax.random.key(0)
    check_sampling_options(key, 5, 2)
    for arguments, error, sentence in [
        ((key, 5, 0), ValueError, "num_chains is 0"),
        ((key, True, 2), TypeError, "num_samples is True"),
        ((0, 5, 2), TypeError, "key is int"),
    ]:
        with pytest.raises(error, match=sentence):
            check_sampling_options(*arguments)


def test_a_device_array_of_the_right_type_is_not_copied():
    """NumPy stays NumPy, for jit to transfer."""
    leaf = jnp.ones(3, jnp.float32)
    assert as_dtype(leaf, jnp.float32) is leaf
    assert isinstance(as_dtype([1, 2], np.float32), np.ndarray)
    assert as_dtype(jnp.arange(3), jnp.float32).dtype == jnp.float32
