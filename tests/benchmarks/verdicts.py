"""How often `compare` says "agree" if the posterior has a second mode, and how often it does not if there is one mode.

    python tests/benchmarks/verdicts.py bimodal --first 0 --count 80

Each data set has twelve rows in three groups: one near -5, one near 5, and one at a random place, within 0.4 of 0 for every
other data set and anywhere between the others for the rest. Two components share the middle group out in up to two ways. The
prior holds the variance near 1 and the weights near 1/2, so the posterior can be integrated over a grid of the two means, and
over quantiles of the prior of variance and weights. The mass of a mode is the integral over the means from which EM climbs
to it. A data set counts as bimodal if the second mode holds more than 5 %, and as unimodal if EM climbs to one mode from
every point of the grid; other data sets are left out. EM starts at random, and `compare` gets its fit and draws by `smc`.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
from scipy.stats import beta, invgamma, norm

import jaxgmm

CONCENTRATION, PRECISION, DEGREES = 100.0, 0.01, 200.0
PRIOR = jaxgmm.Prior(
    *(jnp.asarray(v, jnp.float32) for v in ([CONCENTRATION] * 2, [0.0], PRECISION, DEGREES, [[DEGREES]])),
)
MODEL = {"num_components": 2, "covariance_type": "tied"}
SIZE = 12  # number of rows
REACH = (0.4, 5.0)  # the largest distance of the middle group from 0, for even and for odd seeds
GRID = np.linspace(-7, 7, 81)
QUANTILES = (np.arange(8) + 0.5) / 8


def random_rows(seed):
    """Return the rows (12, 1) of one data set. For even seeds, the middle group is near 0, so there may be two modes."""
    rng = np.random.default_rng(seed)
    middle = int(rng.integers(2, 6))
    left = int(rng.integers(3, SIZE - middle - 2))
    reach = REACH[seed % 2]
    places = rng.uniform([-5.5, -reach, 4.5], [-4.5, reach, 5.5])
    return rng.normal(np.repeat(places, [left, middle, SIZE - left - middle]), 0.3)[:, None].astype(np.float32)


def climb(low, high, x):
    """Return the two means (M, 2) to which EM for the posterior mode climbs from given means (M,).

    EM starts with variance 1 and equal weights, and updates them together with the means. Its fixed points are therefore the
    modes of the whole posterior.
    """
    weight, variance = np.full(low.shape, 0.5), np.ones(low.shape)
    for _ in range(300):
        log_odds = np.log(weight / (1 - weight)) + ((x - high) ** 2 - (x - low) ** 2) / 2 / variance  # (N, M)
        share = 1 / (1 + np.exp(-np.clip(log_odds, -300, 300)))  # of the low component
        count = share.sum(0)
        low, high = ((s * x).sum(0) / (PRECISION + s.sum(0)) for s in (share, 1 - share))
        weight = (CONCENTRATION - 1 + count) / (2 * CONCENTRATION - 2 + len(x))
        scatter = (share * (x - low) ** 2 + (1 - share) * (x - high) ** 2).sum(0) + PRECISION * (low**2 + high**2)
        variance = (DEGREES + scatter) / (DEGREES + 2 + len(x) + 2)
    return np.stack([low, high], 1)


def mode_masses(x):
    """Return the masses of the modes, the largest first. Points of the grid that climb to the same means share a mode."""
    low, high = (value.ravel() for value in np.meshgrid(GRID, GRID))
    low, high = low[low < high], high[low < high]
    x, mass = np.asarray(x, float), np.zeros(low.shape)
    for variance in invgamma.ppf(QUANTILES, DEGREES / 2, scale=DEGREES / 2):
        sd = np.sqrt(variance)
        prior = norm.pdf(low, 0, sd / PRECISION**0.5) * norm.pdf(high, 0, sd / PRECISION**0.5)
        one, other = np.exp(-((x - low) ** 2) / 2 / variance), np.exp(-((x - high) ** 2) / 2 / variance)
        for w in beta.ppf(QUANTILES, CONCENTRATION, CONCENTRATION):
            mass += prior * sd ** -len(x) * (w * one + (1 - w) * other).prod(0)
    ends = np.sort(climb(low, high, x), 1)
    _, place = np.unique(ends.round(1), axis=0, return_inverse=True)
    masses, centres = np.bincount(place.ravel(), mass), [ends[place.ravel() == m].mean(0) for m in range(place.max() + 1)]
    return np.sort(_joined(masses / masses.sum(), np.array(centres)))[::-1]


def _joined(masses, centres):
    """Return the masses of modes after neighbours, which rounding has divided, are joined."""
    joined = []
    left = np.ones(len(masses), bool)
    while left.any():
        first = np.where(left, masses, -1).argmax()
        same = left & (np.linalg.norm(centres - centres[first], axis=1) < 0.5)
        joined.append(masses[same].sum())
        left &= ~same
    return np.array(joined)


def classify(masses):
    """Return "bimodal" or "unimodal", or None for data sets that are left out."""
    if len(masses) > 1 and masses[1] > 0.05:
        return "bimodal"
    return "unimodal" if len(masses) == 1 else None


def verdict(seed, x, *, num_samples=1000, laplace=None):
    """Return the comparison's verdict on EM from a random start, and the mass of EM's mode."""
    start, draw = jax.random.split(jax.random.key(seed))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit = jaxgmm.fit(jaxgmm.initialize(start, x, **MODEL), x, PRIOR)
        posterior = jaxgmm.smc(draw, x, PRIOR, num_samples=num_samples, progress=False, **MODEL)
        found = jaxgmm.compare(fit, posterior, x, laplace=laplace, scores=False, seed=seed, progress=False)
    return found.samplers["smc"].verdict.word, found.search.mass


def main():
    """Print one line for each data set of a kind, and the counts of the verdicts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=("bimodal", "unimodal"))
    parser.add_argument("--first", type=int, default=0, help="the first seed is twice this number, or one more if unimodal")
    parser.add_argument("--count", type=int, default=25, help="number of seeds, of which data sets of the kind are used")
    parser.add_argument("--seconds", type=float, default=200.0, help="no data set is begun after so many seconds")
    options = parser.parse_args()
    begin, counts = time.monotonic(), Counter()
    for number in range(options.first, options.first + options.count):
        seed = 2 * number + (options.kind == "unimodal")
        x = random_rows(seed)
        masses = mode_masses(x)
        if classify(masses) != options.kind:
            continue
        if time.monotonic() - begin > options.seconds:
            print(f"stopped before number {number}")
            break
        word, mass = verdict(seed, x)
        counts[word] += 1
        print(f"{number:5d} largest mode {masses[0]:.3f}  EM's mode {mass:.3f}  {word}", flush=True)
    print(options.kind, dict(counts))


if __name__ == "__main__":
    main()
