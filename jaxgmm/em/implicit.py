"""The derivative of a fit, by the implicit function theorem on EM's own map.

At a fixed point theta = M(theta; data), so d theta = (I - dM/dtheta)^-1 (dM/ddata) d data, whatever loop found it: penalty,
prior and `reg_covar` alike, with the penalty's dependence on the data. Nothing is unrolled. Forward and reverse mode, under
vmap too. The start has no influence and gets zero; after a breakdown the derivative is NaN; at MAX_ITER it is that of the
point reached, as if it were the fixed point. Source: Krantz & Parks (2002), The Implicit Function Theorem; for EM's map,
Jamshidian & Jennrich (2000), JRSS B 62, 257-270.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from .. import linalg
from ..chunking import JACOBIAN_COLUMNS

DENSE_LIMIT = 1000  # parameters up to which I - dM/dtheta is formed and solved


def tangent_of_fixed_point(step: Callable[[Any, Any], Any], theta: Any, data: Any, data_tangent: Any) -> Any:
    """d theta for theta = step(theta, data): linear in data_tangent, so that it transposes."""
    flat, unravel = ravel_pytree(theta)
    _, drive = jax.jvp(lambda d: ravel_pytree(step(theta, d))[0], (data,), (data_tangent,))
    _, push = jax.linearize(lambda t: ravel_pytree(step(unravel(t), data))[0], flat)

    def residual(v: jax.Array) -> jax.Array:
        return v - push(v)

    if flat.size > DENSE_LIMIT:
        # gmres itself does not transpose: its device_put ties the start to the right-hand side
        tangent = jax.lax.custom_linear_solve(residual, drive, solve=_gmres, transpose_solve=_gmres)
    else:
        columns = jax.lax.map(residual, jnp.eye(flat.size, dtype=flat.dtype), batch_size=JACOBIAN_COLUMNS)
        matrix = columns.T
        by, by_transpose = (lambda _, right, a=a: linalg.solve(a, right[:, None])[:, 0] for a in (matrix, matrix.T))
        tangent = jax.lax.custom_linear_solve(lambda v: matrix @ v, drive, solve=by, transpose_solve=by_transpose)
    return unravel(tangent)


def _gmres(matvec: Callable[[jax.Array], jax.Array], right: jax.Array) -> jax.Array:
    return jax.scipy.sparse.linalg.gmres(matvec, right, tol=1e-10, restart=50, maxiter=20, solve_method="incremental")[0]
