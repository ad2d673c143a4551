"""Configure pytest and hypothesis, and define the fixtures that all tests share."""

import gc
import os

import jax
import pytest
from hypothesis import settings

import quick_compilation  # sets XLA_FLAGS before jax starts a backend
from helpers import enabled_x64

quick_compilation.share_contexts()

# the same examples in every run and on slow machines, and no files of examples in the repository
settings.register_profile("jaxgmm", derandomize=True, deadline=None, database=None, max_examples=50)
settings.load_profile("jaxgmm")

collect_ignore = ["notebook_checks"]  # code that runs inside notebooks


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config):
    """Run the whole suite, which mostly compiles, file by file in several processes if pytest-xdist is installed."""
    whole = config.args_source is config.ArgsSource.TESTPATHS and "PYTEST_XDIST_WORKER" not in os.environ
    if whole and config.pluginmanager.hasplugin("xdist") and config.option.numprocesses is None and not config.option.usepdb:
        config.option.numprocesses, config.option.dist = min(os.cpu_count() or 1, 4), "loadfile"


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Run all examples in docstrings in one process, because many of them share compiled programs."""
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid):
            return "examples" if nodeid.startswith("jaxgmm/") else super()._split_scope(nodeid)

    return Scheduling(config, log) if config.option.dist == "loadfile" else None


def pytest_collection_finish():
    """Let garbage collection skip all objects that importing has made, and run rarely: it took a twentieth of the time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


@pytest.fixture
def x64():
    """Enable 64-bit numbers for one test."""
    with enabled_x64():
        yield


@pytest.fixture(autouse=True, scope="module")
def fresh_caches():
    """Clear the compiled programs after each module: XLA's CPU client aborts a process with some 600 of them."""
    yield
    jax.clear_caches()
    gc.collect()
