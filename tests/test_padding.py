"""Padding of eager data: calls with data of many lengths share programs, and results are those of the data alone."""

import contextlib
import dataclasses
import functools
import os
import subprocess
import sys
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgmm
from jaxgmm import chunking
from jaxgmm.padding import cut, pad_data
from jaxgmm.row_sums import FirstRows

from helpers import random_data, random_mixture, random_prior

K, D = 2, 2
LENGTHS = (101, 102, 103, 104)  # all are padded to 104 rows
MIXTURE = random_mixture(0, "diag", k=K, d=D)
PRIOR = random_prior(0, "diag", k=K, d=D)
KEY = jax.random.key(0)
OPTIONS = {"num_components": K, "covariance_type": "diag"}


# `telescope` needs a prior that gives each weight the same concentration
EXCHANGEABLE = dataclasses.replace(PRIOR, weight_concentration=jnp.ones(K))
POSTERIOR = jaxgmm.Posterior(
    jax.tree.map(lambda *leaves: jnp.stack(leaves)[None], MIXTURE, random_mixture(1, "diag", k=K, d=D)),
    jnp.zeros((1, 2)),
    PRIOR,
    jnp.array(0),
    {},
)


@functools.cache
def draws(n, weighted, dtype):
    """Return draws of `laplace`, which are made only once, so that evidences with and without padding have the same draws."""
    x, weight = data(n, weighted, dtype)
    return jaxgmm.laplace(KEY, MIXTURE, x, PRIOR, sample_weight=weight, **CHAINS)


def evidence(x, w):
    """Return the evidence from the draws of `laplace`."""
    posterior = draws(len(x), w is not None, x.dtype)
    return jaxgmm.log_evidence(KEY, posterior, x, sample_weight=w, num_samples=1000, num_modes=1)


def numbers(fit):
    """Return a fit without its number of steps: if it starts at the optimum, rounding decides whether a step improves it."""
    return fit.mixture, fit.objective, fit.log_likelihood, fit.status, fit.component_status


def labels(x):
    return (x[:, 0] > x[:, 0].mean()).astype(int)


def shares(x):
    first = 1 / (1 + np.exp(-x[:, 0]))
    return np.stack([first, 1 - first], 1)


