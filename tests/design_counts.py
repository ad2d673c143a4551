"""Print counts of the package's design for one or several checkouts, so that they can be compared.

    python tests/design_counts.py . ../other-checkout

This is a script, not a test. It reads source code only, except that it runs pyright if that is installed.
"""

from __future__ import annotations

import ast
import importlib.util
import io
import json
import re
import subprocess
import sys
import tokenize
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef
SIZE_NAMES = re.compile(r"BATCH|BLOCK|CHUNK|NUMBERS|ROWS|WIDTH|LANES|BUCKET|SIZE")
PRIOR_TYPES = {"Prior", "IndependentPrior", "InverseWishart", "InverseGamma", "HalfNormal", "VolumeShapeOrientation"}
LARGEST_MODULE, LARGEST_FUNCTION, MOST_PARAMETERS = 300, 40, 7


def code_lines(source: str) -> set[int]:
    """Return the numbers of the lines that hold code: no blanks, comments or docstrings."""
    docstrings: set[int] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | FunctionNode) and node.body and ast.get_docstring(node) is not None:
            docstrings |= set(range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1))
    skipped = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER)
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in skipped:
            lines |= set(range(token.start[0], token.end[0] + 1))
    return lines - docstrings


def functions(tree: ast.AST) -> Iterator[FunctionNode]:
    """Yield every function and method, nested ones too."""
    return (node for node in ast.walk(tree) if isinstance(node, FunctionNode))


def outer_functions(tree: ast.Module) -> Iterator[FunctionNode]:
    """Yield the functions of a module and the methods of its classes, without nested ones."""
    for node in tree.body:
        if isinstance(node, FunctionNode):
            yield node
        elif isinstance(node, ast.ClassDef):
            yield from (member for member in node.body if isinstance(member, FunctionNode))


def module_names(tree: ast.Module) -> Iterator[str]:
    """Yield the names of functions, classes and constants that a module defines at its top level."""
    for node in tree.body:
        if isinstance(node, FunctionNode | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                yield from (leaf.id for leaf in ast.walk(target) if isinstance(leaf, ast.Name))


def size_constants(tree: ast.Module) -> Iterator[str]:
    """Yield the module-level integer constants that are at least 2^10 or named like the size of a chunk or batch."""
    for node in tree.body:
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names = [leaf.id for target in targets for leaf in ast.walk(target) if isinstance(leaf, ast.Name)]
            values = node.value.elts if isinstance(node.value, ast.Tuple) else [node.value]
            for name, value in zip(names, values, strict=False):
                number = integer(value)
                if number is not None and (number >= 2**10 or SIZE_NAMES.search(name)):
                    yield name


def integer(node: ast.expr) -> int | None:
    """Return the value of an integer literal, or of a product, power or shift of such literals."""
    if isinstance(node, ast.Constant):
        return node.value if type(node.value) is int else None
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.LShift | ast.Pow | ast.Mult):
        left, right = integer(node.left), integer(node.right)
        if left is not None and right is not None:
            return (
                left << right
                if isinstance(node.op, ast.LShift)
                else left**right
                if isinstance(node.op, ast.Pow)
                else left * right
            )
    return None


def computes_density(function: FunctionNode) -> bool:
    """Return whether a function adds the log normaliser of a Gaussian: `half_log_det` as a plain term of a sum.

    Densities add it to the log weight and D / 2 log(2 pi), or leave the last one out where it cancels. A penalty that adds a
    multiple of it is no density.
    """
    for node in ast.walk(function):
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Sub):
            terms = (node.left, node.right)
            if any(isinstance(term, ast.Attribute) and term.attr == "half_log_det" for term in terms):
                return True
    return False


def prior_tests(tree: ast.Module) -> int:
    """Return the number of isinstance calls whose types include a prior family or a law of covariances."""
    count = 0
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "isinstance":
            leaves = list(ast.walk(node.args[1]))
            names = {leaf.id for leaf in leaves if isinstance(leaf, ast.Name)}
            names |= {leaf.attr for leaf in leaves if isinstance(leaf, ast.Attribute)}
            count += bool(names & PRIOR_TYPES)
    return count


