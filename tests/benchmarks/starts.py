"""Show how often restarts find the best sound optimum: data, rivals and the table of `em.py starts`.

For each problem the share of keys is printed whose result, from ten restarts, is the best sound optimum that any method found
with any key. The rivals are the former starts of restarts (k-means++ alone), ten starts by each `init_params` of scikit-learn,
and the one start of mclust. Their fits are made and ranked by jaxgmm, so that only the starts differ.

Which optimum is the best is judged by this rule. It is the largest log-likelihood of all sound fits in which each component
holds at least twice as many observations as a sound component needs: 2 (D + 1), or 4 if the covariance is diagonal or
spherical. A result counts if its fit is sound and its log-likelihood is at least that of the best, up to CLOSE. Without the
first part, an optimum close to a degenerate one could be the best. For the iris data with three full components, one start in
a thousand leads to -180.06, where a component holds 5.97 flowers, and 5 are enough for a sound fit. The published solution is
-180.1855.
"""

from __future__ import annotations

import csv
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import jaxgmm
from jaxgmm.em.assignments import mixture_of_groups
from jaxgmm.em.batch.restarts import best_of
from jaxgmm.em.initialization import START_PSEUDO_COUNT, standardise_features
from jaxgmm.em.k_means import nearest_centers, num_trials, plus_plus_seeds
from jaxgmm.em.result import is_sound

RESTARTS = 10
INITS = ("kmeans", "k-means++", "random", "random_from_data")
CLOSE = 0.05  # nats: fits whose log-likelihoods differ by less are the same optimum
FIT = {"max_iter": 3000, "history": False, "progress": False}
# 30 values with ties and one far value, jmschrei/pomegranate issue 800
TIED = Path(__file__).parents[1] / "data" / "tied_values.csv"


class StartProblem(NamedTuple):
    """Data with the mixture to be fitted; `labels` is the partition from which mclust starts, if it is known."""

    name: str
    x: np.ndarray
    num_components: int
    covariance_type: str
    labels: np.ndarray | None = None


def classic_problems(folder: Path) -> Iterator[StartProblem]:
    """Yield classic data and data with ties, detector limits and typing errors; the data are read from a folder."""
    rng = np.random.default_rng(0)
    low, high = rng.normal(10, 2, 60), rng.normal(100, 20, 30)
    yield StartProblem("tied core, far value", np.loadtxt(TIED, skiprows=1, ndmin=2), 2, "full")
    yield StartProblem("detector limit", np.concatenate([low, high, np.full(10, 262.0)])[:, None], 2, "full")
    low, high = rng.normal(1, 0.4, 600), np.maximum(rng.normal(40, 15, 300), 5)
    yield StartProblem("detector limit, 930", np.concatenate([low, high, np.full(30, 262.0)])[:, None], 2, "full")
    tables = {
        name: read_numbers(folder / f"{name}.csv") for name in ("faithful", "iris", "thyroid", "wine", "crabs", "banknote")
    }
    known = start_labels(folder)
    for name, k, kind in [
        ("faithful", 2, "full"),
        ("faithful", 3, "full"),
        ("faithful", 3, "tied"),
        ("iris", 2, "full"),
        ("iris", 3, "full"),
        ("iris", 3, "diag"),
        ("thyroid", 3, "spherical"),
        ("thyroid", 2, "diag"),
        ("thyroid", 3, "diag"),
        ("thyroid", 3, "full"),
        ("wine", 3, "diag"),
        ("wine", 3, "tied"),
        ("crabs", 4, "tied"),
        ("crabs", 2, "full"),
        ("banknote", 2, "full"),
        ("banknote", 3, "full"),
        ("banknote", 3, "tied"),
    ]:
        yield StartProblem(f"{name} {kind} K={k}", tables[name], k, kind, known.get((name, k)))
    for column, value in ((1, 790.0), (0, 36.0)):
        x = tables["faithful"].copy()
        x[0, column] = value
        yield StartProblem(f"faithful with {value:g}", x, 2, "full", known["faithful", 2])


