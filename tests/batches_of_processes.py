"""Fit batches in one of several processes; em/stream/test_several_processes.py starts this script once for each of them.

Usage: python batches_of_processes.py FOLDER PORT NUM_PROCESSES PROCESS quick|all. Each process writes hashes of the results and
messages of errors to its own file in the folder. The first process compares the results with those of all rows in memory.
"""

import hashlib
import itertools
import json
import shutil
import sys
import warnings
from pathlib import Path

import jax
import numpy as np

import jaxgmm
from jaxgmm.em.stream import run

OPTIONS = {"tol": 0.0, "max_iter": 5}
SIZES = [4, 0, 60, 36]


def message(call):
    """Return the text of the error of a call."""
    try:
        call()
    except (ValueError, TypeError) as error:
        return str(error)
    return "no error"


def digest(result):
    """Return a hash of the arrays of a result."""
    return hashlib.sha256(b"".join(np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(result))).hexdigest()


class Process:
    """One of the processes, with its batches. The second half of the rows belongs to the last process; others have none."""

    def __init__(self, folder, count, number):
        self.folder, self.count, self.number = Path(folder), count, number
        rng = np.random.default_rng(0)
        self.x = rng.normal(size=(200, 2)) + 3 * (np.arange(200) % 2)[:, None]
        own = self.x[:100] if number == 0 else self.x[100:] if number == count - 1 else self.x[:0]
        self.batches = [(part, np.ones(len(part))) for part in np.split(own, np.cumsum(SIZES[: 2 + 2 * number])) if len(part)]
        self.start = jaxgmm.make_mixture([0.5, 0.5], [[0.0, 0.0], [2.0, 2.0]], np.ones((2, 2)), covariance_type="diag")

    def results(self):
        """Return hashes of results, which the first process compares with those of all rows in memory."""
        fit = jaxgmm.fit_batches(self.start, self.batches, **OPTIONS)
        if self.number == 0:
            expected = jaxgmm.fit(self.start, self.x, **OPTIONS)
            np.testing.assert_allclose(fit.history, expected.history, rtol=1e-10)
            np.testing.assert_allclose(fit.mixture.means, expected.mixture.means, rtol=1e-9)
            assert fit.num_iter == 5
        return [digest(fit)]

    def starts(self):
        """Return the hash of a start, which the first process compares with that from all rows in memory."""
        start = jaxgmm.initialize_batches(jax.random.key(0), self.batches, num_components=2)
        if self.number == 0:
            expected = jaxgmm.initialize(jax.random.key(0), self.x, num_components=2)
            np.testing.assert_allclose(start.means, expected.means, rtol=1e-9)
        return [digest(start)]

    def resumed(self):
        """Return hashes of fits that continue after an error in one process, and after one process has lagged behind."""
        path, own = self.folder / "run.npz", self.folder / f"run-{self.number}.npz"
        passes = []

        def failing():
            passes.append(None)
            for i, batch in enumerate(self.batches):
                if self.number == self.count - 1 and len(passes) > 3 and i == 1:
                    raise ValueError("no more rows")
                yield batch

        assert "no more rows" in message(lambda: jaxgmm.fit_batches(self.start, failing, checkpoint=path, **OPTIONS))
        first = jaxgmm.fit_batches(self.start, self.batches, checkpoint=path, **OPTIONS)
        own.unlink()
        end_pass = run.Run._end_pass

        def copying(self_, *args):
            if self_.num_passes == 2:
                shutil.copy(own, f"{own}.copy")  # at this moment, this process has read all rows of the pass
            end_pass(self_, *args)

        run.Run._end_pass = copying
        jaxgmm.fit_batches(self.start, self.batches, checkpoint=path, **OPTIONS)
        run.Run._end_pass = end_pass
        if self.number == self.count - 1:
            shutil.copy(f"{own}.copy", own)
        second = jaxgmm.fit_batches(self.start, self.batches, checkpoint=path, **OPTIONS)
        return [digest(first), digest(second)]

    def observed(self):
        """Return hashes of a start and of fits of incomplete rows, one of which continues after errors in one process."""
        x = np.where((np.arange(200)[:, None] + np.arange(2)) % 5 == 0, np.nan, self.x)
        ends = np.cumsum([0, *(len(part) for part, _ in self.batches)]) + (0 if self.number == 0 else 100)
        parts = [jaxgmm.observations(x[a:b]) for a, b in itertools.pairwise(ends)]
        start = jaxgmm.initialize_batches(jax.random.key(0), parts, num_components=2)
        fit = jaxgmm.fit_batches(self.start, parts, **OPTIONS)
        if self.number == 0:
            whole = jaxgmm.observations(x)
            np.testing.assert_allclose(fit.history, jaxgmm.fit(self.start, whole, **OPTIONS).history, rtol=1e-10)
            expected = jaxgmm.initialize(jax.random.key(0), whole, num_components=2)
            np.testing.assert_allclose(start.means, expected.means, rtol=1e-9)
        path = self.folder / "observed.npz"
        for place in (2, 3, 2):  # in the fit of one component twice, and in the fit itself
            passes = []

            def failing(passes=passes, place=place):
                passes.append(None)
                for i, part in enumerate(parts):
                    if self.number == self.count - 1 and len(passes) == place and i == 1:
                        raise ValueError("no more rows")
                    yield part

            assert "no more rows" in message(lambda: jaxgmm.fit_batches(self.start, failing, checkpoint=path, **OPTIONS))
        again = jaxgmm.fit_batches(self.start, parts, checkpoint=path, **OPTIONS)
        assert digest(again) == digest(fit)
        return [digest(start), digest(fit)]

    def errors(self):
        """Return the messages of calls that one process makes wrongly."""
        is_last = self.number == self.count - 1
        spoilt = self.batches and [*self.batches[:-1], (np.where(is_last, np.nan, self.batches[-1][0]), self.batches[-1][1])]
        return [
            message(lambda: jaxgmm.fit_batches(self.start, spoilt, **OPTIONS)),
            message(lambda: jaxgmm.initialize_batches(jax.random.key(0), spoilt, num_components=2)),
            message(lambda: jaxgmm.fit_batches(self.start, self.batches, tol=1e-3 * (1 + is_last))),
            message(lambda: jaxgmm.fit_batches(self.start, [])),
            message(lambda: jaxgmm.fit_batches(self.start, iter([]) if is_last else self.batches)),
            message(lambda: jaxgmm.fit_batches(self.start, self.batches, online=True)),
        ]


def main(folder, port, count, number, extent):
    """Make the calls, and write what came out."""
    jax.config.update("jax_enable_x64", True)
    address = f"127.0.0.1:{port}"
    jax.distributed.initialize(address, int(count), int(number), coordinator_bind_address=address)
    warnings.simplefilter("ignore", RuntimeWarning)
    run.SECONDS_BETWEEN_WRITES = -1.0
    process = Process(folder, int(count), int(number))
    hashes = process.results()
    if extent == "all":
        hashes += process.resumed() + process.starts() + process.observed()
    found = hashes, process.errors()
    Path(folder, f"{number}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
