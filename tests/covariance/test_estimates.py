"""The M-step of coupled covariances against direct numerical minimisation, and its laws."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import linalg, optimize

from jaxgmm.covariance import types as covariance_types
from jaxgmm.covariance.estimates import MANY_STEPS, estimate, nearest

COUPLED = tuple(code for code in covariance_types.CODES if covariance_types.is_coupled(code))
K, D = 3, 3
COUNTS = np.array([20.0, 45.0, 9.0])
exact = jax.jit(partial(estimate, num_steps=MANY_STEPS), static_argnames="covariance_type")
update = jax.jit(estimate, static_argnames="covariance_type")


def scatters(code, seed=0):
    """Return random scatters in the form of a type."""
    rng = np.random.default_rng(seed)
    roots = rng.normal(size=(K, D, D)) * np.array([3.0, 1.0, 0.4])
    matrices = COUNTS[:, None, None] * (roots @ np.swapaxes(roots, 1, 2) + 0.1 * np.eye(D))
    return matrices if covariance_types.is_dense(code) else np.diagonal(matrices, axis1=1, axis2=2)


def dense(arrays):
    """Return matrices (K, D, D), given matrices or variances."""
    return arrays if arrays.ndim == 3 else arrays[:, None, :] * np.eye(D)


def objective(covariances, given, counts=COUNTS):
    """Return sum_k n_k log|Sigma_k| + tr(W_k Sigma_k^-1)."""
    covariances, given = dense(np.asarray(covariances)), dense(np.asarray(given))
    traces = np.trace(np.linalg.solve(covariances, given), axis1=1, axis2=2)
    return counts @ np.linalg.slogdet(covariances)[1] + traces.sum()


def member(code, parameters):
    """Return the covariances of a type with free parameters: log volumes, log shapes, and logarithms of orientations."""
    copies = {"E": 1, "V": K, "I": 0}
    o, parts, first = D * (D - 1) // 2, [], 0
    for letter, size in zip(code, (1, D - 1, o), strict=True):
        number = copies[letter] * size
        part = parameters[first : first + number].reshape(copies[letter], size)
        parts.append(np.broadcast_to(part if copies[letter] else np.zeros((1, size)), (K, size)))
        first += number
    assert first == len(parameters)
    volumes, shapes, turns = parts
    skew = np.zeros((K, D, D))
    skew[(slice(None), *np.triu_indices(D, 1))] = turns
    skew -= np.swapaxes(skew, 1, 2)
    axes = np.linalg.solve(np.eye(D) - skew, np.eye(D) + skew)  # Cayley's parameters of rotations
    logs = np.concatenate([shapes, -shapes.sum(1, keepdims=True)], 1)
    return axes * np.exp(volumes + logs)[:, None] @ np.swapaxes(axes, 1, 2)


def minimise(code, given, seed):
    """Return the smallest objective that a general optimiser finds from a random start."""
    rng = np.random.default_rng(seed)
    size = covariance_types.num_free(code, K, D)
    start = 0.5 * rng.normal(size=size)
    value = lambda parameters: objective(member(code, parameters), given)  # noqa: E731
    return optimize.minimize(value, start, method="BFGS", options={"gtol": 1e-4, "maxiter": 400}).fun


def assert_in_family(covariances, code):
    """Assert that covariances share what the letters of a type say that they share."""
    matrices = dense(np.asarray(covariances))
    volumes = np.exp(np.linalg.slogdet(matrices)[1] / D)
    scaled = matrices / volumes[:, None, None]
    values = np.linalg.eigvalsh(scaled)
    if code[0] == "E":
        np.testing.assert_allclose(volumes, volumes[0], rtol=1e-10)
    if code[1] == "E":
        np.testing.assert_allclose(values, values[:1].repeat(K, 0), rtol=1e-8)
    if code[2] == "E":  # matrices with common eigenvectors commute
        for matrix in scaled[1:]:
            np.testing.assert_allclose(matrix @ scaled[0], scaled[0] @ matrix, rtol=1e-8, atol=1e-8)
    if code[1:] in ("EE", "EI"):
        np.testing.assert_allclose(scaled, scaled[:1].repeat(K, 0), rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("code", COUPLED)
def test_minimum(code, x64):
    """The estimates are of the type, and no optimiser finds a lower objective from several random starts."""
    given = scatters(code)
    found = exact(given, COUNTS, code)
    assert_in_family(found, code)
    best = min(minimise(code, given, seed) for seed in range(3))
    assert abs(objective(found, given) - best) <= 1e-8 * abs(best) + 1e-6 * (objective(found, given) < best)


@pytest.mark.parametrize("code", COUPLED)
def test_steps_decrease_the_objective(code, x64):
    """A few steps from other covariances of the type never increase the objective, and approach the exact minimum."""
    given, other = scatters(code), scatters(code, seed=1)
    values = []
    covariances = exact(other, COUNTS, code)
    for _ in range(8):
        values.append(objective(covariances, given))
        covariances = update(given, COUNTS, code, covariances)
    assert (np.diff(values) <= 1e-10 * abs(values[0])).all()
    np.testing.assert_allclose(values[-1], objective(exact(given, COUNTS, code), given), rtol=1e-10)
    np.testing.assert_allclose(
        jax.jit(nearest, static_argnums=2)(covariances, COUNTS / COUNTS.sum(), code, covariances),
        covariances,
        rtol=1e-9,
        atol=1e-10,
    )


@pytest.mark.parametrize("code", COUPLED)
def test_laws(code, x64):
    """Order and absent components do not matter; units and rotations transform estimates; one component is unrestricted."""
    given = scatters(code)
    base, order = np.asarray(exact(given, COUNTS, code)), np.array([2, 0, 1])
    np.testing.assert_allclose(exact(given[order], COUNTS[order], code), base[order], rtol=1e-8, atol=1e-9)
    np.testing.assert_allclose(exact(1e-6 * given, COUNTS, code), 1e-6 * base, rtol=1e-8, atol=1e-15)
    np.testing.assert_allclose(exact(2 * given, 2 * COUNTS, code), base, rtol=1e-8, atol=1e-9)
    counts = np.array([COUNTS[0], COUNTS[1], 0.0])
    is_used = (counts > 0).reshape(-1, *[1] * (given.ndim - 1))
    absent, changed = (exact(np.where(is_used, given, other), counts, code) for other in (0.0, 7.0))
    np.testing.assert_allclose(changed[:2], absent[:2], rtol=1e-10, atol=1e-12)
    one = np.array([COUNTS[0], 0.0, 0.0])
    np.testing.assert_allclose(exact(given, one, code)[0], given[0] / COUNTS[0], rtol=1e-9, atol=1e-10)
    if given.ndim == 3:
        turn = linalg.expm(np.array([[0, 0.4, -0.3], [-0.4, 0, 0.8], [0.3, -0.8, 0]]))
        turned = exact(turn @ given @ turn.T, COUNTS, code)
        np.testing.assert_allclose(turned, turn @ base @ turn.T, rtol=1e-7, atol=1e-8)
    if code in ("VEI", "EVI", "VEE", "EVV"):  # the other types have no shapes that survive a change of one feature's unit
        units = np.array([2.0, 0.1, 7.0])
        factor = units[:, None] * units if given.ndim == 3 else units**2
        np.testing.assert_allclose(exact(given * factor, COUNTS, code), base * factor, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize(
    "code", [pytest.param(c, marks=[] if c in ("VEE", "VEV", "VVE") else pytest.mark.slow) for c in COUPLED]
)
def test_derivatives(code, x64):
    """Forward and reverse derivatives are those of the exact minimum, whatever the start."""
    given, direction = scatters(code), scatters(code, seed=2) / 10
    value = lambda w, n: jnp.sin(estimate(w, n, code, num_steps=MANY_STEPS)).sum()  # noqa: E731
    tangents = (direction, np.array([1.0, -2.0, 0.5]))
    _, forward = jax.jit(lambda *t: jax.jvp(value, (jnp.asarray(given), jnp.asarray(COUNTS)), t))(*tangents)
    slopes = jax.jit(jax.grad(value, (0, 1)))(given, COUNTS)
    np.testing.assert_allclose(sum((a * b).sum() for a, b in zip(slopes, tangents, strict=True)), forward, rtol=1e-8)
    step = 1e-5
    either = [np.sin(exact(given + s * direction, COUNTS + s * tangents[1], code)).sum() for s in (step, -step)]
    np.testing.assert_allclose(forward, (either[0] - either[1]) / (2 * step), rtol=1e-5, atol=1e-7)
