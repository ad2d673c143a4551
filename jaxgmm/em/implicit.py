"""Compute the derivative of a fit. The implicit function theorem is applied to the EM map M, which is one step of EM.

At a fixed point, theta = M(theta; data). Therefore d theta = (I - dM/dtheta)^-1 (dM/ddata) d data. It does not matter how the
fixed point was found, so the iterations of EM are not differentiated. The formula holds with the penalty, with a prior and with
`reg_covar`. It includes the dependence of the penalty on the data. Forward and reverse mode work, also under vmap.

The fixed point does not depend on the start, so the derivative with respect to the start is zero. If the status of the fit is
SINGULAR or NONFINITE, the derivative is NaN. If the status is MAX_ITER, the formula is applied to the last mixture as if it
were a fixed point.

Sources: Krantz & Parks (2002), The Implicit Function Theorem; for the EM map, Jamshidian & Jennrich (2000), JRSS B 62, 257-270.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from .. import linalg
from ..chunking import JACOBIAN_COLUMNS

# largest number of parameters for which the matrix I - dM/dtheta is computed; for more parameters, GMRES solves the system
DENSE_LIMIT = 1000
Theta = TypeVar("Theta")
Data = TypeVar("Data")


def tangent_of_fixed_point(step: Callable[[Theta, Data], Theta], theta: Theta, data: Data, data_tangent: Data) -> Theta:
    """Return the differential of the fixed point theta = step(theta, data).

    The result is linear in data_tangent, so that JAX can transpose it for reverse mode.
    """
    flat, unravel = ravel_pytree(theta)
    _, direct = jax.jvp(lambda d: ravel_pytree(step(theta, d))[0], (data,), (data_tangent,))
    _, push = jax.linearize(lambda t: ravel_pytree(step(unravel(t), data))[0], flat)

    def residual(v: jax.Array) -> jax.Array:
        return v - push(v)

    if flat.size > DENSE_LIMIT:
        # JAX cannot transpose gmres itself, because a device_put in gmres links the initial guess to the right-hand side
        tangent = jax.lax.custom_linear_solve(residual, direct, solve=_gmres, transpose_solve=_gmres)
    else:
        columns = jax.lax.map(residual, jnp.eye(flat.size, dtype=flat.dtype), batch_size=JACOBIAN_COLUMNS)
        matrix = columns.T
        solve, transpose_solve = (lambda _, right, a=a: linalg.solve(a, right[:, None])[:, 0] for a in (matrix, matrix.T))
        tangent = jax.lax.custom_linear_solve(lambda v: matrix @ v, direct, solve=solve, transpose_solve=transpose_solve)
    return unravel(tangent)


def _gmres(matvec: Callable[[jax.Array], jax.Array], right: jax.Array) -> jax.Array:
    """Solve a linear system by GMRES, until the relative residual is at most 1e-10."""
    return jax.scipy.sparse.linalg.gmres(matvec, right, tol=1e-10, restart=50, maxiter=20, solve_method="incremental")[0]
