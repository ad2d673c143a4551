"""Test the structure: which module may import which, what an import may do, and what every public name has."""

import ast
import dataclasses
import inspect
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import jaxgmm

PACKAGE = Path(jaxgmm.__file__).parent
TOP = Path(__file__).parent.parent
TYPES = {*jaxgmm.covariance.types.TYPES, *jaxgmm.covariance.types.CODES}

# bottom layer first; a module imports from lower layers, or from modules listed before it in its own layer
LAYERS = [
    "command_interrupt linalg chunking memory status files progress devices.copies devices.processes devices.host "
    "devices.row_shards devices.chain_shards devices.explicit_axes calls compilation_cache real_numbers spread",
    "covariance.types covariance covariance.quadratic covariance.conjugate_terms covariance.volumes covariance.axes "
    "covariance.estimates covariance.distributions datasets validation cells checkpoint tables data_frames",
    "mixture_checks mixture component_order incomplete.values incomplete.observations incomplete.checks incomplete.rows "
    "incomplete.forms row_sums padding rounding conversions",
    "incomplete.truncated incomplete.censoring incomplete.conditional density incomplete.imputation sampling "
    "incomplete.replicates marginals "
    "wasserstein distances priors.hyperparameters priors.covariance_laws priors.volume_shape_orientation "
    "priors.interface priors.conjugate priors.independent priors.functions priors.defaults inputs merging selection.criteria",
    "em.result em.kernels em.incomplete_sums em.moments em.m_step em.acceleration em.implicit em.problem em.loop "
    "em.single_normal em.collinearity em.fit_warnings em.fit em.covariance_chart em.standard_errors em.assignments "
    "em.k_means em.incomplete_start em.initialization em.start_race em.restart_starts em.batch.batched_loop "
    "em.batch.observation_sets em.batch.data_sets em.batch.input_forms em.batch.threads em.batch.fit_many "
    "em.batch.restarts em.stream.batches em.stream.sums em.stream.passes em.stream.online "
    "em.stream.several_processes em.stream.saved_run em.stream.run em.stream.observed_run em.stream.fit_batches "
    "em.stream.initialize_batches",
    "posterior.pooling posterior.diagnostics posterior.result posterior.coupled_model posterior.coupled_sites "
    "posterior.model posterior.mixing posterior.pareto posterior.standardization posterior.likelihood "
    "posterior.unconstrained_space posterior.newton "
    "posterior.gaussian_approximation posterior.laplace posterior.user_model_space posterior.user_model "
    "posterior.nuts_chains posterior.chains posterior.combined_modes posterior.nuts posterior.conditionals "
    "posterior.gamma_draws posterior.gibbs posterior.smc.particles posterior.smc.stage_ratios posterior.smc.labels "
    "posterior.smc.moves posterior.smc.likelihood posterior.smc.hamiltonian_moves posterior.smc.data_tempering "
    "posterior.smc.likelihood_tempering posterior.smc.summary posterior.smc.accuracy posterior.smc.smc posterior.random_scale "
    "posterior.telescope_moves posterior.telescope posterior.assignment_problems posterior.label_assignment "
    "posterior.relabel posterior.occupied posterior.modes posterior.bootstrap posterior.partition_search "
    "posterior.partition posterior.predictive posterior.coclustering posterior.pointwise posterior.evidence.importance "
    "posterior.evidence.coordinates posterior.evidence.labellings posterior.evidence.proposal posterior.evidence.rounds "
    "posterior.evidence.bridge_sampling posterior.evidence.result posterior.evidence.log_evidence posterior.diagnose "
    "posterior.arviz posterior.distribution",
    "studies.method_names studies.serialization studies.columns studies.parameters studies.intervals studies.methods "
    "studies.prior_table studies.missing_values selection.evidence selection.result selection.members "
    "selection.observation_starts selection.sweep "
    "selection.select selection.fit_pairs selection.likelihood_ratio "
    "comparison.report_columns comparison.inputs comparison.summaries comparison.joint comparison.contraction "
    "comparison.predictive_scores comparison.clustering comparison.verdict comparison.findings comparison.sampler_summary "
    "comparison.next_steps comparison.conclusion comparison.point_vs_posterior comparison.mode_search "
    "comparison.page_contents comparison.text_layout comparison.summary_page comparison.result comparison.compare "
    "calibration.quantities calibration.bands calibration.rows calibration.text_report calibration.result "
    "calibration.config calibration.calibrate coverage.design coverage.quantities coverage.replicates coverage.summary "
    "coverage.text_report coverage.study io.number_formats io.text io.delimiters io.column_choice io.array_files "
    "io.table_files io.read_table io.read_batches io.valid_results io.json_records io.archive",
    "plot.style plot.limits plot.points plot.mixtures plot.posterior_modes plot.posteriors plot.forests plot.studies "
    "plot.figures plot report.clusters report.number_tables report.write_report sklearn",
    "cli.messages cli.errors cli.interruption cli.arguments cli.data cli.outputs cli.memberships cli.mixture_files "
    "cli.records cli.estimates cli.rehearsal cli.startup cli.toml_prior cli.incomplete cli.streamed_fit cli.fit cli.predict "
    "cli.plot cli.sample cli.compare cli.select cli.calibrate cli.study cli __main__",
]
LAYERS = [layer.split() for layer in LAYERS]
# packages whose __init__.py is itself a module of the library: users import its name
FRONTS = {"covariance", "datasets", "plot", "cli"}
PLACE = {name: (layer, place) for layer, names in enumerate(LAYERS) for place, name in enumerate(names)}


