"""The two kernels of the E-step: both give the defining sums, and each is used where it should be."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgmm import covariance
from jaxgmm.em import kernels
from jaxgmm.rounding import positive_factors

import oracle
from helpers import COVARIANCE_TYPES, TWO_COVARIANCE_TYPES, random_data, random_mixture, random_weight, slow_unless

CHUNK = 16
TOL = jnp.float32(1e-8)
NAMES = ("count", "mean", "scatter")


def arguments(covariance_type, *, offset=0.0, weighted=True):
    """Return a mixture, its factors and rows, all relative to the mean of the mixture plus an offset."""
    mixture, x = random_mixture(0, covariance_type), jnp.asarray(random_data(0))
    center = mixture.weights @ mixture.means + offset
    mixture = dataclasses.replace(mixture, means=mixture.means - center)
    return mixture, positive_factors(mixture), kernels.Rows(x, jnp.asarray(random_weight(0)) if weighted else None, center)


def expected_sums(mixture, rows):
    """Return count, mean and scatter about the mean in loops over the rows."""
    x, w = np.asarray(rows.x - rows.center), np.ones(len(rows.x)) if rows.weight is None else np.asarray(rows.weight)
    r = w[:, None] * oracle.responsibilities(mixture, x)
    count = r.sum(0)
    mean = r.T @ x / count[:, None]
    scatter = np.array([(r[:, k, None] * (x - mean[k])).T @ (x - mean[k]) for k in range(3)])
    if mixture.covariance_type in ("diag", "spherical"):
        scatter = np.diagonal(scatter, axis1=1, axis2=2)
    return dict(zip(NAMES, (count, mean, scatter), strict=True)), w @ oracle.log_prob(mixture, x)


WEIGHTED = [(covariance_type, weighted) for covariance_type in COVARIANCE_TYPES for weighted in (True, False)]


@pytest.mark.parametrize(
    ("covariance_type", "weighted"), slow_unless(WEIGHTED, [("full", True), ("diag", False), ("tied", True)])
)
def test_both_kernels_are_the_defining_sums(covariance_type, weighted, x64):
    """Count, mean, scatter and log-likelihood of either kernel, in chunks, equal those of loops over the rows."""
    mixture, factors, rows = arguments(covariance_type, weighted=weighted)
    expected, total = expected_sums(mixture, rows)

    @jax.jit
    def all_sums(*arguments):
        return (
            kernels.whitened_component_sums(CHUNK, *arguments),
            kernels._quadratic_component_sums(CHUNK, False, *arguments),
            kernels._quadratic_component_sums(CHUNK, True, *arguments),
            kernels.component_sums(*arguments, TOL, CHUNK),
        )

    for found, log_likelihood in all_sums(mixture, factors, rows):
        for name in NAMES:
            np.testing.assert_allclose(getattr(found, name), expected[name], rtol=1e-9, atol=1e-9, err_msg=name)
        np.testing.assert_allclose(log_likelihood, total, rtol=1e-11)


@pytest.mark.parametrize("covariance_type", slow_unless(["full", "diag"], ["full"]))
def test_the_exact_kernel_takes_over_far_from_the_centre(covariance_type, x64):
    """Far from the centre `component_sums` is the whitened kernel to the last bit, near it the quadratic one."""
    for offset, kernel in (
        (0.0, jax.jit(kernels._quadratic_component_sums, static_argnums=(0, 1))),
        (1e4, jax.jit(lambda chunk, _, *rest: kernels.whitened_component_sums(chunk, *rest), static_argnums=(0, 1))),
    ):
        mixture, factors, rows = arguments(covariance_type, offset=offset)
        assert bool(kernels.are_far(mixture, factors, TOL).any()) == (offset > 0)
        found, log_likelihood = jax.jit(kernels.component_sums, static_argnums=4)(mixture, factors, rows, TOL, CHUNK)
        expected, total = kernel(CHUNK, False, mixture, factors, rows)
        for name in NAMES:
            np.testing.assert_allclose(getattr(found, name), getattr(expected, name), rtol=1e-14, atol=1e-14)
        np.testing.assert_allclose(log_likelihood, total, rtol=1e-15)


def test_the_tolerance_decides_how_far_the_data_may_lie(x64):
    """A larger tolerance, or a tolerance of 0, allows the quadratic kernel farther from the centre, up to a fixed distance."""
    for offset, by_tol in ((0.0, [False] * 4), (100.0, [True, False, False, False]), (1e4, [True] * 4)):
        mixture, factors, _ = arguments("full", offset=offset)
        assert [bool(kernels.are_far(mixture, factors, tol).any()) for tol in (1e-12, 1e-8, 1e-2, 0.0)] == by_tol
        errors = [float(kernels.quadratic_error(mixture, factors, tol)) for tol in (1e-12, 1e-8, 1e-2, 0.0)]
        assert [error == 0 for error in errors] == by_tol
        assert max(errors) < 0.5e-9


@pytest.mark.parametrize("covariance_type", TWO_COVARIANCE_TYPES)
@pytest.mark.parametrize("case", ["far data", "narrow component", "far component"])
def test_the_error_of_the_quadratic_kernel_is_bounded(covariance_type, case, x64):
    """It is at most eps r^2 nats a row in the log-likelihood, and 8 eps r^2 in the new covariances, in their own units."""
    mixture, factors, rows = arguments(covariance_type, weighted=False, offset=300 if case == "far data" else 0)
    if case == "narrow component":
        mixture = dataclasses.replace(mixture, covariances=mixture.covariances / 1e5)
    if case == "far component":
        mixture = dataclasses.replace(mixture, means=mixture.means.at[0].add(300))
        rows = rows._replace(x=rows.x.at[::3].add(300))
    factors = positive_factors(mixture)
    exact, exact_total = jax.jit(kernels.whitened_component_sums, static_argnums=0)(CHUNK, mixture, factors, rows)
    quadratic = jax.jit(kernels._quadratic_component_sums, static_argnums=(0, 1))
    found, total = quadratic(CHUNK, False, mixture, factors, rows)
    bound = float(np.finfo(np.float64).eps * kernels._squares(mixture, factors).max())
    assert 1e-13 < bound < 1e-8
    assert abs(total - exact_total) <= bound * len(rows.x)
    present = np.flatnonzero(exact.count > 6)  # enough points for a covariance
    new, other = ((sums.scatter / sums.count.reshape(-1, *[1] * (sums.scatter.ndim - 1)))[present] for sums in (exact, found))
    whitener = covariance.factorize(new, covariance_type, 3).whitener
    assert abs(covariance.transform_scatter(whitener, other - new, covariance_type)).max() <= 8 * bound


@pytest.mark.parametrize("covariance_type", slow_unless(["full", "diag"], ["diag"]))
def test_a_few_narrow_components_among_many(covariance_type, x64):
    """Only the narrow components take the whitened kernel, and all sums equal those of the whitened kernel."""
    mixture, factors, rows = arguments(covariance_type, weighted=False)
    rng = np.random.default_rng(0)
    rows = rows._replace(x=rows.x.at[:8].set(rows.x[0] + 1e-6 * rng.normal(size=(8, 3))))
    many = jax.tree.map(lambda leaf: jnp.tile(leaf, (22, *[1] * (leaf.ndim - 1)))[:64], mixture)
    scale = jnp.ones(64).at[jnp.array([5, 40])].set(1e-11)
    many = dataclasses.replace(
        many,
        weights=jnp.full(64, 1 / 64),
        means=(many.means + 0.1 * rng.normal(size=(64, 3))).at[5].set(rows.x[0] - rows.center),
        covariances=many.covariances * scale.reshape(-1, *[1] * (many.covariances.ndim - 1)),
    )
    factors = positive_factors(many)
    assert np.flatnonzero(kernels.are_far(many, factors, TOL)).tolist() == [5, 40]
    exact, exact_total = jax.jit(kernels.whitened_component_sums, static_argnums=0)(CHUNK, many, factors, rows)
    found, total = jax.jit(kernels.component_sums, static_argnums=4)(many, factors, rows, TOL, CHUNK)
    for name in NAMES:
        np.testing.assert_allclose(getattr(found, name), getattr(exact, name), rtol=1e-9, atol=1e-12, err_msg=name)
    np.testing.assert_allclose(total, exact_total, rtol=1e-12)
    quadratic, _ = jax.jit(kernels._quadratic_component_sums, static_argnums=(0, 1))(CHUNK, False, many, factors, rows)
    assert abs(quadratic.scatter[5] / exact.scatter[5] - 1).max() > 1e-6  # the quadratic kernel alone is not accurate enough
    bound = kernels.quadratic_error(many, factors, TOL)
    assert 0 < bound < 1e-9


def test_a_batch_chooses_for_each_member(x64):
    """Under vmap a member near the centre and one far from it get the numbers that each gets alone."""
    near, far = arguments("full"), arguments("full", offset=1e4)
    batch = jax.tree.map(lambda *leaves: np.stack(leaves), near, far)
    sums = partial(kernels.component_sums, tol=TOL, chunk_size=CHUNK)
    single = jax.jit(sums)
    found, log_likelihoods = jax.jit(jax.vmap(sums))(*batch)
    for i, member in enumerate((near, far)):
        alone, log_likelihood = single(*member)
        for name in NAMES:
            np.testing.assert_allclose(getattr(found, name)[i], getattr(alone, name), rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(log_likelihoods[i], log_likelihood, rtol=1e-13)


def test_a_batch_of_one_is_its_member(x64):
    """A batch of one member has the same numbers as the member, also if only some arguments have a batch axis."""
    for offset in (0.0, 1e4):
        mixture, factors, rows = arguments("full", offset=offset)
        alone, log_likelihood = jax.jit(kernels.component_sums, static_argnums=4)(mixture, factors, rows, TOL, CHUNK)
        stack = jax.tree.map(lambda leaf: leaf[None], (mixture, factors))
        sums = jax.vmap(lambda *one, rows=rows: kernels.component_sums(*one, rows, TOL, CHUNK))
        found, log_likelihoods = jax.jit(sums)(*stack)
        for name in NAMES:
            np.testing.assert_allclose(getattr(found, name)[0], getattr(alone, name), rtol=1e-13, atol=1e-13)
        np.testing.assert_allclose(log_likelihoods, [log_likelihood], rtol=1e-14)


def test_derivatives_are_those_of_the_whitened_kernel(x64):
    """The derivative of the log-likelihood with respect to data, weights and means is that of the exact sum."""
    mixture, factors, rows = arguments("full")

    def total(kernel, x, weight, means):
        moved = dataclasses.replace(mixture, means=means)
        return kernel(moved, factors, kernels.Rows(x, weight, rows.center))[1]

    values = (rows.x, rows.weight, mixture.means)
    gradient = jax.jit(jax.grad(total, argnums=(1, 2, 3)), static_argnums=0)
    found = gradient(lambda *rest: kernels.component_sums(*rest, TOL, CHUNK), *values)
    exact = gradient(lambda *rest: kernels.whitened_component_sums(CHUNK, *rest), *values)
    for a, b in zip(found, exact, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)
    log_densities = oracle.log_prob(mixture, rows.x - rows.center)
    np.testing.assert_allclose(found[1], np.where(rows.weight > 0, log_densities, 0), rtol=1e-9)


def test_one_logarithm_for_eight_rows(x64):
    """The logarithm of products of eight totals is the sum of their logarithms, for totals as large as a thousand."""
    totals = 1 + 999 * np.random.default_rng(0).random(64)
    np.testing.assert_allclose(kernels._sum_of_logs(jnp.asarray(totals)), np.log(totals).sum(), rtol=1e-14)
