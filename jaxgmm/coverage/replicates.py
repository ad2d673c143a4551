"""Replicates: data sets of one cell of a study, simulated, fitted and drawn from, in few programs that are compiled once."""

from __future__ import annotations

import dataclasses
import json
import math
import time
import zlib
from collections.abc import Callable
from functools import cached_property, lru_cache, partial
from operator import itemgetter
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..chunking import coverage_batch, coverage_runs
from ..density import sample
from ..em.batch.fit_many import fit_many
from ..em.batch.restarts import has_degenerate_component
from ..em.initialization import StartOptions, initialize_batch
from ..em.result import Fit, Status
from ..mixture import Mixture
from ..posterior.relabel import relabel
from ..posterior.result import Posterior, PosteriorStatus
from ..priors.conjugate import Prior
from ..priors.defaults import default_prior
from ..studies.intervals import draw_intervals, wald_intervals
from ..studies.methods import as_method
from ..studies.parameters import free_entries
from .design import ESTIMATES, Design

_NOT_TO_BE_USED = (PosteriorStatus.ALL_DIVERGENT, PosteriorStatus.NONFINITE, PosteriorStatus.SINGULAR)


@lru_cache(maxsize=64)
def _program(recipe: tuple[str, str, tuple[float, ...]], structure: Any, leaves: tuple) -> Callable:
    """A method over stacks of data sets, compiled for arrays of these shapes, so that no compilation is in a time.

    Some data sets go side by side: all at once would hold too many draws.
    """
    method, options, probabilities = recipe
    one = _intervals_of if method in ESTIMATES else _draws_of
    function = one(method, json.loads(options), probabilities)
    width = coverage_batch()

    def lanes(*arrays: Any) -> dict[str, jax.Array]:
        return jax.lax.map(lambda one: function(*one), arrays, batch_size=width)

    return jax.jit(lanes).lower(*jax.tree.unflatten(structure, leaves)).compile()


def _intervals_of(method: str, options: dict[str, Any], probabilities: tuple[float, ...]) -> Callable:
    def one(mixture: Mixture, x: jax.Array, prior: Prior | None, failed: jax.Array) -> dict[str, jax.Array]:
        found = wald_intervals(mixture, x, prior, probabilities, kind=options["kind"])
        return {"estimate": free_entries(mixture), **_masked(found, ~failed)}

    return one


def _draws_of(method: str, options: dict[str, Any], probabilities: tuple[float, ...]) -> Callable:
    sampler = as_method(method, **options)[1]

    def one(key: jax.Array, start: Mixture, x: jax.Array, prior: Prior) -> dict[str, jax.Array]:
        posterior = relabel(sampler(key, start, x, prior), start, None, method="kl")
        values = free_entries(posterior.mixture)
        values = values.reshape(-1, values.shape[-1])
        failed = jnp.isin(posterior.status, jnp.array(_NOT_TO_BE_USED))
        found = _masked(draw_intervals(values, probabilities), ~failed)
        return {"estimate": values.mean(0), **found, "failed": failed, "status": posterior.status}

    return one


def whole_runs(size: int) -> int:
    """The least number of data sets, from `size` on, that makes runs of equal length."""
    runs = coverage_runs(size)
    return runs * math.ceil(size / runs)


def _timed(function: Callable, *arrays: Any) -> tuple[Any, float]:
    begin = time.perf_counter()
    found = jax.block_until_ready(function(*arrays))
    return found, time.perf_counter() - begin