def files():
    """Return the syntax tree of every module by name, without the __init__.py files that hold no code."""
    trees = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        name = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
        if name.endswith("__init__") and name.removesuffix(".__init__") not in FRONTS:
            continue
        trees[name.removesuffix(".__init__")] = ast.parse(path.read_text())
    return trees


FILES = files()


def imports(name):
    """Yield the modules of the package that a module imports, at its top or inside a function."""
    package = ["jaxgmm", *name.split(".")] if name in FRONTS else ["jaxgmm", *name.split(".")[:-1]]
    for node in ast.walk(FILES[name]):
        if isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            module = ".".join(part for part in (base, node.module) if part)
            inside = [f"{module}.{alias.name}" for alias in node.names]
            targets = [t if t.removeprefix("jaxgmm.") in FILES else module for t in inside]
        else:
            continue
        yield from (t for t in targets if t.partition(".")[0] == "jaxgmm")


def check_layer(name):
    """Assert that a module imports only from lower layers, or from modules listed before it in its own layer."""
    assert name in PLACE, f"{name} is in no layer"
    for target in imports(name):
        if target == "jaxgmm":  # the version, for the command and the report
            assert name.partition(".")[0] in ("cli", "report"), f"{name} must not import jaxgmm"
            continue
        target = target.removeprefix("jaxgmm.")
        assert target in PLACE, f"{name} imports {target}, which is in no layer"
        assert PLACE[target] < PLACE[name], f"{name} must not import {target}"


# these tests have loops in place of parameters, because seven hundred tests take seconds to collect and to report


def test_layers():
    for name in FILES:
        check_layer(name)


def nodes_of_others(names, prefix="no prefix"):
    """Return the nodes of all modules but some, each with the name of the module and its line."""
    found = {name: tree for name, tree in FILES.items() if name not in names and not name.startswith(prefix)}
    assert len(found) > 100
    return [(node, f"{name}, line {getattr(node, 'lineno', '?')},") for name, tree in found.items() for node in ast.walk(tree)]


def test_one_module_branches_on_the_covariance_type():
    """No other module compares with the name of a covariance type or has a table of them, so a new type is added in one."""
    for node, place in nodes_of_others(
        {"covariance.types", "covariance.estimates", "posterior.model", "posterior.coupled_model"}
    ):
        operands = []
        if isinstance(node, ast.Compare):
            operands = [node.left, *node.comparators]
        elif isinstance(node, ast.Dict):
            operands = [key for key in node.keys if key]
        elif isinstance(node, ast.MatchValue):
            operands = [node.value]
        names = {leaf.value for operand in operands for leaf in ast.walk(operand) if isinstance(leaf, ast.Constant)}
        assert not names & TYPES, f"{place} branches on a covariance type"


PRIOR_TYPES = {"Prior", "IndependentPrior", "InverseWishart", "InverseGamma", "HalfNormal", "VolumeShapeOrientation"}


def test_only_priors_branch_on_the_family():
    """No module outside priors/, except the NumPyro model, tests which family a prior or its covariance law belongs to."""
    for node, place in nodes_of_others({"posterior.model"}, "priors."):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("isinstance", "issubclass"):
            names = {leaf.id for leaf in ast.walk(node.args[1]) if isinstance(leaf, ast.Name)}
            names |= {leaf.attr for leaf in ast.walk(node.args[1]) if isinstance(leaf, ast.Attribute)}
            assert not names & PRIOR_TYPES, f"{place} branches on the family of a prior"
        if isinstance(node, ast.Compare | ast.MatchClass):
            names = {leaf.id for leaf in ast.walk(node) if isinstance(leaf, ast.Name)}
            assert not names & PRIOR_TYPES, f"{place} branches on the family of a prior"


