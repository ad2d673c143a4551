"""Covariance types, as storage x pooling: arrays and a type name, nothing else.

    full       (K, D, D)   one dense matrix a component
    tied       (1, D, D)   one dense matrix, pooled over the components
    diag       (K, D)      one variance a component and feature
    spherical  (K, 1)      one variance a component, pooled over the features

Broadcasting does the rest. This is the one file that branches on the type (beside the NumPyro model, which is
a second description of the same mixture on purpose): a new type is added here.

Scatters come in two forms, "dense" (..., D, D) and "diagonal" (..., D); a type uses one of them throughout.
All functions take leading batch axes.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import gammaln, multigammaln

from . import linalg

TYPES = ("full", "tied", "diag", "spherical")
einsum = partial(jnp.einsum, precision=jax.lax.Precision.HIGHEST)  # TF32 is 1e-3 relative: not enough for EM
_SMALL = 4  # up to this D products are written out: elementwise, so that they batch well under vmap


def is_dense(covariance_type: str) -> bool:
    """True where covariances are stored as matrices (full, tied)."""
    return covariance_type in ("full", "tied")


def storage_shape(covariance_type: str, num_components: int, num_features: int) -> tuple[int, ...]:
    """Shape of the covariances of one mixture."""
    k, d = num_components, num_features
    return {"full": (k, d, d), "tied": (1, d, d), "diag": (k, d), "spherical": (k, 1)}[covariance_type]


def prior_scale_shape(covariance_type: str, num_features: int) -> tuple[int, ...]:
    """Shape of the scale of an inverse Wishart (or inverse gamma) prior on one covariance."""
    d = num_features
    return {"full": (d, d), "tied": (d, d), "diag": (d,), "spherical": ()}[covariance_type]


def num_free(covariance_type: str, num_components: int, num_features: int) -> int:
    """Number of free covariance parameters."""
    k, d = num_components, num_features
    return {"full": k * d * (d + 1) // 2, "tied": d * (d + 1) // 2, "diag": k * d, "spherical": k}[covariance_type]


def fewest_points(covariance_type: str, num_features: int) -> int:
    """Points below which a component's own covariance is a spike: D + 1 for full, 2 for diag and spherical, 0 for tied."""
    return {"full": num_features + 1, "tied": 0, "diag": 2, "spherical": 2}[covariance_type]


class Factors(NamedTuple):
    """What densities and moments need of the covariances, computed once a step.

    lower: Cholesky factors L (..., K | 1, D, D), or standard deviations (..., K, D | 1).
    whitener: L^-1, or reciprocal standard deviations, same shape.
    half_log_det: log |Sigma| / 2, (..., K | 1).
    """

    lower: jax.Array
    whitener: jax.Array
    half_log_det: jax.Array


def factorize(covariances: jax.Array, covariance_type: str, num_features: int) -> Factors:
    """Cholesky factors, their inverses and half log-determinants. Not positive definite gives NaN, never an error."""
    if is_dense(covariance_type):
        return complete(linalg.cholesky(covariances), covariance_type, num_features)
    return complete(jnp.sqrt(jnp.where(covariances > 0, covariances, jnp.nan)), covariance_type, num_features)


def complete(lower: jax.Array, covariance_type: str, num_features: int) -> Factors:
    """The factors, where Cholesky factors or standard deviations are known."""
    if is_dense(covariance_type):
        return Factors(lower, linalg.invert_lower(lower), jnp.log(linalg.diagonal(lower)).sum(-1))
    repeats = num_features // lower.shape[-1]  # a spherical variance stands for D of them
    return Factors(lower, 1 / lower, repeats * jnp.log(lower).sum(-1))


def whiten(whitener: jax.Array, x: jax.Array, covariance_type: str) -> jax.Array:
    """W x for data shared by the components: x (D, n) -> (K | 1, D, n), features first."""
    if is_dense(covariance_type):
        return einsum("kij,jn->kin", whitener, x)
    return whitener[:, :, None] * x


def whiten_each(whitener: jax.Array, deviations: jax.Array, covariance_type: str) -> jax.Array:
    """Return W_k v for deviations from each component's own mean: (K, D, n) -> (K, D, n), features first."""
    if is_dense(covariance_type):
        return einsum("kij,kjn->kin", jnp.broadcast_to(whitener, (len(deviations), *whitener.shape[1:])), deviations)
    return whitener[:, :, None] * deviations


