"""What a mixture says of points: density, responsibilities, labels; draws from it; marginals and conditionals.

Everything broadcasts over a mixture's leading axes: log_prob(mixture (C, S, ...), x (N, D)) -> (C, S, N).
Points are centred on each mean before they are whitened, and rows are worked through in blocks, so that memory is
a block's and not N x K x D.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from . import covariance, linalg
from .chunking import density_rows_per_chunk
from .mixture import Mixture, check_mixture
from .validation import as_data, as_float_array, check_count, check_key


def log_prob(mixture: Mixture, x: Any) -> jax.Array:
    """Log density of each point, nats: log sum_k w_k N(x_n | mu_k, Sigma_k). Bishop (2006), eq. 9.12.

    Gradients with respect to every field are finite wherever the value is, at weights of exactly 0 too.

    Args:
        mixture: with leading axes (...).
        x: (N, D), in the units of the means.

    Returns:
        (..., N). -inf where every component's density underflows.

    Raises:
        ValueError, TypeError: not a Mixture; x is not (N, D), of another width than the mixture, or no numbers.

    Example:
        >>> import jaxgmm
        >>> mixture = jaxgmm.make_mixture([1.0], [[0.0]], [[[1.0]]])
        >>> round(float(jaxgmm.log_prob(mixture, [[0.0]])[0]), 4)
        -0.9189
    """
    x = as_points(mixture, x)
    return _log_prob(mixture, x)


def responsibilities(mixture: Mixture, x: Any) -> jax.Array:
    """Probability that point n came from component k, given the mixture: w_k N(x_n | k) / p(x_n). Bishop (2006), eq. 9.13.

    Where every density underflows, all of it goes to the nearest present component in Mahalanobis distance; never NaN
    for finite input.

    Args:
        mixture: with leading axes (...).
        x: (N, D), in the units of the means.

    Returns:
        (..., N, K), non-negative, rows summing to one.

    Raises:
        ValueError, TypeError: not a Mixture; x is not (N, D), of another width than the mixture, or no numbers.

    Example:
        >>> import jaxgmm
        >>> mixture = jaxgmm.make_mixture([0.5, 0.5], [[0.0], [4.0]], [[[1.0]], [[1.0]]])
        >>> jaxgmm.responsibilities(mixture, [[2.0]]).tolist()
        [[0.5, 0.5]]
    """
    x = as_points(mixture, x)
    return _all_responsibilities(mixture, x)


def predict(mixture: Mixture, x: Any) -> jax.Array:
    """The component with the largest responsibility, weights included.

    Args:
        mixture: with leading axes (...).
        x: (N, D), in the units of the means.

    Returns:
        (..., N) integers from 0 to K - 1.

    Raises:
        ValueError, TypeError: not a Mixture; x is not (N, D), of another width than the mixture, or no numbers.

    Example:
        >>> import jaxgmm
        >>> mixture = jaxgmm.make_mixture([0.9, 0.1], [[0.0], [4.0]], [[[1.0]], [[1.0]]])
        >>> jaxgmm.predict(mixture, [[2.1], [4.0]]).tolist()
        [0, 1]
    """
    x = as_points(mixture, x)
    return _predict(mixture, x)


def sample(key: jax.Array, mixture: Mixture, num_samples: int) -> tuple[jax.Array, jax.Array]:
    """Independent draws from one mixture, in random order.

    Args:
        key: a random key.
        mixture: one mixture, without leading axes; vmap over keys and mixtures for several.
        num_samples: N.

    Returns:
        x (N, D) in the units of the means, labels (N,): the component that each draw came from.

    Raises:
        ValueError: the mixture is a stack.

    Example:
        >>> import jax, jaxgmm
        >>> x, labels = jaxgmm.sample(jax.random.key(0), jaxgmm.make_mixture([1.0], [[0.0]], [[[1.0]]]), 5)
        >>> x.shape, labels.shape
        ((5, 1), (5,))
    """
    check_key(key)
    check_count(num_samples, "num_samples", 0)
    _require_one(mixture, "sample")
    return _sample(key, mixture, num_samples)


def marginal(mixture: Mixture, dims: Sequence[int] | int) -> Mixture:
    """The mixture of some of the features: a Gaussian mixture again. Bishop (2006), eq. 2.98.

    Args:
        mixture: with leading axes (...).
        dims: the features to keep, in the order wanted.

    Returns:
        A Mixture in len(dims) dimensions, of the same covariance type.

    Raises:
        ValueError: dims is empty, repeats a feature or names one that is not there.

    Example:
        >>> import jaxgmm, numpy as np
        >>> mixture = jaxgmm.make_mixture([1.0], [[1.0, 2.0]], [np.eye(2)])
        >>> jaxgmm.marginal(mixture, [1]).means.tolist()
        [[2.0]]
    """
    check_mixture(mixture)
    keep = _dims(dims, mixture.num_features)
    return Mixture(mixture.weights, mixture.means[..., keep], _keep(mixture, keep), mixture.covariance_type)


def condition(mixture: Mixture, dims: Sequence[int] | int, values: Any) -> Mixture:
    """The mixture of the other features, given values of some. Bishop (2006), eq. 2.81, 2.82.

    New weights are w_k N(values | k), normalised; where every density underflows the nearest component takes all.

    Args:
        mixture: with leading axes (...).
        dims: the features that are known.
        values: (len(dims),), in the units of those features.

    Returns:
        A Mixture of the remaining features in their order, of the same covariance type. A tied mixture stays tied: the
        conditional covariance is the same for every component.

    Raises:
        ValueError: dims is empty, names all features or one that is not there; values has another shape.

    Example:
        >>> import jaxgmm
        >>> mixture = jaxgmm.make_mixture([1.0], [[0.0, 0.0]], [[[1.0, 0.5], [0.5, 1.0]]])
        >>> jaxgmm.condition(mixture, 0, [2.0]).means.tolist()
        [[1.0]]
    """
    check_mixture(mixture)
    known = _dims(dims, mixture.num_features)
    rest = [i for i in range(mixture.num_features) if i not in known]
    if not rest:
        raise ValueError(f"dims names all {mixture.num_features} features; at least one must remain.")
    values = as_float_array(values, "values").astype(mixture.means.dtype)
    if values.shape != (len(known),):
        raise ValueError(f"values has shape {values.shape}; one value a known feature was expected: ({len(known)},).")
    weights = responsibilities(marginal(mixture, known), values[None])[..., 0, :]  # (..., K)
    means, covariances = mixture.means[..., rest], _keep(mixture, rest)
    if covariance.is_dense(mixture.covariance_type):
        lower = linalg.cholesky(_keep(mixture, known))
        cross = mixture.covariances[..., known, :][..., rest]  # (..., K | 1, known, rest)
        whitener = linalg.invert_lower(lower)
        half = covariance.multiply(whitener, cross)
        shift = covariance.multiply(whitener, jnp.expand_dims(values - mixture.means[..., known], -1))
        means = means + (jnp.swapaxes(half, -1, -2) @ shift)[..., 0]
        covariances = covariances - jnp.swapaxes(half, -1, -2) @ half
    return Mixture(weights, means, covariances, mixture.covariance_type)


@jax.jit
def _log_prob(mixture: Mixture, x: jax.Array) -> jax.Array:
    return _in_chunks(partial(_over_stack, _log_sum, mixture), mixture, x)


@jax.jit
def _all_responsibilities(mixture: Mixture, x: jax.Array) -> jax.Array:
    return _in_chunks(partial(_over_stack, _responsibilities, mixture), mixture, x, row_axis=-2)


@jax.jit
def _predict(mixture: Mixture, x: jax.Array) -> jax.Array:
    return _in_chunks(lambda rows: _over_stack(_responsibilities, mixture, rows).argmax(-1), mixture, x)


@partial(jax.jit, static_argnums=2)
def _sample(key: jax.Array, mixture: Mixture, num_samples: int) -> tuple[jax.Array, jax.Array]:
    stack = jax.tree.map(lambda leaf: leaf[None], mixture)
    return sample_from_stack(jax.random.split(key), stack, jnp.zeros(num_samples, int))


def sample_from_stack(keys: Any, stack: Mixture, index: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Draw one point from each of the members `index` (N,) of a stack (M, ...): points (N, D) and their components (N,).

    keys: two random keys, for labels and noise.
    """
    k, d, covariance_type = stack.num_components, stack.num_features, stack.covariance_type
    labels = jax.random.categorical(keys[0], safe_log(stack.weights)[index])
    lower = factors_of(stack).lower
    lower = jnp.broadcast_to(lower, (len(lower), k, *lower.shape[2:]))[index, labels]
    noise = jax.random.normal(keys[1], (len(index), d), stack.means.dtype)
    return stack.means[index, labels] + covariance.transform(lower, noise, covariance_type), labels


