"""The coordinates in which the proposal for the evidence is defined.

The proposal is a mixture of t distributions, which are called its parts. A part may have empty components, which hold no data.
An empty component follows its prior. In unconstrained space z, this prior has much heavier tails than a t distribution. The
mean of the component is far from the prior mean m where the variance of the component is large. The weight of the component may
be e^-1000 if the concentration c is small. There are therefore three systems of coordinates, with the indices 0, 1 and 2. Each
part uses system 0, except for the means and the weights of its empty components:

    0    z itself
    1    mean of an empty component: the standard normal noise from which the prior computes mu_k given Sigma_k
         weight of an empty component: the logit of u = sigmoid(s + log b)^c
    2    weight of an empty last component: the logit of u = sigmoid(-s + log b)^c

Here s is the logit of a fraction of the stick-breaking transform, and b = N + sum_j c_j. The fraction of component k is
w_k / (w_k + ... + w_K). The last component has no fraction. Its share of w_K-1 + w_K is one minus the fraction of component
K - 1, and the logit of this share is -s. If component k is empty, its fraction is Beta(c_k, n + c_k+1 + ... + c_K), where n is
the number of points in later components. The law of u is then nearly uniform, and the law of its logit is nearly logistic.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from ...row_sums import total_weight
from ..standardization import StandardizedProblem
from ..unconstrained_space import UnconstrainedSpace, log_sigmoid
from .importance import Points

_LARGE = 15.0  # above this logit, the first terms of a series replace logarithms of numbers that round to 1


class Measured(NamedTuple):
    """A point, and the quantities from which its coordinates in the other systems are computed.

    Attributes:
        z: (..., P), the point in unconstrained space.
        noise: (..., K, D), standard normal noise. Under the prior, the mean of a component given its covariance is a linear
            function of the noise.
        log_slope: (..., K), log|d noise_k / d mu_k|.
    """

    z: jax.Array
    noise: jax.Array
    log_slope: jax.Array


@dataclass(frozen=True)
class Coordinates:
    """The maps between the three systems of coordinates, for the unconstrained space of a problem."""

    space: UnconstrainedSpace
    problem: StandardizedProblem

    def place(self, chosen: jax.Array, empty: jax.Array) -> Measured:
        """Return a point, given its coordinates `chosen` (P,) in the systems of a part of the proposal.

        The booleans `empty` (K,) are True for the empty components of this part.
        """
        point, _ = self.place_means(chosen, empty)
        system, sticks = self._systems_of_sticks(empty), self.space.unravel(chosen)["weights"]
        first = self._offset + _expand(sticks, self._concentration[:-1], self._log_points)
        second = self._offset - _expand(sticks, self._concentration[-1:], self._log_points)
        sticks = jnp.where(system == 0, sticks, jnp.where(system == 1, first, second))
        return point._replace(z=self._replace(point.z, weights=sticks))

    def place_means(self, chosen: jax.Array, empty: jax.Array) -> tuple[Measured, jax.Array]:
        """Return the point as `place` does, and log|d chosen / dz|, ().

        In contrast to `place`, the coordinates of the weights are copied from `chosen` to z without a change of system.
        """
        assert self.space.decode is not None
        point = self.space.decode(chosen)
        mixture, factors = point.mixture, point.factors
        prior, d = self.problem.prior, mixture.num_features
        at_center = dataclasses.replace(mixture, means=jnp.broadcast_to(prior.mean, mixture.means.shape))
        log_slope = prior.log_density_of_means(at_center, factors) + d / 2 * math.log(2 * math.pi)
        means = prior.mean + prior.deviations_of_means(factors.lower, mixture.means, mixture.covariance_type)
        noise = jnp.where(empty[:, None], mixture.means, prior.noise_of_means(mixture, factors))
        z = self._replace(chosen, means=jnp.where(empty[:, None], means, mixture.means))
        return Measured(z, noise, log_slope), jnp.where(empty, log_slope, 0).sum()

    def describe(self, point: Measured) -> Points:
        """Return the coordinates of a point in all three systems."""
        sticks = self.space.unravel(point.z)["weights"] - self._offset
        first, first_slope = _compress(sticks, self._concentration[:-1], self._log_points)
        second, second_slope = _compress(-sticks[-1:], self._concentration[-1:], self._log_points)
        second = jnp.concatenate([sticks[:-1], second])  # only the last of these K - 1 numbers is used
        others = self._replace(point.z, means=point.noise, weights=first), self._replace(point.z, weights=second)
        of_weights = jnp.append(first_slope, second_slope) if len(sticks) else 0
        return Points(jnp.stack([point.z, *others]), point.log_slope + of_weights)

    def systems(self, empty: jax.Array) -> jax.Array:
        """Return the index of the system that a part with empty components `empty` (K,) uses for each coordinate, (P,)."""
        zero = jnp.zeros(self.space.size)
        means = jnp.where(empty[:, None], 1.0, self.space.unravel(zero)["means"])
        return self._replace(zero, means=means, weights=self._systems_of_sticks(empty)).astype(int)

    def of_weights(self) -> jax.Array:
        """Return booleans (P,), True for the coordinates of the weights."""
        zero = jnp.zeros(self.space.size)
        return self._replace(zero, weights=self.space.unravel(zero)["weights"] + 1) > 0

    def _replace(self, z: jax.Array, **parts: jax.Array) -> jax.Array:
        """Return z with new coordinates for the given sites."""
        return ravel_pytree(self.space.unravel(z) | parts)[0]

    def _systems_of_sticks(self, empty: jax.Array) -> jax.Array:
        """Return the entries (K - 1,) of the result of `systems` for the coordinates of the weights."""
        places = jnp.arange(len(empty) - 1)
        return jnp.where(empty[:-1], 1.0, jnp.where((places == len(empty) - 2) & empty[-1], 2.0, 0.0))

    @property
    def _concentration(self) -> jax.Array:
        return self.problem.prior.weight_concentration

    @property
    def _log_points(self) -> jax.Array:
        """Return log b, with b as in the docstring of this module."""
        total = total_weight(self.problem.weight, len(self.problem.y), self.problem.y.dtype)
        return jnp.log(total + self._concentration.sum())

    @property
    def _offset(self) -> jax.Array:
        """Return the numbers (K - 1,) by which NumPyro's coordinates of the weights exceed the logits s of the fractions."""
        concentration = self._concentration
        return jnp.log(jnp.arange(len(concentration) - 1, 0, -1, dtype=concentration.dtype))


