"""`jaxgmm compare`: compare an EM estimate with draws from the posterior, which come from one or several methods."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeGuard

import jax
import numpy as np

from ..em.result import Fit
from ..incomplete.observations import Observations
from ..io.archive import save
from ..posterior.modes import Modes, modes
from ..posterior.result import Posterior
from ..priors.interface import MixturePrior, reason_without_mode
from ..studies.method_names import POSTERIOR_FUNCTIONS, POSTERIOR_METHODS
from ..validation import check_count
from .arguments import add_fit_options, add_model_options, parse_names
from .estimates import ModeFit, fit_maximum_likelihood, fit_mode, maximum_likelihood_line
from .incomplete import add_incomplete_options, read_rows
from .memberships import check_labels_file, posterior_memberships, write_labels
from .messages import print_progress, warnings_to_stderr
from .outputs import check_output_file, output_paths, write_figure, write_json
from .records import fit_record
from .rehearsal import Rehearsal, is_tiny, is_worthwhile, rehearse_approximation, rehearse_comparison, stand_in
from .startup import compile_quickly

_SEARCH_SAMPLES = 500  # largest number of particles in a run of `smc` that only searches for modes
# The fit itself has already compiled a program that fits as many starts as --restarts says. If this number of starts is at
# least _FEWEST_AT_ONCE, that program is called until all new starts are fitted. Otherwise, a program for all new starts at
# once is compiled.
_FEWEST_AT_ONCE = 4
_ACTIVITIES = {
    "nuts": "sampling the posterior by NUTS",
    "gibbs": "sampling the posterior by Gibbs sampling",
    "laplace": "drawing from the normal approximation at the mode",
    "bootstrap": "fitting bootstrap replicates of the data",
    "smc": "moving particles from the prior to the posterior",
}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `jaxgmm compare`."""
    add_fit_options(parser)
    add_model_options(parser)
    add_incomplete_options(parser)
    parser.add_argument(
        "--methods",
        default="nuts",
        metavar="A,B",
        help=f"list of methods from {', '.join(POSTERIOR_METHODS)}; the figure shows the first one; default: nuts",
    )
    parser.add_argument("--num-samples", type=int, default=1000, metavar="S", help="posterior draws per chain; default: 1000")
    parser.add_argument("--num-chains", type=int, default=4, metavar="C", help="number of chains; default: 4")
    parser.add_argument(
        "--search",
        action=argparse.BooleanOptionalAction,
        help="search for other modes of the posterior by smc, and report the mass of EM's mode; implied by --methods smc. "
        "--no-search: do not search at all. By default, EM from 32 new starts looks for a mode with a higher objective",
    )
    parser.add_argument("--interval", type=float, default=0.95, metavar="P", help="probability of the intervals; default: 0.95")
    parser.add_argument(
        "--details", action="store_true", help="print all parameters, all scores, and an explanation of every number"
    )
    parser.add_argument(
        "--save",
        type=Path,
        metavar="FILE.npz",
        help="also write the relabelled draws, which jaxgmm.load reads; several methods write FILE-METHOD.npz each",
    )
    parser.add_argument("--report", type=Path, metavar="FILE.html", help="also write an HTML page with tables and figures")


