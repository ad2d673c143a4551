"""Call functions with arrays whose parts several processes hold; test_processes.py starts this script once for each process.

Usage: python global_rows.py FOLDER PORT NUM_PROCESSES PROCESS NAME ... Each process writes hashes of the results and messages
of errors to its own file in the folder. The first process also compares the results with those of one process.
"""

import hashlib
import json
import sys
import warnings
from pathlib import Path

import jax
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from sharded_rows import calls, compare

import jaxgmm
from jaxgmm.em.fit_warnings import warn_of_collinear_columns

N = 240
_PER_ROW = ("log_prob", "responsibilities", "predict")
# with so few rows, these depend on rounding or on the places of rows of weight 0; test_row_shards.py compares them
_NOT_COMPARED = ("fit_restarts", "log_evidence")


class Process:
    """One of the processes, with its rows of the data."""

    def __init__(self, number, count):
        self.number, self.count = number, count
        self.own = slice(number * N // count, (number + 1) * N // count)
        rng = np.random.default_rng(0)
        self.weight = rng.integers(0, 3, N).astype(float)
        self.weight[: N // count] = 0  # the first process has no rows
        self.x = rng.normal(size=(N, 2)) + 3 * (np.arange(N) % 2)[:, None]

    def place(self, array, kind=AxisType.Auto):
        """Return a global array."""
        rows = NamedSharding(jax.make_mesh((self.count,), ("rows",), axis_types=(kind,)), PartitionSpec("rows"))
        return jax.make_array_from_process_local_data(rows, array[self.own])

    def result(self, name):
        """Return a hash of the result of a call."""
        kind = AxisType.Explicit if name.startswith("explicit ") else AxisType.Auto
        weight = self.weight if name == "bic" else self.place(self.weight, kind)  # every process may hold all weights
        name = name.removeprefix("explicit ")
        found = calls(self.place(self.x, kind), weight)[name]()
        if name in _PER_ROW:
            assert not found.is_fully_addressable
            found = np.asarray(found.addressable_data(0))
        assert all(leaf.is_fully_addressable for leaf in jax.tree.leaves(found) if isinstance(leaf, jax.Array)), name
        if self.number == 0 and name not in _NOT_COMPARED:
            expected = jax.tree.map(np.asarray, calls(self.x, self.weight)[name]())
            compare(name, found, expected[self.own] if name in _PER_ROW else expected)
        return None if name in _PER_ROW else hashlib.sha256(b"".join(map(to_bytes, jax.tree.leaves(found)))).hexdigest()

    def fit_many(self):
        """Compare fits of data sets that are divided among the processes with fits of this process's own data sets."""
        xs = np.random.default_rng(self.number).normal(size=(2, 40, 2)) + 4 * (np.arange(80) % 2).reshape(2, 40, 1)
        sets = NamedSharding(jax.make_mesh((self.count,), ("sets",), axis_types=(AxisType.Auto,)), PartitionSpec("sets"))
        shared = np.tile([[0.0, 0.0], [4.0, 4.0]], (2 * self.count, 1, 1))
        starts = jaxgmm.Mixture(np.full((2 * self.count, 2), 0.5), shared, np.ones_like(shared), "diag")
        found = jaxgmm.fit_many(starts, jax.make_array_from_process_local_data(sets, xs), tol=1e-4)
        assert not found.mixture.means.is_fully_addressable
        expected = jaxgmm.fit_many(starts[:2], xs, tol=1e-4)
        compare("fit_many", found.mixture.means.addressable_data(0), np.asarray(expected.mixture.means))

    def errors(self):
        """Return the messages of calls that at least one process makes wrongly."""
        is_last = self.number == self.count - 1
        start = jaxgmm.make_mixture([1.0], [[0.0, 0.0]], [[1.0 + is_last, 1.0]], covariance_type="diag")
        same = jaxgmm.make_mixture([1.0], [[0.0, 0.0]], [[1.0, 1.0]], covariance_type="diag")
        x, spoilt, negative = self.place(self.x), self.x.copy(), self.weight.copy()
        spoilt[-1], negative[-1] = np.nan, -1
        other = jaxgmm.e_step if is_last else jaxgmm.log_prob
        return [
            message(lambda: jaxgmm.fit(same, self.place(spoilt))),
            message(lambda: jaxgmm.initialize(jax.random.key(0), x, num_components=1, sample_weight=self.place(negative))),
            message(lambda: jaxgmm.fit(start, x)),
            message(lambda: jaxgmm.fit(same, x, max_iter=3 + is_last, tol=1e-3 * (1 + is_last))),
            message(lambda: other(same, x)),
            message(lambda: jaxgmm.select(jax.random.key(0), x)),
            message(lambda: jaxgmm.fit(same, x, steps=3)),
            message(lambda: jaxgmm.fit(same, x, sample_weight=np.full(N, 1e-3))),
            message(lambda: warn_of_collinear_columns(self.place(np.column_stack([self.x, 2 * self.x[:, 0]])), None)),
        ]

    def one_process(self, folder):
        """Use a result in one process alone, and data of this process alone."""
        fit = calls(self.place(self.x), self.place(self.weight))["fit"]()
        if self.number == 0:
            loaded = jaxgmm.load(jaxgmm.save(Path(folder, "fit.npz"), fit))
            assert not bool(fit.converged)
            assert repr(loaded) == repr(fit)
            assert jaxgmm.log_prob(fit, self.x).shape == (N,)


def message(call):
    """Return the text of the error or the warning of a call."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            call()
    except (ValueError, TypeError, RuntimeWarning) as error:
        return str(error)
    return "no error"


def to_bytes(leaf):
    """Return the bytes of an array."""
    return np.asarray(leaf).tobytes()


def main(folder, port, count, number, *names):
    """Make the named calls and the wrong calls, and write what came out."""
    jax.config.update("jax_enable_x64", True)
    address = f"127.0.0.1:{port}"
    jax.distributed.initialize(address, int(count), int(number), coordinator_bind_address=address)
    warnings.filterwarnings("ignore", message=".*(draws|chains|max_iter|far from).*")  # runs of a few steps or draws
    process = Process(int(number), int(count))
    results = {name: process.fit_many() if name == "fit_many" else process.result(name) for name in names}
    process.one_process(folder)
    Path(folder, f"{number}.json").write_text(json.dumps([results, process.errors()]))


if __name__ == "__main__":
    main(*sys.argv[1:])
