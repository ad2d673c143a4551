"""Laws of covariances: a normalising constant, the change of units, typical sizes, and which of them have closed forms."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import jaxgmm
from jaxgmm import covariance
from jaxgmm.covariance.distributions import half_normal_lkj_log_prob
from jaxgmm.posterior.standardization import scale_factor

from helpers import OTHER_TWO_COVARIANCE_TYPES, TWO_COVARIANCE_TYPES, independent_prior, random_mixture


def test_lkj_is_normalised(x64):
    """At lkj=1 and D=3 the density of correlation matrices is uniform: one over their volume, pi^2 / 2."""
    matrix = random_mixture(0, "full", k=1).covariances
    tau = np.sqrt(np.diag(matrix[0]))
    value = jax.jit(
        lambda matrix: half_normal_lkj_log_prob(
            matrix, covariance.factorize(matrix, "full", 3), jnp.ones(3), jnp.asarray(1.0), "full", 3
        )
    )(matrix)
    expected = stats.halfnorm.logpdf(tau).sum() - np.log(8 * tau.prod() ** 3) - math.log(math.pi**2 / 2)
    np.testing.assert_allclose(value[0], expected, rtol=1e-11)


@pytest.mark.parametrize("half_normal", [False, True])
@pytest.mark.parametrize("kind", TWO_COVARIANCE_TYPES)
def test_change_of_units(kind, half_normal, x64):
    """The density of a covariance times the volume of its free entries is the same in all units."""
    law, mixture = independent_prior(kind, 2, 2, half_normal).scale, random_mixture(0, kind, 2, 2)
    scale = np.array([3.0, 3.0] if kind == "spherical" else [0.5, 20.0])

    def density(law, covariances):
        return law.log_density(covariances, covariance.factorize(covariances, kind, 2), kind, 2)

    @jax.jit
    def densities(law, covariances, scale):
        factor = scale_factor(scale, kind)
        inside = law.standardise(scale, factor[0])
        return factor, density(law, covariances), density(inside, covariances / factor)

    factor, before, inside = map(np.asarray, densities(law, mixture.covariances, scale))
    log_volume = sum(np.log(factor[index]) for index in covariance.labels(kind, 1, 2))
    np.testing.assert_allclose(inside, before + log_volume, rtol=1e-10)


def test_typical_variances():
    """S, twice the rate, or the squared sd, one for each feature."""
    matrix = jnp.array([[2.0, 0.5], [0.5, 3.0]])
    for law, kind, expected in [
        (jaxgmm.InverseWishart(jnp.array(4.0), matrix), "full", [2.0, 3.0]),
        (jaxgmm.InverseGamma(jnp.array(4.0), jnp.array([1.0, 2.0])), "diag", [2.0, 4.0]),
        (jaxgmm.InverseGamma(jnp.array(4.0), jnp.array(1.0)), "spherical", [2.0, 2.0]),
        (jaxgmm.HalfNormal(jnp.array([1.0, 2.0]), jnp.array(1.0)), "tied", [1.0, 4.0]),
        (jaxgmm.HalfNormal(jnp.array(3.0), jnp.array(1.0)), "spherical", [9.0, 9.0]),
    ]:
        np.testing.assert_allclose(law.typical_variances(kind, 2), expected)


def test_closed_forms():
    """An inverse gamma is an inverse Wishart of twice its parameters; a half-normal law has no such parameters."""
    degrees, scale = jaxgmm.InverseGamma(jnp.array(2.0), jnp.array([1.0, 3.0])).inverse_wishart_parameters()
    assert float(degrees) == 4
    assert scale.tolist() == [2.0, 6.0]
    half_normal = jaxgmm.HalfNormal(jnp.ones(2), jnp.array(1.0))
    assert [law.has_closed_forms for law in (jaxgmm.InverseWishart, jaxgmm.InverseGamma, half_normal)] == [True, True, False]
    with pytest.raises(TypeError, match="HalfNormal is not an inverse Wishart"):
        half_normal.inverse_wishart_parameters()


@pytest.mark.parametrize("kind", OTHER_TWO_COVARIANCE_TYPES)
def test_draws_have_the_shape_of_the_storage(kind):
    """Under either kind of law; matrices are positive definite."""
    for half_normal in (False, True):
        law = independent_prior(kind, 3, 2, half_normal).scale

        @jax.jit
        def draw(key, law=law):
            drawn = law.sample(key, kind, 3, 2)
            return drawn, covariance.factorize(drawn, kind, 2).half_log_det

        drawn, half_log_det = draw(jax.random.key(0))
        assert drawn.shape == covariance.storage_shape(kind, 3, 2)
        assert np.isfinite(half_log_det).all()