def run(arguments: argparse.Namespace) -> None:
    """Fit the posterior mode, draw from the posterior, compare mode and draws, print the result, and write the files."""
    methods = _check_options(arguments)
    data, x, words = read_rows(arguments, arguments.num_components)
    names = data.names
    figure_path, json_path = output_paths(arguments, arguments.data, "png", "json")
    check_labels_file(arguments)
    saved = _draws_files(arguments, methods)
    if arguments.report is not None:
        check_output_file(arguments.report, "--report", force=arguments.force)
    if is_tiny(arguments.num_components, data.x, arguments.num_chains * arguments.num_samples):
        compile_quickly()
    mode = _fit_and_rehearse(arguments, x, names)
    posteriors, restart = _draw_and_rehearse(methods, arguments, mode, x)
    from ..comparison.compare import compare

    found, options = _search(arguments, methods, mode, x), {"interval": arguments.interval, "feature_names": names}
    comparison = compare(mode.fit, posteriors, x, modes=found, restart=restart, **options)
    comparison = replace(comparison, reader="command")
    record = mode.record | {"maximum_likelihood": fit_record(fit_maximum_likelihood(mode.fit, x))}
    record |= {"component_labels": words} if words else {}
    names_of_options = ("num_samples", "num_chains", "interval", "search")
    record["options"] |= {"methods": methods} | {name: getattr(arguments, name) for name in names_of_options}
    print(comparison.details() if arguments.details else comparison)
    if reason_without_mode(mode.prior) is None:
        print(maximum_likelihood_line(record))
    write_json(json_path, record | {"comparison": comparison.to_dict()})
    print_progress("drawing the figure")
    from ..plot import comparison_figure

    write_figure(figure_path, comparison_figure(comparison, mode.fit.mixture, x, feature_names=names))
    written = [figure_path, json_path, *(save(path, comparison.posteriors[method]) for method, path in saved.items())]
    if arguments.labels is not None:
        first = next(iter(comparison.posteriors.values()))
        written += write_labels(arguments, posterior_memberships(first, mode.fit.mixture, x), data)
    if arguments.report is not None:
        print_progress("writing the report")
        from ..report.write_report import write_report

        details = {"data": arguments.data, **record["options"]}
        written.append(write_report(arguments.report, comparison, mode.fit, x, details=details))
    print(f"Written: {', '.join(map(str, written))}")


def _check_options(arguments: argparse.Namespace) -> list[str]:
    """Return the methods, or raise ValueError if an option has a wrong value."""
    for name in ("num_components", "num_samples", "num_chains", "restarts"):
        check_count(getattr(arguments, name), name)
    if not 0 < arguments.interval < 1:
        raise ValueError(f"interval is {arguments.interval:g}; a probability between 0 and 1 was expected, such as 0.95.")
    return parse_names(arguments.methods, "--methods", POSTERIOR_METHODS)


def _draws_files(arguments: argparse.Namespace, methods: list[str]) -> dict[str, Path]:
    """Return, for each method, the file in which --save stores the draws. Raise ValueError if a file cannot be written."""
    if arguments.save is None:
        return {}
    whole = arguments.save if arguments.save.suffix == ".npz" else Path(f"{arguments.save}.npz")
    files = {method: whole if len(methods) == 1 else whole.with_stem(f"{whole.stem}-{method}") for method in methods}
    for path in files.values():
        check_output_file(path, "--save", force=arguments.force)
    return files


def _fit_and_rehearse(arguments: argparse.Namespace, x: np.ndarray | Observations, names: list[str]) -> ModeFit:
    """Fit the posterior mode, while a second thread imports modules and compiles Laplace's approximation."""
    rehearsals: list[Rehearsal] = []

    def start(prior: MixturePrior) -> None:
        steps: list[Callable[[], object]] = [lambda: importlib.import_module("..comparison.compare", __package__)]
        if _is_quick(x, arguments):
            complete, model = x, (arguments.num_components, arguments.covariance_type)
            steps.append(lambda: rehearse_approximation(complete, prior, *model))
        rehearsals.append(Rehearsal(*steps))

    mode = fit_mode(arguments, x, names, start, is_sampled=True)
    for rehearsal in rehearsals:
        rehearsal.wait()  # NumPyro can trace only one model at a time
    return mode


def _is_quick(x: np.ndarray | Observations, arguments: argparse.Namespace) -> TypeGuard[np.ndarray]:
    """Return whether computing the comparison takes less time than compiling its programs."""
    if isinstance(x, Observations):  # they need other programs, which a rehearsal does not compile
        return False
    return is_worthwhile(arguments.num_components, x, arguments.num_chains * arguments.num_samples)