def as_points(mixture: Mixture, x: Any) -> jax.Array:
    """Return points (N, D) in the float type that they and the mixture promote to, or raise if they do not fit."""
    check_mixture(mixture)
    x = as_data(x, num_features=mixture.num_features)
    return x.astype(jnp.result_type(x.dtype, mixture.means.dtype))


def _require_one(mixture: Mixture, name: str) -> None:
    check_mixture(mixture)
    if mixture.batch_shape:
        raise ValueError(f"{name} takes one mixture; this one is a stack of shape {mixture.batch_shape}: use jax.vmap.")


def _dims(dims: Sequence[int] | int, num_features: int) -> list[int]:
    array = np.atleast_1d(np.asarray(dims))
    if array.size and array.dtype.kind not in "iu":
        raise TypeError(f"dims is {dims!r}; integers, features from 0 to {num_features - 1}, were expected.")
    dims = array.ravel().tolist()
    if not dims or len(set(dims)) < len(dims) or not all(-num_features <= i < num_features for i in dims):
        raise ValueError(f"dims is {dims}; different features from 0 to {num_features - 1} were expected.")
    return [i % num_features for i in dims]


def _keep(mixture: Mixture, dims: list[int]) -> jax.Array:
    if covariance.is_dense(mixture.covariance_type):
        return mixture.covariances[..., dims, :][..., dims]
    return mixture.covariances if mixture.covariances.shape[-1] == 1 else mixture.covariances[..., dims]


