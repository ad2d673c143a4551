"""Compute Wasserstein distances between normal distributions, and couplings of weights with the smallest cost.

For the distance W2 between normal distributions see Dowson & Landau (1982), J. Multivariate Anal. 12, 450-455. For the linear
program see Delon & Desolneux (2020), SIAM J. Imaging Sci. 13, 936-970, Proposition 4.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike


def gaussian_w2_squared(mean: ArrayLike, cov: ArrayLike, other_mean: ArrayLike, other_cov: ArrayLike) -> np.ndarray:
    """Return the squared 2-Wasserstein distances between normal distributions. Dowson & Landau (1982).

    The means are (..., D) and the covariances (..., D, D); leading axes broadcast.

    Example:
        >>> gaussian_w2_squared([0.0], [[1.0]], [3.0], [[25.0]]).tolist()
        25.0
    """
    mean, cov, other_mean, other_cov = (np.asarray(v, float) for v in (mean, cov, other_mean, other_cov))
    values, vectors = np.linalg.eigh(cov)
    root = vectors * np.sqrt(np.maximum(values, 0))[..., None, :] @ np.swapaxes(vectors, -1, -2)
    between = np.linalg.eigvalsh(root @ other_cov @ root)
    traces = np.trace(cov, axis1=-2, axis2=-1) + np.trace(other_cov, axis1=-2, axis2=-1)
    squares = ((mean - other_mean) ** 2).sum(-1) + traces - 2 * np.sqrt(np.maximum(between, 0)).sum(-1)
    return np.maximum(squares, 0)


def solve_transport(costs: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the coupling (K, L) of the weights a (K,) and b (L,) that has the smallest total cost."""
    from scipy import sparse
    from scipy.optimize import linprog

    k, m = costs.shape
    rows = sparse.kron(sparse.eye_array(k), np.ones((1, m)))
    columns = sparse.kron(np.ones((1, k)), sparse.eye_array(m))
    # the last condition follows from the others; leaving it out avoids contradictions by rounding
    conditions = sparse.vstack([rows, columns]).tocsr()[:-1]
    unit = costs.max() or 1.0
    found = linprog(costs.ravel() / unit, A_eq=conditions, b_eq=np.concatenate([a / a.sum(), b / b.sum()])[:-1], method="highs")
    assert found.status == 0, found.message
    return np.maximum(found.x, 0).reshape(k, m)