def _draw_and_rehearse(
    methods: list[str], arguments: argparse.Namespace, mode: ModeFit, x: np.ndarray | Observations
) -> tuple[dict[str, Posterior], Fit | None]:
    """Draw from the posterior by each method, and return the draws and the best fit of EM from new starts.

    Meanwhile, a second thread runs EM from the new starts, and compiles the programs of the comparison. With --no-search, EM
    does not run from new starts, and None is returned in place of the fit.
    """
    found: list[Fit] = []
    steps: list[Callable[[], object]] = [lambda: importlib.import_module("..plot", __package__)]
    if arguments.search is not False and reason_without_mode(mode.prior) is None:
        steps.append(lambda: found.append(_restart(arguments, mode, x)))
    if _is_quick(x, arguments):
        posterior = stand_in(mode.fit, mode.prior, arguments.num_chains, arguments.num_samples)
        steps += [lambda: rehearse_comparison(mode.fit, posterior, x), lambda: fit_maximum_likelihood(mode.fit, x)]
    with warnings_to_stderr():
        rehearsal = Rehearsal(*steps)
        posteriors = {method: _draw(method, arguments, mode, x) for method in methods}
        rehearsal.wait()  # without waiting, the comparison would compile the same programs a second time
    return posteriors, found[0] if found else None


def _restart(arguments: argparse.Namespace, mode: ModeFit, x: np.ndarray | Observations) -> Fit:
    """Return the best fit of EM from new starts.

    The fit itself has already compiled a program that fits as many starts as --restarts says. This program is called until
    all new starts are fitted. If --restarts is 1, 2 or 3, this would take too many calls. In this case, a program that fits
    all new starts at once is compiled.
    """
    from ..comparison.mode_search import NUM_RESTARTS, best_of_restarts

    at_once = arguments.restarts if arguments.restarts >= _FEWEST_AT_ONCE else NUM_RESTARTS
    key = jax.random.fold_in(jax.random.key(arguments.seed), 1 + len(POSTERIOR_METHODS))
    return best_of_restarts(key, mode.fit, x, mode.prior, at_once=at_once)


def _search(
    arguments: argparse.Namespace, methods: list[str], mode: ModeFit, x: np.ndarray | Observations
) -> Modes | bool | None:
    """Return the option `modes` of `compare`: the modes from draws by `smc`, or None or False.

    The modes are returned with --search, unless `smc` is among the methods. With --no-search, False is returned. Otherwise,
    None is returned: `compare` then finds the modes from the draws by `smc`, if there are any.
    """
    if not arguments.search or "smc" in methods:
        return False if arguments.search is False else None
    few = argparse.Namespace(**vars(arguments) | {"num_samples": min(arguments.num_samples, _SEARCH_SAMPLES)})
    posterior = _draw("smc", few, mode, x)
    print_progress("finding the modes of the posterior by EM")
    with warnings_to_stderr():
        return modes(posterior, x, progress=False)


def _draw(method: str, arguments: argparse.Namespace, mode: ModeFit, x: np.ndarray | Observations) -> Posterior:
    """Draw from the posterior by one method. The random key of a method does not depend on the other methods that run."""
    print_progress(_ACTIVITIES[method])
    module, function = POSTERIOR_FUNCTIONS[method]
    sampler = getattr(importlib.import_module(f"..posterior.{module}", __package__), function)
    key = jax.random.fold_in(jax.random.key(arguments.seed), 1 + POSTERIOR_METHODS.index(method))
    options = {"num_samples": arguments.num_samples, "num_chains": arguments.num_chains}
    # The compilation cache does not store programs that advance a progress bar, so a progress bar costs seconds of compilation.
    # Therefore, only a long run shows a progress bar.
    options["progress"] = False if _is_quick(x, arguments) else None
    with warnings_to_stderr():
        return sampler(key, mode.fit.mixture, x, mode.prior, **options)
