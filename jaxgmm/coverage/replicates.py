"""Replicates of a coverage study: simulate the data sets of one cell, fit them, and draw from their posteriors.

All data sets of a batch go through the same few compiled programs. The time that a method takes is measured without
compilation.
"""

from __future__ import annotations

import dataclasses
import json
import math
import time
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache, partial
from operator import itemgetter
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ..chunking import coverage_batch, coverage_runs
from ..density import sample
from ..em.batch.fit_many import fit_many
from ..em.initialization import StartOptions, initialize_batch
from ..em.result import Fit, is_sound
from ..mixture import Mixture
from ..posterior.label_assignment import relabel_mixtures
from ..posterior.relabel import relabel
from ..posterior.result import is_usable
from ..priors.defaults import default_prior
from ..priors.interface import MixturePrior
from ..studies.intervals import Intervals
from ..studies.method_names import POINT_METHODS
from ..studies.methods import as_method
from .design import Design, StudyCell
from .quantities import estimate_intervals, posterior_intervals, values


class Program(NamedTuple):
    """What is compiled for a method, apart from the shapes of its arrays; hashable.

    Attributes:
        method: the method.
        options: the options of its intervals or draws, as JSON.
        probabilities: Q, of the intervals.
    """

    method: str
    options: str
    probabilities: tuple[float, ...]

    def build(self) -> Callable[..., dict[str, jax.Array]]:
        """Return the function of one data set: (mixture, x, prior, failed) for an estimate, else (key, start, x, prior)."""
        options = json.loads(self.options)
        if self.method in POINT_METHODS:
            return partial(_estimate_one, kind=options["kind"], probabilities=self.probabilities)
        return partial(_draw_one, as_method(self.method, **options)[1], probabilities=self.probabilities)


@lru_cache(maxsize=64)
def _compiled(program: Program, structure: Any, leaves: tuple[jax.ShapeDtypeStruct, ...]) -> Callable[..., Any]:
    """Compile a program for stacks of data sets of given shapes ahead of its first call, which can then be timed.

    The data sets are worked through a few at a time, because the draws of all of them would take too much memory.
    """
    function, width = program.build(), coverage_batch()

    def run(*arrays: Any) -> dict[str, jax.Array]:
        return jax.lax.map(lambda one: function(*one), arrays, batch_size=width)

    return jax.jit(run).lower(*jax.tree.unflatten(structure, leaves)).compile()


def _estimate_one(
    mixture: Mixture,
    x: jax.Array,
    prior: MixturePrior | None,
    failed: jax.Array,
    *,
    kind: str,
    probabilities: tuple[float, ...],
) -> dict[str, jax.Array]:
    """Compute the estimates and intervals of one data set from its fit."""
    found = estimate_intervals(mixture, x, prior, probabilities, kind)
    return {"estimate": values(mixture), **_usable_intervals(found, ~failed)}


def _draw_one(
    draw: Callable[..., Any],
    key: jax.Array,
    start: Mixture,
    x: jax.Array,
    prior: MixturePrior,
    *,
    probabilities: tuple[float, ...],
) -> dict[str, jax.Array]:
    """Draw from the posterior of one data set, and compute estimates and intervals from the draws."""
    posterior = relabel(draw(key, start, x, prior), start, None, method="kl")
    mean, found = posterior_intervals(posterior.mixture, probabilities)
    failed = ~is_usable(posterior.status)
    return {"estimate": mean, **_usable_intervals(found, ~failed), "failed": failed, "status": posterior.status}


def _usable_intervals(found: Intervals, usable: jax.Array) -> dict[str, jax.Array]:
    """Return the intervals of one data set by name, undefined if the method failed."""
    lower, upper = (jnp.where(usable, ends, jnp.nan) for ends in (found.lower, found.upper))
    return {"lower": lower, "upper": upper, "defined": found.defined & usable}


def padded_size(num_datasets: int) -> int:
    """Return the least number of data sets, at least `num_datasets`, that splits into runs of equal length."""
    runs = coverage_runs(num_datasets)
    return runs * math.ceil(num_datasets / runs)


def _timed(function: Callable[..., Any], *arguments: Any) -> tuple[Any, float]:
    """Return the result of a function and the seconds that it took."""
    begin = time.perf_counter()
    found = jax.block_until_ready(function(*arguments))
    return found, time.perf_counter() - begin