def num_parameters(function: FunctionNode) -> int:
    """Return how many parameters a function has, without self and cls."""
    arguments = function.args
    every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]
    return sum(one is not None and one.arg not in ("self", "cls") for one in every)


def annotations(tree: ast.Module) -> Iterator[ast.expr]:
    """Yield every annotation of a parameter, a result or a variable."""
    for node in ast.walk(tree):
        if isinstance(node, ast.arg | ast.AnnAssign) and node.annotation is not None:
            yield node.annotation
        elif isinstance(node, FunctionNode) and node.returns is not None:
            yield node.returns


def contains_any(annotation: ast.expr) -> bool:
    """Return whether an annotation has `Any` in it."""
    return any(isinstance(leaf, ast.Name) and leaf.id == "Any" for leaf in ast.walk(annotation))


def pyright_errors(checkout: Path) -> int | str:
    """Return how many errors pyright finds in the package in standard mode, or a word if pyright is not installed."""
    if importlib.util.find_spec("pyright") is None:
        return "not installed"
    command = [sys.executable, "-m", "pyright", "--outputjson", "jaxgmm"]
    done = subprocess.run(command, cwd=checkout, capture_output=True, text=True)
    return json.loads(done.stdout)["summary"]["errorCount"]


def count(checkout: Path) -> dict[str, int | str]:
    """Return the counts of one checkout by what they count."""
    found: Counter[str] = Counter()
    density = "functions that compute log w_k N(x | k) (add half_log_det; covariance, prior and NumPyro modules left out)"
    sizes = "size constants outside chunking (module-level integers >= 1024 or named like a size)"
    long_functions = f"functions over {LARGEST_FUNCTION} lines of code, docstrings left out"
    wide = f"private functions with more than {MOST_PARAMETERS} parameters"
    for path in sorted((checkout / "jaxgmm").rglob("*.py")):
        name = ".".join(path.relative_to(checkout / "jaxgmm").with_suffix("").parts)
        source = path.read_text(encoding="utf-8")
        tree, lines = ast.parse(source), code_lines(source)
        found["lines of package code"] += len(source.splitlines())
        found["... without blanks, docstrings and comments"] += len(lines)
        found["modules with code"] += bool(lines)
        names = set(module_names(tree))
        found["public module-level names"] += sum(not one.startswith("_") for one in names)
        found["private module-level names"] += sum(one.startswith("_") and not one.startswith("__") for one in names)
        if not re.match(r"covariance|prior|posterior\.model", name):
            found[density] += sum(map(computes_density, outer_functions(tree)))
        found[sizes] += len(list(size_constants(tree))) if name != "chunking" else 0
        if not re.match(r"prior|posterior\.model", name):
            found["isinstance on priors outside their modules"] += prior_tests(tree)
        private = [
            function for function in functions(tree) if function.name.startswith("_") and not function.name.endswith("__")
        ]
        found[wide] += sum(num_parameters(function) > MOST_PARAMETERS for function in private)
        found[f"modules over {LARGEST_MODULE} lines"] += len(source.splitlines()) > LARGEST_MODULE
        for function in functions(tree):
            body = len(lines & set(range(function.lineno, (function.end_lineno or 0) + 1)))
            found[long_functions] += body > LARGEST_FUNCTION
        found["annotations that contain Any"] += sum(contains_any(annotation) for annotation in annotations(tree))
    return {**found, "pyright errors": pyright_errors(checkout)}


def main() -> None:
    """Print one column of counts per checkout."""
    checkouts = [Path(argument) for argument in sys.argv[1:]] or [Path(__file__).parents[1]]
    columns = [count(checkout) for checkout in checkouts]
    widths = [max(12, len(str(checkout))) for checkout in checkouts]
    for checkout, width in zip(checkouts, widths, strict=True):
        print(f"{checkout!s:>{width}}", end="  ")
    print()
    for name in columns[0]:
        for column, width in zip(columns, widths, strict=True):
            print(f"{column[name]:>{width}}", end="  ")
        print(name)


if __name__ == "__main__":
    main()
