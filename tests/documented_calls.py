"""Check the calls in the code of the documentation without running it."""

import ast
import inspect
import operator

import jaxgmm
import jaxgmm.sklearn


def _dotted(node):
    """Return the name that an expression like jaxgmm.datasets.load spells, or None."""
    if isinstance(node, ast.Attribute):
        return (before := _dotted(node.value)) and f"{before}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else None


def check_calls(code):
    """Raise an error if a call of a function of the package has arguments that the function does not take.

    The function returns the number of calls with arguments that are written out.
    """
    count = 0
    for node in ast.walk(ast.parse(code)):
        if not isinstance(node, ast.Call) or not (_dotted(node.func) or "").startswith("jaxgmm."):
            continue
        function = operator.attrgetter(_dotted(node.func).removeprefix("jaxgmm."))(jaxgmm)
        if all(argument.arg for argument in node.keywords) and not any(isinstance(arg, ast.Starred) for arg in node.args):
            inspect.signature(function).bind(*node.args, **{argument.arg: argument.value for argument in node.keywords})
            count += 1
    return count
