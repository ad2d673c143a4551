"""The systems of coordinates in which the parts of a proposal for an evidence are t distributions.

A component without data follows its prior. In unconstrained space z, its tails are then much heavier than those of a t
distribution: its mean is far from m where its variance is large, and under a small concentration c its weight may be e^-1000.
There are therefore three systems, and each part chooses one of them for each coordinate:

    0    z itself
    1    means: the standard normal noise from which the prior computes mu_k given Sigma_k
         weights: the logit of u = sigmoid(s + log b)^c, with s the logit of a stick's fraction and b = N + sum c
    2    weights: the same with -s in place of s, for the last component, whose weight has no stick of its own

If component k is empty, the fraction is Beta(c_k, n + ...), with n the number of points of later components. The law of u is then
nearly uniform, and its logit nearly logistic.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from .. import covariance
from ..mixture import Mixture
from .importance import Points
from .standardization import StandardizedProblem
from .unconstrained_space import UnconstrainedSpace, log_sigmoid

_LARGE = 15.0  # above this logit, the first terms of a series replace logarithms of numbers that round to 1


class Measured(NamedTuple):
    """A point, and what its coordinates in the other systems are computed from.

    Attributes:
        z: (..., P), the point in unconstrained space.
        noise: (..., K, D), the noise from which the prior computes the means given the covariances.
        log_slope: (..., K), log|d noise_k / d mu_k|.
    """

    z: jax.Array
    noise: jax.Array
    log_slope: jax.Array


class Coordinates(NamedTuple):
    """The maps between the systems.

    Attributes:
        measure: z (P,) -> the measured point.
        describe: a measured point -> the point in all systems.
        place_means: coordinates (P,), and the system of each (P,) -> the coordinates with all means in system 0, and
            log|d coordinates / d result| ().
        to_first: coordinates (P,), and the system of each (P,) -> z (P,).
        choose: (K,), whether each component is empty -> the system of each coordinate (P,).
    """

    measure: Callable[[jax.Array], Measured]
    describe: Callable[[Measured], Points]
    place_means: Callable[[jax.Array, jax.Array], tuple[jax.Array, jax.Array]]
    to_first: Callable[[jax.Array, jax.Array], jax.Array]
    choose: Callable[[jax.Array], jax.Array]


def make_coordinates(space: UnconstrainedSpace, problem: StandardizedProblem) -> Coordinates:
    """Return the maps between the systems, under the problem's prior."""
    prior = problem.prior
    concentration = prior.weight_concentration
    total = len(problem.y) if problem.weight is None else problem.weight.sum()
    log_points = jnp.log(total + concentration.sum())
    own, last = concentration[:-1], concentration[-1:]
    offset = jnp.log(jnp.arange(len(own), 0, -1, dtype=own.dtype))  # of NumPyro's stick-breaking transform

    def replace(z: jax.Array, **parts: jax.Array) -> jax.Array:
        return ravel_pytree(space.unravel(z) | parts)[0]

    def spread(numbers: jax.Array) -> jax.Array:  # (K,) -> (K, D), with the same sum
        d = prior.mean.shape[0]
        return jnp.broadcast_to(numbers[:, None] / d, (len(numbers), d))

    def decode(z: jax.Array) -> tuple[Mixture, covariance.Factors, jax.Array]:
        mixture, _ = space.unflatten(z)
        d = mixture.num_features
        factors = covariance.factorize(mixture.covariances, mixture.covariance_type, d)
        at_center = dataclasses.replace(mixture, means=jnp.broadcast_to(prior.mean, mixture.means.shape))
        return mixture, factors, prior.log_density_of_means(at_center, factors) + d / 2 * math.log(2 * math.pi)

    def measure(z: jax.Array) -> Measured:
        mixture, factors, log_slope = decode(z)
        return Measured(z, prior.noise_of_means(mixture, factors), log_slope)

    def describe(point: Measured) -> Points:
        z, zero = point.z, jnp.zeros_like(point.z)
        sticks = space.unravel(z)["weights"] - offset
        first, first_slope = _compress(sticks, own, log_points)
        second, second_slope = _compress(-sticks, last, log_points)
        slopes = replace(zero, means=spread(point.log_slope), weights=first_slope), replace(zero, weights=second_slope)
        others = replace(z, means=point.noise, weights=first), replace(z, weights=second)
        return Points(jnp.stack([z, *others]), jnp.stack([zero, *slopes]))

    def place_means(chosen: jax.Array, system: jax.Array) -> tuple[jax.Array, jax.Array]:
        mixture, factors, log_slope = decode(chosen)
        means = prior.mean + prior.deviations_of_means(factors.lower, mixture.means, mixture.covariance_type)
        is_noise = space.unravel(jnp.asarray(system, chosen.dtype))["means"] == 1
        means = jnp.where(is_noise, means, mixture.means)
        return replace(chosen, means=means), jnp.where(is_noise, spread(log_slope), 0).sum()

    def to_first(chosen: jax.Array, system: jax.Array) -> jax.Array:
        sticks, of_sticks = (space.unravel(jnp.asarray(v, chosen.dtype))["weights"] for v in (chosen, system))
        first, second = offset + _expand(sticks, own, log_points), offset - _expand(sticks, last, log_points)
        sticks = jnp.where(of_sticks == 0, sticks, jnp.where(of_sticks == 1, first, second))
        return replace(place_means(chosen, system)[0], weights=sticks)

    def choose(empty: jax.Array) -> jax.Array:
        zero = jnp.zeros(space.size)
        means = jnp.where(empty[:, None], 1.0, space.unravel(zero)["means"])
        sticks = jnp.where(empty[:-1], 1.0, jnp.where((jnp.arange(len(own)) == len(own) - 1) & empty[-1], 2.0, 0.0))
        return replace(zero, means=means, weights=sticks).astype(int)

    return Coordinates(measure, describe, place_means, to_first, choose)


def _compress(logit: jax.Array, concentration: jax.Array, log_points: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return the logit y of u = sigmoid(t)^c, with t = logit + log_points, and log(dy / dt)."""
    t = logit + log_points
    small, tail = jnp.minimum(t, _LARGE), (1 - concentration) / 2 * jnp.exp(-jnp.maximum(t, _LARGE))
    log_u = concentration * log_sigmoid(small)
    log_rest = jnp.log(-jnp.expm1(log_u))
    log_c = jnp.log(concentration)
    y = jnp.where(t > _LARGE, t - log_c + tail, log_u - log_rest)
    return y, jnp.where(t > _LARGE, -tail, log_c + log_sigmoid(-small) - log_rest)


def _expand(y: jax.Array, concentration: jax.Array, log_points: jax.Array) -> jax.Array:
    """Return the logit from which `_compress` computes y."""
    log_c = jnp.log(concentration)
    large = jnp.maximum(y + log_c, _LARGE)
    log_sigma = log_sigmoid(jnp.minimum(y, _LARGE - log_c)) / concentration
    t = jnp.where(y + log_c > _LARGE, large - (1 - concentration) / 2 * jnp.exp(-large), log_sigma - jnp.log(-jnp.expm1(log_sigma)))
    return t - log_points
