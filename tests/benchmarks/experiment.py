"""How long a study takes, compilation in.

    python tests/benchmarks/experiment.py [study]        (without a name: all)

study: coverage of 12 cells (4 separations, N = 50, 200 and 1000; K=2, D=2, full) of 500 data sets each, by EM and MAP with their
standard errors and by Laplace: the printed table, wall and processor seconds.
"""

from __future__ import annotations

import argparse
import time

import jax

import jaxgmm

TARGETS = {"study": 300}


def study(options: argparse.Namespace) -> None:
    """One call in a fresh process; the default design, but for what is asked."""
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
        f"{design.num_cells} cells x {options.datasets} data sets, {', '.join(design.methods)}: {wall:.0f} s, {processor:.0f} processor "
        f"seconds, of which in methods {inside:.0f} s (compilation apart), target {TARGETS['study']} s",
        flush=True,
    )


SECTIONS = {"study": study}


def main() -> None:
    """Runs the sections named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sections", nargs="*", choices=[[], *SECTIONS], default=[])
    parser.add_argument("--datasets", type=int, default=500, help="a cell of the study")
    parser.add_argument("--features", type=int, default=2, help="D of the study")
    parser.add_argument("--methods", nargs="*", default=["em", "map", "laplace"], help="of the study")
    options = parser.parse_args()
    for name in options.sections or SECTIONS:
        print(f"# {name}", flush=True)
        SECTIONS[name](options)


if __name__ == "__main__":
    main()
