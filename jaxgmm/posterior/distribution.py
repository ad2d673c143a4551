"""`as_distribution`: use a mixture as a distribution inside a NumPyro model. Its density is that of `jaxgmm.log_prob`."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from numpy.typing import ArrayLike
from numpyro.distributions import constraints
from numpyro.distributions.util import validate_sample

from .. import covariance
from ..calls import public
from ..density import log_prob
from ..mixture import Mixture, MixtureLike, as_mixture
from ..sampling import sample_from_stack


@public
def as_distribution(mixture: MixtureLike) -> dist.Distribution:
    """Return a mixture as a NumPyro distribution of points, with the density p(x) = sum_k w_k N(x | mu_k, Sigma_k).

    Use it in a NumPyro model, as the prior of a vector or as the distribution of observations: `numpyro.sample("x",
    jaxgmm.as_distribution(mixture), obs=x)`. The leading axes of a stack become the batch shape of the distribution, and the
    features become its event shape. The mixture may be traced, so its parameters can be sites of the model. The distribution is
    a pytree, so jit and vmap can be applied to it.

    Args:
        mixture: a Mixture, a Fit or a Posterior, or a stack with leading axes (...).

    Returns:
        A numpyro.distributions.Distribution with batch shape (...) and event shape (D,), in the units of the means. Its methods
        log_prob, sample, expand, to_event and mask, and its attributes mean and variance, are those of every NumPyro
        distribution. `log_prob` equals `jaxgmm.log_prob`, also for singular covariances and for weights of 0.

    Raises:
        TypeError: `mixture` is neither a Mixture nor a Fit.

    Example:
        >>> import jax, jaxgmm, numpyro
        >>> mixture = jaxgmm.make_mixture([0.5, 0.5], [[-3.0], [3.0]], [[[1.0]], [[1.0]]])
        >>> def model(y=None):
        ...     z = numpyro.sample("z", jaxgmm.as_distribution(mixture))
        ...     numpyro.sample("y", numpyro.distributions.Normal(z, 1.0).to_event(1), obs=y)
        >>> draws = numpyro.infer.Predictive(model, num_samples=5)(jax.random.key(0))
        >>> draws["z"].shape, draws["y"].shape
        ((5, 1), (5, 1))
    """
    return MixtureDistribution(as_mixture(mixture))


class MixtureDistribution(dist.Distribution):
    """The NumPyro distribution that `as_distribution` returns.

    The shapes are read from the mixture whenever they are needed. They are therefore correct inside vmap, which removes axes of
    the arrays. Shapes that were stored when the object was made would be wrong there.

    Attributes:
        mixture: the mixture, or a stack (...) of mixtures.
    """

    arg_constraints = {}  # noqa: RUF012 (NumPyro's name and type; the mixture is not validated, so that it can be traced)
    reparametrized_params = []  # noqa: RUF012
    pytree_data_fields = ("mixture",)

    def __init__(self, mixture: Mixture, *, validate_args: bool | None = None) -> None:
        """Store a mixture, without validation."""
        self.mixture = mixture
        super().__init__(mixture.batch_shape, (mixture.num_features,), validate_args=validate_args)

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """The leading axes of the mixture."""
        return self.mixture.batch_shape

    @property
    def event_shape(self) -> tuple[int, ...]:
        """The shape (D,) of one point."""
        return (self.mixture.num_features,)

    @property
    def support(self) -> constraints.Constraint:
        """All real vectors."""
        return constraints.real_vector

    @property
    def has_rsample(self) -> bool:
        """False, because a draw is not a differentiable function of the parameters: its component is discrete."""
        return False

    def sample(self, key: jax.Array | None, sample_shape: tuple[int, ...] = ()) -> jax.Array:
        """Draw points of shape (*sample_shape, ..., D)."""
        assert key is not None
        stack = self._flat()
        size, repeats = math.prod(self.batch_shape), math.prod(sample_shape)
        x, _ = sample_from_stack(jax.random.split(key), stack, jnp.tile(jnp.arange(size), repeats))
        return x.reshape(*sample_shape, *self.batch_shape, *self.event_shape)

    @validate_sample
    def log_prob(self, value: ArrayLike, intermediates: object = None) -> jax.Array:
        """Return the log-density of points (..., D), whose leading axes broadcast against the batch shape."""
        del intermediates  # NumPyro passes them; a mixture does not need them
        value = jnp.asarray(value)
        shape = jnp.broadcast_shapes(value.shape[:-1], self.batch_shape)
        x = jnp.broadcast_to(value, (*shape, value.shape[-1]))
        if not self.batch_shape:
            return log_prob(self.mixture, x.reshape(-1, x.shape[-1])).reshape(shape)
        x = x.reshape(-1, math.prod(self.batch_shape), x.shape[-1])
        return jax.vmap(log_prob, in_axes=(0, 1), out_axes=1)(self._flat(), x).reshape(shape)

    @property
    def mean(self) -> jax.Array:
        """The mean of the distribution, (..., D)."""
        return (self.mixture.weights[..., None] * self.mixture.means).sum(-2)

    @property
    def variance(self) -> jax.Array:
        """The variance of each feature, (..., D)."""
        mixture = self.mixture
        within = covariance.variances(mixture.covariances, mixture.covariance_type, mixture.num_features)
        between = (mixture.means - self.mean[..., None, :]) ** 2
        return (mixture.weights[..., None] * (within + between)).sum(-2)

    def _flat(self) -> Mixture:
        """Return the mixtures as a stack with one leading axis, which has length 1 for a single mixture."""
        axes = len(self.batch_shape)
        return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[axes:]), self.mixture)