def test_heavy_libraries_stay_in_their_packages():
    """Only plot, report and cli import matplotlib; nothing below posterior imports numpyro; nothing uses pickle or eval."""
    for name, tree in FILES.items():
        for node in ast.walk(tree):
            modules = (
                [a.name for a in node.names]
                if isinstance(node, ast.Import)
                else [node.module or ""]
                if isinstance(node, ast.ImportFrom)
                else []
            )
            for module in (m.partition(".")[0] for m in modules):
                drawing = ("plot", "report", "cli")
                assert module != "matplotlib" or name.partition(".")[0] in drawing, f"{name} imports matplotlib"
                assert module != "numpyro" or PLACE[name] >= PLACE["posterior.result"], f"{name} imports numpyro"
                assert module not in ("pickle", "joblib", "dill"), f"{name} imports {module}"
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id not in ("eval", "exec"), f"{name} calls {node.func.id}"
    assert not {"numpyro", "posterior.gaussian_approximation"} & {t.removeprefix("jaxgmm.") for t in imports("posterior.model")}
    families = {f"jaxgmm.priors.{name}" for name in ("conjugate", "covariance_laws", "volume_shape_orientation", "independent")}
    assert set(imports("posterior.coupled_model")) <= families, "the NumPyro model is an independent description"
    own = {"jaxgmm.mixture", "jaxgmm.incomplete.observations", "jaxgmm.posterior.coupled_model"}
    assert set(imports("posterior.model")) <= own | families, "the NumPyro model is an independent description"


def test_library_never_touches_the_configuration():
    """Nothing sets a flag of JAX or the random state of NumPy, except `enable_compilation_cache`, which says so."""
    for path in set(PACKAGE.rglob("*.py")) - {PACKAGE / "compilation_cache.py"}:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                call = ast.unparse(node.func)
                assert call not in ("jax.config.update", "np.random.seed", "numpyro.enable_x64", "numpyro.set_platform"), (
                    f"{path.name}: {call}"
                )


