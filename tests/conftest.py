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

collect_ignore = ["notebook_checks", "benchmarks"]  # code that runs inside notebooks, and scripts

# The slowest groups of tests, which start first, so that no process is still busy with one while the others have ended.
SLOWEST = (
    *("tests/test_readme.py", "tests/posterior/smc/test_smc.py", "jaxgmm", "tests/comparison/test_observations.py"),
    *("tests/posterior/test_nuts.py", "tests/posterior/test_observations.py", "tests/test_padding.py"),
    *("tests/test_transforms.py", "tests/test_hard_inputs.py", "tests/posterior/test_telescope.py"),
    *("tests/posterior/test_bootstrap.py", "tests/posterior/evidence/test_log_evidence.py", "tests/posterior/test_modes.py"),
    *("tests/coverage/test_study.py", "tests/calibration/test_calibrate.py", "tests/em/test_restart_starts.py"),
    *("tests/selection/test_select.py", "tests/em/test_fit.py", "tests/em/batch/test_restarts.py"),
    *("tests/comparison/test_compare.py", "tests/test_laws.py", "tests/posterior/test_laplace.py"),
)

# Examples in docstrings that compile for seconds. The tests of these functions do so, too, and the weekly run has the examples.
SLOW_EXAMPLES = (
    *("jaxgmm.calibration.calibrate.calibrate", "jaxgmm.coverage.study.coverage_study", "jaxgmm.comparison.compare.compare"),
    *("jaxgmm.posterior.evidence.log_evidence.log_evidence", "jaxgmm.posterior.telescope.telescope"),
    *("jaxgmm.posterior.modes.modes", "jaxgmm.posterior.bootstrap.bootstrap", "jaxgmm.plot.posterior_modes.stages"),
    "jaxgmm.em.batch.restarts.fit_restarts",
)


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config):
    """Run the whole suite, which mostly compiles, file by file in several processes if pytest-xdist is installed.

    With --cov, pytest-cov must know before this function is called whether there are several processes: see CONTRIBUTING.md.
    """
    whole = config.args_source is config.ArgsSource.TESTPATHS and "PYTEST_XDIST_WORKER" not in os.environ
    whole = whole and not getattr(config.option, "cov_source", None)
    if whole and config.pluginmanager.hasplugin("xdist") and config.option.numprocesses is None and not config.option.usepdb:
        config.option.numprocesses, config.option.dist = min(os.cpu_count() or 1, 4), "loadfile"
        config.option.loadscopereorder = False  # the order is that of `pytest_collection_modifyitems`


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Run all examples in docstrings in one process, because many of them share compiled programs."""
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid):
            return "examples" if nodeid.startswith("jaxgmm/") else super()._split_scope(nodeid)

    return Scheduling(config, log) if config.option.dist == "loadfile" else None


@pytest.hookimpl(tryfirst=True)  # before pytest leaves out what is slow
def pytest_collection_modifyitems(config, items):
    """Mark the slow examples, and let a process of pytest-xdist begin with the slowest groups of tests."""
    for item in items:
        if item.name in SLOW_EXAMPLES:
            item.add_marker(pytest.mark.slow)
    if not hasattr(config, "workerinput"):
        return

    def place(item):
        prefix = next((prefix for prefix in SLOWEST if item.nodeid.startswith(prefix)), None)
        return len(SLOWEST) if prefix is None else SLOWEST.index(prefix)

    items.sort(key=place)


@pytest.hookimpl(wrapper=True)
def pytest_collect_file():
    """Look for no examples in the docstrings of tests."""
    return [collector for collector in (yield) if type(collector).__name__ != "DoctestModule"]


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
