"""The conditional distributions from which Gibbs sampling draws in turn: labels given parameters, parameters given labels.

    p(z_n = k | theta, x_n) proportional to w_k N(x_n | mu_k, Sigma_k)                  Diebolt & Robert (1994)
    weights | z ~ Dirichlet(c + counts)
    Prior:             Sigma_k | z ~ InverseWishart(nu + n_k, S + A_k + kappa n_k / (kappa + n_k) (xbar_k - m)(xbar_k - m)'),
                       mu_k | Sigma_k, z ~ N((kappa m + n_k xbar_k) / (kappa + n_k), Sigma_k / (kappa + n_k))
    IndependentPrior:  mu_k | Sigma_k, z normal with precision n_k Sigma_k^-1 + M^-1, then
                       Sigma_k | mu_k, z ~ InverseWishart(nu + n_k, S + A_k + n_k (xbar_k - mu_k)(xbar_k - mu_k)')

Here n_k, xbar_k and A_k are the count, mean and scatter matrix of the rows with label k. The modules of `priors` define the
parameters of the priors. For the covariance types diag and spherical, inverse gamma laws take the place of the inverse Wishart
laws. For tied there is one Sigma, and its law contains the sum of all scatter matrices. One pass over the rows, in chunks,
draws the labels and sums the rows with the same label. Memory therefore never holds an N x K array.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .. import covariance
from ..covariance.quadratic import quadratic_features, split_quadratic
from ..density import allowed_only, log_joint, log_joint_coefficients, quadratic_log_joint, safe_log
from ..devices.processes import over_parts
from ..incomplete.conditional import draw_conditional
from ..incomplete.observations import Observations
from ..mixture import Mixture
from ..priors.interface import ComponentSums, MixturePrior, StandardVariables
from ..rounding import positive_factors, scatter_about_mean
from ..row_sums import Total, Weight, nonzero, sum_over_rows, vary_with, weight_array
from ..validation import is_traced


class GibbsState(NamedTuple):
    """The current parameters of one chain.

    log_weights has shape (K,) and is -inf for absent components. means has shape (K, D). factors.lower holds a square root of
    each covariance. Despite this name, the square root need not be triangular.
    """

    log_weights: jax.Array
    means: jax.Array
    factors: covariance.Factors


class LabelledData(NamedTuple):
    """The rows for which labels are drawn.

    y holds the standardised rows, (N, D), or observations. weight holds the number of labels that are drawn for each row, an
    integer.
    """

    y: Any
    weight: Weight


def check_closed_forms(prior: MixturePrior, method: str, *, remedy: str = "sample with nuts") -> None:
    """Raise TypeError if the conditional distributions under a prior have no closed forms, which `method` needs."""
    if not prior.has_closed_forms:
        raise TypeError(
            f"prior.scale is {type(prior.covariance_law).__name__}, for which the conditional of the covariances has no "
            f"closed form; for {method} use InverseWishart or InverseGamma, or {remedy}."
        )


def check_integer_weights(weight: Weight, method: str, *, remedy: str = "sample with nuts, which accepts fractions") -> None:
    """Raise ValueError if weights (N,) are not integers: a row of weight w gets w labels. Traced weights are not checked."""
    values = weight_array(weight)
    if values is None or is_traced(values):
        return

    def largest_fraction(values: np.ndarray) -> np.ndarray:
        return np.max(values, initial=-1, where=values != np.floor(values))

    largest = over_parts(largest_fraction, values, combine=np.maximum)
    if largest >= 0:
        raise ValueError(
            f"sample_weight has {largest:.4g}; integers were expected, because {method} draws w "
            f"labels for a row of weight w: round the weights, or {remedy}."
        )


def are_counts(weight: Weight) -> jax.Array | bool:
    """Return whether all weights are integers >= 0, so that they can be numbers of labels."""
    values = weight_array(weight)
    return values is None or ((values == jnp.floor(values)) & (values >= 0)).all()


def gibbs_state(mixture: Mixture) -> GibbsState:
    """Convert a mixture to the state of a chain."""
    return GibbsState(safe_log(mixture.weights), mixture.means, positive_factors(mixture))


def sum_by_labels(
    key: jax.Array, state: GibbsState, data: LabelledData, center: jax.Array | None, covariance_type: str, chunk_size: int
) -> tuple[ComponentSums, jax.Array]:
    """Draw a label for each row given the parameters, and sum the rows by label.

    Args:
        key: a random key.
        state: the parameters.
        data: the rows.
        center: (K, D), a point near each component. It is subtracted from the rows before the quadratic form of the component
            is computed, for accuracy. In exact arithmetic the result would not depend on these points. None: the means of the
            state. With None, the compilation is faster for many components. Chains that share the same points run faster than
            chains with None.
        covariance_type: covariance type of the state.
        chunk_size: number of rows that are processed at a time.

    Returns:
        The sums of the rows by label, and the log-likelihood () of the state.
    """
    y, weight = data
    if isinstance(y, Observations):
        center, chunk_sums, shared = state.means, partial(_sums_of_drawn_rows, covariance_type), (state,)
        chunk_size = max(1, chunk_size // (2 * y.shape[1]))
    elif center is None:
        center, chunk_sums, shared = state.means, partial(_sums_about_means, covariance_type), (state,)
    else:
        coefficients = log_joint_coefficients(state.log_weights, state.means - center, state.factors, covariance_type)  # (K, F)
        chunk_sums, shared = partial(_labelled_sums, covariance_type), (coefficients, center)

    def sum_once(key: jax.Array, weight: Weight) -> tuple[jax.Array, jax.Array]:
        numbers = jax.random.uniform(key, (len(y),), y.dtype)  # the number drawn for a row does not depend on later rows
        if isinstance(y, Observations):
            numbers = (numbers, jax.random.normal(jax.random.fold_in(key, 0), (len(y), 2 * y.shape[1]), y.dtype))
        return sum_over_rows(chunk_sums, (y, numbers), weight, chunk_size, shared)

    values = weight_array(weight)
    if values is None:
        sums, log_likelihood = sum_once(key, weight)
    else:
        sums, log_likelihood = repeat_and_sum(
            lambda i: sum_once(jax.random.fold_in(key, i), jax.tree.map(lambda leaf: (leaf > i).astype(y.dtype), weight)),
            values.max(),
        )
    second, first, count = split_quadratic(sums, covariance_type, y.shape[1])
    precision = covariance.precision(state.factors.whitener, covariance_type)
    scatter = scatter_about_mean(count, first, second, covariance_type, precision)
    return ComponentSums(count, center + first / nonzero(count)[:, None], scatter), log_likelihood


def repeat_and_sum(function: Callable[[jax.Array], Total], times: jax.Array) -> Total:
    """Return the sum of function(0), ..., function(times - 1)."""
    shapes = jax.eval_shape(function, 0)
    zero = jax.tree.map(lambda leaf: vary_with(jnp.zeros(leaf.shape, leaf.dtype), leaf), shapes)

    def step(carry: tuple[jax.Array, Total]) -> tuple[jax.Array, Total]:
        i, total = carry
        return i + 1, jax.tree.map(jnp.add, total, function(i))

    return jax.lax.while_loop(lambda carry: carry[0] < times, step, (vary_with(jnp.array(0), times), zero))[1]


def _labelled_sums(
    covariance_type: str, rows: tuple[jax.Array, jax.Array], w: jax.Array, coefficients: jax.Array, center: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Draw labels for a chunk of rows. `rows` holds the rows and a uniform random number for each row.

    Return two arrays: for each label, the sum of the quadratic features of the rows with this label, (K, F); and the
    log-likelihood of the rows, ().
    """
    (y, uniform), components = rows, range(len(center))
    # Each component has its own centre. Its quadratic form is therefore accurate in float32 at every row that could belong
    # to it. The components are computed one after another: under vmap, each then takes one plain matrix product for all
    # chains. This was three times as fast as one batched product.
    features = [quadratic_features((y - center[k]).T, covariance_type) for k in components]  # (F, n)
    joint = [quadratic_log_joint(coefficients[k, None], features[k])[0] for k in components]
    top = jnp.stack(joint).max(0)
    running = list(itertools.accumulate(jnp.exp(one - top) for one in joint))
    log_likelihood = jnp.where(w > 0, w * (jnp.log(running[-1]) + top), 0).sum()
    # Labels are drawn by inverting the cumulative probabilities, with one uniform random number per row.
    below = [uniform * running[-1] < edge for edge in running[:-1]] + [jnp.ones_like(w, bool)]
    chosen = [below[0]] + [b & ~a for a, b in itertools.pairwise(below)]
    sums = [jnp.matmul(features[k], jnp.where(chosen[k], w, 0), precision=jax.lax.Precision.HIGHEST) for k in components]
    return jnp.stack(sums), log_likelihood