def synthetic_problems(count: int = 50) -> Iterator[StartProblem]:
    """Yield clusters of random shapes, sizes and distances; half of the data sets have one to three outliers."""
    shapes = [("full", 200, 2, 3), ("full", 300, 1, 2), ("diag", 200, 3, 4), ("spherical", 200, 2, 3), ("tied", 200, 3, 3)]
    for i in range(count):
        kind, n, d, k = shapes[i % 5]
        rng = np.random.default_rng(1000 + i)
        centers = rng.normal(size=(k, d)) * rng.uniform(1.5, 5)
        label = rng.choice(k, n, p=rng.dirichlet(np.full(k, 3.0)))
        scale = np.ones(k) if kind == "tied" else np.exp(0.6 * rng.normal(size=k))
        root = rng.normal(size=(1 if kind == "tied" else k, d, d)) + np.zeros((k, 1, 1))
        if kind not in ("full", "tied"):
            root = np.eye(d) * (np.exp(0.5 * rng.normal(size=(k, 1, d))) if kind == "diag" else 1)
            root = root + np.zeros((k, 1, 1))
        x = centers[label] + np.einsum("nij,nj->ni", root[label], rng.normal(size=(n, d))) * scale[label][:, None]
        outliers = rng.integers(1, 4) if i // 5 % 2 else 0
        far = rng.choice([-1, 1], (outliers, d)) * x.std(0) * rng.uniform(5, 50, (outliers, d))
        x[rng.choice(n, outliers, replace=False)] = x.mean(0) + far
        yield StartProblem(f"synthetic {i}, {kind}, {outliers} outliers", x, k, kind)


def read_numbers(path: Path) -> np.ndarray:
    """Return the numeric columns of a table."""
    with path.open() as file:
        rows = list(csv.reader(file))[1:]
    numeric = [j for j, word in enumerate(rows[0]) if word.replace(".", "").replace("-", "").isdigit()]
    return np.array([[float(row[j]) for j in numeric] for row in rows])


def start_labels(folder: Path) -> dict[tuple[str, int], np.ndarray]:
    """Return mclust's start partitions by data set and number of components."""
    with (folder / "mclust_start_labels.csv").open() as file:
        rows = list(csv.reader(file))[1:]
    return {(name, int(k)): np.array(labels.split(), int) - 1 for name, k, labels in rows}


def peer_starts(problem: StartProblem, init: str, count: int) -> jaxgmm.Mixture:
    """Return starts (count,) of scikit-learn: the mixtures after the first M-step."""
    from sklearn.mixture import GaussianMixture

    found = []
    for seed in range(count):
        model = GaussianMixture(
            problem.num_components, covariance_type=problem.covariance_type, init_params=init, random_state=seed, max_iter=1
        ).fit(problem.x)
        shape = jaxgmm.covariance.storage_shape(problem.covariance_type, problem.num_components, problem.x.shape[1])
        found.append((model.weights_, model.means_, model.covariances_.reshape(shape)))
    return jaxgmm.Mixture(*map(jnp.stack, zip(*found, strict=True)), problem.covariance_type)


def former_starts(key: jax.Array, problem: StartProblem) -> jaxgmm.Mixture:
    """Return starts (RESTARTS,) of one kind: that of `initialize`, and single draws of k-means++ in standardised units."""
    k, kind, x = problem.num_components, problem.covariance_type, jnp.asarray(problem.x)
    weight = jnp.ones(len(x), x.dtype)
    points = standardise_features(x, weight)[2]

    def draw(key: jax.Array) -> jaxgmm.Mixture:
        uniform = jax.random.uniform(key, (k, num_trials(k)), x.dtype)
        labels = nearest_centers(points, plus_plus_seeds(uniform, points, weight))
        return mixture_of_groups(x, weight, labels, num_components=k, covariance_type=kind, pseudo_count=START_PSEUDO_COUNT / k)

    keys = jax.random.split(key, RESTARTS)
    first = jaxgmm.initialize(keys[0], x, num_components=k, covariance_type=kind)
    return jax.tree.map(lambda one, rest: jnp.concatenate([one[None], rest]), first, jax.vmap(draw)(keys[1:]))


