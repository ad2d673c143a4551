"""Time a coverage study and a calibration, including compilation.

    python tests/benchmarks/experiment.py [study] [sbc]        (without a name: all)

study: coverage in 12 cells (4 separations, N = 50, 200 and 1000; K=2, D=2, full) of 500 data sets each, by EM and MAP with
    standard errors and by Laplace. Prints the table, wall and processor seconds.
sbc: calibration of Gibbs on 1000 data sets (N=100, K=2, D=1, tied, 127 of 2540 draws) in one call, against a loop over
    NumPyro's MCMC.run (NUTS on the same model, 1000 + 127 steps), which is extrapolated from a few runs with their compilation.
"""

from __future__ import annotations

import argparse
import time

import jax
import jax.numpy as jnp
from numpyro.infer import MCMC, NUTS

import jaxgmm

TARGETS = {"study": 300, "sbc": 100}


def study(options: argparse.Namespace) -> None:
    """Time one call with the default design, except for the options of the command line."""
    design = jaxgmm.Design(num_datasets=options.datasets, num_features=options.features, methods=tuple(options.methods))
    wall, processor = time.perf_counter(), time.process_time()
    found = jaxgmm.coverage_study(jax.random.key(0), design)
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    print(found)
    inside = sum(
        row["seconds_per_dataset"] * row["num_datasets"]
        for row in {(r["num_observations"], r["separation"], r["method"]): r for r in found.rows}.values()
    )
    print(
        f"{design.num_cells} cells x {options.datasets} data sets, {', '.join(design.methods)}: {wall:.0f} s, "
        f"{processor:.0f} processor seconds, of which in methods {inside:.0f} s (compilation apart), "
        f"target {TARGETS['study']} s",
        flush=True,
    )


def sbc(options: argparse.Namespace) -> None:
    """Time a loop of simulation, sampling and ranking, then the calibration."""
    prior = jaxgmm.Prior(*(jnp.asarray(v) for v in ([3.0, 3.0], [0.0], 0.1, 5.0, [[3.0]])))
    model = {"num_components": 2, "covariance_type": "tied"}
    begin = time.perf_counter()
    for key in jax.random.split(jax.random.key(1), options.loop):
        truth = jaxgmm.sample_prior(key, prior, num_samples=1, **model)[0]
        x, _ = jaxgmm.sample(key, truth, 100)
        sampler = MCMC(NUTS(jaxgmm.model), num_warmup=1000, num_samples=127, progress_bar=False)
        sampler.run(key, x, prior, **model)
        jax.block_until_ready((sampler.get_samples()["weights"].max(-1) < truth.weights.max()).sum())
    loop = (time.perf_counter() - begin) / options.loop
    for name in ("first call", "second call"):
        begin = time.perf_counter()
        found = jaxgmm.calibrate(
            jax.random.key(0), prior, "gibbs", num_datasets=options.calibrated, num_observations=100, progress=False, **model
        )
        seconds = time.perf_counter() - begin
        print(
            f"{options.calibrated} data sets: loop over MCMC.run {loop:.2f} s each ({options.loop} of them), "
            f"{loop * options.calibrated:.0f} s in all; calibrate, {name}, {seconds:.1f} s, ratio "
            f"{loop * options.calibrated / seconds:.0f}, target {TARGETS['sbc']}; passed: {found.passed}",
            flush=True,
        )
    print(found)


SECTIONS = {"study": study, "sbc": sbc}


def main() -> None:
    """Run the sections named, or all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sections", nargs="*", choices=[[], *SECTIONS], default=[])
    parser.add_argument("--datasets", type=int, default=500, help="a cell of the study")
    parser.add_argument("--features", type=int, default=2, help="D of the study")
    parser.add_argument("--methods", nargs="*", default=["em", "map", "laplace"], help="of the study")
    parser.add_argument("--calibrated", type=int, default=1000, help="data sets of sbc")
    parser.add_argument("--loop", type=int, default=10, help="data sets of sbc's loop")
    options = parser.parse_args()
    for name in options.sections or SECTIONS:
        print(f"# {name}", flush=True)
        SECTIONS[name](options)


if __name__ == "__main__":
    main()
