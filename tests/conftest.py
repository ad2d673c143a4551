"""What the tests share: two processes, 64-bit for one test, fresh caches for each module, seeded mixtures, data and priors."""

import os

import quick_compilation  # noqa: F401  (before jax)

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgmm

KINDS = ("full", "tied", "diag", "spherical")


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config):
    """The whole suite, which mostly compiles, runs file by file in several processes where pytest-xdist is there."""
    whole = config.args_source is config.ArgsSource.TESTPATHS and "PYTEST_XDIST_WORKER" not in os.environ
    if whole and config.pluginmanager.hasplugin("xdist") and config.option.numprocesses is None and not config.option.usepdb:
        config.option.numprocesses, config.option.dist = min(os.cpu_count() or 1, 4), "loadfile"


def enabled_x64():
    """A context with 64-bit numbers; the global configuration stays as it is."""
    enable = getattr(jax, "enable_x64", None)
    if enable is None:
        from jax.experimental import enable_x64 as enable
    return enable(True)


@pytest.fixture
def x64():
    """64-bit numbers for one test."""
    with enabled_x64():
        yield


@pytest.fixture(autouse=True, scope="module")
def fresh_caches():
    """Some 600 executables in one process abort XLA's CPU client: each module leaves with its own."""
    yield
    jax.clear_caches()


def random_mixture(seed, kind, k=3, d=3, *, spread=3.0, scale=1.0, offset=0.0):
    """A validated mixture: means `spread` sds apart about `offset`, correlated covariances of size scale squared."""
    rng = np.random.default_rng(seed)
    root = np.eye(d) + 0.3 * rng.normal(size=(k, d, d))
    dense = root @ np.swapaxes(root, 1, 2)
    diagonal = np.diagonal(dense, axis1=1, axis2=2)
    covariances = {
        "full": dense,
        "tied": dense.mean(0, keepdims=True),
        "diag": diagonal,
        "spherical": diagonal.mean(1, keepdims=True),
    }[kind]
    weights = rng.dirichlet(np.full(k, 5.0))
    means = offset + scale * spread * rng.normal(size=(k, d))
    return jaxgmm.make_mixture(weights / weights.sum(), means, scale**2 * covariances, covariance_type=kind)


def random_data(seed, n=60, d=3, k=3, *, spread=3.0, scale=1.0, offset=0.0):
    """Points (n, d) about k random centres."""
    rng = np.random.default_rng(seed + 1000)
    centers = spread * rng.normal(size=(k, d))
    return offset + scale * (
        centers[rng.integers(0, k, n)] + rng.normal(size=(n, d)) @ (np.eye(d) + 0.3 * rng.normal(size=(d, d)))
    )


def random_weight(seed, n=60):
    """Weights (n,): zeros, ones and fractions."""
    rng = np.random.default_rng(seed + 2000)
    return np.where(rng.random(n) < 0.2, 0.0, np.where(rng.random(n) < 0.5, 1.0, rng.gamma(2.0, 1.0, n)))


def random_prior(seed, kind, k=3, d=3):
    """A proper conjugate prior, nothing at its default."""
    rng = np.random.default_rng(seed + 3000)
    root = np.eye(d) + 0.3 * rng.normal(size=(d, d))
    scale = {"full": root @ root.T, "tied": root @ root.T, "diag": rng.gamma(5.0, 0.2, d), "spherical": 0.7}[kind]
    return jaxgmm.Prior(*(jnp.asarray(v, float) for v in (1 + rng.random(k), rng.normal(size=d), 0.3, d + 2.5, scale)))


def assert_mixtures_close(a, b, rtol, *, scale=1.0):
    """Every field equal within rtol of its own magnitude; scale: unit of the data, for entries near zero."""
    for name, unit in (("weights", 1.0), ("means", scale), ("covariances", scale**2)):
        left, right = np.asarray(getattr(a, name), float), np.asarray(getattr(b, name), float)
        np.testing.assert_allclose(left, right, rtol=rtol, atol=rtol * unit, err_msg=name)