def test_importing_is_light():
    """`import jaxgmm` makes no array, changes no configuration, starts no backend and imports no heavy library.

    The command and the list of methods import few, too.
    """
    code = """
import json, sys, jax
before = dict(jax.config.values)
import jaxgmm
from jax._src import xla_bridge
backends = len(getattr(xla_bridge, "_backends", {}))
heavy = ("numpyro", "matplotlib", "pandas", "jinja2", "sklearn", "arviz", "tqdm")
print(json.dumps({"modules": sorted(name for name in heavy if name in sys.modules),
                  "changed": sorted(k for k, v in jax.config.values.items() if before.get(k) != v),
                  "backends": backends, "arrays": len(jax.live_arrays())}))
import jaxgmm.cli, jaxgmm.studies.method_names
print([name for name in ("matplotlib", "numpyro", "scipy.stats", "pandas") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    of_package, of_command = done.stdout.splitlines()
    assert json.loads(of_package) == {"modules": [], "changed": [], "backends": 0, "arrays": 0}
    assert of_command == "[]"


PUBLIC = [name for name in dir(jaxgmm) if name[0] != "_" and name not in ("datasets", *jaxgmm._LAZY_MODULES)]


def test_every_name_can_be_found():
    """Tab completion, help and type checkers see every public name, and no other name."""
    assert {"Mixture", "fit", "nuts", "compare", "datasets", "plot", "__version__"} <= set(dir(jaxgmm))
    assert not set(PUBLIC) & {"Any", "importlib", "types", "typing", "em", "density"}
    index = jaxgmm.__doc__.split("Public names, grouped by purpose")[1].split()
    for name in [*PUBLIC, "datasets", *jaxgmm._LAZY_MODULES]:
        assert index.count(name) == 1, f"{name} is not in the index that help(jaxgmm) shows"
    guarded = next(node for node in ast.parse((PACKAGE / "__init__.py").read_text()).body if isinstance(node, ast.If))
    imported = {alias.asname: f".{node.module}" for node in guarded.body for alias in node.names if node.module}
    assert imported == jaxgmm._LAZY
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        jaxgmm.nothing  # noqa: B018


@pytest.mark.parametrize("name", PUBLIC)
def test_public_names_are_documented(name):
    """Every public name has a first line and an example; functions list arguments, result and errors; results their fields."""
    thing = getattr(jaxgmm, name)
    text = thing.__doc__ or ""
    assert text.split("\n")[0].rstrip().endswith((".", ":", "?")), f"{name}: a first line that says what it is"
    if inspect.isfunction(thing):
        assert_says(text, name, "Args", inspect.signature(thing).parameters)
        assert_says(text, name, "Returns")
        assert_says(text, name, "Raises")
    elif dataclasses.is_dataclass(thing):
        assert_says(text, name, "Attributes", [field.name for field in dataclasses.fields(thing)])
    # the example of such a result is that of the function that returns it
    assert ">>>" in section(text, "Example") or name in ("Comparison", "Calibration", "Study", "LikelihoodRatioTest"), (
        f"{name} has no example"
    )


@pytest.mark.parametrize("name", ["load", "columns", "labels"])
def test_data_sets_are_documented(name):
    thing = getattr(jaxgmm.datasets, name)
    assert_says(thing.__doc__, name, "Args", inspect.signature(thing).parameters)
    assert_says(thing.__doc__, name, "Returns")
    assert ">>>" in section(thing.__doc__, "Example")


def section(text, title):
    """Return the indented lines of a docstring under a title such as Args."""
    found = re.search(rf"^( *){title}:\n((?:\1 +.*\n|\n)+)", text + "\n", re.M)
    return found[2] if found else ""


def assert_says(text, name, title, entries=()):
    """Assert that a docstring has a section with an entry for each name."""
    body = section(text, title)
    assert body.strip(), f"{name} has no section {title}"
    listed = set(re.findall(r"\w+", " ".join(re.findall(r"^ {4,8}([\w*, ]+):", body, re.M))))
    missing = set(entries) - listed
    assert not missing, f"the section {title} of {name} lacks {', '.join(sorted(missing))}"


def test_options_are_keyword_only():
    """Positional arguments are the key, the mixture, the data and the prior, in this order; options are keyword-only."""
    positional = {
        "key",
        "mixture",
        "mixtures",
        "batches",
        "source",
        "rows",
        "columns",
        "start",
        "x",
        "xs",
        "prior",
        "moments",
        "weights",
        "means",
        "covariances",
        "dims",
        "values",
        "labels",
        "responsibilities",
        "posterior",
        "comparison",
        "fit",
        "reference",
        "num_samples",
        "name",
        "path",
        "thing",
        "method",
        "data_sets",
        "data",
        "design",
        "estimator",
        "p",
        "q",
    }
    for name in PUBLIC:
        thing = getattr(jaxgmm, name)
        if inspect.isfunction(thing):
            found = [p.name for p in inspect.signature(thing).parameters.values() if p.kind is p.POSITIONAL_OR_KEYWORD]
            assert set(found) <= positional, f"{name}: {found}"


def test_top_level():
    """The top folder holds only these entries, dot-files, and what tools and the README's command leave behind."""
    allowed = {"pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "CITATION.cff", "jaxgmm", "tests", "notebooks"}
    left_behind = {"build", "dist", "jaxgmm.egg-info", "__pycache__", "faithful-compare.json", "faithful-compare.png"}
    found = {path.name for path in TOP.iterdir() if not path.name.startswith(".")}
    assert found - allowed - left_behind == set()


def test_every_module_has_a_test_file():
    """The module em/fit.py is tested by tests/em/test_fit.py."""
    modules = [path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py") if not path.name.startswith("__")]
    missing = [path for path in modules if not (TOP / "tests" / path.parent / f"test_{path.name}").is_file()]
    assert not missing


def test_the_versions_agree():
    """CITATION.cff names the version of the package."""
    assert f"\nversion: {jaxgmm.__version__}\n" in (TOP / "CITATION.cff").read_text()


def test_the_conda_recipe_agrees_with_pyproject():
    """The recipe has the version, the command, and the dependencies of pyproject.toml with their lowest versions."""
    project = tomllib.loads((TOP / "pyproject.toml").read_text())["project"]
    recipe = (TOP / ".github" / "conda" / "recipe.yaml").read_text()
    needed = {f"python{project['requires-python']}", *project["dependencies"]}
    run = recipe.partition("  run:\n")[2].partition("\n\n")[0]
    listed = {line.strip(" -").replace("matplotlib-base", "matplotlib").replace(" ", "") for line in run.splitlines()}
    assert listed == needed
    assert f'\n  version: "{jaxgmm.__version__}"\n' in recipe
    assert f"- jaxgmm = {project['scripts']['jaxgmm']}\n" in recipe


def test_no_empty_modules():
    """Every module has a docstring and code; packages re-export nothing, except that `plot` collects its own functions."""
    for path in PACKAGE.rglob("*.py"):
        tree = ast.parse(path.read_text())
        if path.name == "__init__.py":
            assert [p for p in path.parent.iterdir() if p.suffix in (".py", ".csv") and p != path], (
                f"{path.parent.name} is an empty package"
            )
            if path.parent.name not in ("jaxgmm", *FRONTS):
                assert not any(isinstance(node, ast.Import | ast.ImportFrom) for node in tree.body), f"{path} re-exports"
            if path.parent.name == "plot":
                collected = [node for node in tree.body if not isinstance(node, ast.Expr)]
                assert all(isinstance(node, ast.ImportFrom) and node.level == 1 for node in collected), (
                    "plot re-exports other modules than its own"
                )
        else:
            assert ast.get_docstring(tree), f"{path.name} has no docstring"
            assert any(isinstance(node, ast.FunctionDef | ast.ClassDef | ast.If) for node in tree.body), f"{path.name} is empty"
