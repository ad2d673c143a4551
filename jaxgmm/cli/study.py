"""`jaxgmm study`: bias, error and coverage of every method, from a small toml file."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import jax

from .shared import add_output_options, command_record, progress, remarks, target, targets, write_figure, write_json


def add_options(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    parser.add_argument(
        "design",
        type=Path,
        metavar="DESIGN.toml",
        help="separations, num_observations, covariance_types, methods, num_datasets, ...: the attributes of jaxgmm.Design, each "
        "with a default",
    )
    parser.add_argument(
        "--resume",
        type=Path,
        metavar="FILE.npz",
        help="keeps every finished block; a run that was stopped goes on from it; default: DESIGN-study.npz in the folder",
    )
    add_output_options(parser)


def run(arguments: argparse.Namespace) -> None:
    """Reads the design, simulates, prints, writes."""
    if not arguments.design.is_file():
        raise ValueError(f"there is no file '{arguments.design}'; a toml file that describes a study was expected.")
    from ..coverage.design import Design
    from ..coverage.study import coverage_study

    design = Design.from_toml(arguments.design)
    csv_path, json_path, figure_path = targets(arguments, arguments.design, "csv", "json", "png")
    kept = csv_path.with_suffix(".npz") if arguments.resume is None else arguments.resume
    target(kept, "--resume", force=True)  # it is read, and only added to
    total = design.num_cells * design.num_datasets
    progress(f"{total} data sets in {design.num_cells} cells, each by {', '.join(design.methods)}; kept in {kept}")
    with remarks():
        found = coverage_study(jax.random.key(arguments.seed), design, path=kept, progress=sys.stderr.isatty())
    print(found)
    found.to_csv(csv_path)
    write_json(json_path, command_record(arguments, {"design": str(arguments.design)}) | {"study": found.to_dict()})
    _draw(figure_path, found)
    print(f"Written: {figure_path}, {csv_path}, {json_path}; kept for another run: {kept}")


def _draw(path: Path, found: Any) -> None:
    """A panel for each kind of parameter and covariance type."""
    from matplotlib.figure import Figure

    from ..plot import coverage

    panels = list(dict.fromkeys((row.kind, row.covariance_type) for row in found.rows))
    width = max(6.4, 0.32 * len(found.design.methods) * found.design.num_cells / len(found.design.covariance_types))
    figure = Figure(figsize=(min(width, 14), 3.9 * len(panels)), dpi=150, layout="constrained")
    for ax, (kind, covariance_type) in zip(figure.subplots(len(panels), squeeze=False)[:, 0], panels, strict=True):
        coverage(ax, found, kind=kind, covariance_type=covariance_type)
    write_figure(path, figure)
