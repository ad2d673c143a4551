"""Test when a progress bar is shown, that it reaches its end, and that every function with the option follows the same rule."""

import inspect
import io
import re
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgmm
from jaxgmm.comparison.compare import compare
from jaxgmm.progress import advance, program_bar, progress_bar

from fabricated_comparisons import fabricate_fit, make_posterior, two_clusters
from helpers import two_groups

SAMPLERS = ("nuts", "gibbs", "laplace", "bootstrap")


class Terminal(io.StringIO):
    """A stream that says it is a terminal and keeps what is written."""

    def isatty(self):
        return True


@pytest.fixture
def terminal(monkeypatch):
    """Return a fake terminal that takes the place of stderr."""
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    return stream


def bars(stream):
    """Return the last state of each bar, such as "30/30 ... fits"."""
    return [line.split("\r")[-1] for line in stream.getvalue().split("\n") if line.strip()]


@pytest.mark.parametrize(("wanted", "terminal", "shown"), [(True, False, True), (False, True, False), (None, True, True)])
def test_shown_if_wanted_or_on_a_terminal(monkeypatch, wanted, terminal, shown):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    with progress_bar(3, " fits", wanted) as bar:
        bar.update(3)
        assert bar.disable is not shown


def test_not_shown_without_a_terminal(capsys, monkeypatch):
    with progress_bar(3, " fits", None) as bar:
        bar.update(3)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(sys, "stderr", None)  # as in a program without a console
    with progress_bar(3, " fits", None) as bar:
        assert bar.disable


def test_a_function_called_by_another_has_no_bar_of_its_own(terminal):
    """It advances the bar of its caller if both count the same, also where the caller's bar is hidden."""
    with progress_bar(3, " fits", None) as outer:
        with progress_bar(9, " fits", True) as inner:
            assert inner is outer
            inner.update(3)
        with progress_bar(9, " steps", True) as other:
            assert other.disable
    (line,) = bars(terminal)
    assert "3/3" in line
    terminal.truncate(0)
    with progress_bar(3, " fits", False), progress_bar(3, " fits", None) as inner:
        inner.update(3)
    assert bars(terminal) == []
    with progress_bar(3, " steps", None) as after:
        assert not after.disable


def test_a_program_is_compiled_once_for_all_bars(terminal):
    """Two calls count 7 and 7 steps; a call without a bar has a program of its own."""

    @jax.jit
    def run(bar):
        return jax.lax.fori_loop(0, 7, lambda i, total: (advance(bar, i, 7), total + i)[1], jnp.array(0))

    for _ in range(2):
        with program_bar(7, " steps", None) as bar:
            assert run(bar) == 21
    assert run._cache_size() == 1
    assert ["7/7" in line for line in bars(terminal)] == [True, True]
    with program_bar(7, " steps", False) as bar:
        assert bar is None
        assert run(bar) == 21
    assert run._cache_size() == 2


def functions_with_the_option():
    """Return the public functions that have the option `progress`."""
    public = {name: getattr(jaxgmm, name) for name in dir(jaxgmm) if name.islower()}
    return {name: f for name, f in public.items() if callable(f) and "progress" in str(inspect.signature(f))}


def test_the_option_is_the_same_everywhere():
    found = functions_with_the_option()
    assert set(SAMPLERS[:3]) | {"fit_many", "calibrate", "coverage_study", "compare"} <= set(found)
    for name, function in found.items():
        assert inspect.signature(function).parameters["progress"].default is None, name
        assert re.search(r"progress: whether to show a progress bar.*None", function.__doc__, re.DOTALL), name


@pytest.fixture(scope="module")
def problem():
    return two_groups(0, 40, 1, "spherical")


@pytest.mark.parametrize("method", SAMPLERS)
def test_samplers_show_a_bar_on_a_terminal(method, problem, terminal):
    x, start, prior = problem
    sizes = {"num_samples": 30} | ({"num_warmup": 20} if method in ("nuts", "gibbs") else {})
    if method == "nuts":
        sizes["adapt_mass_matrix"] = True
    if method == "bootstrap":
        sizes["tol"] = 1e-4

    def run(seed, **options):
        return getattr(jaxgmm, method)(jax.random.key(seed), start, x, prior, **sizes, **options)

    shown = run(0)
    total = {"nuts": 50, "gibbs": 51, "laplace": 2, "bootstrap": 30}[method]
    (line,) = bars(terminal)
    assert f"{total}/{total}" in line
    terminal.truncate(0)
    hidden = run(0, progress=False)
    jax.jit(lambda seed: run(seed).log_density)(1) if method == "gibbs" else None
    assert bars(terminal) == []
    np.testing.assert_allclose(shown.mixture.means, hidden.mixture.means, rtol=1e-3)
    with pytest.raises(TypeError, match="progress is 1; None, True or False"):
        run(0, progress=1)


def test_other_functions_show_a_bar_on_a_terminal(problem, terminal):
    x, start, _ = problem
    jaxgmm.fit_many(start, [x, x], tol=1e-4)
    (line,) = bars(terminal)
    assert "2/2" in line
    terminal.truncate(0)
    data = two_clusters()
    fit = fabricate_fit(data)
    compare(fit, {"a": make_posterior(fit, data), "b": make_posterior(fit, data)}, data, laplace=False, scores=False)
    (line,) = bars(terminal)
    assert "5/5" in line
    for function in (jaxgmm.fit_many, jaxgmm.compare):
        arguments = (start, [x, x]) if function is jaxgmm.fit_many else (fit, make_posterior(fit, data), data)
        with pytest.raises(TypeError, match="progress is 'yes'"):
            function(*arguments, progress="yes")
