"""Test the common form of batches of observations: what is added to rows changes nothing, and rows can be joined."""

import dataclasses

import numpy as np
import pytest

import jaxgmm
from jaxgmm.incomplete.forms import Form, form_of, from_named_arrays, in_form, joined, joint_form, named_arrays

X = np.array([[1.0, np.nan], [2.0, 3.0], [4.0, 5.0]])
ALLOWED = np.array([[True, False, True], [True, True, True], [False, False, True]])
PARTS = [
    jaxgmm.observations(X[1:]),
    jaxgmm.observations(X, noise=np.ones((3, 2)), labels=[0, -1, 2]),
    jaxgmm.observations(X, noise=np.ones((3, 2, 2)), labels=ALLOWED, limits=(None, 0.0)),
]


def test_forms_hold_all_parts():
    assert [form_of(part) for part in PARTS] == [Form(0, 0, 0, 0), Form(1, 1, 1, 0), Form(1, 2, 4, 1)]
    assert joint_form(Form(0, 2, 1, 0), Form(1, 1, 4, 0)) == Form(1, 2, 4, 0)


def test_added_parts_change_nothing():
    """Complete rows get a mask, noise of 0, all components and no limits; labels become lists, and variances matrices."""
    form = form_of(PARTS[2])
    first, second, last = (in_form(part, form) for part in PARTS)
    assert first.observed.all()
    assert first.allowed.all()
    assert not first.noise.any()
    assert not np.isfinite(first.upper).any()
    np.testing.assert_array_equal(second.noise, [np.diag(row) for row in 1.0 * ~np.isnan(X)])
    np.testing.assert_array_equal(second.allowed, [[True, False, False], [True, True, True], [False, False, True]])
    np.testing.assert_array_equal(last.allowed, ALLOWED)
    with pytest.raises(ValueError, match="labels has 3 columns, and those of other batches have 4"):
        in_form(PARTS[2], form._replace(allowed=5))


def test_rows_are_joined_and_named():
    whole = joined(PARTS)
    assert whole.shape == (8, 2)
    assert whole.noise.shape == (8, 2, 2)
    again = from_named_arrays(named_arrays(whole))
    for field in dataclasses.fields(whole):
        np.testing.assert_array_equal(getattr(again, field.name), getattr(whole, field.name))
    np.testing.assert_array_equal(joined([X[:1], X[1:]]), X)
    np.testing.assert_array_equal(from_named_arrays(named_arrays(X)), X)
