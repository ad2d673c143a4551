"""Gibbs sweeps that move particles. Their target is the posterior given the rows that have entered: see `data_tempering`."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from ... import covariance
from ...chunking import particle_rows_per_chunk
from ...density import log_joint
from ...mixture import Mixture
from ...priors.interface import ComponentSums, MixturePrior
from ...row_sums import FirstRows, Weight, weight_array
from ..conditionals import GibbsState, LabelledData, repeat_and_sum, shapes_of_variables, state_from_variables, sum_by_labels
from ..gamma_draws import draw_log_gammas
from ..mixing import label_invariant_draws
from .labels import are_written_out, sum_labels_of_particles
from .particles import random_order


class Problem(NamedTuple):
    """The standardised rows y (N, D), their weights (N,), the prior, and booleans (K,), True for the present components."""

    y: jax.Array
    weight: Weight
    prior: MixturePrior
    present: jax.Array


class Target(NamedTuple):
    """The posterior given the first `entered` rows and a part of the next row: the likelihood of the next row has an exponent.

    limit: the largest value of `entered` in all runs. The rows after the first `limit` rows are skipped.
    """

    problem: Problem
    covariance_type: str
    entered: jax.Array
    exponent: jax.Array
    limit: jax.Array


def joint_of_particles(state: GibbsState, rows: jax.Array, covariance_type: str) -> jax.Array:
    """Return log w_k N(y_n | k), (M, K, n), for each particle, each component k and each row n of `rows` (D, n)."""

    def of_one(state: GibbsState) -> jax.Array:
        return log_joint(state.log_weights, state.means, state.factors, rows, covariance_type, subtract_means_first=True)[0]

    return jax.vmap(of_one)(state)


def invariant_quantities(mixture: Mixture) -> jax.Array:
    """Return the label-invariant quantities (Q, M) of mixtures (M, ...) by which `Moves.suffice` judges the moves.

    They are the sorted weights and, for each feature, the sorted means and the sorted variances of the components.
    """
    zeros = jnp.zeros(len(mixture.weights), mixture.weights.dtype)
    one_run = jax.tree.map(lambda leaf: leaf[None], (mixture, zeros))
    return label_invariant_draws(*one_run)[1:, 0]


def sweep(key: jax.Array, states: GibbsState, target: Target) -> GibbsState:
    """Make one Gibbs sweep with all particles."""
    problem, covariance_type, entered, exponent, _ = target
    next_row = jnp.minimum(entered, len(problem.y) - 1)
    key_labels, key_row, key_gammas, key_normals, key_order = jax.random.split(key, 5)
    all_sums = _sum_labels(key_labels, states, target)

    def add_next_row(key: jax.Array, state: GibbsState, sums: ComponentSums) -> tuple[ComponentSums, jax.Array]:
        counts = _labels_of_next_row(key, state, problem, next_row, exponent, covariance_type)
        part = _with_point(sums, exponent * counts, problem.y[next_row], covariance_type)
        return part, shapes_of_variables(part, problem.prior, covariance_type, sums.count + counts)[0]

    sums, shapes = jax.vmap(add_next_row)(jax.random.split(key_row, len(states.means)), states, all_sums)
    one_sum = jax.tree.map(lambda leaf: leaf[0], sums)
    _, num_normals = shapes_of_variables(one_sum, problem.prior, covariance_type)
    log_gammas = jnp.where(shapes > 0, draw_log_gammas(key_gammas, shapes), jnp.nan)
    normals = jax.random.normal(key_normals, (len(shapes), *num_normals), shapes.dtype)

    def finish(key: jax.Array, state: GibbsState, sums: ComponentSums, log_gammas: jax.Array, normals: jax.Array) -> GibbsState:
        variables = (log_gammas, normals)
        new = state_from_variables(variables, state, sums, problem.prior, problem.present, covariance_type)
        return _permute(new, random_order(key, problem.prior.weight_concentration, problem.present))

    return jax.vmap(finish)(jax.random.split(key_order, len(shapes)), states, sums, log_gammas, normals)


def _sum_labels(key: jax.Array, states: GibbsState, target: Target) -> ComponentSums:
    """Draw a label for each row that has entered, with each particle (M, ...). Return the sums (M, K, ...) by label."""
    problem, covariance_type, entered, _, limit = target
    m, k, d = states.means.shape
    rows = FirstRows(entered, limit)
    weight = weight_array(problem.weight)
    if weight is not None:
        rows = jnp.where(jnp.arange(len(problem.y)) < entered, weight, 0)
    elif are_written_out(d):
        return sum_labels_of_particles(key, states, problem.y, rows, covariance_type)
    data, chunk = LabelledData(problem.y, rows), particle_rows_per_chunk(k, d, m)

    def one(key: jax.Array, state: GibbsState) -> ComponentSums:
        return sum_by_labels(key, state, data, state.means, covariance_type, chunk)[0]

    return jax.vmap(one)(jax.random.split(key, m), states)


def _labels_of_next_row(
    key: jax.Array, state: GibbsState, problem: Problem, row: jax.Array, exponent: jax.Array, covariance_type: str
) -> jax.Array:
    """Draw labels for the row that enters with an exponent, one for each unit of its weight. Return the labels' counts (K,)."""
    one = jax.tree.map(lambda leaf: leaf[None], state)
    joint = joint_of_particles(one, problem.y[row][:, None], covariance_type)[0, :, 0]
    power = jnp.where(jnp.isfinite(state.log_weights), state.log_weights + exponent * (joint - state.log_weights), -jnp.inf)

    def draw(i: jax.Array) -> jax.Array:
        label = jax.random.categorical(jax.random.fold_in(key, i), power)
        return jax.nn.one_hot(label, len(power), dtype=power.dtype)

    weights = weight_array(problem.weight)
    weight = jnp.ones_like(exponent) if weights is None else weights[row]
    return repeat_and_sum(draw, jnp.where(exponent > 0, weight, 0))


def _with_point(sums: ComponentSums, weight: jax.Array, point: jax.Array, covariance_type: str) -> ComponentSums:
    """Add one point (D,) to the sums of all components, with a weight for each component, (K,)."""
    count = sums.count + weight
    share = weight / jnp.where(count > 0, count, 1)
    difference = point - sums.mean
    outer = covariance.outer(difference, covariance_type)
    factor = (sums.count * share).reshape(-1, *[1] * (outer.ndim - 1))
    return ComponentSums(count, sums.mean + share[:, None] * difference, sums.scatter + factor * outer)


def _permute(state: GibbsState, order: jax.Array) -> GibbsState:
    """Return a state with its components in another order."""
    factors = state.factors
    if len(factors.half_log_det) == len(order):  # tied mixtures have one covariance, which needs no permutation
        factors = jax.tree.map(lambda leaf: leaf[order], factors)
    return GibbsState(state.log_weights[order], state.means[order], factors)