def safe_log(weights: jax.Array) -> jax.Array:
    """Return log w, -inf at a weight of 0, with finite derivatives there."""
    return jnp.where(weights > 0, jnp.log(jnp.where(weights > 0, weights, 1)), -jnp.inf)


def factors_of(mixture: Mixture) -> covariance.Factors:
    """Return the factors of a mixture's covariances."""
    return covariance.factorize(mixture.covariances, mixture.covariance_type, mixture.num_features)


def log_joint(
    log_weights: jax.Array,
    means: jax.Array,
    factors: covariance.Factors,
    x: jax.Array,
    covariance_type: str,
    *,
    subtract_means_first: bool = False,
) -> tuple[jax.Array, jax.Array]:
    """Return log w_k N(x_n | mu_k, Sigma_k), (K, n), and z = L_k^-1 (x_n - mu_k), (K, D, n): the exact evaluation.

    By default z is computed as L_k^-1 x - L_k^-1 mu_k: one matrix product for all components, 1.4 times as fast at D = 32,
    whose rounding error is eps times the distance of x and mu_k from the origin in standard deviations. Callers therefore
    centre the data first. With subtract_means_first the error is eps times the distance of x from mu_k.

    Args:
        log_weights: (K,), -inf for absent components.
        means: (K, D).
        factors: of the covariances.
        x: (D, n), features first.
        covariance_type: of the mixture.
        subtract_means_first: see above.
    """
    if subtract_means_first:
        z = covariance.whiten_each(factors.whitener, x - means[:, :, None], covariance_type)
    else:
        whitened_means = covariance.transform(factors.whitener, means, covariance_type)
        z = covariance.whiten(factors.whitener, x, covariance_type) - whitened_means[:, :, None]
    return log_constants(log_weights, factors, means.shape[-1])[:, None] - 0.5 * (z**2).sum(1), z


def log_constants(log_weights: jax.Array, factors: covariance.Factors, num_features: int) -> jax.Array:
    """Return log w_k N(mu_k | mu_k, Sigma_k), (K,)."""
    return log_weights - factors.half_log_det - num_features / 2 * math.log(2 * math.pi)


def quadratic_coefficients(
    log_weights: jax.Array, means: jax.Array, factors: covariance.Factors, covariance_type: str
) -> jax.Array:
    """Return the coefficients (K, F) with which `quadratic_log_joint` evaluates log w_k N(x | mu_k, Sigma_k)."""
    constants = log_constants(log_weights, factors, means.shape[-1])
    return covariance.quadratic_coefficients(factors.whitener, means, constants, covariance_type)