def _compress(logit: jax.Array, concentration: jax.Array, log_points: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return y, the logit of u = sigmoid(s + log b)^c, and log(dy / ds).

    The arguments are s, c and log b, as in the docstring of this module.
    """
    t = logit + log_points
    small, tail = jnp.minimum(t, _LARGE), (1 - concentration) / 2 * jnp.exp(-jnp.maximum(t, _LARGE))
    log_u = concentration * log_sigmoid(small)
    log_rest = jnp.log(-jnp.expm1(log_u))
    log_c = jnp.log(concentration)
    y = jnp.where(t > _LARGE, t - log_c + tail, log_u - log_rest)
    return y, jnp.where(t > _LARGE, -tail, log_c + log_sigmoid(-small) - log_rest)


def _expand(y: jax.Array, concentration: jax.Array, log_points: jax.Array) -> jax.Array:
    """Return the logit s from which `_compress` computes y."""
    log_c = jnp.log(concentration)
    large = jnp.maximum(y + log_c, _LARGE)
    log_sigma = log_sigmoid(jnp.minimum(y, _LARGE - log_c)) / concentration
    t = jnp.where(
        y + log_c > _LARGE, large - (1 - concentration) / 2 * jnp.exp(-large), log_sigma - jnp.log(-jnp.expm1(log_sigma))
    )
    return t - log_points