@dataclass(eq=False)
class Batch:
    """Data sets of one cell, simulated and fitted when a method first needs them.

    Attributes:
        keys: (B,), one random key for each data set.
        cell: the cell.
        design: the design of the study.
        compiled: method, covariance type and N of the fits that earlier batches have compiled; this batch adds its own.
    """

    keys: jax.Array
    cell: StudyCell
    design: Design
    compiled: set[tuple[str, str, int]] = field(default_factory=set)

    def run(self, method: str) -> dict[str, np.ndarray]:
        """Run one method on all data sets.

        Returns:
            estimate (B, P); lower and upper (B, Q, P); defined (B, P); failed, status and seconds (B,).
        """
        found, seconds = self._estimate(method) if method in POINT_METHODS else self._draw(method)
        return {**jax.tree.map(np.asarray, found), "seconds": np.full(len(self.keys), seconds / len(self.keys))}

    def _estimate(self, method: str) -> tuple[dict[str, Any], float]:
        """Fit all data sets and compute their Wald intervals; return the results and the seconds."""
        place = (method, self.cell.covariance_type, self.cell.num_observations)
        if place not in self.compiled:  # the first fits include the compilation and are not timed
            self._fits(method)
            self.compiled.add(place)
        (fits, failed), seconds = _timed(self._fits, method)
        found, more = self._run_program(method, fits.mixture, self.x, self._prior_of(method), failed)
        return found | {"failed": failed, "status": fits.status}, seconds + more

    def _draw(self, method: str) -> tuple[dict[str, Any], float]:
        """Draw from the posteriors of all data sets, from their MAP fits; return the results and the seconds."""
        keys = jax.vmap(partial(jax.random.fold_in, data=zlib.crc32(method.encode())))(self.keys)
        return self._run_program(method, keys, self._map_fits.mixture, self.x, self.prior)

    def _run_program(self, method: str, *arrays: Any) -> tuple[dict[str, Any], float]:
        """Run the program of a method in runs of equal length; return the results and the seconds."""
        options = self._options(method, fit=False)
        size = len(self.keys) // coverage_runs(len(self.keys))
        parts = [slice(start, start + size) for start in range(0, len(self.keys), size)]
        runs = [jax.tree.map(itemgetter(part), arrays) for part in parts]
        leaves, structure = jax.tree.flatten(runs[0])
        shapes = tuple(jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for leaf in leaves)
        program = _compiled(Program(method, json.dumps(options, sort_keys=True), self.design.probabilities), structure, shapes)
        found, seconds = _timed(lambda: [jax.block_until_ready(program(*run)) for run in runs])
        return jax.tree.map(lambda *leaves: np.concatenate(leaves), *found), seconds

    def _options(self, method: str, *, fit: bool) -> Mapping[str, Any]:
        """Return those options of a method that its EM fits take, or all others."""
        options = self.design.options_of(method)
        return {name: value for name, value in options.items() if fit == (method in POINT_METHODS and name != "kind")}

    def _prior_of(self, method: str) -> MixturePrior | None:
        """Return the priors under which a point estimate is computed, or None for maximum likelihood."""
        return None if method == "em" else self.prior

    def _fits(self, method: str) -> tuple[Fit, jax.Array]:
        """Fit all data sets; return the fits with components in the order of the truth, and which of them failed."""
        options = self._options(method, fit=True)
        fits = fit_many(self._starts(), self.x, self._prior_of(method), history=False, progress=False, **options)
        return _match_to_truth(fits, self.truth, self.cell.num_observations)

    def _starts(self) -> Mixture:
        """Return the starts of EM, stacked."""
        size = len(self.keys)
        if self.design.start == "truth":
            return jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (size, *leaf.shape)), self.truth)
        keys = jax.vmap(partial(jax.random.fold_in, data=1))(self.keys)
        options = StartOptions(self.design.num_components, self.cell.covariance_type, self.design.start)
        return initialize_batch(keys, self.x, None, options)

    @cached_property
    def truth(self) -> Mixture:
        """The mixture from which the data are drawn."""
        return self.design.truth(self.cell.separation, self.cell.covariance_type)

    @cached_property
    def x(self) -> jax.Array:
        """The data, (B, N, D)."""
        return _simulate(self.keys, self.truth, self.cell.num_observations)

    @cached_property
    def prior(self) -> MixturePrior:
        """The priors of the data sets, stacked."""
        fixed = self.design.fixed_prior(self.cell.covariance_type)
        if fixed is None:
            return _default_priors(self.x, self.design.num_components, self.cell.covariance_type)
        return jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (len(self.keys), *leaf.shape)), fixed)

    @cached_property
    def _map_fits(self) -> Fit:
        """The MAP fits, from which draws start."""
        return self._fits("map")[0]


@partial(jax.jit, static_argnums=2)
def _simulate(keys: jax.Array, truth: Mixture, num_observations: int) -> jax.Array:
    """Draw one data set for each key, (B, N, D)."""
    return jax.vmap(lambda key: sample(jax.random.fold_in(key, 0), truth, num_observations)[0])(keys)


@partial(jax.jit, static_argnums=(1, 2))
def _default_priors(x: jax.Array, num_components: int, covariance_type: str) -> MixturePrior:
    """Return the default prior of each data set, stacked."""
    return jax.vmap(partial(default_prior, num_components=num_components, covariance_type=covariance_type))(x)


@partial(jax.jit, static_argnums=2)
def _match_to_truth(fits: Fit, truth: Mixture, num_observations: int) -> tuple[Fit, jax.Array]:
    """Reorder the components of each fit to match the truth, and return which fits failed.

    A fit failed if it is not sound or did not converge.
    """
    failed = ~(is_sound(fits, jnp.asarray(num_observations, fits.objective.dtype)) & fits.converged)
    mixtures, _ = relabel_mixtures(fits.mixture, truth, method="kl")
    return dataclasses.replace(fits, mixture=mixtures), failed
