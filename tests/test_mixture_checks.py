"""Which arrays make a mixture, and which are refused, by `make_mixture`."""

import numpy as np
import pytest

import jaxgmm


def bad():
    """Return arguments that make no mixture, with the error and the words that each must give."""
    eye = [np.eye(2)] * 2
    means = np.zeros((2, 2))
    skew = np.array([[1.0, 0.5], [0.0, 1.0]])
    return {
        "weights sum": (([0.8, 1.0], means, eye), ValueError, "weights sum to 1.8; 1 was expected"),
        "negative weight": (([-0.5, 1.5], means, eye), ValueError, "negative value, -0.5"),
        "NaN weight": (([np.nan, 1.0], means, eye), ValueError, "NaN"),
        "weights shape": (([1.0], means, eye), ValueError, r"\(2,\) was expected"),
        "means of one variable": (([0.5, 0.5], [0.0, 1.0], [1.0, 1.0]), ValueError, r"are \(K, 1\)"),
        "no components": (([], np.zeros((0, 2)), np.zeros((0, 2, 2))), ValueError, "at least one component"),
        "NaN mean": (([0.5, 0.5], means * np.nan, eye), ValueError, "means contains NaN"),
        "covariances shape": (([0.5, 0.5], means, np.ones((2, 2))), ValueError, r"\(2, 2, 2\) was expected"),
        "not positive definite": (
            ([0.5, 0.5], means, [np.eye(2), [[1.0, 2.0], [2.0, 1.0]]]),
            ValueError,
            "not positive definite",
        ),
        "singular": (([0.5, 0.5], means, [np.eye(2), np.ones((2, 2))]), ValueError, "not positive definite"),
        "negative variance": (([0.5, 0.5], means, [np.eye(2), np.diag([1.0, -1.0])]), ValueError, "positive definite"),
        "not symmetric": (([0.5, 0.5], means, [np.eye(2), skew]), ValueError, "not symmetric"),
        "strings": ((["a", "b"], means, eye), TypeError, "weights holds strings"),
        "masked": (([0.5, 0.5], np.ma.masked_array(means, means == 0), eye), TypeError, "masked"),
    }


@pytest.mark.parametrize("case", bad())
def test_refusals(case):
    """Arguments that do not make a mixture are refused with what was expected."""
    arguments, error, words = bad()[case]
    with pytest.raises(error, match=words):
        jaxgmm.make_mixture(*arguments)


def test_other_refusals():
    """Unknown covariance types, variances of 0 and shapes of another storage are refused."""
    with pytest.raises(ValueError, match="covariance_type is 'tie'"):
        jaxgmm.make_mixture([1.0], [[0.0]], [[1.0]], covariance_type="tie")
    for covariance_type, covariances in [("diag", [[1.0, 0.0]]), ("spherical", [[0.0]]), ("tied", [[[1.0, 0.0], [0.0, 0.0]]])]:
        with pytest.raises(ValueError, match="variance of 0"):
            jaxgmm.make_mixture([1.0], [[0.0, 0.0]], covariances, covariance_type=covariance_type)
    for covariance_type, shape in [("tied", (1, 2, 2)), ("diag", (3, 2)), ("spherical", (3, 1))]:
        with pytest.raises(ValueError, match=str(shape).replace("(", r"\(").replace(")", r"\)")):
            jaxgmm.make_mixture(np.full(3, 1 / 3), np.zeros((3, 2)), np.ones((3, 2, 2)), covariance_type=covariance_type)


def test_weight_zero_and_nearly_singular_are_allowed(x64):
    """A component of weight 0 is allowed, and so is a condition number of 1e10."""
    mixture = jaxgmm.make_mixture([0.0, 1.0], [[0.0, 0.0]] * 2, [np.eye(2), [[1.0, 1 - 1e-10], [1 - 1e-10, 1.0]]])
    assert float(mixture.weights[0]) == 0
