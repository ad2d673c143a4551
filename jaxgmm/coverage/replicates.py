"""Replicates of a coverage study: simulate the data sets of one cell, fit mixtures to them, and draw from their posteriors.

A few compiled programs process all data sets of a batch. The measured time of a method does not include compilation.
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
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from ..chunking import coverage_batch, coverage_runs
from ..covariance.types import is_coupled
from ..em.batch.fit_many import fit_many
from ..em.initialization import StartOptions, initialize_batch, initialize_incomplete_batch
from ..em.result import Fit, is_sound
from ..em.single_normal import incomplete_batch
from ..incomplete.observations import Data, Observations
from ..mixture import Mixture
from ..posterior.label_assignment import relabel_mixtures
from ..posterior.relabel import relabel
from ..posterior.result import Posterior, is_usable
from ..priors.defaults import default_prior
from ..priors.interface import MixturePrior
from ..sampling import sample
from ..studies.intervals import Intervals
from ..studies.method_names import POINT_METHODS
from ..studies.methods import as_method
from ..studies.missing_values import with_missing_values
from .design import Design, StudyCell
from .quantities import estimate_intervals, posterior_intervals, values

Found = TypeVar("Found")


class Program(NamedTuple):
    """The specification of the program that is compiled for a method. It is hashable and does not contain shapes of arrays.

    Attributes:
        method: name of the method.
        options: the options that the method uses to compute intervals or to draw, as JSON text.
        probabilities: Q probabilities of the intervals.
    """

    method: str
    options: str
    probabilities: tuple[float, ...]

    def build(self) -> Callable[..., dict[str, jax.Array]]:
        """Return the function that processes one data set.

        Its arguments are (mixture, x, prior, failed) for a point estimate, and (key, start, x, prior) for a method that draws.
        """
        options = json.loads(self.options)
        if self.method in POINT_METHODS:
            return partial(_estimate_one, kind=options["kind"], probabilities=self.probabilities)
        return partial(_draw_one, as_method(self.method, **options)[1], probabilities=self.probabilities)


@lru_cache(maxsize=64)
def _compiled(program: Program, structure: Any, leaves: tuple[jax.ShapeDtypeStruct, ...]) -> jax.stages.Compiled:
    """Return a program compiled for stacks of data sets with the given shapes.

    The program is compiled here, before its first call, so that the measured time of this call does not include compilation.
    The program processes a few data sets at a time, because the draws of all data sets would take too much memory.
    """
    function, width = program.build(), coverage_batch()

    def run(*arrays: object) -> dict[str, jax.Array]:
        return jax.lax.map(lambda one: function(*one), arrays, batch_size=width)

    return jax.jit(run).lower(*jax.tree.unflatten(structure, leaves)).compile()


def _estimate_one(
    mixture: Mixture,
    x: Data,
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
    draw: Callable[..., Posterior],
    key: jax.Array,
    start: Mixture,
    x: Data,
    prior: MixturePrior,
    *,
    probabilities: tuple[float, ...],
) -> dict[str, jax.Array]:
    """Draw from the posterior of one data set, and compute estimates and intervals from the draws."""
    posterior = relabel(draw(key, start, x, prior), start, None, method="kl")
    mean, found = posterior_intervals(posterior, probabilities)
    failed = ~is_usable(posterior.status)
    return {"estimate": mean, **_usable_intervals(found, ~failed), "failed": failed, "status": posterior.status}


def _usable_intervals(found: Intervals, usable: jax.Array) -> dict[str, jax.Array]:
    """Return the intervals of one data set as a dict. If the method failed (`usable` is false), they are undefined."""
    lower, upper = (jnp.where(usable, ends, jnp.nan) for ends in (found.lower, found.upper))
    return {"lower": lower, "upper": upper, "defined": found.defined & usable}


def padded_size(num_datasets: int) -> int:
    """Return `num_datasets`, rounded up so that `Batch` can process the data sets in groups of equal size."""
    runs = coverage_runs(num_datasets)
    return runs * math.ceil(num_datasets / runs)


def _timed(function: Callable[..., Found], *arguments: object) -> tuple[Found, float]:
    """Return the result of a function call, and its duration in seconds."""
    begin = time.perf_counter()
    found = jax.block_until_ready(function(*arguments))
    return found, time.perf_counter() - begin


@dataclass(eq=False)
class Batch:
    """A batch of data sets of one cell. The data sets are simulated and fitted when a method first needs them.

    Attributes:
        keys: (B,), one random key for each data set.
        cell: the cell.
        design: the design of the study.
        compiled: a set with an entry (method, covariance type, N) for each fit that has already been compiled. All batches
            share this set and add entries to it.
    """

    keys: jax.Array
    cell: StudyCell
    design: Design
    compiled: set[tuple[str, str, int]] = field(default_factory=set)

    def run(self, method: str) -> dict[str, np.ndarray]:
        """Run one method on all data sets.

        Returns:
            A dict of arrays: estimate (B, P); lower and upper (B, Q, P), the ends of the intervals; defined (B, P), whether
            the intervals of a quantity are defined; failed, status and seconds (B,).
        """
        found, seconds = self._estimate(method) if method in POINT_METHODS else self._draw(method)
        return {**jax.tree.map(np.asarray, found), "seconds": np.full(len(self.keys), seconds / len(self.keys))}

    def _estimate(self, method: str) -> tuple[dict[str, jax.Array | np.ndarray], float]:
        """Fit all data sets and compute their Wald intervals; return results and duration in seconds."""
        place = (method, self.cell.covariance_type, self.cell.num_observations)
        if place not in self.compiled:  # an additional first call compiles the fit, so that the timed call does not compile
            self._fits(method)
            self.compiled.add(place)
        (fits, failed), seconds = _timed(self._fits, method)
        found, more = self._run_program(method, fits.mixture, self.x, self._prior_of(method), failed)
        return found | {"failed": failed, "status": fits.status}, seconds + more

    def _draw(self, method: str) -> tuple[dict[str, jax.Array | np.ndarray], float]:
        """Draw from the posteriors of all data sets, with the MAP fits as starts; return results and duration in seconds."""
        keys = jax.vmap(partial(jax.random.fold_in, data=zlib.crc32(method.encode())))(self.keys)
        prior = self.prior if method == "bootstrap" else self.normalised_prior
        return self._run_program(method, keys, self._map_fits.mixture, self.x, prior)

    def _run_program(self, method: str, *arrays: object) -> tuple[dict[str, jax.Array | np.ndarray], float]:
        """Run the program of a method on all data sets, in groups of equal size; return results and duration in seconds."""
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
        """Return some options of a method: the options of its EM fits if `fit` is true, else all other options."""
        options = self.design.options_of(method)
        return {name: value for name, value in options.items() if fit == (method in POINT_METHODS and name != "kind")}

    def _prior_of(self, method: str) -> MixturePrior | None:
        """Return the stacked priors under which a point estimate is computed, or None for maximum likelihood."""
        return None if method == "em" else self.prior

    def _fits(self, method: str) -> tuple[Fit, jax.Array]:
        """Fit all data sets. Return the fits, with components in the order of the truth, and whether each fit failed."""
        options = self._options(method, fit=True)
        fits = fit_many(self._starts(), self.x, self._prior_of(method), history=False, progress=False, **options)
        return _match_to_truth(fits, self.truth, self.cell.num_observations)

    def _starts(self) -> Mixture:
        """Return the stacked starts of EM."""
        size = len(self.keys)
        if self.design.start == "truth":
            return jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (size, *leaf.shape)), self.truth)
        keys = jax.vmap(partial(jax.random.fold_in, data=1))(self.keys)
        options = StartOptions(self.design.num_components, self.cell.covariance_type, self.design.start)
        if isinstance(self.x, Observations):
            single = incomplete_batch(self.x, None, self.cell.covariance_type)[1]
            return initialize_incomplete_batch(keys, self.x, None, single, options)
        return initialize_batch(keys, self.x, None, options)

    @cached_property
    def truth(self) -> Mixture:
        """The mixture from which the data are drawn."""
        return self.design.truth(self.cell.separation, self.cell.covariance_type)

    @cached_property
    def x(self) -> Data:
        """The data (B, N, D) of all data sets, or observations if values are missing."""
        return _simulate(self.keys, self.truth, self.cell.num_observations, self.design.missing)

    @cached_property
    def prior(self) -> MixturePrior:
        """The stacked priors of the data sets, under which EM finds posterior modes."""
        return self._stacked_priors(normalised=False)

    @cached_property
    def normalised_prior(self) -> MixturePrior:
        """The stacked priors of the data sets, from whose posteriors methods draw."""
        return self._stacked_priors(normalised=True) if is_coupled(self.cell.covariance_type) else self.prior

    def _stacked_priors(self, *, normalised: bool) -> MixturePrior:
        """Return the prior of each data set, as one stack (B,)."""
        covariance_type = self.cell.covariance_type
        fixed = self.design.fixed_prior(covariance_type, normalised=normalised)
        if fixed is None:
            return _default_priors(self.x, self.design.num_components, covariance_type, normalised)
        return jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (len(self.keys), *leaf.shape)), fixed)

    @cached_property
    def _map_fits(self) -> Fit:
        """Return the MAP fits, at which the methods that draw from the posterior start."""
        return self._fits("map")[0]


@partial(jax.jit, static_argnums=(2, 3))
def _simulate(keys: jax.Array, truth: Mixture, num_observations: int, missing: float) -> Data:
    """Return one simulated data set for each key, as an array (B, N, D) or as observations."""

    def one(key: jax.Array) -> Data:
        x, _ = sample(jax.random.fold_in(key, 0), truth, num_observations)
        return with_missing_values(jax.random.fold_in(key, 2), x, missing)

    return jax.vmap(one)(keys)


@partial(jax.jit, static_argnums=(1, 2, 3))
def _default_priors(x: Data, num_components: int, covariance_type: str, normalised: bool) -> MixturePrior:
    """Return the stacked default priors of the data sets."""
    options = {"num_components": num_components, "covariance_type": covariance_type, "normalised": normalised}
    return jax.vmap(partial(default_prior, **options))(x)


@partial(jax.jit, static_argnums=2)
def _match_to_truth(fits: Fit, truth: Mixture, num_observations: int) -> tuple[Fit, jax.Array]:
    """Return the fits, with components in the order of the truth, and whether each fit failed.

    A fit failed if it is not sound or did not converge.
    """
    failed = ~(is_sound(fits, jnp.asarray(num_observations, fits.objective.dtype)) & fits.converged)
    mixtures, _ = relabel_mixtures(fits.mixture, truth, method="kl")
    return dataclasses.replace(fits, mixture=mixtures), failed
