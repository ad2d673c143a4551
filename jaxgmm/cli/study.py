"""`jaxgmm study`: measure bias, error and coverage of each method. The design of the study is read from a TOML file."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

import jax

from .arguments import add_output_options
from .interruption import remember_file
from .messages import print_progress, warnings_to_stderr
from .outputs import check_output_file, output_paths, write_figure, write_json
from .records import command_record

if TYPE_CHECKING:
    from ..coverage.study import Study


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `jaxgmm study`."""
    parser.add_argument(
        "design",
        type=Path,
        metavar="DESIGN.toml",
        help="file that sets attributes of jaxgmm.Design (separations, num_observations, covariance_types, methods, "
        "num_datasets, ...), which all have defaults",
    )
    parser.add_argument(
        "--resume",
        type=Path,
        metavar="FILE.npz",
        help="file in which finished batches are stored, so that an interrupted run can continue; default: DESIGN-study.npz "
        "in the output folder",
    )
    add_output_options(parser)


def run(arguments: argparse.Namespace) -> None:
    """Read the design, run the study, print its tables, and write the output files."""
    if not arguments.design.is_file():
        raise ValueError(f"there is no file '{arguments.design}'; a TOML file that describes a study was expected.")
    from ..coverage.design import Design
    from ..coverage.study import coverage_study

    design = Design.from_toml(arguments.design)
    csv_path, json_path, figure_path = output_paths(arguments, arguments.design, "csv", "json", "png")
    kept = arguments.resume or csv_path.with_suffix(".npz")
    check_output_file(kept, "--resume", force=True)  # an existing file is valid: the study only adds to it
    remember_file(kept)
    total = design.num_cells * design.num_datasets
    print_progress(f"{total} data sets in {design.num_cells} cells, methods {', '.join(design.methods)}, batches in {kept}")
    with warnings_to_stderr():
        study = coverage_study(jax.random.key(arguments.seed), design, path=kept, progress=None)
    print(study)
    study.to_csv(csv_path)
    write_json(json_path, command_record(arguments, {"design": str(arguments.design)}) | {"study": study.to_dict()})
    _draw(figure_path, study)
    print(f"Written: {figure_path}, {csv_path}, {json_path}; finished batches, for a later run: {kept}")


def _draw(path: Path, study: Study) -> None:
    """Plot coverage in one panel for each kind of parameter and each covariance type, and write the figure."""
    from matplotlib.figure import Figure

    from ..plot import coverage

    panels = list(dict.fromkeys((row.kind, row.covariance_type) for row in study.rows))
    width = max(6.4, 0.32 * len(study.design.methods) * study.design.num_cells / len(study.design.covariance_types))
    figure = Figure(figsize=(min(width, 14), 3.9 * len(panels)), dpi=150, layout="constrained")
    for ax, (kind, covariance_type) in zip(figure.subplots(len(panels), squeeze=False)[:, 0], panels, strict=True):
        coverage(ax, study, kind=kind, covariance_type=covariance_type)
    write_figure(path, figure)