def _sums_about_means(
    covariance_type: str, rows: tuple[jax.Array, jax.Array], w: jax.Array, state: GibbsState
) -> tuple[jax.Array, jax.Array]:
    """Return the result of `_labelled_sums`, computed from the quadratic features of deviations from the means.

    For each row, the function needs only the quadratic features of the deviation from one mean, because the row has one label.
    """
    y, uniform = rows
    joint, _ = log_joint(*state, y.T, covariance_type, subtract_means_first=True)
    label = draw_labels(uniform, joint)
    features = quadratic_features((y - state.means[label]).T, covariance_type)  # (F, n)
    chosen = jnp.where(label == jnp.arange(len(state.means))[:, None], w, 0)
    sums = jnp.matmul(chosen, features.T, precision=jax.lax.Precision.HIGHEST)
    return sums, jnp.where(w > 0, w * jax.nn.logsumexp(joint, axis=0), 0).sum()


def _sums_of_drawn_rows(
    covariance_type: str, rows: tuple[Observations, tuple[jax.Array, jax.Array]], w: jax.Array, state: GibbsState
) -> tuple[jax.Array, jax.Array]:
    """Return the result of `_sums_about_means` for incomplete rows; missing and true values are drawn given the labels."""
    y, (uniform, normal) = rows
    log_normal, deviations = draw_conditional(state.means, state.factors, y, covariance_type, normal)
    joint = allowed_only(log_normal + state.log_weights[:, None], y.allowed)
    label = draw_labels(uniform, joint)
    own = jnp.take_along_axis(deviations, label[None, None], 0)[0]  # (D, n)
    chosen = jnp.where(label == jnp.arange(len(state.means))[:, None], w, 0)
    features = quadratic_features(own, covariance_type)
    sums = jnp.matmul(chosen, features.T, precision=jax.lax.Precision.HIGHEST)
    return sums, jnp.where(w > 0, w * jax.nn.logsumexp(joint, axis=0), 0).sum()