def quadratic_log_joint(coefficients: jax.Array, features: jax.Array) -> jax.Array:
    """Return log w_k N(x_n | mu_k, Sigma_k), (K, n), from `covariance.quadratic_features` of x: the fast evaluation.

    coefficients (K, F), and features (F, n) about one centre, or (K, F, n) about a centre for each component. Half the
    arithmetic of `log_joint`, with an error of eps (distance from the centre / standard deviation)^2.
    """
    return covariance.einsum("kf,fn->kn" if features.ndim == 2 else "kf,kfn->kn", coefficients, features)


def _over_stack(function: Callable, mixture: Mixture, x: jax.Array) -> jax.Array:
    """Return function(one mixture, x) for every member of a stack."""
    for _ in mixture.batch_shape:
        function = jax.vmap(function, in_axes=(0, None))
    return function(mixture, x)


def _log_sum(mixture: Mixture, x: jax.Array) -> jax.Array:
    """Return log p(x_n), (n,), linear in the weights, so that its gradient at a weight of 0 is the true one."""
    zero = jnp.zeros_like(mixture.weights)
    log_normals, _ = log_joint(
        zero, mixture.means, factors_of(mixture), x.T, mixture.covariance_type, subtract_means_first=True
    )
    joint = log_normals + safe_log(mixture.weights)[:, None]  # (K, n)
    top = jax.lax.stop_gradient(joint.max(0))
    top = jnp.where(jnp.isneginf(top), 0, top)
    ceiling = 0.98 * math.log(float(jnp.finfo(top.dtype).max))  # only a component of weight 0 can reach it
    total = (mixture.weights[:, None] * jnp.exp(jnp.minimum(log_normals - top, ceiling))).sum(0)
    return jnp.where(total == 0, -jnp.inf, jnp.log(jnp.where(total == 0, 1, total)) + top)


def _responsibilities(mixture: Mixture, x: jax.Array) -> jax.Array:
    """Return r (n, K); where every density underflows the nearest present component takes all."""
    log_weights, factors, covariance_type = safe_log(mixture.weights), factors_of(mixture), mixture.covariance_type
    joint, _ = log_joint(log_weights, mixture.means, factors, x.T, covariance_type, subtract_means_first=True)  # (K, n)
    top = joint.max(0)
    underflown = jnp.isneginf(top)
    unnormalised = jnp.exp(joint - jnp.where(underflown, 0, top))
    total = unnormalised.sum(0)
    # where squares overflowed for every component, compare distances scaled by the point's own size
    # (up to a bound: the reciprocal of the largest numbers is flushed to zero)
    size = jnp.clip(abs(x).max(-1), 1, math.sqrt(float(jnp.finfo(x.dtype).max)))
    deviations = x.T / size - mixture.means[:, :, None] / size
    scaled = abs(covariance.whiten_each(factors.whitener, deviations, covariance_type))  # (K, D, n)
    longest = scaled.max(1, keepdims=True)
    distance = jnp.log(longest[:, 0]) + 0.5 * jnp.log(((scaled / longest) ** 2).sum(1))
    nearest = jnp.where(jnp.isneginf(log_weights)[:, None], jnp.inf, distance).argmin(0)
    only_nearest = jax.nn.one_hot(nearest, len(joint), dtype=joint.dtype, axis=0)
    return jnp.where(underflown, only_nearest, unnormalised / jnp.where(underflown, 1, total)).T


def _in_chunks(function: Callable[[jax.Array], jax.Array], mixture: Mixture, x: jax.Array, row_axis: int = -1) -> jax.Array:
    """Return function(x), evaluated in chunks of rows whose results are joined along `row_axis`."""
    per_row = max(1, math.prod(mixture.batch_shape)) * mixture.num_components * mixture.num_features
    chunk = density_rows_per_chunk(per_row)
    if len(x) <= chunk:
        return function(x)
    whole = len(x) // chunk * chunk
    chunks = jax.lax.map(function, x[:whole].reshape(-1, chunk, x.shape[1]))  # (chunks, ..., chunk, ...)
    axis = chunks.ndim + row_axis
    joined = jnp.moveaxis(chunks, 0, axis - 1)
    joined = joined.reshape(*joined.shape[: axis - 1], whole, *joined.shape[axis + 1 :])
    return joined if whole == len(x) else jnp.concatenate([joined, function(x[whole:])], row_axis)
