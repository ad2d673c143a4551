"""Make error messages for calls that do not match the signature of a function.

For example, a user may write the name that another library gives to an option, or may pass an option by position. Each message
is one sentence.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Iterable
from functools import wraps
from typing import ParamSpec, TypeVar

import jax

from .devices.explicit_axes import call_with_auto_axes, explicit_mesh
from .devices.processes import call_across_processes, is_inside

P = ParamSpec("P")
R = TypeVar("R")


class OptIn:
    """Base class of arguments that only some public functions accept: those that name the class in the type of a parameter."""


# maps each option of jaxgmm to its names in other libraries, and to names that users often type by mistake
_SYNONYMS = {
    "num_components": ("n_components", "components", "k", "K", "n_clusters", "num_clusters"),
    "num_restarts": ("n_init", "num_init", "n_restarts", "restarts", "num_starts"),
    "num_samples": ("n_samples", "draws", "n_draws", "num_draws", "samples", "size", "n"),
    "num_chains": ("n_chains", "chains"),
    "num_warmup": ("n_warmup", "warmup", "tune", "burn_in", "burnin", "num_burnin"),
    "num_folds": ("n_folds", "folds", "cv", "n_splits"),
    "max_iter": ("n_iter", "num_iter", "max_steps", "num_steps", "maxiter"),
    "sample_weight": ("weights", "weight", "sample_weights"),
    "covariance_type": ("covariance", "cov_type", "covariances"),
    "covariance_types": ("covariance_type",),
    "method": ("init", "init_params", "init_method"),
    "chunk_size": ("batch_size", "chunk"),
    "progress": ("progress_bar", "progressbar", "verbose"),
    "feature_names": ("columns", "names"),
    "key": ("random_state", "seed", "rng_key", "rng"),
    "x": ("X", "data"),
    "xs": ("x", "X", "data"),
    "mixture": ("start", "init", "params"),
    "start": ("mixture", "init", "init_params"),
}
_OPTIONS_OF_STARTS = {"num_components", "covariance_type", "method", "num_restarts"}


def public(function: Callable[P, R], further: tuple[str, ...] = ()) -> Callable[P, R]:
    """Wrap a public function so that a wrong call raises TypeError; the error message shows the right call in one sentence.

    Args:
        function: the function.
        further: names of the options that the function accepts as **options and passes to another function.
    """
    parameters = inspect.signature(function).parameters
    known = parameters.keys() | set(further)
    types = " ".join(str(parameter.annotation) for parameter in parameters.values())

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        for value in (*args, *kwargs.values()):
            # a function of batches says itself that it takes a list of them
            if isinstance(value, OptIn) and type(value).__name__ not in types and "Batches" not in types:
                kind = type(value).__name__
                raise TypeError(
                    f"{function.__name__} does not take {kind} yet; give it complete rows as an array, or use one of the "
                    f"functions whose signature names {kind}, such as jaxgmm.fit."
                )
        if further and not kwargs.keys() <= known:
            raise TypeError(_sentence(function, args, kwargs, further))
        if jax.distributed.is_initialized() and not is_inside():
            return call_across_processes(call, function, further, args, kwargs)
        mesh = explicit_mesh((*args, *kwargs.values()))
        try:
            if mesh is None:
                return function(*args, **kwargs)
        except TypeError as error:
            # if the traceback has one frame, the call itself failed; errors from inside the function are raised unchanged
            if error.__traceback__ is None or error.__traceback__.tb_next is not None:
                raise
        else:
            return call_with_auto_axes(call, mesh, args, kwargs)
        raise TypeError(_sentence(function, args, kwargs, further))

    return call


def public_with(*further: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Return the decorator `public` for a function that accepts the options named in `further` and passes them on."""
    return lambda function: public(function, further)


def _sentence(
    function: Callable[..., object], args: tuple[object, ...], kwargs: dict[str, object], further: tuple[str, ...]
) -> str:
    """Return a sentence that says what is wrong with a call and shows the expected call."""
    name, parameters = function.__name__, inspect.signature(function).parameters
    positional = [p.name for p in parameters.values() if p.kind is p.POSITIONAL_OR_KEYWORD]
    options = [*[p.name for p in parameters.values() if p.kind is p.KEYWORD_ONLY], *further]
    unknown = [option for option in kwargs if option not in [*positional, *options]]
    required = [p for p in [*positional, *options] if p in parameters and parameters[p].default is inspect.Parameter.empty]
    missing = [p for p in required if p not in kwargs and p not in positional[: len(args)]]
    if unknown:
        return f"{name} has no option {unknown[0]}; {_advice(unknown[0], positional, options, missing)}."
    if len(args) > len(positional):
        surplus = args[len(positional)]
        first = next((p for p in missing if p in options), options[0] if options else None)
        shown = repr(surplus) if isinstance(surplus, int | float | str) else "..."
        advice = f": options are given by name, as in {first}={shown}" if first else ""
        return f"{name} takes {join_names(positional)} by position, and {len(args)} values were given{advice}."
    twice = [p for p in positional[: len(args)] if p in kwargs]
    if twice:
        return f"{name} was given {twice[0]} twice, by position and by name; {name}({', '.join(positional)}) was expected."
    expected = ", ".join([*[p for p in positional if p in required], *[f"{p}=..." for p in options if p in required]])
    return f"{name} was called without {join_names(missing)}; {name}({expected}) was expected."


def _advice(unknown: str, positional: list[str], options: list[str], missing: list[str]) -> str:
    """Return a text that says what the user can write in place of an unknown option."""
    known = [*positional, *options]
    meant = [here for here, others in _SYNONYMS.items() if unknown in others]
    found = next((here for here in meant if here in known), None)
    if found:
        return f"it is called {found} here"
    if {unknown, *meant} & _OPTIONS_OF_STARTS and positional[:2] == ["mixture", "x"]:
        return (
            "the start decides it: fit from jaxgmm.initialize(key, x, num_components=...), or call jaxgmm.fit_restarts(key, x, "
            "num_components=...)"
        )
    close = difflib.get_close_matches(unknown, known, 1)
    if close:
        return f"did you mean {close[0]}"
    return f"{join_names(missing or options or positional)} was expected" if missing else f"it takes {join_names(known)}"


def join_names(names: Iterable[str]) -> str:
    """Return names joined as in a sentence: "a, b and c"."""
    *head, last = [*names] or [""]
    return f"{', '.join(head)} and {last}" if head else last