def transform(factor: jax.Array, vectors: jax.Array, covariance_type: str) -> jax.Array:
    """F_k v_k for a factor or a whitener F: (..., K, D) -> (..., K, D)."""
    if not is_dense(covariance_type):
        return factor * vectors
    if factor.shape[-1] <= _SMALL and vectors.ndim < factor.ndim:  # one vector a matrix: see `multiply`
        return (factor * vectors[..., None, :]).sum(-1)
    return einsum("...ij,...j->...i", factor, vectors)


def multiply(a: jax.Array, b: jax.Array) -> jax.Array:
    """Products of small matrices (..., D, D): on the CPU each matrix product costs a call, and there may be many lanes."""
    if a.shape[-1] <= _SMALL:
        return (a[..., :, None, :] * jnp.swapaxes(b, -1, -2)[..., None, :, :]).sum(-1)
    return jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST)


def transform_scatter(factor: jax.Array, scatter: jax.Array, covariance_type: str) -> jax.Array:
    """F_k S_k F_k' in the type's scatter form."""
    if is_dense(covariance_type):
        return einsum("...ij,...jk,...lk->...il", factor, scatter, factor)
    return factor**2 * scatter


def outer(vectors: jax.Array, covariance_type: str) -> jax.Array:
    """v v' in the type's scatter form: (..., D) -> (..., D, D) or its diagonal (..., D)."""
    if is_dense(covariance_type):
        return vectors[..., :, None] * vectors[..., None, :]
    return vectors**2


def weighted_scatter(responsibilities: jax.Array, whitened: jax.Array, covariance_type: str) -> jax.Array:
    """sum_n r_kn y_kn y_kn' in the type's scatter form: r (K, n), y (K, D, n) -> (K, D, D) | (K, D)."""
    if is_dense(covariance_type):
        return einsum("kin,kjn->kij", responsibilities[:, None, :] * whitened, whitened)
    return (responsibilities[:, None, :] * whitened * whitened).sum(-1)  # a square may overflow where r is 0


def quadratic_features(x: jax.Array, covariance_type: str) -> jax.Array:
    """[x_i x_j (i <= j), x, 1], or [x_i^2, x, 1]: x (D, n) -> (F, n), in one gather of pairs of rows of [x, 1]."""
    d = len(x)
    i, j = np.triu_indices(d) if is_dense(covariance_type) else (np.arange(d), np.arange(d))
    extended = jnp.concatenate([x, jnp.ones_like(x[:1])])
    return extended[np.r_[i, : d + 1]] * extended[np.r_[j, [d] * (d + 1)]]


def quadratic_coefficients(whitener: jax.Array, means: jax.Array, constant: jax.Array, covariance_type: str) -> jax.Array:
    """constant_k - |W_k (x - mu_k)|^2 / 2 as coefficients (K, F) of `quadratic_features`."""
    k, d = means.shape
    if is_dense(covariance_type):
        precision = multiply(jnp.swapaxes(whitener, -1, -2), whitener)
        linear = transform(precision, means, covariance_type)
        i, j = np.triu_indices(d)
        squares = precision[:, i, j] * np.where(i == j, -0.5, -1.0).astype(means.dtype)
    else:
        precision = jnp.broadcast_to(whitener**2, means.shape)
        linear, squares = precision * means, -0.5 * precision
    squares = jnp.broadcast_to(squares, (k, squares.shape[-1]))
    return jnp.concatenate([squares, linear, (constant - 0.5 * (linear * means).sum(-1))[:, None]], -1)


def split_quadratic(sums: jax.Array, covariance_type: str, num_features: int) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Sums of `quadratic_features` (K, F) as scatter about 0, first moments (K, D) and counts (K,)."""
    d = num_features
    squares, first, count = sums[:, : -d - 1], sums[:, -d - 1 : -1], sums[:, -1]
    if is_dense(covariance_type):
        i, j = np.triu_indices(d)
        where = np.zeros((d, d), int)
        where[i, j] = where[j, i] = np.arange(len(i))
        squares = squares[:, where]
    return squares, first, count


def expand(values: jax.Array, covariance_type: str) -> jax.Array:
    """A number a component (..., K), with axes added to multiply scatters."""
    return values[..., None, None] if is_dense(covariance_type) else values[..., None]


def pool(scatters: jax.Array, covariance_type: str) -> jax.Array:
    """Per-component scatters to the type's storage: tied sums over components, spherical averages over features."""
    if covariance_type == "tied":
        return scatters.sum(-3, keepdims=True)
    if covariance_type == "spherical":
        return scatters.mean(-1, keepdims=True)
    return scatters


