"""Compare the effective draws per second of plain NUTS and of jaxgmm's samplers, and count chains that do not mix.

    python tests/benchmarks/posterior.py [ess] [chains] [many]        (without a name: all)

ess: smallest bulk effective sample size of any parameter after relabelling, per second, including warm-up but not compilation.
    The data are faithful (K=2, full, raw and standardised) and synthetic (N=2000, D=4, K=3). The samplers take turns; medians
    over several keys are printed. Plain NUTS is NumPyro's own way: the same model in a jitted MCMC(NUTS) with default start,
    diagonal adaptation and 1000 warm-up steps. A name of --methods that jaxgmm does not have is skipped.
chains: 16 chains from over-dispersed starts on faithful, iris (K=3, tied) and the synthetic data, over many keys: R-hat, chains
    that do not move, runs that needed the full warm-up.
many: 64 data sets in one vmapped call.
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings

import jax
import jax.numpy as jnp
import numpy as np
from numpyro.infer import MCMC, NUTS

import jaxgmm
from jaxgmm.posterior.diagnostics import ess_bulk, rhat
from jaxgmm.posterior.model import mixture_of

TARGETS = {("faithful", "nuts"): 15, ("faithful standardised", "nuts"): 5, ("faithful standardised", "gibbs"): 10}
CHAINS = {"gibbs": 64}


def problems() -> dict[str, tuple[np.ndarray, int, str]]:
    """Return data, K and covariance type by name."""
    faithful = np.asarray(jaxgmm.datasets.load("faithful"), np.float32)
    rng = np.random.default_rng(0)
    centers = 4 * rng.normal(size=(3, 4))
    synthetic = (centers[rng.integers(3, size=2000)] + rng.normal(size=(2000, 4))).astype(np.float32)
    return {
        "faithful": (faithful, 2, "full"),
        "faithful standardised": ((faithful - faithful.mean(0)) / faithful.std(0), 2, "full"),
        "synthetic": (synthetic, 3, "full"),
        "iris": (np.asarray(jaxgmm.datasets.load("iris"), np.float32), 3, "tied"),
    }


def fitted(x: np.ndarray, k: int, kind: str) -> tuple[jaxgmm.Mixture, jaxgmm.Prior]:
    """Return the start of the chains, and the prior."""
    prior = jaxgmm.default_prior(x, num_components=k, covariance_type=kind)
    return jaxgmm.fit_restarts(jax.random.key(0), x, prior, num_components=k, covariance_type=kind).mixture, prior


def plain(x: np.ndarray, start: jaxgmm.Mixture, prior: jaxgmm.Prior, options: argparse.Namespace):
    """Return NumPyro's own way of sampling as one jitted function of a key."""
    kind = start.covariance_type

    @jax.jit
    def run(key: jax.Array) -> jaxgmm.Posterior:
        sampler = MCMC(
            NUTS(jaxgmm.model),
            num_warmup=options.plain_warmup,
            num_samples=options.samples,
            num_chains=4,
            chain_method="vectorized",
            progress_bar=False,
        )
        sampler.run(key, x, prior, num_components=start.num_components, covariance_type=kind)
        sites = sampler.get_samples(group_by_chain=True)
        sites.pop("covariances")
        mixture, _ = jax.vmap(jax.vmap(lambda one: mixture_of(one, kind)))(sites)
        return jaxgmm.Posterior(mixture, jnp.zeros(mixture.batch_shape), prior, jnp.array(0), {})

    return run


def ours(method: str, x: np.ndarray, start: jaxgmm.Mixture, prior: jaxgmm.Prior, options: argparse.Namespace):
    """Return one of jaxgmm's samplers as a function of a key, with its validation."""

    def run(key: jax.Array) -> jaxgmm.Posterior:
        sampler = getattr(jaxgmm, method)
        return sampler(key, start, x, prior, num_samples=options.samples, num_chains=CHAINS.get(method, 4))

    return run


def smallest_ess(posterior: jaxgmm.Posterior, start: jaxgmm.Mixture, x: np.ndarray) -> float:
    """Return the smallest effective sample size of weights, means and free covariances, after relabelling."""
    mixture = jaxgmm.relabel(posterior, start, x).mixture
    index = tuple(np.array(jaxgmm.covariance.labels(start.covariance_type, start.num_components, start.num_features)).T)
    parts = [mixture.weights, mixture.means, np.asarray(mixture.covariances)[(..., *index)]]
    return float(min(np.nanmin(ess_bulk(part)) for part in parts))


