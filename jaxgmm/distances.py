"""Distances between Gaussian mixtures. None of them depends on the order of the components.

    l2            sqrt( int (p(x) - q(x))^2 dx )                                              in closed form
    wasserstein   sqrt( min_w sum_kl w_kl W2(N_k, N_l)^2 ), w a coupling of the weights       a linear program
    kl            E_p[ log p(x) - log q(x) ]                                                  by Monte Carlo

For the closed form see Petersen & Pedersen (2012), The Matrix Cookbook, eq. 371: the integral of a product of two normal
densities is a normal density. For the linear program see Delon & Desolneux (2020), SIAM J. Imaging Sci. 13, 936-970,
Proposition 4. For the distance W2 between normal distributions see Dowson & Landau (1982), J. Multivariate Anal. 12, 450-455.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import partial
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from . import covariance, linalg
from .calls import public
from .cells import look, number, reach
from .density import log_prob
from .linalg import is_positive_definite
from .mixture import Mixture, MixtureLike, as_mixture
from .sampling import sample
from .tables import Printed, Table
from .validation import check_choice, check_count, check_key, is_traced
from .wasserstein import gaussian_w2_squared, solve_transport

KINDS = ("l2", "kl", "wasserstein")


@partial(jax.tree_util.register_dataclass, data_fields=["value", "error", "plan"], meta_fields=["kind"])
@dataclass(frozen=True, eq=False, repr=False)
class Distance(Printed):
    """The distance between two mixtures. `float` and `numpy.asarray` return its value.

    Attributes:
        value: the distance, with the leading axes of p and q. Its unit is that of the data for "wasserstein", nats for "kl",
            and the square root of the unit of a density for "l2".
        error: the Monte Carlo standard error of each value; 0 for "l2" and "wasserstein", which are exact.
        plan: (..., K, L), the coupling for "wasserstein": entry (k, l) is the mass that moves from component k of p to
            component l of q. None for other kinds.
        kind: "l2", "kl" or "wasserstein".

    Example:
        >>> import jaxgmm
        >>> p = jaxgmm.make_mixture([0.5, 0.5], [[0.0], [9.0]], [[[1.0]], [[1.0]]])
        >>> q = jaxgmm.make_mixture([0.5, 0.5], [[10.0], [1.0]], [[[1.0]], [[1.0]]])
        >>> jaxgmm.distance(p, q, kind="wasserstein").plan.tolist()
        [[0.0, 0.5], [0.5, 0.0]]
    """

    value: jax.Array
    error: jax.Array
    plan: jax.Array | None
    kind: str = field(default="l2", metadata={"static": True})

    def __float__(self) -> float:
        """Return the value of one distance as a Python number."""
        return float(self.value)

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> np.ndarray:
        """Return the value as a NumPy array."""
        return np.array(self.value, dtype) if copy else np.asarray(self.value, dtype)

    def _tables(self) -> list[Table]:
        value, error = look(self.value), look(self.error)
        name = {"l2": "L2 distance", "kl": "Kullback-Leibler divergence", "wasserstein": "Mixture-Wasserstein distance"}
        if value is None or error is None:
            return [Table(f"{name[self.kind]}, traced")]
        if value.ndim:
            smallest, median, largest = reach(value)
            return [Table(f"{name[self.kind]}, stacked {value.shape}: {smallest} to {largest}, median {median}")]
        error_text = f" +- {number(error, 2)} (standard error)" if self.kind == "kl" else ""
        return [Table(f"{name[self.kind]} {number(value, 6)}{error_text}")]


@public
def distance(
    p: MixtureLike,
    q: MixtureLike,
    *,
    kind: str = "l2",
    key: jax.Array | None = None,
    num_samples: int = 10_000,
) -> Distance:
    """Compute the distance between two mixtures; it does not depend on the order of their components.

    There are three kinds:

    - "l2": sqrt(int (p(x) - q(x))^2 dx), in closed form, because int N(x | m, S) N(x | m', S') dx = N(m | m', S + S'). It is
      differentiable. Petersen & Pedersen (2012), The Matrix Cookbook, eq. 371.
    - "wasserstein": the mixture-Wasserstein distance MW2, the square root of min_w sum_kl w_kl W2(N_k, N_l)^2 over the
      couplings w of the weights. W2(N_k, N_l)^2 = |m_k - m_l|^2 + tr(S_k + S_l - 2 (S_k^1/2 S_l S_k^1/2)^1/2). MW2 is at
      least the Wasserstein distance W2 between the mixtures, and equal to it if both have one component. The linear program
      runs on the host. Delon & Desolneux (2020), SIAM J. Imaging Sci. 13, 936-970, Proposition 4.
    - "kl": the Kullback-Leibler divergence from p to q, E_p[log p(x) - log q(x)], the mean over draws from p, with its standard
      error. It is not symmetric. A small estimate may be negative. Hershey & Olsen (2007), ICASSP 4, 317-320, eq. 5.

    Args:
        p: a Mixture or a Fit, or a stack of either with leading axes.
        q: a Mixture or a Fit with the same D, or a stack; the leading axes of p and q must broadcast. The numbers of components
            and the covariance types may differ.
        kind: "l2", "kl" or "wasserstein".
        key: a random key, for "kl" only.
        num_samples: number of draws from p, for "kl" only.

    Returns:
        A Distance. Values that are not traced are computed in float64 for "l2" and "wasserstein". Inside jit, "l2" is
        computed in the float type of the mixtures. In float32, rounding errors then reach 3e-4 of the norm of p.

    Raises:
        ValueError: kind is unknown, D differs, leading axes do not broadcast, or a covariance is not positive definite.
        TypeError: p or q is neither a Mixture nor a Fit; kind is "kl" and key is missing; or kind is "wasserstein" and a value
            is traced.

    Example:
        >>> import jax, jaxgmm
        >>> p = jaxgmm.make_mixture([1.0], [[0.0]], [[[1.0]]])
        >>> q = jaxgmm.make_mixture([1.0], [[3.0]], [[[25.0]]])
        >>> round(float(jaxgmm.distance(p, q)), 4), float(jaxgmm.distance(p, q, kind="wasserstein"))
        (0.4549, 5.0)
        >>> jaxgmm.distance(p, p, kind="kl", key=jax.random.key(0))
        Kullback-Leibler divergence 0 +- 0 (standard error)
    """
    check_choice(kind, "kind", KINDS)
    p, q, shape = _validate(p, q)
    if kind == "kl":
        return _by_sampling(key, p, q, shape, num_samples)
    dtype = jnp.result_type(p.means.dtype, q.means.dtype)
    if is_traced(p, q):
        if kind == "wasserstein":
            raise TypeError(
                "p or q is traced, but the linear program of kind='wasserstein' runs on the host; call it outside jit."
            )
        value = _l2(_Components(p, jnp), _Components(q, jnp), jnp)
        return Distance(value, jnp.zeros_like(value), None, kind)
    first, second = (_on_host(mixture, name) for mixture, name in ((p, "p"), (q, "q")))
    if kind == "l2":
        value, plan = _l2(first, second, np), None
    else:
        value, plan = _mixture_wasserstein(first, second, shape)
        plan = jnp.asarray(plan, dtype)
    return Distance(jnp.asarray(value, dtype), jnp.zeros(shape, dtype), plan, kind)


class _Components:
    """The weights (..., K), means (..., K, D) and dense covariances (..., K, D, D) of mixtures, as arrays of `xp`.

    Absent components, whose parameters may be any numbers, get mean 0 and the identity matrix.
    """

    def __init__(self, mixture: Mixture, xp: ModuleType) -> None:
        """Convert a mixture; `xp` is numpy, for float64 arrays on the host, or jax.numpy."""
        if xp is np:
            mixture = jax.tree.map(lambda leaf: np.asarray(leaf, float), mixture)
        k, d = mixture.num_components, mixture.num_features
        present = mixture.weights > 0
        dense = covariance.to_dense(mixture.covariances, mixture.covariance_type, k, d)
        self.weights = mixture.weights
        self.means = xp.where(present[..., None], mixture.means, 0)
        self.covariances = xp.where(present[..., None, None], dense, xp.eye(d, dtype=dense.dtype))


def _on_host(mixture: Mixture, name: str) -> _Components:
    """Return the components of a concrete mixture in float64; raise ValueError if its values are invalid."""
    components = _Components(mixture, np)
    if not (np.isfinite(components.weights).all() and np.isfinite(components.means).all()):
        raise ValueError(f"{name} holds NaN or infinity; the parameters of a mixture were expected: look at the fit's status.")
    if not is_positive_definite(components.covariances):
        raise ValueError(
            f"{name} has a covariance that is not positive definite, so that it has no density; use a mixture with positive "
            "definite covariances, such as one fitted under a prior."
        )
    return components


def _validate(p: MixtureLike, q: MixtureLike) -> tuple[Mixture, Mixture, tuple[int, ...]]:
    """Return two mixtures and the broadcast shape of their leading axes; raise TypeError or ValueError if they do not match."""
    p, q = as_mixture(p, "p"), as_mixture(q, "q")
    if p.num_features != q.num_features:
        raise ValueError(f"p has {p.num_features} features and q has {q.num_features}; the same number was expected.")
    try:
        shape = np.broadcast_shapes(p.batch_shape, q.batch_shape)
    except ValueError:
        raise ValueError(
            f"p is a stack of shape {p.batch_shape} and q of shape {q.batch_shape}; leading axes that broadcast were expected."
        ) from None
    return p, q, shape


def _l2(p: _Components, q: _Components, xp: ModuleType) -> Any:
    """Return the L2 distances, sqrt(c' G c), where c holds the weights of p and minus the weights of q.

    G holds the integrals of the products of two component densities. It is divided by its largest entry, so that densities in
    extreme units do not overflow.
    """
    shape = np.broadcast_shapes(p.weights.shape[:-1], q.weights.shape[:-1])

    def join(a: jax.Array, b: jax.Array, axes: int) -> jax.Array:
        a, b = (xp.broadcast_to(v, (*shape, *v.shape[v.ndim - axes :])) for v in (a, b))
        return xp.concatenate([a, b], -axes)

    c = join(p.weights, -q.weights, 1)
    means, covariances = join(p.means, q.means, 2), join(p.covariances, q.covariances, 3)
    rows = [
        _log_normals(means - means[..., i : i + 1, :], covariances + covariances[..., i : i + 1, :, :], xp)
        for i in range(c.shape[-1])
    ]
    present = (c[..., :, None] != 0) & (c[..., None, :] != 0)
    log_gram = xp.where(present, xp.stack(rows, -2), -xp.inf)
    top = log_gram.max((-2, -1))
    if xp is jnp:
        top = jax.lax.stop_gradient(top)
    square = (c[..., :, None] * c[..., None, :] * xp.exp(log_gram - top[..., None, None])).sum((-2, -1))
    positive = square > 0
    root = xp.sqrt(xp.where(positive, square, 1))  # the derivative at distance 0 is then 0, not NaN
    return xp.where(positive, xp.exp(top / 2) * root, 0)


def _log_normals(deviations: Any, covariances: Any, xp: ModuleType) -> Any:
    """Return log N(v | 0, S) for deviations v (..., K, D) and covariances S (..., K, D, D)."""
    if xp is np:
        lower = np.linalg.cholesky(covariances)
        whitener = np.linalg.inv(lower)
    else:
        lower = linalg.cholesky(covariances)
        whitener = linalg.invert_lower(lower)
    z = xp.einsum("...ij,...j->...i", whitener, deviations, **({} if xp is np else {"precision": "highest"}))
    half_log_det = xp.log(linalg.diagonal(lower)).sum(-1)
    return -0.5 * (z**2).sum(-1) - half_log_det - deviations.shape[-1] / 2 * math.log(2 * math.pi)


def _mixture_wasserstein(p: _Components, q: _Components, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Return the mixture-Wasserstein distances and the couplings (..., K, L)."""
    squares = gaussian_w2_squared(
        p.means[..., :, None, :],
        p.covariances[..., :, None, :, :],
        q.means[..., None, :, :],
        q.covariances[..., None, :, :, :],
    )
    sizes = squares.shape[-2:]
    flat = squares.reshape(-1, *sizes)
    a, b = (np.broadcast_to(v, (*shape, v.shape[-1])).reshape(-1, v.shape[-1]) for v in (p.weights, q.weights))
    plans = np.array([solve_transport(*one) for one in zip(flat, a, b, strict=True)])
    values = np.sqrt((plans * flat).sum((-2, -1)))
    return values.reshape(shape), plans.reshape(*shape, *sizes)


def _by_sampling(key: jax.Array | None, p: Mixture, q: Mixture, shape: tuple[int, ...], num_samples: int) -> Distance:
    """Return the Kullback-Leibler divergences from p to q, estimated from draws from p."""
    if key is None:
        raise TypeError("key is None, but kind='kl' draws from p; pass a random key, as in key=jax.random.key(0).")
    check_key(key)
    check_count(num_samples, "num_samples", 2)

    def flat(mixture: Mixture) -> Mixture:
        """Return a stack with one leading axis."""
        own = len(mixture.batch_shape)
        return jax.tree.map(
            lambda leaf: jnp.broadcast_to(leaf, (*shape, *leaf.shape[own:])).reshape(-1, *leaf.shape[own:]), mixture
        )

    keys = jax.random.split(key, math.prod(shape))
    value, error = (leaf.reshape(shape) for leaf in _divergences(keys, flat(p), flat(q), num_samples))
    return Distance(value, error, None, "kl")


@partial(jax.jit, static_argnums=3)
def _divergences(keys: jax.Array, p: Mixture, q: Mixture, num_samples: int) -> tuple[jax.Array, jax.Array]:
    """Return the mean (M,) of log p - log q over draws from p, and its standard error (M,), for stacks of M mixtures."""

    def one(arguments: tuple[jax.Array, Mixture, Mixture]) -> tuple[jax.Array, jax.Array]:
        key, p, q = arguments
        x, _ = sample(key, p, num_samples)
        ratios = log_prob(p, x) - log_prob(q, x)
        mean = ratios.mean()
        finite = jnp.isfinite(mean)
        error = jnp.where(finite, ratios, 0).std(ddof=1) / math.sqrt(num_samples)
        return mean, jnp.where(finite, error, jnp.inf)

    return jax.lax.map(one, (keys, p, q))