def pool_counts(counts: jax.Array, covariance_type: str) -> jax.Array:
    """Counts (..., K) that divide what `pool` returns: the ML covariances are pool(A) / pool_counts(n)."""
    if covariance_type == "tied":
        counts = counts.sum(-1, keepdims=True)
    return expand(counts, covariance_type)


def ridge(covariances: jax.Array, amount: jax.Array, covariance_type: str) -> jax.Array:
    """Adds `amount` (a number, or one a feature (..., D)) to each covariance diagonal."""
    if is_dense(covariance_type):
        d = covariances.shape[-1]
        return covariances + np.eye(d, dtype=covariances.dtype) * jnp.asarray(amount)[..., None]
    return covariances + amount


def relative_ridge(covariances: jax.Array, fraction: float, covariance_type: str) -> jax.Array:
    """Multiplies the diagonal of dense covariances by 1 + fraction; others have nothing to be collinear with."""
    if not is_dense(covariance_type):
        return covariances
    d = covariances.shape[-1]
    return covariances * (1 + fraction * np.eye(d, dtype=covariances.dtype))


def from_data_scatter(scatter: jax.Array, covariance_type: str) -> jax.Array:
    """One scatter (..., D, D) | (..., D) of all data as one stored covariance, component axis kept at 1."""
    scatter = jnp.expand_dims(scatter, -3 if is_dense(covariance_type) else -2)
    return scatter.mean(-1, keepdims=True) if covariance_type == "spherical" else scatter


def variances(covariances: jax.Array, covariance_type: str, num_features: int) -> jax.Array:
    """Variances of the features, (..., K | 1, D); NumPy in, NumPy out."""
    if is_dense(covariance_type):
        return covariances.diagonal(axis1=-2, axis2=-1)
    xp = np if isinstance(covariances, np.ndarray) else jnp
    return xp.broadcast_to(covariances, (*covariances.shape[:-1], num_features))


def to_dense(covariances: jax.Array, covariance_type: str, num_components: int, num_features: int) -> jax.Array:
    """Covariance matrices of all components, (..., K, D, D), whatever the storage; NumPy in, NumPy out."""
    xp = np if isinstance(covariances, np.ndarray) else jnp
    if is_dense(covariance_type):
        batch = covariances.shape[:-3]
        return xp.broadcast_to(covariances, (*batch, num_components, num_features, num_features))
    diagonal = variances(covariances, covariance_type, num_features)
    return diagonal[..., None] * xp.eye(num_features, dtype=diagonal.dtype)


def from_dense(matrices: jax.Array, covariance_type: str, weights: jax.Array) -> jax.Array:
    """Dense matrices (..., K, D, D) in the type's storage; tied takes their weighted average."""
    if covariance_type == "full":
        return matrices
    if covariance_type == "tied":
        return (weights[..., None, None] * matrices).sum(-3, keepdims=True) / weights.sum(-1)[..., None, None, None]
    diagonal = linalg.diagonal(matrices)
    return diagonal if covariance_type == "diag" else diagonal.mean(-1, keepdims=True)


def lower_diagonal(factors: Factors, covariance_type: str) -> jax.Array:
    """Standard deviation of each feature given those before it, (..., K | 1, D | 1)."""
    return linalg.diagonal(factors.lower) if is_dense(covariance_type) else factors.lower


def floor_fraction(floor: jax.Array, factors: Factors, covariance_type: str) -> jax.Array:
    """What share of a covariance is regularisation in the direction where that is largest, (..., K | 1).

    Dense: tr(floor Sigma^-1), a bound on the largest generalised eigenvalue that is tight where one direction has collapsed.
    """
    if is_dense(covariance_type):
        return mahalanobis_trace(floor, factors, covariance_type, factors.whitener.shape[-1])
    return (floor * factors.whitener**2).max(-1)


def permute(covariances: jax.Array, order: jax.Array, covariance_type: str) -> jax.Array:
    """Components in a new order (..., K); a tied covariance belongs to no component."""
    if covariance_type == "tied":
        return covariances
    return jnp.take_along_axis(covariances, expand(order, covariance_type), axis=-3 if is_dense(covariance_type) else -2)


def select_components(mask: jax.Array, new: jax.Array, old: jax.Array, covariance_type: str) -> jax.Array:
    """`new` where mask (..., K) holds, else `old`; a tied covariance is new where any component is."""
    if covariance_type == "tied":
        mask = mask.any(-1, keepdims=True)
    return jnp.where(expand(mask, covariance_type), new, old)


