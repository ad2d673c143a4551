"""Coverage of 90 % posterior intervals when values are missing, beside intervals from the complete rows alone.

    python tests/benchmarks/incomplete_coverage.py [--datasets 200] [--rows 200] [--draws 1000]

The mixtures of two components and three features are drawn from the prior, and a data set from each. Feature 0 is always
observed. Features 1 and 2 are missing more often where feature 0 is large, so they are missing at random; about 20 % of all
values are missing. `gibbs` draws from the posterior of all rows, as `observations`, and from that of the complete rows. For
each quantity, the script prints in how many data sets the central 90 % interval holds the true value, and the median width of
the intervals. Intervals from all rows hold it with probability 0.9. The standard error of a share of 0.9 is sqrt(0.09 / number
of data sets), 0.021 for 200.
"""

from __future__ import annotations

import argparse
import time

import jax
import jax.numpy as jnp
import numpy as np

import jaxgmm
from jaxgmm.calibration.quantities import in_order, independent_parameters

K, D, BATCH = 2, 3, 25
PROBABILITY = 0.9
# weight_concentration, mean, mean_precision, degrees_of_freedom, scale
PRIOR = jaxgmm.Prior(*(jnp.asarray(value, jnp.float32) for value in (np.full(K, 5.0), np.zeros(D), 0.05, 9.0, 5 * np.eye(D))))


def data_set(key: jax.Array, truth: jaxgmm.Mixture, num_rows: int) -> tuple[jax.Array, jax.Array]:
    """Return complete rows (N, D), and which of their values are missing."""
    key_rows, key_holes = jax.random.split(key)
    x, _ = jaxgmm.sample(key_rows, truth, num_rows)
    probability = jax.nn.sigmoid(1.5 * (x[:, :1] - x[:, :1].mean()) / x[:, :1].std() - 1.1)
    missing = jax.random.uniform(key_holes, (num_rows, D - 1)) < probability
    return x, jnp.concatenate([jnp.zeros((num_rows, 1), bool), missing], 1)


def intervals(key: jax.Array, truth: jaxgmm.Mixture, x: jax.Array, missing: jax.Array, num_draws: int) -> jax.Array:
    """Return the ends of the intervals from all rows, and from the rows without a missing value, (2, 2, Q)."""

    def ends(weight: jax.Array) -> jax.Array:
        rows = jaxgmm.observations(x, missing=missing, sample_weight=weight)
        posterior = jaxgmm.gibbs(key, truth, rows, PRIOR, num_samples=num_draws, num_chains=1, num_warmup=100)
        draws = independent_parameters(in_order(posterior.mixture))[0]
        return jnp.quantile(draws, jnp.array([(1 - PROBABILITY) / 2, (1 + PROBABILITY) / 2]), axis=0)

    return jax.vmap(ends)(jnp.stack([jnp.ones(len(x)), (~missing.any(1)).astype(x.dtype)]))


def main() -> None:
    """Print the coverage and the widths."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--datasets", type=int, default=200)
    parser.add_argument("--rows", type=int, default=200)
    parser.add_argument("--draws", type=int, default=1000)
    options = parser.parse_args()

    @jax.jit
    @jax.vmap
    def run(key: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        key_truth, key_data, key_draws = jax.random.split(key, 3)
        truth = jaxgmm.sample_prior(key_truth, PRIOR, num_components=K, num_samples=1)[0]
        x, missing = data_set(key_data, truth, options.rows)
        ends = intervals(key_draws, truth, x, missing, options.draws)
        return ends, independent_parameters(in_order(truth)), missing.mean()

    keys, begin = jax.random.split(jax.random.key(0), options.datasets), time.process_time()
    found = [jax.device_get(run(keys[i : i + BATCH])) for i in range(0, options.datasets, BATCH)]
    ends, expected, share = (np.concatenate(part) for part in zip(*found, strict=True))  # ends (B, 2, 2, Q), expected (B, Q)
    covers = ((ends[:, :, 0] <= expected[:, None]) & (expected[:, None] <= ends[:, :, 1])).mean(0)
    width = np.median(ends[:, :, 1] - ends[:, :, 0], 0)
    names = [f"weights[{k}]" for k in range(K - 1)]
    names += [f"means[{k},{j}]" for k in range(K) for j in range(D)]
    names += [f"covariances[{k},{i},{j}]" for k in range(K) for i in range(D) for j in range(i + 1)]
    print(
        f"{options.datasets} data sets, {options.rows} rows, {share.mean():.1%} of values missing, {PROBABILITY:.0%} intervals"
    )
    print(f"{'':<22}{'all rows':>18}{'complete rows':>20}\n{'':<22}{'coverage':>10}{'width':>8}{'coverage':>12}{'width':>8}")
    for name, cover, size in zip([*names, "mean of all"], [*covers.T, covers.mean(1)], [*width.T, width.mean(1)], strict=True):
        print(f"{name:<22}{cover[0]:>10.3f}{size[0]:>8.3f}{cover[1]:>12.3f}{size[1]:>8.3f}")
    error = np.sqrt(PROBABILITY * (1 - PROBABILITY) / options.datasets)
    print(f"standard error of one coverage: {error:.3f}; {time.process_time() - begin:.0f} s of CPU time")


if __name__ == "__main__":
    main()
