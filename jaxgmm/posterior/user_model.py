"""Support for a NumPyro model that replaces `jaxgmm.model`: check it, approximate its posterior, choose the chains' starts.

The model is called like `jaxgmm.model`. It has sites or deterministics with the names "weights", "means" and "covariances". The
covariances have the form in which a Mixture stores them. A mixture determines all latent sites if they are the sites of
`jaxgmm.model`, or if they are "weights", "means" and "covariances". In this case, the posterior can be approximated around a
start, and log densities of draws are densities in (weights, means, covariances). Otherwise, a chain takes from the mixture only
the latent sites that `jaxgmm.model` also has, or that are named "covariances". All other latent sites start at random values.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .. import covariance
from ..devices.host import Tree
from ..inputs import Inputs
from ..mixture import Mixture
from ..row_sums import Weight, repeat_valid_row, total_weight
from .gaussian_approximation import (
    GaussianApproximation,
    build_approximation,
    expected_counts,
    for_each_start,
    overdispersed_starts,
)
from .standardization import StandardizedProblem
from .user_model_space import FIELDS, UserModelSpace, make_user_space

# Number of random starts that are tried for each chain. Coordinates that the mixture does not determine are uniform between -2
# and 2, as in NumPyro's init_to_uniform.
_CANDIDATES = 20
_OVERDISPERSION = 1.5  # the means of random starts have this standard deviation, in standard errors of the means


def check_model(model: object) -> None:
    """Raise TypeError if the model cannot be called like `jaxgmm.model`."""
    if not callable(model):
        raise TypeError(f"model is {type(model).__name__}; a NumPyro model was expected: a function like jaxgmm.model.")
    try:
        inspect.signature(model).bind(None, None, num_components=2, covariance_type="full")
    except TypeError as error:
        raise TypeError(
            f"model cannot be called as model(x, prior, num_components=K, covariance_type=...): {error}; let it accept these "
            "arguments, for example by **options."
        ) from None


def prior_as_arrays(prior: Tree) -> Tree:
    """Convert the leaves of a user's prior to arrays; raise TypeError if that is impossible for a leaf."""
    try:
        return jax.tree.map(jnp.asarray, prior)
    except TypeError as error:
        raise TypeError(
            f"prior holds a value that is not an array ({error}); with a model of your own, a pytree of arrays or None was "
            "expected: let the model itself hold everything else, as a closure."
        ) from None


def problem_in_data_units(x: jax.Array, weight: Weight, prior: Any) -> StandardizedProblem:
    """Make a problem whose coordinates are those of the data, without standardisation, in JAX's default float type."""
    y = repeat_valid_row(x, weight).astype(jnp.result_type(float))
    return StandardizedProblem(y, weight, prior, jnp.zeros(y.shape[1], y.dtype), jnp.ones(y.shape[1], y.dtype))


def mixture_determines_sites(model: Callable[..., object], inputs: Inputs) -> bool:
    """Return whether a mixture determines all latent sites of the model. The model is only traced, not run."""
    found = []

    def inspect_model(inputs: Inputs) -> jax.Array:
        problem = problem_in_data_units(inputs.x, inputs.weight, inputs.prior)
        found.append(make_user_space(model, problem, inputs.mixture).invertible)
        return jnp.zeros(())

    jax.eval_shape(inspect_model, inputs)
    return found[0]


@partial(jax.jit, static_argnames="model")
def approximate_user_posterior(
    key: jax.Array, start: Mixture, x: jax.Array, weight: Weight, prior: Any, *, model: Callable[..., object]
) -> tuple[StandardizedProblem, GaussianApproximation, jax.Array]:
    """Approximate the posterior of a user's model at the mode near a start, or near each start of a stack (M,).

    Return the problem, the approximation, and a boolean () or (M,). The boolean is True if every site with the name of a site
    of `jaxgmm.model` also has the meaning of that site.
    """
    problem = problem_in_data_units(x, weight, prior)
    start = jax.tree.map(lambda leaf: leaf.astype(problem.y.dtype), start)
    return problem, *for_each_start(lambda key, one: _approximation(key, model, problem, one), key, start)


