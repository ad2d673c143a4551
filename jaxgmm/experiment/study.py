"""coverage_study: data sets from a known truth, every method on each, and how often its intervals hold the truth.

    bias = E(estimate) - truth,   RMSE = sqrt(E(estimate - truth)^2),   coverage = P(lower <= truth <= upper)

over data sets drawn anew with the truth fixed: what a user of a method meets in the long run. A Bayesian interval need not cover
so, and where the prior is weak and N large it does. Morris, White & Crowther (2019), Stat. Med. 38, 2074-2102, section 5.

Labels: an estimate is put in the order of components in which it diverges least from the truth, draws in the order in which they
diverge least from the estimate that they started from ("kl" of `relabel`): one rule, which needs no data.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from operator import itemgetter
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..checks import check_key
from ..density import sample
from ..em.many import fit_many, has_spike
from ..em.result import Fit, Status
from ..em.starts import initialize_lanes
from ..mixture import Mixture
from ..posterior.draws import Posterior, PosteriorStatus
from ..posterior.relabel import relabel
from ..prior import Prior, default_prior
from .blocks import Blocks, check_target, versions
from .coverage import render, rows_of
from .design import ESTIMATES, Design
from .intervals import draw_intervals, wald_intervals
from .methods import as_method
from .rows import entries, free_entries
from .tables import csv_text, json_text, plain

_BLOCK, _SHARD = 256, 64  # data sets in one block of the file, and in one run of a program, at most
_WIDTH, _ACCELERATOR = 8, 4  # data sets side by side on a CPU, and times as many elsewhere: one has thousands of draws in hand
# batched triangular solves at the same time can wait for each other forever in XLA's pool of threads (jaxlib 0.10): programs
# keep to one thread each, and several run at once
_ONE_THREAD = {"xla_cpu_multi_thread_eigen": False}
_NOT_TO_BE_USED = (PosteriorStatus.ALL_DIVERGENT, PosteriorStatus.NONFINITE, PosteriorStatus.SINGULAR)


@dataclass(frozen=True, eq=False)
class Study:
    """What a coverage study found: `print` it, or take its numbers.

    Attributes:
        design: the Design.
        meta: key (its data), dtype, backend, versions.
        rows: one dict for each cell, method and free parameter: covariance_type, num_observations, separation, method,
            seconds_per_dataset (compilation apart; of the run that made it), statuses (counts by name), name, kind, component,
            features, truth, num_datasets, num_estimates (finite ones), bias, rmse, share_undefined (no interval), share_failed
            (EM not converged or with a spike; draws not to be used), and at each probability, as 90 %: coverage_90 (an
            undefined interval is a miss), coverage_90_defined (of those there are), width_90 (mean of those there are) and
            width_90_median. Each with its Monte Carlo standard error, `_se`. Weights are shares, means in data units, variances
            and covariances in their squares.
    """

    design: Design
    meta: dict[str, Any]
    rows: list[dict[str, Any]]

    def to_dict(self) -> dict[str, Any]:
        """Every number in plain Python types, None for what is not defined."""
        return plain({"design": self.design.to_dict(), "meta": self.meta, "rows": self.rows})

    def to_json(self, path: Any = None) -> str:
        """`to_dict` as JSON text; written to `path` too, if given."""
        return json_text(self.to_dict(), path)

    def to_csv(self, path: Any = None) -> str:
        """`rows` as CSV text, a header first; written to `path` too, if given."""
        words = [
            {
                **row,
                "statuses": "; ".join(f"{name} {n}" for name, n in row["statuses"].items()),
                "features": " ".join(row["features"]),
            }
            for row in self.rows
        ]
        return csv_text(words, list(self.rows[0]), path)

    def __str__(self) -> str:
        return "\n".join(render(self.rows, self.design.to_dict() | self.meta, self.design.probabilities))

    def __repr__(self) -> str:
        return str(self)


def coverage_study(key: jax.Array, design: Design, *, path: Any = None, progress: bool | None = None) -> Study:
    """Bias, error, and coverage and width of intervals, of EM and of posteriors, over data sets from a known truth.

    Every data set has its own key, made of the cell's values and its number, so the same data come whatever else the design
    holds. A fit or posterior that failed is counted; it leaves no cell. Compilation is once for each number of observations,
    covariance type and method.

    Where components overlap, enable 64-bit numbers first: likelihoods are so flat there that EM in float32 stops at their
    rounding, short of the maximum and near its start (2 sds apart, N = 1000: RMSE of the weights 0.14, not 0.15, and no
    information in 3 % of data sets that have it in 64 bits).

    Args:
        key: a random key.
        design: a Design, as `Design()` or `Design.from_toml(path)`.
        path: a file (.npz) that keeps every finished block: the same call goes on where a killed one was, and ends with the
            same numbers to the last bit, but for the seconds. None keeps nothing.
        progress: a progress bar; None: on a terminal.

    Returns:
        A Study.

    Raises:
        ValueError, TypeError: key, design or path that make no sense, or a file of another study.

    Example:
        >>> import jax, jaxgmm
        >>> design = jaxgmm.Design(separations=(4,), num_observations=(60,), num_features=1, methods=("map",), num_datasets=20)
        >>> study = jaxgmm.coverage_study(jax.random.key(0), design)
        >>> [row["name"] for row in study.rows]
        ['weights[0]', 'weights[1]', 'means[0,0]', 'means[1,0]', 'covariances[0,0,0]', 'covariances[1,0,0]']
    """
    check_key(key)
    if not isinstance(design, Design):
        raise TypeError(f"design is {type(design).__name__}; a jaxgmm.Design was expected, as from Design.from_toml(path).")
    check_target(path)
    meta = {
        "key": np.asarray(jax.random.key_data(key)).tolist(),
        "random_numbers": str(jax.random.key_impl(key)),
        "dtype": str(jnp.result_type(float)),
        "backend": jax.default_backend(),
        "versions": versions(),
    }
    blocks = Blocks(path, {"what": "coverage study", **design.to_dict(), **meta})
    from tqdm import tqdm  # no import of jaxgmm waits for it

    hidden = not (sys.stderr.isatty() if progress is None else progress)
    warm: set = set()
    rows: list[dict[str, Any]] = []
    with tqdm(total=design.num_cells * design.num_datasets * len(design.methods), disable=hidden, unit=" fits") as bar:
        for cell in _cells(design):
            rows += _run_cell(key, design, cell, warm, blocks, bar.update)
    return Study(design, meta, rows)


def _cells(design: Design) -> Iterator[dict[str, Any]]:
    """By type and number of observations, so that what is compiled serves its cells one after the other."""
    for kind in design.covariance_types:
        for count in design.num_observations:
            for separation in design.separations:
                yield {"covariance_type": kind, "num_observations": count, "separation": float(separation)}


def _run_cell(
    key: jax.Array, design: Design, cell: dict[str, Any], warm: set, blocks: Blocks, advance: Callable[[int], Any]
) -> list[dict[str, Any]]:
    """The rows of one cell, block by block from the file or computed."""
    truth = design.truth(cell["separation"], cell["covariance_type"])
    name = " ".join(map(str, cell.values()))
    parts: dict[str, list] = {method: [] for method in design.methods}
    num_blocks = math.ceil(design.num_datasets / _BLOCK)
    size = math.ceil(design.num_datasets / num_blocks)
    size = _shard(size) * math.ceil(size / _SHARD)
    for b in range(num_blocks):
        wanted = np.arange(b * size, (b + 1) * size)
        kept = int((wanted < design.num_datasets).sum())
        batch = _Batch(_keys(key, name, wanted), cell["num_observations"], truth, design, warm)
        for method in design.methods:
            block = blocks.get(f"{name} {method} {b}", partial(batch.run, method))
            parts[method].append({key: value[:kept] for key, value in block.items()})
            advance(kept)
    described = entries(truth, [str(j) for j in range(truth.num_features)])
    rows = []
    for method, some in parts.items():
        found = {key: np.concatenate([part[key] for part in some]) for key in some[0]}
        names = Status if method in ESTIMATES else PosteriorStatus
        counts = np.bincount(found["status"], minlength=len(names))
        begin = cell | {"method": method, "seconds_per_dataset": float(found["seconds"].mean())}
        begin["statuses"] = {names(s).name: int(n) for s, n in enumerate(counts) if n}
        rows += rows_of(described, np.asarray(free_entries(truth)), found, design.probabilities, begin)
    return rows


def _keys(key: jax.Array, cell: str, numbers: np.ndarray) -> jax.Array:
    """A key for each data set of a cell."""
    return jax.vmap(partial(jax.random.fold_in, jax.random.fold_in(key, zlib.crc32(cell.encode()))))(numbers)


@lru_cache(maxsize=64)
def _program(recipe: tuple[str, str, tuple[float, ...]], structure: Any, leaves: tuple) -> Callable:
    """A method over stacks of data sets, compiled for arrays of these shapes, so that no compilation is in a time.

    Some data sets go side by side: all at once would hold too many draws.
    """
    method, options, probabilities = recipe
    one = _intervals_of if method in ESTIMATES else _draws_of
    function = one(method, json.loads(options), probabilities)
    width = _WIDTH * (1 if jax.default_backend() == "cpu" else _ACCELERATOR)
    lanes = jax.jit(lambda *arrays: jax.lax.map(lambda a: function(*a), arrays, batch_size=width))
    return lanes.lower(*jax.tree.unflatten(structure, leaves)).compile(_ONE_THREAD)


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


def _shard(size: int) -> int:
    """Data sets in each of as few equal runs as may be."""
    return math.ceil(size / math.ceil(size / _SHARD))


def _timed(function: Callable, *arrays: Any) -> tuple[Any, float]:
    begin = time.perf_counter()
    found = jax.block_until_ready(function(*arrays))
    return found, time.perf_counter() - begin


class _Batch:
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
        size = _shard(len(self.keys))
        parts = [slice(lo, lo + size) for lo in range(0, len(self.keys), size)]
        shards = [jax.tree.map(itemgetter(part), arrays) for part in parts]
        leaves, structure = jax.tree.flatten(shards[0])
        shapes = tuple(jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for leaf in leaves)
        program = _program((method, json.dumps(options, sort_keys=True), self.design.probabilities), structure, shapes)

        def run(shard: tuple) -> dict[str, jax.Array]:
            return jax.block_until_ready(program(*shard))

        with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
            found, seconds = _timed(lambda: list(pool.map(run, shards)))
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
        ones = jnp.ones(self.x.shape[:2], self.x.dtype)  # a constant inside the program would be folded for seconds
        return initialize_lanes(keys, self.x, ones, num_components=k, covariance_type=self.kind, method=self.design.start)

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


@partial(jax.jit, static_argnums=2, compiler_options=_ONE_THREAD)
def _in_order(fits: Fit, truth: Mixture, count: int) -> tuple[Fit, jax.Array]:
    failed = (fits.status != Status.CONVERGED) | has_spike(fits, jnp.asarray(count, fits.objective.dtype))

    def one(mixture: Mixture) -> Mixture:
        draw = jax.tree.map(lambda leaf: leaf[None, None], mixture)
        posterior = Posterior(draw, jnp.zeros((1, 1), mixture.means.dtype), None, jnp.array(0), {})
        return relabel(posterior, truth, None, method="kl").mixture[0, 0]

    return dataclasses.replace(fits, mixture=jax.vmap(one)(fits.mixture)), failed


def _masked(found: Any, usable: jax.Array) -> dict[str, jax.Array]:
    """Intervals of one data set, none where the method failed."""
    ends = {name: jnp.where(usable, getattr(found, name), jnp.nan) for name in ("lower", "upper")}
    return {**ends, "defined": found.defined & usable}
