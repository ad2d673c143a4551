"""Damped Newton descent to a mode of the posterior in unconstrained space, and the curvature at the mode."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from .. import covariance, linalg
from ..chunking import hessian_columns_per_batch
from ..mixture import Mixture
from .standardization import StandardizedProblem
from .unconstrained_space import UnconstrainedSpace, potential_size

# Smaller eigenvalues of the information are replaced by this number, which corresponds to a standard deviation of 10 in logits
# or logarithms. In directions with such eigenvalues, the data and the prior leave the parameters undetermined.
MIN_EIGENVALUE = 1e-2
_MAX_STEPS, _MAX_HALVINGS = 60, 12  # largest number of evaluations; largest number of halvings of one step
_TOLERANCE = 1e-3  # nats; the descent ends if the expected gain of a step is smaller, because the curvature then hardly changes


class NewtonState(NamedTuple):
    """The state of the iteration: the best point so far, its derivatives, and the next step to try.

    Attributes:
        num_steps: (), number of evaluations so far.
        halvings: (), number of times that the current step has been halved.
        z: (P,), the best point so far.
        value: (), the potential at z.
        gradient: (P,), the gradient of the potential at z.
        hessian: (P, P), the Hessian of the potential at z.
        direction: (P,), the full step; the next point to try is z - direction / 2^halvings.
        gain: (), the decrease of the potential, in nats, that the quadratic model predicts for a full step.
    """

    num_steps: jax.Array
    halvings: jax.Array
    z: jax.Array
    value: jax.Array
    gradient: jax.Array
    hessian: jax.Array
    direction: jax.Array
    gain: jax.Array


class Mode(NamedTuple):
    """A mode of the posterior.

    Attributes:
        newton: the final state of the descent.
        root: (P, P), the symmetric root of the inverse information at the mode.
        min_eigenvalue: (), the smallest eigenvalue of the information.
    """

    newton: NewtonState
    root: jax.Array
    min_eigenvalue: jax.Array


def find_mode(space: UnconstrainedSpace, z: jax.Array, problem: StandardizedProblem, start: Mixture) -> Mode:
    """Descend from z (P,) to a mode, and compute the symmetric root of the inverse information at the mode.

    For the root, each eigenvalue of the information is replaced by its absolute value, or by `MIN_EIGENVALUE` if the absolute
    value is smaller. The root is therefore finite.
    """
    newton = minimise(space.potential, z, space.size * potential_size(problem, start))
    values, vectors = linalg.eigh(newton.hessian)
    # the symmetric root does not depend on the signs and the order of the eigenvectors
    root = covariance.einsum("ij,kj->ik", vectors / jnp.sqrt(jnp.maximum(abs(values), MIN_EIGENVALUE)), vectors)
    return Mode(newton, root, values.min(initial=jnp.inf))


def minimise(potential: Callable[[jax.Array], jax.Array], z: jax.Array, numbers_per_column: int) -> NewtonState:
    """Minimise a potential by damped Newton steps, starting at z (P,). The steps descend even at saddle points.

    The Hessian takes most of the compilation time. The program therefore contains its computation only once, in the body of the
    loop.

    numbers_per_column: size of the largest intermediate array during the computation of one column of the Hessian.
    """
    batch = hessian_columns_per_batch(numbers_per_column)
    identity = jnp.eye(len(z), dtype=z.dtype)

    def step(state: NewtonState) -> NewtonState:
        proposal = state.z - 0.5**state.halvings * state.direction
        value, gradient, hessian = _derivatives(potential, proposal, batch)
        finite = jnp.isfinite(value) & jnp.isfinite(hessian.sum() + gradient.sum())
        values, vectors = linalg.eigh(jnp.where(finite, hessian, identity))
        direction = vectors @ (vectors.T @ gradient / jnp.maximum(abs(values), MIN_EIGENVALUE))
        gain = gradient @ direction / 2
        none = jnp.zeros_like(state.halvings)
        new = NewtonState(state.num_steps + 1, none, proposal, value, gradient, hessian, direction, gain)
        old = state._replace(num_steps=state.num_steps + 1, halvings=state.halvings + 1)
        accept = finite & (value <= state.value)
        return jax.tree.map(lambda a, b: jnp.where(accept, a, b), new, old)

    def is_running(state: NewtonState) -> jax.Array:
        started = (state.num_steps < 1) | jnp.isfinite(state.value)
        return started & (state.num_steps < _MAX_STEPS) & (state.halvings < _MAX_HALVINGS) & (state.gain > _TOLERANCE)

    infinite, zero, count = jnp.asarray(jnp.inf, z.dtype), jnp.zeros_like(z), jnp.array(0)
    first = NewtonState(count, count, z, infinite, zero, identity, zero, infinite)
    return jax.lax.while_loop(is_running, step, first)


def _derivatives(
    potential: Callable[[jax.Array], jax.Array], z: jax.Array, batch: int
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Return value (), gradient (P,) and Hessian (P, P) of a potential; the Hessian is computed in batches of columns."""
    value_and_gradient = jax.value_and_grad(potential)

    def column(unit: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        (value, gradient), (_, column) = jax.jvp(value_and_gradient, (z,), (unit,))
        return value, gradient, column

    units = jnp.eye(len(z), dtype=z.dtype)
    if batch >= len(z):
        value, gradient, hessian = jax.vmap(column, out_axes=(None, None, 0))(units)
    else:
        values, gradients, hessian = jax.lax.map(column, units, batch_size=batch)
        value, gradient = values[0], gradients[0]
    return value, gradient, (hessian + hessian.T) / 2