def labels(covariance_type: str, num_components: int, num_features: int) -> list[tuple[int, ...]]:
    """Index tuples into the storage of one mixture of its free entries (lower triangles of matrices)."""
    shape = storage_shape(covariance_type, num_components, num_features)
    if is_dense(covariance_type):
        return [(k, i, j) for k in range(shape[0]) for i in range(shape[1]) for j in range(i + 1)]
    return [(k, i) for k in range(shape[0]) for i in range(shape[1])]


def mahalanobis_trace(scale: jax.Array, factors: Factors, covariance_type: str, num_features: int) -> jax.Array:
    """tr(scale Sigma^-1) for each stored covariance, (..., K | 1); scale in the type's storage or broadcasting to it."""
    if is_dense(covariance_type):
        return (einsum("...ij,...jk->...ik", factors.whitener, scale) * factors.whitener).sum((-2, -1))
    repeats = num_features // factors.whitener.shape[-1]
    return repeats * (scale * factors.whitener**2).sum(-1)


def mode_denominator(
    counts: jax.Array,
    present: jax.Array,
    degrees_of_freedom: jax.Array,
    covariance_type: str,
    num_features: int,
    means_share_covariance: bool,
) -> jax.Array:
    """What divides (scale + scatter) at the mode of a covariance under an inverse Wishart or inverse gamma prior.

    It is minus twice the power of |Sigma| in the joint density of parameters and data. counts, present: (..., K).
    means_share_covariance: the prior of the means is N(m, Sigma / kappa), which adds one observation a component.
    Spherical: divides scale + trace of the scatter, that is D times what `pool` gives.
    """
    d = num_features
    base = degrees_of_freedom + (d + 1 if is_dense(covariance_type) else 2)
    share = counts + (present if means_share_covariance else 0)
    if covariance_type == "spherical":
        share = d * share
    return expand(jnp.asarray(base)[..., None], covariance_type) + pool_counts(share, covariance_type)


def prior_scale(scale: jax.Array, covariance_type: str) -> jax.Array:
    """A prior's scale (..., D, D) | (..., D) | (...) with the component axis that the storage has."""
    if covariance_type == "spherical":
        return scale[..., None, None]
    return jnp.expand_dims(scale, -3 if is_dense(covariance_type) else -2)


def scatter_total(pooled: jax.Array, covariance_type: str, num_features: int) -> jax.Array:
    """Undoes the average over features that `pool` takes for spherical, to add to a prior's scale."""
    return pooled * num_features if covariance_type == "spherical" else pooled


def inverse_wishart_log_prob(
    factors: Factors, degrees_of_freedom: jax.Array, scale: jax.Array, covariance_type: str, num_features: int
) -> jax.Array:
    """Log density of each stored covariance, (..., K | 1): Sigma ~ InverseWishart(nu, S) for full and tied,
    variances ~ InverseGamma(nu / 2, S / 2) for diag and spherical. Normalised, with respect to the free entries
    of the covariance. Source: Gelman et al. (2013), Bayesian Data Analysis, appendix A.
    """
    d, nu = num_features, jnp.asarray(degrees_of_freedom)[..., None]
    if is_dense(covariance_type):
        scale = prior_scale(scale, covariance_type)
        half_log_det_scale = jnp.log(linalg.diagonal(linalg.cholesky(scale))).sum(-1)
        trace = mahalanobis_trace(scale, factors, covariance_type, d)
        return (
            nu * half_log_det_scale
            - nu * d / 2 * jnp.log(2.0)
            - multigammaln(nu / 2, d)
            - (nu + d + 1) * factors.half_log_det
            - trace / 2
        )
    precision = factors.whitener**2
    rate = prior_scale(scale, covariance_type) / 2
    shape = expand(jnp.asarray(degrees_of_freedom)[..., None], covariance_type) / 2
    return (shape * jnp.log(rate) - gammaln(shape) + (shape + 1) * jnp.log(precision) - rate * precision).sum(-1)


def half_normal_lkj_log_prob(
    covariances: jax.Array, factors: Factors, sd: jax.Array, lkj: jax.Array, covariance_type: str, num_features: int
) -> jax.Array:
    """Log density (..., K | 1) of stored covariances whose standard deviations are half-normal and correlations LKJ.

    With respect to the free entries of Sigma: |d Sigma / d (tau, R)| = 2^D prod tau^D; variances have 2 tau each.
    Source of the LKJ constant: Lewandowski, Kurowicka & Joe (2009), eq. 16.
    """
    tau = jnp.sqrt(variances(covariances, covariance_type, num_features)) if is_dense(covariance_type) else factors.lower
    d = num_features if is_dense(covariance_type) else 1
    log_tau = jnp.log(tau)
    log_normal = 0.5 * jnp.log(2 / jnp.pi) - jnp.log(sd) - 0.5 * (tau / sd) ** 2
    density = (log_normal - jnp.log(2.0) - d * log_tau).sum(-1)
    if is_dense(covariance_type):
        log_det = 2 * (factors.half_log_det - log_tau.sum(-1))
        j = jnp.arange(1, d, dtype=covariances.dtype)  # d - k of eq. 16
        alpha = lkj + (j - 1) / 2
        log_beta = 2 * gammaln(alpha) - gammaln(2 * alpha)
        density += (lkj - 1) * log_det - (j * ((2 * lkj - 2 + j) * jnp.log(2.0) + log_beta)).sum()
    return density


