"""newton: minima of known functions, saddle points, and functions that are not finite."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgmm.posterior import newton


def quadratic(z):
    """Return a quadratic function with minimum 2 at (1, -1) and a Hessian of condition number 100."""
    return 2 + 50 * (z[0] - 1) ** 2 + 0.5 * (z[1] + 1) ** 2


def test_a_quadratic_function_takes_one_step(x64):
    """The second evaluation is at the minimum, where the third would gain nothing."""
    found = jax.jit(lambda z: newton.minimise(quadratic, z, 1))(jnp.array([7.0, 5.0]))
    np.testing.assert_allclose(found.z, [1, -1], atol=1e-12)
    np.testing.assert_allclose(found.value, 2)
    np.testing.assert_allclose(found.hessian, np.diag([100.0, 1.0]))
    assert int(found.num_steps) == 2


def test_columns_of_the_hessian_in_batches(monkeypatch, x64):
    """One column at a time gives the same minimum and Hessian as all columns at once."""
    rosenbrock = lambda z: 100 * (z[1] - z[0] ** 2) ** 2 + (1 - z[0]) ** 2  # noqa: E731
    start = jnp.array([-1.2, 1.0])
    together = newton.minimise(rosenbrock, start, 1)
    monkeypatch.setattr(newton, "hessian_columns_per_batch", lambda numbers: 1)
    apart = newton.minimise(rosenbrock, start, 1)
    for left, right in zip(together, apart, strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-9, atol=1e-9)
    assert float(together.value) < 2e-3  # the minimum is 0, and the iteration ends where a step would gain 1e-3


def test_steps_descend_where_the_curvature_is_negative(x64):
    """Beside a maximum in one direction the iteration moves away from it, to one of two minima."""
    found = newton.minimise(lambda z: z[0] ** 2 + (z[1] ** 2 - 1) ** 2, jnp.array([0.5, 0.1]), 1)
    np.testing.assert_allclose(found.z, [0, 1], atol=1e-2)


def test_steps_into_undefined_values_are_halved(x64):
    """A function that is NaN below zero is minimised within its domain."""
    found = newton.minimise(lambda z: (z - 0.1 * jnp.log(z)).sum(), jnp.array([5.0]), 1)
    np.testing.assert_allclose(found.z, 0.1, atol=0.02)
    assert bool(jnp.isfinite(found.value))


@pytest.mark.parametrize("value", [jnp.nan, jnp.inf])
def test_a_start_without_finite_value_ends_at_once(value, x64):
    """The value stays infinite, which callers report."""
    found = newton.minimise(lambda z: value + 0 * z.sum(), jnp.array([5.0]), 1)
    assert not bool(jnp.isfinite(found.value))
    assert int(found.num_steps) == 1