class Batch:
    """Data sets of one cell, made and fitted when a method first asks for them."""

    def __init__(self, keys: jax.Array, count: int, truth: Mixture, design: Design, warm: set) -> None:
        self.keys, self.truth, self.design, self.warm = keys, truth, design, warm
        self.count, self.kind = count, truth.covariance_type

    def run(self, method: str) -> dict[str, Any]:
        """What one method finds: estimate (B, P), lower, upper (B, Q, P), defined (B, P), failed, status, seconds (B,)."""
        found, seconds = self._estimate(method) if method in ESTIMATES else self._draw(method)
        return {**jax.tree.map(np.asarray, found), "seconds": np.full(len(self.keys), seconds / len(self.keys))}

    def _estimate(self, method: str) -> tuple[dict[str, jax.Array], float]:
        place = (method, self.kind, self.count)
        if place not in self.warm:  # it compiles as it runs
            self._fits(method)
            self.warm.add(place)
        (fits, failed), seconds = _timed(self._fits, method)
        found, more = self._run(method, fits.mixture, self.x, self.prior if ESTIMATES[method] else None, failed)
        return found | {"failed": failed, "status": fits.status}, seconds + more

    def _draw(self, method: str) -> tuple[dict[str, jax.Array], float]:
        keys = jax.vmap(partial(jax.random.fold_in, data=zlib.crc32(method.encode())))(self.keys)
        return self._run(method, keys, self._map[0].mixture, self.x, self.prior)

    def _run(self, method: str, *arrays: Any) -> tuple[dict[str, jax.Array], float]:
        options = {name: value for name, value in self.design.options_of(method).items() if not self._of_fit(method, name)}
        size = len(self.keys) // coverage_runs(len(self.keys))
        parts = [slice(lo, lo + size) for lo in range(0, len(self.keys), size)]
        shards = [jax.tree.map(itemgetter(part), arrays) for part in parts]
        leaves, structure = jax.tree.flatten(shards[0])
        shapes = tuple(jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for leaf in leaves)
        program = _program((method, json.dumps(options, sort_keys=True), self.design.probabilities), structure, shapes)

        def run(shard: tuple) -> dict[str, jax.Array]:
            return jax.block_until_ready(program(*shard))

        found, seconds = _timed(lambda: [run(shard) for shard in shards])
        return jax.tree.map(lambda *leaves: np.concatenate(leaves), *found), seconds

    @staticmethod
    def _of_fit(method: str, option: str) -> bool:
        return method in ESTIMATES and option != "kind"

    def _fits(self, method: str) -> tuple[Fit, jax.Array]:
        """Fits in the truth's order, and which of them failed."""
        options = {name: value for name, value in self.design.options_of(method).items() if self._of_fit(method, name)}
        prior = self.prior if ESTIMATES[method] else None
        fits = fit_many(self._starts(), self.x, prior, history=False, progress=False, **options)
        return _in_order(fits, self.truth, self.count)

    def _starts(self) -> Mixture:
        size, k = len(self.keys), self.design.num_components
        if self.design.start == "truth":
            return jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (size, *leaf.shape)), self.truth)
        keys = jax.vmap(partial(jax.random.fold_in, data=1))(self.keys)
        return initialize_batch(keys, self.x, None, StartOptions(k, self.kind, self.design.start))

    @cached_property
    def x(self) -> jax.Array:
        """(B, N, D)."""
        return _simulate(self.keys, self.truth, self.count)

    @cached_property
    def prior(self) -> Prior:
        """One a data set, stacked."""
        fixed = self.design.fixed_prior(self.kind)
        if fixed is None:
            return _default_priors(self.x, self.truth.num_components, self.kind)
        return jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (len(self.keys), *leaf.shape)), fixed)

    @cached_property
    def _map(self) -> tuple[Fit, jax.Array]:
        return self._fits("map")


@partial(jax.jit, static_argnums=2)
def _simulate(keys: jax.Array, truth: Mixture, count: int) -> jax.Array:
    return jax.vmap(lambda key: sample(jax.random.fold_in(key, 0), truth, count)[0])(keys)


@partial(jax.jit, static_argnums=(1, 2))
def _default_priors(x: jax.Array, num_components: int, covariance_type: str) -> Prior:
    return jax.vmap(partial(default_prior, num_components=num_components, covariance_type=covariance_type))(x)


@partial(jax.jit, static_argnums=2)
def _in_order(fits: Fit, truth: Mixture, count: int) -> tuple[Fit, jax.Array]:
    degenerate = has_degenerate_component(fits, jnp.asarray(count, fits.objective.dtype))
    failed = (fits.status != Status.CONVERGED) | degenerate

    def one(mixture: Mixture) -> Mixture:
        draw = jax.tree.map(lambda leaf: leaf[None, None], mixture)
        posterior = Posterior(draw, jnp.zeros((1, 1), mixture.means.dtype), None, jnp.array(0), {})
        return relabel(posterior, truth, None, method="kl").mixture[0, 0]

    return dataclasses.replace(fits, mixture=jax.vmap(one)(fits.mixture)), failed


def _masked(found: Any, usable: jax.Array) -> dict[str, jax.Array]:
    """Intervals of one data set, none where the method failed."""
    ends = {name: jnp.where(usable, getattr(found, name), jnp.nan) for name in ("lower", "upper")}
    return {**ends, "defined": found.defined & usable}