def ess(options: argparse.Namespace) -> None:
    """Time plain NUTS and jaxgmm's samplers, which take turns, with a new key each time."""
    methods = [name for name in options.methods if hasattr(jaxgmm, name)]
    for name in ("faithful", "faithful standardised", "synthetic"):
        x, k, kind = problems()[name]
        start, prior = fitted(x, k, kind)
        runs = {"plain": plain(x, start, prior, options)} | {m: ours(m, x, start, prior, options) for m in methods}
        rates: dict[str, list[float]] = {method: [] for method in runs}
        for seed in range(options.repeats + 1):
            for method, run in runs.items():
                begin = time.perf_counter()
                posterior = jax.block_until_ready(run(jax.random.key(seed)))
                seconds = time.perf_counter() - begin
                if not seed:
                    print(f"{name}: {method}, first call {seconds:.1f} s", flush=True)
                    continue
                rates[method].append(smallest_ess(posterior, start, x) / seconds)
        base = statistics.median(rates["plain"])
        for method, values in rates.items():
            rate = statistics.median(values)
            print(
                f"{name}: {method} {CHAINS.get(method, 4)} x {options.samples}: {rate:.0f} ESS/s ({min(values):.0f} to "
                f"{max(values):.0f}), {rate / base:.1f} times plain, target {TARGETS.get((name, method))}",
                flush=True,
            )


def chains(options: argparse.Namespace) -> None:
    """Print the R-hat of every parameter and of the log density, and count chains most of whose draws repeat the one before."""
    for name in ("faithful", "iris", "synthetic"):
        x, k, kind = problems()[name]
        start, prior = fitted(x, k, kind)
        worst, stuck, divergent, full = [], 0, 0, 0
        for seed in range(options.keys):
            posterior = jaxgmm.nuts(jax.random.key(seed), start, x, prior, num_samples=options.samples, num_chains=16)
            found = jaxgmm.relabel(posterior, start, x).mixture
            quantities = [posterior.log_density, found.means, found.covariances, found.weights]
            worst.append(max(float(np.nanmax(rhat(q))) for q in quantities))
            moved = np.diff(np.asarray(posterior.log_density), axis=1) != 0
            stuck += int((moved.mean(1) < 0.5).sum())
            divergent += int(posterior.stats["diverging"].sum())
            full += bool(posterior.stats["adapted"])
        print(
            f"{name}: {options.keys} keys x 16 chains x {options.samples}: largest R-hat {max(worst):.4f} (target under 1.02), "
            f"median {statistics.median(worst):.4f}; chains that do not move {stuck}; divergences {divergent}; "
            f"full warm-ups {full}",
            flush=True,
        )


def many(options: argparse.Namespace) -> None:
    """Time 64 data sets of N=200, D=2, K=2 in one vmapped call, against a loop over MCMC.run, with 4 chains each."""
    rng = np.random.default_rng(0)
    xs = (rng.normal(size=(64, 200, 2)) + 4 * rng.integers(2, size=(64, 200, 1))).astype(np.float32)
    keys = jax.random.split(jax.random.key(0), 64)
    priors = jax.vmap(lambda x: jaxgmm.default_prior(x, num_components=2))(xs)
    starts = jaxgmm.fit_many(keys[0], xs, priors, num_components=2, progress=False).mixture
    begin = time.perf_counter()
    recipe = {"num_warmup": 1000, "num_samples": options.samples, "num_chains": 4, "progress_bar": False}
    for i in range(3):
        sampler = MCMC(NUTS(jaxgmm.model), chain_method="vectorized", **recipe)
        sampler.run(keys[i], xs[i], jax.tree.map(lambda leaf, i=i: leaf[i], priors), num_components=2)
        jax.block_until_ready(sampler.get_samples())
    loop = (time.perf_counter() - begin) / 3
    for method in options.methods:
        run = jax.jit(jax.vmap(lambda *data, m=method: getattr(jaxgmm, m)(*data, num_samples=options.samples, num_chains=4)))
        begin = time.perf_counter()
        jax.block_until_ready(run(keys, starts, xs, priors))
        first, begin = time.perf_counter() - begin, time.perf_counter()
        found = jax.block_until_ready(run(keys, starts, xs, priors))
        seconds = (time.perf_counter() - begin) / 64
        print(
            f"64 data sets: MCMC.run {loop:.2f} s each (with compilation, 3 of them), "
            f"{method} {seconds:.4f} s each in one call, "
            f"ratio {loop / seconds:.0f}, target 100; first call {first:.1f} s; "
            f"{int((found.status <= 1).sum())} with a good status",
            flush=True,
        )


SECTIONS = {"ess": ess, "chains": chains, "many": many}


def main() -> None:
    """Run the sections named, or all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sections", nargs="*", choices=[[], *SECTIONS], default=[])
    parser.add_argument("--methods", nargs="*", default=["nuts", "gibbs"])
    parser.add_argument("--samples", type=int, default=1000, help="draws a chain")
    parser.add_argument("--plain-warmup", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--keys", type=int, default=32)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    for name in options.sections or SECTIONS:
        print(f"# {name}", flush=True)
        SECTIONS[name](options)


if __name__ == "__main__":
    main()
