"""Test what the checkpoint of a fit over batches holds; test_run.py and test_several_processes.py test that fits continue."""

import dataclasses

import jax
import numpy as np
from streamed_problem import problem

from jaxgmm.em.loop import Options
from jaxgmm.em.problem import EMProblem
from jaxgmm.em.stream.saved_run import design, restored


def test_designs_tell_fits_apart(x64):
    """A design changes with each argument on which the numbers of the fit depend, and only with these."""
    start, *_ = problem()
    arguments, kinds = (
        (start, EMProblem(None, None, None, None), 0.0, Options(3, False, None)),
        {"online": False, "observed": False},
    )
    same = design(jax.tree.map(np.array, start), *arguments[1:], **kinds)
    assert design(*arguments, **kinds) == same
    others = [
        (0, dataclasses.replace(start, means=start.means + 1)),
        (1, EMProblem(None, None, None, np.asarray(0.1))),
        (2, 1e-3),
        (3, Options(4, False, None)),
        (3, Options(3, True, None)),
    ]
    for i, other in others:
        assert design(*arguments[:i], other, *arguments[i + 1 :], **kinds) != same
    for kind in kinds:
        assert design(*arguments, **kinds | {kind: True}) != same


def test_pytrees_are_restored():
    """The leaves of a pytree are found under its name, in their order."""
    assert restored((0, {"a": 0}), {"x 0": 1, "x 1": 2, "y 0": 3}, "x") == (1, {"a": 2})