def _approximation(
    key: jax.Array, model: Callable[..., object], problem: StandardizedProblem, start: Mixture
) -> tuple[GaussianApproximation, jax.Array]:
    """Return a Gaussian approximation in the model's space, and whether the model's sites mean the same as in `jaxgmm.model`.

    If a mixture does not determine all latent sites, the returned approximation is only a placeholder: its mode is 0, its root
    is the identity matrix, and it is marked as not sound.
    """
    user = make_user_space(model, problem, start)
    z = user.space.flatten(start)
    agrees = jnp.array(True)
    if user.invertible:
        again = user.space.unflatten(z)[0]
        for name in FIELDS:
            value = getattr(start, name)
            agrees &= (abs(getattr(again, name) - value) <= 1e-3 * abs(value).max()).all()
        return build_approximation(key, start, problem, user.space), agrees
    _, values = _random_starts(key, user, problem, start, 1)
    unknown, zero = jnp.asarray(jnp.nan, z.dtype), jnp.array(0)
    root = jnp.eye(user.space.size, dtype=z.dtype)
    found = (values[0], unknown, zero, unknown, unknown, expected_counts(start, problem), jnp.array(False))
    return GaussianApproximation(start, 0 * z, root, *found), agrees


def user_model_starts(
    key: jax.Array,
    model: Callable[..., object],
    approximation: GaussianApproximation,
    problem: StandardizedProblem,
    num_chains: int,
) -> jax.Array:
    """Return a start for each chain, (C, P), in the coordinates u of the Gaussian approximation."""
    user = make_user_space(model, problem, approximation.start)
    if user.invertible:
        return overdispersed_starts(key, approximation, num_chains)
    return _random_starts(key, user, problem, approximation.start, num_chains)[0]


def _random_starts(
    key: jax.Array, user: UserModelSpace, problem: StandardizedProblem, start: Mixture, num_chains: int
) -> tuple[jax.Array, jax.Array]:
    """Draw points z (C, P) with finite density and gradient. Return the points and their potentials (C,).

    The means of the start are first moved at random by about 1.5 standard errors. The coordinates of weights, means and
    covariances are then taken from the moved start. All other coordinates are drawn from a uniform distribution, as in
    NumPyro's init_to_uniform. If no point with finite density and gradient is found for a chain, the potential of this chain
    is not finite.
    """
    total = total_weight(problem.weight, len(problem.y), problem.y.dtype)
    variances = covariance.variances(start.covariances, start.covariance_type, start.num_features)
    error = jnp.sqrt(variances / (total * start.weights[:, None]))

    def candidate(key: jax.Array) -> tuple[jax.Array, jax.Array]:
        key_means, key_rest = jax.random.split(key)
        noise = jax.random.normal(key_means, start.means.shape, start.means.dtype)
        means = start.means + _OVERDISPERSION * error * noise
        z = user.space.flatten(Mixture(start.weights, means, start.covariances, start.covariance_type))
        z = jnp.where(user.determined > 0, z, jax.random.uniform(key_rest, z.shape, z.dtype, -2, 2))
        value, gradient = jax.value_and_grad(user.space.potential)(z)
        return z, jnp.where(jnp.isfinite(gradient).all(), value, jnp.nan)

    z, values = jax.lax.map(candidate, jax.random.split(key, num_chains * _CANDIDATES), batch_size=_CANDIDATES)
    z, values = z.reshape(num_chains, _CANDIDATES, -1), values.reshape(num_chains, _CANDIDATES)
    first = jnp.isfinite(values).argmax(1)
    rows = np.arange(num_chains)
    return z[rows, first], values[rows, first]