# eager functions that take data and weights
WEIGHTED = {
    "initialize": lambda x, w: jaxgmm.initialize(KEY, x, sample_weight=w, **OPTIONS),
    "from_labels": lambda x, w: jaxgmm.from_labels(x, labels(x), sample_weight=w, **OPTIONS),
    "from_responsibilities": lambda x, w: jaxgmm.from_responsibilities(x, shares(x), covariance_type="diag", sample_weight=w),
    "fit": lambda x, w: jaxgmm.fit(MIXTURE, x, PRIOR, sample_weight=w),
    "fit_restarts": lambda x, w: numbers(jaxgmm.fit_restarts(KEY, x, PRIOR, num_restarts=3, sample_weight=w, **OPTIONS)),
    "fit_many": lambda x, w: jaxgmm.fit_many(KEY, [x, x], sample_weight=None if w is None else [w, w], tol=1e-5, **OPTIONS),
    "e_step": lambda x, w: jaxgmm.e_step(MIXTURE, x, sample_weight=w),
    "bic": lambda x, w: jaxgmm.bic(MIXTURE, x, sample_weight=w),
    "icl": lambda x, w: jaxgmm.icl(MIXTURE, x, sample_weight=w),
    "standard_errors": lambda x, w: jaxgmm.standard_errors(MIXTURE, x, PRIOR, kind="sandwich", sample_weight=w),
    "default_prior": lambda x, w: jaxgmm.default_prior(x, sample_weight=w, **OPTIONS),
}
# eager functions that take points
UNWEIGHTED = {
    "log_prob": lambda x, w: jaxgmm.log_prob(MIXTURE, x),
    "responsibilities": lambda x, w: jaxgmm.responsibilities(MIXTURE, x),
    "predict": lambda x, w: jaxgmm.predict(MIXTURE, x),
}
CHAINS = {"num_chains": 2, "num_samples": 20}
# samplers, and functions of a posterior
WEIGHTED_POSTERIORS = {
    "gibbs": lambda x, w: jaxgmm.gibbs(KEY, MIXTURE, x, PRIOR, num_warmup=2, sample_weight=w, **CHAINS),
    "smc": lambda x, w: jaxgmm.smc(KEY, x, PRIOR, num_samples=100, num_chains=2, sample_weight=w, **OPTIONS),
    "telescope": lambda x, w: jaxgmm.telescope(
        KEY, x, EXCHANGEABLE, max_components=3, num_warmup=2, sample_weight=w, covariance_type="diag", **CHAINS
    ),
    "laplace": lambda x, w: jaxgmm.laplace(KEY, MIXTURE, x, PRIOR, sample_weight=w, **CHAINS),
    "relabel": lambda x, w: jaxgmm.relabel(POSTERIOR, MIXTURE, x, method="stephens", sample_weight=w),
    "nuts": lambda x, w: jaxgmm.nuts(
        KEY, MIXTURE, x, PRIOR, num_warmup=0, adapt_mass_matrix=False, max_tree_depth=2, sample_weight=w, **CHAINS
    ),
    "bootstrap": lambda x, w: jaxgmm.bootstrap(KEY, MIXTURE, x, PRIOR, num_samples=4, sample_weight=w, tol=1e-5),
    "log_evidence": lambda x, w: evidence(x, w),
}
OF_KEYS = {"num_components": [1, 2], "covariance_types": ["diag"], "num_restarts": 2, "tol": 1e-5}
UNWEIGHTED_POSTERIORS = {
    "select": lambda x, w: jaxgmm.select(KEY, x, **OF_KEYS).best.fit,
    "select by cross-validation": lambda x, w: jaxgmm.select(KEY, x, criterion="cv", num_folds=2, **OF_KEYS).best.fit,
    "predictive_log_prob": lambda x, w: jaxgmm.predictive_log_prob(POSTERIOR, x),
    "bootstrap, parametric": lambda x, w: jaxgmm.bootstrap(KEY, MIXTURE, x, PRIOR, kind="parametric", num_samples=4, tol=1e-5),
    "coclustering": lambda x, w: jaxgmm.coclustering(POSTERIOR, x),
    "assignment_entropy": lambda x, w: jaxgmm.assignment_entropy(POSTERIOR, x, kind="pairs"),
}
FUNCTIONS = WEIGHTED | UNWEIGHTED | WEIGHTED_POSTERIORS | UNWEIGHTED_POSTERIORS
# Newton's method, inverse Hessians and k-hat multiply rounding errors: another order of the rows changes draws of `laplace` by
# up to 7e-12, and padding changes them by up to 2e-11; k-hat, which is fitted to few ratios, changes by up to 6e-9,
# and the effective number of ratios by 5e-10 of its value
TOLERANCES = {"laplace": 1e-10, "nuts": 1e-10, "log_evidence": 1e-10}
# functions that compile for long; the default run has others of the same kind
LONG = (
    *("fit_restarts", "fit_many", "standard_errors", "smc", "telescope", "nuts", "bootstrap", "log_evidence"),
    "select by cross-validation",
)


def cases(names, weighted, are_slow=lambda name: name in LONG):
    """Return the cases of some functions, some of which are marked as slow."""
    return [pytest.param(name, weighted, marks=[pytest.mark.slow] * are_slow(name)) for name in names]


PLAIN = cases(FUNCTIONS, False, lambda name: name in LONG[1:] or name in ("bootstrap, parametric", "select"))
# functions that call others of these, and would compile once more without padding
COMPOSED = ("fit_restarts", "fit_many", "standard_errors", "laplace", "select", "bootstrap, parametric")
RESULTS = cases(FUNCTIONS, False, lambda name: name in LONG[3:] + COMPOSED)
OF_WEIGHTS = cases(WEIGHTED, True)
OF_DRAWS_AND_WEIGHTS = cases(WEIGHTED_POSTERIORS, True, lambda name: True)


@pytest.fixture(scope="module")
def compiled():
    """The names of all functions that are compiled, in order."""
    names = []

    def listen(event, _, **details):
        if event == "/jax/core/compile/backend_compile_duration":
            names.append(details.get("fun_name"))

    jax.monitoring.register_event_duration_secs_listener(listen)
    return names


@contextlib.contextmanager
def unpadded():
    """Turn padding off."""
    largest, chunking.LARGEST_PADDED = chunking.LARGEST_PADDED, 0
    try:
        yield
    finally:
        chunking.LARGEST_PADDED = largest


def data(n, weighted, dtype):
    """Return the first n rows of one data set, and their weights or None."""
    x = random_data(0, n=max(LENGTHS), d=D, k=K)[:n].astype(dtype)
    return x, (np.arange(n) % 3).astype(dtype) if weighted else None


