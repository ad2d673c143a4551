"""The interface of priors: checks, the Dirichlet law, and a family from outside that every method can use."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import jaxgmm
from jaxgmm.priors.interface import MixturePrior, check_prior, check_prior_shapes, log_dirichlet

from helpers import COVARIANCE_TYPES, independent_prior, random_mixture, random_prior, slow_unless, two_groups


@partial(jax.tree_util.register_dataclass, data_fields=["weight_concentration", "mean", "sd", "law"], meta_fields=[])
@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class IsotropicPrior(MixturePrior):
    """mu_k ~ N(m, sd^2 I): a family that the package does not know, written by means of one that it does."""

    weight_concentration: jax.Array
    mean: jax.Array
    sd: jax.Array
    law: jaxgmm.InverseWishart

    covariance_law = property(lambda self: self.law)
    means_share_covariance = property(lambda self: False)

    @property
    def twin(self):
        matrix = self.sd**2 * jnp.eye(self.mean.shape[-1])
        return jaxgmm.IndependentPrior(self.weight_concentration, self.mean, matrix, self.law)

    def log_density_of_means(self, *arguments):
        return self.twin.log_density_of_means(*arguments)

    def deviations_of_means(self, *arguments):
        return self.twin.deviations_of_means(*arguments)

    def noise_of_means(self, *arguments):
        return self.twin.noise_of_means(*arguments)

    def standard_deviations_of_means(self, *arguments):
        return self.twin.standard_deviations_of_means(*arguments)

    def maximize_means(self, *arguments):
        return self.twin.maximize_means(*arguments)

    def draw_given_sums(self, *arguments):
        return self.twin.draw_given_sums(*arguments)

    def standardise(self, *arguments):
        return self.twin.standardise(*arguments)

    def with_scale(self, scale):
        return dataclasses.replace(self, law=self.law.with_scale(scale))

    def hyperparameter_shapes(self, num_features, covariance_type):
        return {"sd": ()}

    def check_values(self, num_features, covariance_type):
        assert float(self.sd) > 0


@pytest.mark.parametrize("sampled", slow_unless([False, True], [False]))
def test_a_family_from_outside(sampled, x64):
    """Density, draws, MAP-EM and, weekly, Gibbs sampling under it are those under the same prior written otherwise."""
    law = jaxgmm.InverseWishart(jnp.asarray(5.0), jnp.eye(2))
    prior = IsotropicPrior(jnp.array([2.0, 2.0]), jnp.zeros(2), jnp.asarray(3.0), law)
    x, start, _ = two_groups(0, 40, 2, "full", np.float64)
    np.testing.assert_allclose(jaxgmm.log_prior(start, prior), jaxgmm.log_prior(start, prior.twin), rtol=1e-12)
    key = jax.random.key(0)
    draws = [
        lambda p: jaxgmm.sample_prior(key, p, num_components=2, num_samples=3),
        lambda p: jaxgmm.fit(start, x, p).mixture,
    ]
    if sampled:
        draws = [lambda p: jaxgmm.gibbs(key, start, x, p, num_samples=8, num_warmup=2).mixture]
    for draw in draws:
        for a, b in zip(jax.tree.leaves(draw(prior)), jax.tree.leaves(draw(prior.twin)), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-9)


def test_log_dirichlet_is_scipys(x64):
    """Absent components do not count; a concentration of 1 is flat up to weight 0, others have an edge there."""
    c = jnp.array([1.5, 2.0, 0.7])
    everything = jnp.ones(3, bool)
    weights = jnp.array([0.2, 0.5, 0.3])
    np.testing.assert_allclose(log_dirichlet(weights, c, everything), stats.dirichlet(c).logpdf(weights), rtol=1e-12)
    two = log_dirichlet(jnp.array([0.4, 0.6, 0.0]), c, jnp.array([True, True, False]))
    np.testing.assert_allclose(two, stats.dirichlet(c[:2]).logpdf([0.4, 0.6]), rtol=1e-12)
    at_edge = [log_dirichlet(jnp.array([0.0, 1.0]), jnp.array([c, 1.0]), jnp.ones(2, bool)) for c in (0.5, 1.0, 2.0)]
    np.testing.assert_allclose(at_edge, [np.inf, 0.0, -np.inf], atol=1e-12)


def test_present_components_alone_count(x64):
    """A mixture with an absent component has the density of the smaller mixture, under every family."""
    for kind in COVARIANCE_TYPES:
        larger, smaller = random_mixture(0, kind, 3, 2), random_mixture(0, kind, 3, 2)
        weights = jnp.array([0.3, 0.7, 0.0])
        larger = dataclasses.replace(larger, weights=weights)
        kept = smaller.covariances[: min(2, len(smaller.covariances))]
        smaller = jaxgmm.Mixture(weights[:2], smaller.means[:2], kept, kind)
        for prior in (random_prior(0, kind, 3, 2), independent_prior(kind, 3, 2, False), independent_prior(kind, 3, 2, True)):
            fewer = dataclasses.replace(prior, weight_concentration=prior.weight_concentration[:2])
            np.testing.assert_allclose(jaxgmm.log_prior(larger, prior), jaxgmm.log_prior(smaller, fewer), rtol=1e-12)


def test_translation(x64):
    """Moving data and prior together leaves the density as it is."""
    mixture, shift = random_mixture(0, "full", 3, 2), jnp.array([3.0, -7.0])
    moved = dataclasses.replace(mixture, means=mixture.means - shift)
    for prior in (random_prior(0, "full", 3, 2), independent_prior("full", 3, 2, False)):
        np.testing.assert_allclose(
            jaxgmm.log_prior(moved, prior.translate(shift)), jaxgmm.log_prior(mixture, prior), rtol=1e-12
        )


def test_priors_that_do_not_fit():
    """Types and shapes are checked for all priors, values for concrete ones, and more of them for MAP-EM."""
    prior, half_normal = random_prior(0, "full", 2, 2), independent_prior("full", 2, 2, True)
    low = dataclasses.replace(prior, weight_concentration=jnp.array([0.5, 1.0]))
    check_prior(low, 2, 2, "full")
    for refused, error, sentence in [
        (lambda: check_prior_shapes(3, 2, 2, "full"), TypeError, "prior is int; a jaxgmm.Prior or IndependentPrior"),
        (lambda: check_prior_shapes(prior, 2, 2, "diag"), ValueError, r"prior\.scale has shape \(2, 2\); \(2,\)"),
        (lambda: check_prior(prior, 3, 2, "full"), ValueError, r"prior\.weight_concentration has shape \(2,\)"),
        (lambda: check_prior(low, 2, 2, "full", mode=True), ValueError, "MAP needs values >= 1"),
        (
            lambda: check_prior(half_normal, 2, 2, "full", mode=True),
            TypeError,
            "HalfNormal, under which the M-step",
        ),
    ]:
        with pytest.raises(error, match=sentence):
            refused()
    jax.jit(lambda c: check_prior(dataclasses.replace(prior, weight_concentration=c), 2, 2, "full") or c)(-jnp.ones(2))