def sample_inverse_wishart(
    key: jax.Array,
    degrees_of_freedom: jax.Array,
    scale: jax.Array,
    covariance_type: str,
    num_components: int,
    num_features: int,
) -> jax.Array:
    """Draws the covariances of one mixture, in its storage, by Bartlett's decomposition or reciprocal gammas.

    scale and degrees_of_freedom may carry a component axis in front (posterior draws); else they are shared.
    """
    d, dtype = num_features, scale.dtype
    key_gamma, key_normal = jax.random.split(key)
    shapes = gamma_shapes(jnp.asarray(degrees_of_freedom, dtype), covariance_type, num_components, d)
    gammas = jax.random.gamma(key_gamma, shapes, dtype=dtype)
    scale = jnp.broadcast_to(scale, storage_shape(covariance_type, num_components, d))
    normals = jax.random.normal(key_normal, (len(shapes), d, d), dtype) if is_dense(covariance_type) else gammas
    return from_factor(inverse_wishart_factors(gammas, normals, scale, covariance_type, d).lower, covariance_type)


def gamma_shapes(degrees_of_freedom: jax.Array, covariance_type: str, num_components: int, num_features: int) -> jax.Array:
    """Shapes (K | 1, D | 1) of the gamma variables that `inverse_wishart_factors` takes; degrees of freedom () or (K | 1,)."""
    rows, columns = storage_shape(covariance_type, num_components, num_features)[:2]
    # Bartlett: chi-squares with nu, nu - 1, ... degrees of freedom
    fewer = jnp.arange(columns, dtype=degrees_of_freedom.dtype) if is_dense(covariance_type) else 0
    return (jnp.broadcast_to(degrees_of_freedom.reshape(-1, 1), (rows, columns)) - fewer) / 2


def inverse_wishart_factors(
    gammas: jax.Array, normals: jax.Array, scale: jax.Array, covariance_type: str, num_features: int
) -> Factors:
    """Factors of Sigma ~ InverseWishart(nu, S), or of variances ~ InverseGamma(nu / 2, S / 2), made of standard variables.

    gammas: standard gamma variables of `gamma_shapes`; normals: (K | 1, D, D), of which those below the diagonal count, for
    full and tied; scale: S in storage form. `lower` is then a square root of Sigma, but no triangle: S = C C' and
    A A' ~ Wishart(nu, I) by Bartlett's decomposition give Sigma = (C A^-T) (C A^-T)'.
    """
    if not is_dense(covariance_type):
        root = jnp.sqrt(scale / (2 * gammas))
        return Factors(root, 1 / root, num_features // root.shape[-1] * jnp.log(root).sum(-1))
    diagonal = jnp.sqrt(2 * gammas)
    bartlett = jnp.tril(normals, -1) + diagonal[..., None] * np.eye(num_features, dtype=scale.dtype)
    lower = linalg.cholesky(scale)
    half_log_det = jnp.log(linalg.diagonal(lower) / diagonal).sum(-1)
    root = multiply(lower, jnp.swapaxes(linalg.invert_lower(bartlett), -1, -2))
    return Factors(root, multiply(jnp.swapaxes(bartlett, -1, -2), linalg.invert_lower(lower)), half_log_det)


def from_factor(factor: jax.Array, covariance_type: str) -> jax.Array:
    """Covariances F F' of square roots F, in storage form."""
    if is_dense(covariance_type):
        return multiply(factor, jnp.swapaxes(factor, -1, -2))
    return factor**2


def observed_degrees(counts: jax.Array, covariance_type: str, num_features: int) -> jax.Array:
    """Degrees of freedom that points add to an inverse Wishart or gamma, (..., K | 1): a spherical variance sees D values each."""
    if covariance_type == "tied":
        return counts.sum(-1, keepdims=True)
    return num_features * counts if covariance_type == "spherical" else counts