def call(name, n, weighted):
    """Return the result of a function for the first n rows of one data set."""
    x, weight = data(n, weighted, np.dtype(jnp.result_type(float)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return jax.block_until_ready(FUNCTIONS[name](x, weight))


@pytest.mark.parametrize(("name", "weighted"), [*PLAIN, *cases(WEIGHTED | WEIGHTED_POSTERIORS, True, lambda name: True)])
def test_many_lengths_share_programs(name, weighted, compiled, x64):
    """After one call, calls at other lengths that are padded to the same length compile nothing."""
    call(name, LENGTHS[-1], weighted)
    before = len(compiled)
    for n in LENGTHS:
        call(name, n, weighted)
    assert compiled[before:] == []


@pytest.mark.parametrize(("name", "weighted"), RESULTS + OF_WEIGHTS + OF_DRAWS_AND_WEIGHTS)
def test_results_are_those_of_the_data_alone(name, weighted, x64):
    """Padding changes no number by more than rounding, and no shape or dtype."""
    found = call(name, LENGTHS[0], weighted)
    with unpadded():
        expected = call(name, LENGTHS[0], weighted)
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for (path, a), b in zip(jax.tree_util.tree_leaves_with_path(found), jax.tree.leaves(expected), strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        field = jax.tree_util.keystr(path)
        tolerance = 1e-7 if "khat" in field else 1e-8 if field == ".ess" else TOLERANCES.get(name, 1e-12)
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance, err_msg=field)


def test_starts_from_a_sample_of_the_rows(x64):
    """Starts from long data, which look at a sample of the rows, do not depend on padding either."""
    x = random_data(0, n=2101, d=D, k=K).astype(float)
    found = jaxgmm.initialize(KEY, x, **OPTIONS)
    with unpadded():
        expected = jaxgmm.initialize(KEY, x, **OPTIONS)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)


LOOP = """
import jax, jaxgmm, numpy as np
from pathlib import Path

programs = []
jax.monitoring.register_event_duration_secs_listener(lambda event, _, **details: programs.append(event))
x = np.random.default_rng(0).normal(size=(2000, 2)) + 5 * (np.arange(2000)[:, None] % 2)
for first in 1000, 1003:
    for n in range(first, 2001, 7):
        start = jaxgmm.initialize(jax.random.key(n), x[:n], num_components=2)
        jaxgmm.fit(start, x[:n], tol=1e-4)
    count = programs.count("/jax/core/compile/backend_compile_duration")
    print(count, len(Path("/proc/self/maps").read_text().splitlines()))
"""


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/proc/self/maps"), reason="counts the memory maps of a Linux process")
def test_a_loop_over_lengths_does_not_grow():
    """In a new process, a loop over lengths compiles at most 20 programs.

    A second loop, over other lengths, compiles none and needs no more memory maps. The small twin is
    `test_many_lengths_share_programs`.
    """
    result = subprocess.run([sys.executable, "-W", "ignore", "-c", LOOP], capture_output=True, text=True, check=True)
    (programs, maps), (programs_after, maps_after) = (map(int, line.split()) for line in result.stdout.splitlines())
    assert programs <= 20
    assert programs_after == programs
    assert maps_after <= maps + 50


def test_an_octave_has_few_lengths():
    """There are at most nine lengths between 1000 and 2000 rows, none much longer than the data, and each is its own length."""
    lengths = [chunking.padded_length(n) for n in range(1000, 2001)]
    assert len(set(lengths)) <= 9
    for n in [*range(200), *range(600, 5000), 10**5, chunking.LARGEST_PADDED]:
        length = chunking.padded_length(n)
        assert n <= length <= max((1.1 if n <= 2048 else 1.063) * n, n + 16)
        assert chunking.padded_length(length) == length
        assert length % 8 == 0
    assert chunking.padded_length(chunking.LARGEST_PADDED + 1) == chunking.LARGEST_PADDED + 1


def test_what_is_padded():
    """Concrete data are padded with copies of the last row, weights with zeros; traced and long data are not padded."""
    x = np.ones((101, 2), np.float32)
    padded = pad_data(jnp.asarray(x), None)
    assert isinstance(padded.weight, FirstRows)
    assert (int(padded.weight.num_rows), padded.x.shape, padded.x.dtype) == (101, (104, 2), np.float32)
    assert padded.x[101:].min() == 1
    weighted = pad_data(jnp.asarray(x), jnp.ones(101))
    assert weighted.weight.shape == (104,)
    assert weighted.weight.sum() == 101
    assert cut(jnp.arange(104), 101).shape == (101,)
    assert jax.eval_shape(lambda x: pad_data(x, None), jnp.asarray(x)).x.shape == (101, 2)
    long = jnp.zeros((chunking.LARGEST_PADDED + 1, 1))
    assert pad_data(long, None).x is long
    assert pad_data(long, None).weight is None


def test_committed_data_stay_on_their_device():
    """Padding and cutting keep the device of data that were put on a device."""
    device = jax.devices()[0]
    x = jax.device_put(np.ones((101, 2), np.float32), device)
    padded = pad_data(x, None)
    assert padded.x.sharding == x.sharding
    assert padded.x.committed
    assert jaxgmm.log_prob(MIXTURE, x).sharding == x.sharding