def draw_labels(uniform: jax.Array, joint: jax.Array) -> jax.Array:
    """Draw labels (n,) with probabilities proportional to exp(joint), joint (K, n), by inversion from uniform numbers (n,)."""
    top = joint.max(0)
    running = list(itertools.accumulate(jnp.exp(one - top) for one in joint))
    label = jnp.zeros(uniform.shape, jnp.int32)
    for edge in running[:-1]:
        label += uniform * running[-1] >= edge
    return label


def draw_state(
    keys: jax.Array,
    state: GibbsState,
    sums: ComponentSums,
    prior: MixturePrior,
    present: jax.Array,
    covariance_type: str,
) -> GibbsState:
    """Draw parameters given the sums of the rows by label.

    Args:
        keys: two random keys.
        state: the current parameters. Under some priors the conditional of the means depends on the current covariances.
        sums: the sums of the rows by label.
        prior: a prior whose conditionals have closed forms.
        present: (K,), True for the components that may have a positive weight; the other components keep weight 0.
        covariance_type: covariance type of the state.
    """
    shapes, num_normals = shapes_of_variables(sums, prior, covariance_type)
    # One call draws the gamma variables for both weights and covariances, because each call takes seconds to compile.
    log_gammas = jax.random.loggamma(keys[0], shapes, dtype=shapes.dtype)
    normals = jax.random.normal(keys[1], num_normals, shapes.dtype)
    log_gammas = jnp.where(shapes > 0, log_gammas, jnp.nan)
    return state_from_variables((log_gammas, normals), state, sums, prior, present, covariance_type)


def shapes_of_variables(
    sums: ComponentSums, prior: MixturePrior, covariance_type: str, label_counts: jax.Array | None = None
) -> tuple[jax.Array, tuple[int, int]]:
    """Return the shape parameters of the gamma variables, and the shape of the normal variables, for `state_from_variables`.

    The first K gamma variables are for the weights, and the others for the covariances. `label_counts` (K,) are the numbers of
    labels from which the weights are drawn; None stands for `sums.count`.
    """
    k, d = sums.mean.shape
    label_counts = sums.count if label_counts is None else label_counts
    shapes = prior.gamma_shapes_given_counts(sums.count, covariance_type)
    num_bartlett = shapes.size if covariance.is_dense(covariance_type) else 0
    return jnp.concatenate([prior.weight_concentration + label_counts, shapes.ravel()]), (k + num_bartlett, d)


def state_from_variables(
    variables: tuple[jax.Array, jax.Array],
    state: GibbsState,
    sums: ComponentSums,
    prior: MixturePrior,
    present: jax.Array,
    covariance_type: str,
) -> GibbsState:
    """Convert random variables to parameters given the sums of the rows by label.

    Args:
        variables: the logarithms of gamma variables, and normal variables, as described by `shapes_of_variables`. If a prior
            has too few degrees of freedom, a shape parameter can be <= 0. The logarithm must then be NaN, because the error
            would otherwise go unnoticed.
        state: the current parameters.
        sums: the sums of the rows by label.
        prior: a prior whose conditionals have closed forms.
        present: (K,), see `draw_state`.
        covariance_type: covariance type of the state.
    """
    log_gammas, normals = variables
    k, d = state.means.shape
    rows, columns = covariance.storage_shape(covariance_type, k, d)[:2]
    gammas = jnp.exp(log_gammas[k:]).reshape(rows, columns)
    standard = StandardVariables(gammas, normals[k:].reshape(-1, d, d), normals[:k])
    means, factors = prior.draw_given_sums(sums, state.factors, standard, covariance_type)
    log_weights = jax.nn.log_softmax(jnp.where(present, log_gammas[:k], -jnp.inf))
    # A weight of exactly 0 marks an absent component. The weight of a present component must therefore not round to 0. It is
    # raised to just above the smallest normal floating-point number.
    smallest = math.log(float(jnp.finfo(log_gammas.dtype).tiny)) + 1
    return GibbsState(jnp.where(present, jnp.maximum(log_weights, smallest), -jnp.inf), means, factors)
