"""Sites of covariances that share volumes, shapes or orientations: NumPyro's density, Jacobians, and the way there and back."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpyro.infer.util import potential_energy

import jaxgmm
from jaxgmm.covariance.estimates import departure
from jaxgmm.covariance.types import TYPES, is_coupled, num_free
from jaxgmm.posterior.coupled_sites import _log_haar, axes_of_start, decode
from jaxgmm.posterior.likelihood import reference_total
from jaxgmm.posterior.model import model
from jaxgmm.posterior.standardization import StandardizedProblem
from jaxgmm.posterior.unconstrained_space import make_unconstrained_space

from helpers import coupled_prior, enabled_x64, random_data

DEFAULT = ("VVE",)  # rotations with axes; the other types are in the slow tests, and the Jacobians of all sites below
COUPLED = [name if name in DEFAULT else pytest.param(name, marks=pytest.mark.slow) for name in TYPES if is_coupled(name)]


def make_problem(covariance_type, k, d):
    """Return a problem whose rotations are about the axes of the second mixture, and two mixtures drawn from the prior."""
    prior = coupled_prior(covariance_type, k, d)
    options = {"num_components": k, "covariance_type": covariance_type, "num_samples": 2}
    draws = jax.tree.map(np.asarray, jaxgmm.sample_prior(jax.random.key(3), prior, **options))
    x = jnp.asarray(random_data(0, 15, d, 2))
    return StandardizedProblem(x, None, prior, jnp.zeros(d), jnp.ones(d), axes_of_start(draws[1])), draws[0], draws[1]


@pytest.mark.parametrize(("k", "d"), [(2, 3), *(pytest.param(*shape, marks=pytest.mark.slow) for shape in ((3, 2), (2, 1)))])
@pytest.mark.parametrize("covariance_type", COUPLED)
def test_the_potential_equals_numpyros(covariance_type, k, d, x64):
    """Value and gradient, number of coordinates, `log_prior`, and the way to a point and back, for a draw from the prior."""
    problem, mixture, start = make_problem(covariance_type, k, d)

    @jax.jit
    def evaluate(mixture):
        space = make_unconstrained_space(problem, start)
        z = space.flatten(mixture)
        options = {"num_components": k, "covariance_type": covariance_type, "axes": problem.axes}
        theirs = lambda z: potential_energy(model, (problem.y, problem.prior), options, space.unravel(z))  # noqa: E731
        origin, total = reference_total(problem, start), reference_total(problem, mixture)
        again, jacobian = space.unflatten(z)
        log_density = total + jaxgmm.log_prior(mixture, problem.prior)
        return (
            jax.value_and_grad(space.potential)(z + 0.1),
            jax.value_and_grad(lambda z: theirs(z) + origin)(z + 0.1),
            (again, log_density + jacobian, origin - space.potential(z), z),
        )

    (value, gradient), (expected, slope), (again, log_density, of_space, z) = evaluate(mixture)
    np.testing.assert_allclose(value, expected, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(gradient, slope, rtol=1e-7, atol=1e-7)
    np.testing.assert_allclose(again.covariances, mixture.covariances, rtol=1e-8, atol=1e-10)
    assert departure(np.asarray(mixture.covariances), covariance_type) < 1e-8
    np.testing.assert_allclose(log_density, of_space, rtol=1e-8)
    assert len(z) == jaxgmm.num_parameters(mixture) == k - 1 + k * d + num_free(covariance_type, k, d)


def test_the_jacobian_of_rotations(x64):
    """The density of the Haar measure is |d angles / d coordinates|, from derivatives of the rotation, up to its volume.

    The columns of R' dR are the rotations about the present axes, so their determinant is the density relative to the volume of
    all rotations, which is 2 pi for D = 2 and 8 pi^2 for D = 3.
    """
    for d, volume in ((2, 2 * math.pi), (3, 8 * math.pi**2)):
        law = coupled_prior("VEV", 1, d).scale
        z = 0.3 * jnp.arange(1.0, d * (d - 1) // 2 + 1)

        def sites(z, d=d):
            parts, first = {}, 0
            for j in range(1, d):
                parts[f"rotation_{j}"] = z[None, first : first + j]
                first += j
            return parts | {"volumes": jnp.ones(1), "log_shapes": jnp.zeros((1, d))}

        turned = lambda z, d=d, law=law, sites=sites: decode(sites(z), law, None, "VEV", (1, d))  # noqa: E731
        rotated = lambda z, turned=turned: (turned(z).factors.lower[0], turned(z).jacobian)  # noqa: E731
        (rotation, jacobian), (derivative, _) = jax.jit(lambda z, f=rotated: (f(z), jax.jacobian(f)(z)))(z)
        angles = np.einsum("ia,ibp->abp", rotation, derivative)[np.triu_indices(d, 1)]
        np.testing.assert_allclose(jacobian, np.linalg.slogdet(angles)[1] - math.log(volume), rtol=1e-10)
        assert _log_haar(d) < 0


def test_the_jacobian_of_triangular_matrices(x64):
    """For VEE, the measure mu has dW / |W|^((D + 1) / 2) = dlambda / lambda dmu(C), from derivatives of W = lambda C."""
    d, prior = 3, coupled_prior("VEE", 1, 3)
    rows, columns = np.tril_indices(d)
    lower = jnp.array([0.4, -0.7, 0.2])

    def of_sites(z):
        diagonal = jnp.append(z[1:3], 1 - z[1:3].sum())
        return decode({"volumes": z[:1], "diagonal": diagonal[None], "below": z[None, 3:]}, prior.scale, None, "VEE", (1, d))

    def matrix(z):
        root = of_sites(z).factors.lower[0]
        return (root @ root.T)[rows, columns]

    z = jnp.concatenate([jnp.array([1.7, 0.2, 0.5]), lower])
    derivative, found = jax.jit(lambda z: (jax.jacobian(matrix)(z), of_sites(z)))(z)
    log_det, half_log_det = np.linalg.slogdet(derivative)[1], float(found.factors.half_log_det[0])
    np.testing.assert_allclose(found.jacobian, log_det - (d + 1) * half_log_det + math.log(z[0]), rtol=1e-10)


@pytest.mark.parametrize("covariance_type", [pytest.param("VEE", marks=pytest.mark.slow), "VVE"])
def test_single_precision(covariance_type):
    """In float32, the potential and its gradient are finite and close to those in float64."""
    values, drawn = [], jax.tree.map(np.asarray, make_problem(covariance_type, 2, 2))
    for x64 in (False, True):
        with enabled_x64(x64):
            problem, mixture, start = jax.tree.map(lambda leaf: jnp.asarray(leaf, float), drawn)

            def evaluate(mixture, problem=problem, start=start):
                space = make_unconstrained_space(problem, start)
                return jax.value_and_grad(space.potential)(space.flatten(mixture))

            values.append(jax.tree.map(np.asarray, jax.jit(evaluate)(mixture)))
    np.testing.assert_allclose(values[0][0], values[1][0], rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(values[0][1], values[1][1], rtol=1e-3, atol=3e-3)
