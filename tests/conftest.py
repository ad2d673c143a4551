"""What the tests share: two processes, 64-bit for one test, fresh caches for each module, seeded mixtures, data and priors."""

import os

import jax
import pytest

import quick_compilation  # noqa: F401  sets XLA_FLAGS before jax starts a backend
from helpers import enabled_x64


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config):
    """The whole suite, which mostly compiles, runs file by file in several processes where pytest-xdist is there."""
    whole = config.args_source is config.ArgsSource.TESTPATHS and "PYTEST_XDIST_WORKER" not in os.environ
    if whole and config.pluginmanager.hasplugin("xdist") and config.option.numprocesses is None and not config.option.usepdb:
        config.option.numprocesses, config.option.dist = min(os.cpu_count() or 1, 4), "loadfile"


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
