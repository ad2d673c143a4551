"""Every notebook in notebooks/ runs without errors, its numbers are checked, and it is stored without outputs.

The checks of a notebook are in the file of the same name in tests/notebook_checks/.

By default no notebook runs, because they take from 14 seconds to some minutes each, but their calls are checked. The weekly run
executes them all.
"""

import json
import os
import re
import sys
import warnings
from pathlib import Path

import pytest

import jaxgmm

with warnings.catch_warnings():
    # importing Jupyter's packages emits deprecation warnings about each other (paths, event loops)
    for category in (DeprecationWarning, PendingDeprecationWarning):
        warnings.filterwarnings("ignore", category=category)
    import nbclient
    import nbformat
    from jupyter_client import AsyncKernelManager
    from jupyter_client.kernelspec import KernelSpecManager

from documented_calls import check_calls

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))
CHECKS = Path(__file__).parent / "notebook_checks"
SECONDS_PER_CELL = 120
LINE_LENGTH = 99  # what a page of the site shows without scrolling

each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def checks_of(path):
    """Return the checks of a notebook: a dictionary from the id of a cell to the code that runs after this cell."""
    _, *parts = re.split(r"^# %% after (\S+)\n", (CHECKS / f"{path.stem}.py").read_text(), flags=re.M)
    return dict(zip(parts[::2], parts[1::2], strict=True))


def with_checks(notebook, checks):
    """Insert a cell with checks after each cell that has some."""
    missing = checks.keys() - {cell.id for cell in notebook.cells}
    assert not missing, f"checks after cells that do not exist: {missing}"
    for cell in list(notebook.cells):
        if cell.id in checks:
            check = nbformat.v4.new_code_cell(checks[cell.id])
            notebook.cells.insert(notebook.cells.index(cell) + 1, check)


def kernel_manager_class(folder):
    """Return a kernel manager whose kernel "python3" is the interpreter that runs the tests, not one that the user has."""
    spec = folder / "kernels" / "python3"
    spec.mkdir(parents=True)
    argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    (spec / "kernel.json").write_text(json.dumps({"argv": argv, "display_name": "tests", "language": "python"}))

    class Manager(AsyncKernelManager):
        def __init__(self, **options):
            specs = KernelSpecManager(kernel_dirs=[str(spec.parent)], ensure_native_kernel=False)
            super().__init__(**{**options, "kernel_name": "python3", "kernel_spec_manager": specs})

    return Manager


def test_notebooks_exist():
    assert len(NOTEBOOKS) >= 11


@each_notebook
def test_calls_fit_the_functions(path):
    """Each call of a function of the package has arguments that the function takes."""
    cells = [cell.source for cell in code_cells(nbformat.read(path, as_version=4))]
    without_magic = ["\n".join(line for line in cell.splitlines() if not line.startswith("%")) for cell in cells]
    assert sum(map(check_calls, without_magic)) + (path.stem == "01_em_from_scratch")


@pytest.mark.slow
@each_notebook
@pytest.mark.filterwarnings(
    "ignore::DeprecationWarning:jupyter_client",
    "ignore::DeprecationWarning:jupyter_core",
    "ignore::DeprecationWarning:nbclient",
    "ignore::DeprecationWarning:zmq",
    "ignore::DeprecationWarning:tornado",
)
# zmq warns that it cannot use Windows' default event loop
@pytest.mark.filterwarnings("ignore:Proactor event loop does not implement:RuntimeWarning")
def test_runs_and_its_numbers_hold(path, tmp_path, monkeypatch):
    # figures are drawn inline, without a screen and without the user's IPython and matplotlib settings
    monkeypatch.setenv("MPLBACKEND", "module://matplotlib_inline.backend_inline")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("MATPLOTLIBRC", os.devnull)
    monkeypatch.setenv("JUPYTER_PLATFORM_DIRS", "1")
    monkeypatch.setenv("ROWS", "50000")  # the notebook of data on disk has millions of rows otherwise
    # the kernels import the jaxgmm that is tested, even if another one is installed
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path(jaxgmm.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]))
    notebook = nbformat.read(path, as_version=4)
    with_checks(notebook, checks_of(path))
    client = nbclient.NotebookClient(
        notebook,
        kernel_name="python3",
        timeout=SECONDS_PER_CELL,
        kernel_manager_class=kernel_manager_class(tmp_path),
        resources={"metadata": {"path": str(tmp_path)}},
    )
    client.execute()  # raises CellExecutionError with the cell and its traceback
    outputs = [output for cell in code_cells(notebook) for output in cell.outputs]
    assert not [output for output in outputs if output.output_type == "error"]
    assert any("image/png" in output.get("data", {}) for output in outputs), "no figure was drawn"
    assert all(cell.execution_count for cell in code_cells(notebook)), "a cell was not run"


@each_notebook
def test_stored_clean(path):
    raw = json.loads(path.read_text(encoding="utf-8"))
    nbformat.validate(raw)
    assert set(raw["metadata"]) <= {"kernelspec", "language_info"}
    assert raw["metadata"]["kernelspec"]["name"] == "python3"
    ids = [cell["id"] for cell in raw["cells"]]
    assert len(set(ids)) == len(ids)
    for cell in raw["cells"]:
        assert not cell["metadata"], f"cell {cell['id']} has metadata"
        assert cell["source"], f"cell {cell['id']} is empty"
        if cell["cell_type"] == "code":
            assert cell["outputs"] == [], f"cell {cell['id']} is stored with outputs"
            assert cell["execution_count"] is None, f"cell {cell['id']} is stored with its execution count"


@each_notebook
def test_opens_with_a_question_is_checked_and_ends_with_exercises(path):
    notebook = nbformat.read(path, as_version=4)
    first, last = notebook.cells[0], notebook.cells[-1]
    assert first.cell_type == last.cell_type == "markdown"
    assert first.source.startswith("# ")
    assert "?" in first.source
    assert "## Exercises" in last.source
    assert sum(code.count("assert ") for code in checks_of(path).values()) >= 5
    for cell in code_cells(notebook):
        assert max(map(len, cell.source.splitlines())) <= LINE_LENGTH, f"a line of cell {cell.id} is too long"
