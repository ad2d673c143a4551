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
from helpers import slow_unless, two_groups

SAMPLERS = ("nuts", "gibbs", "laplace", "bootstrap")


class Terminal(io.StringIO):
    """A stream that says it is a terminal and keeps what is written."""

    def isatty(self):
        return True


def bars(function, *arguments, **options):
    """Call a function with a fake terminal in the place of stderr. Return the last state of each bar, and the result."""
    stream = Terminal()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stderr", stream)
        result = function(*arguments, **options)
    return [line.split("\r")[-1] for line in stream.getvalue().split("\n") if line.strip()], result


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


def test_a_function_called_by_another_has_no_bar_of_its_own():
    """It advances the bar of its caller if both count the same, also where the caller's bar is hidden."""

    def nested(wanted):
        with progress_bar(3, " fits", wanted) as outer:
            with progress_bar(9, " fits", True) as inner:
                assert inner is outer
                inner.update(3)
            with progress_bar(9, " steps", True) as other:
                assert other.disable

    (line,), _ = bars(nested, None)
    assert "3/3" in line
    assert bars(nested, False)[0] == []
    with progress_bar(3, " steps", True) as after:
        assert not after.disable


def test_a_program_is_compiled_once_for_all_bars():
    """Two calls count 7 steps each; a call without a bar has a program of its own."""

    @jax.jit
    def run(bar):
        return jax.lax.fori_loop(0, 7, lambda i, total: (advance(bar, i, 7), total + i)[1], jnp.array(0))

    def call(wanted):
        with program_bar(7, " steps", wanted) as bar:
            assert (bar is None) == (wanted is False)
            assert run(bar) == 21

    for _ in range(2):
        (line,), _ = bars(call, None)
        assert "7/7" in line
    assert run._cache_size() == 1
    assert bars(call, False)[0] == []
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


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # a few draws after a short warm-up need not be good
@pytest.mark.parametrize("method", slow_unless(SAMPLERS, ("gibbs", "bootstrap")))
def test_samplers_show_a_bar_on_a_terminal(method, problem):
    x, start, prior = problem
    sizes = {"num_samples": 30} | ({"num_warmup": 20} if method in ("nuts", "gibbs") else {})
    sizes |= {"nuts": {"adapt_mass_matrix": False}, "bootstrap": {"tol": 1e-4}}.get(method, {})

    def run(seed, **options):
        return getattr(jaxgmm, method)(jax.random.key(seed), start, x, prior, **sizes, **options)

    (line,), shown = bars(run, 0)
    total = {"nuts": 50, "gibbs": 51, "laplace": 2, "bootstrap": 30}[method]
    assert f"{total}/{total}" in line
    lines, hidden = bars(run, 0, progress=False)
    assert lines == []
    # two programs round differently, and a chain amplifies the difference
    np.testing.assert_allclose(shown.mixture.means, hidden.mixture.means, rtol=1e-3, atol=5e-3)
    if method == "gibbs":
        assert bars(jax.jit(lambda seed: run(seed).log_density), 1)[0] == []
    with pytest.raises(TypeError, match="progress is 1; None, True or False"):
        run(0, progress=1)


def test_other_functions_show_a_bar_on_a_terminal():
    data = two_clusters()
    fit, xs = fabricate_fit(data), np.stack([data, data])
    starts = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), fit.mixture)
    (line,), _ = bars(jaxgmm.fit_many, starts, xs, tol=1e-4)
    assert "2/2" in line
    posteriors = {name: make_posterior(fit, data) for name in "ab"}
    (line,), _ = bars(compare, fit, posteriors, data, laplace=False, scores=False)
    assert "5/5" in line
    for function, arguments, options in (
        (jaxgmm.fit_many, (starts, xs), {"tol": 1e-4}),
        (compare, (fit, posteriors, data), {"laplace": False, "scores": False}),
    ):
        assert bars(function, *arguments, progress=False, **options)[0] == []
        with pytest.raises(TypeError, match="progress is 'yes'"):
            function(*arguments, progress="yes")