def sound_values(fits: jaxgmm.Fit, total: float) -> np.ndarray:
    """Return the log-likelihood of each fit, -inf where the fit is not sound."""
    return np.where(is_sound(fits, jnp.asarray(total)), fits.objective, -np.inf)


def is_supported(fits: jaxgmm.Fit, total: float) -> np.ndarray:
    """Return whether each component of a fit holds twice as many observations as a sound component needs."""
    kind, d = fits.mixture.covariance_type, fits.mixture.num_features
    return np.asarray(fits.mixture.weights * total >= 2 * jaxgmm.covariance.types.fewest_points(kind, d)).all(-1)


def found_values(problem: StartProblem, num_keys: int) -> tuple[dict[str, np.ndarray], float]:
    """Return what each method finds with each key, and the best: log-likelihoods, -inf if a method's best fit is not sound."""
    x, k, kind = jnp.asarray(problem.x), problem.num_components, problem.covariance_type
    options = {"num_components": k, "covariance_type": kind, "num_restarts": RESTARTS}
    own = [jaxgmm.fit_restarts(jax.random.key(seed), x, **options, **FIT) for seed in range(num_keys)]
    total = float(len(x))
    values = {"jaxgmm": np.array([sound_values(fit, total) for fit in own])}
    supported = [values["jaxgmm"][[is_supported(fit, total) for fit in own]]]
    former = [former_starts(jax.random.key(seed), problem) for seed in range(num_keys)]
    stacks = {"former": jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *former)}
    for name, starts in (stacks | {init: peer_starts(problem, init, num_keys * RESTARTS) for init in INITS}).items():
        fits = jaxgmm.fit_many(starts, x, **FIT)
        stacks = jax.tree.map(lambda leaf: leaf.reshape(num_keys, RESTARTS, *leaf.shape[1:]), fits)
        best = jax.vmap(best_of, in_axes=(0, None))(stacks, jnp.asarray(total))
        values[name] = sound_values(stacks, total)[np.arange(num_keys), best]
        supported.append(sound_values(fits, total)[is_supported(fits, total)])
    if problem.labels is not None:
        start = jaxgmm.from_labels(x, problem.labels, num_components=k, covariance_type=kind)
        fit = jaxgmm.fit(start, x, max_iter=FIT["max_iter"])
        values["mclust"] = sound_values(fit, total)[None]
        supported.append(values["mclust"][[is_supported(fit, total)]])
    return values, np.concatenate(supported).max(initial=-np.inf)


def print_shares(folder: Path, num_keys: int = 20, only: str = "") -> None:
    """Print the table and its summary."""
    print(f"share of {num_keys} keys whose result, from {RESTARTS} restarts, is the best sound optimum found by any method")
    rows = []
    for problem in (*(classic_problems(folder) if folder.is_dir() else ()), *synthetic_problems()):
        if only not in problem.name:
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            values, best = found_values(problem, num_keys)
        jax.clear_caches()  # the programs of all problems would need more memory maps than Linux allows
        shares = {name: float((value > best - CLOSE).mean()) for name, value in values.items()}
        rows.append(shares)
        print(
            f"{problem.name:36s} {best:11.2f}  " + ", ".join(f"{name} {share:.2f}" for name, share in shares.items()),
            flush=True,
        )
    own, peers = np.array([row["jaxgmm"] for row in rows]), np.array([max(row[init] for init in INITS) for row in rows])
    mclust = [row["jaxgmm"] >= row["mclust"] for row in rows if "mclust" in row]
    print(
        f"{len(rows)} problems: mean share {own.mean():.3f} (best init of scikit-learn {peers.mean():.3f}); at least 95 % in "
        f"{(own >= 0.95).sum()}; below the best init in {(own < peers).sum()}; below mclust's start in {mclust.count(False)}",
        flush=True,
    )
