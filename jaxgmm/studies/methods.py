"""Methods that draw mixtures given data.

A method is given by name or as a user's own function. `as_method` turns both into functions with the same arguments.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from ..em.batch.fit_many import fit_many
from ..posterior.bootstrap import bootstrap
from ..posterior.gibbs import gibbs
from ..posterior.laplace import laplace
from ..posterior.nuts import nuts
from ..posterior.result import Posterior
from ..posterior.smc.smc import TEMPERINGS, smc_like_start
from ..validation import check_choice, check_count, check_flag, check_number
from .method_names import POSTERIOR_METHODS

_SAMPLERS = (nuts, gibbs, laplace, bootstrap, smc_like_start)
FUNCTIONS: dict[str, Callable[..., Posterior]] = dict(zip(POSTERIOR_METHODS, _SAMPLERS, strict=True))
# Options that the caller may not set. A study sets `progress` and `sample_weight` itself. `start_mass` needs several starts.
_OWNED_BY_STUDIES = {"progress", "sample_weight", "start_mass"}
# The values of the options in the next four constants are checked before a study begins. An option has the same meaning in all
# methods. The numbers here are the smallest valid values.
_COUNTS = {"num_samples": 1, "num_chains": 1, "num_warmup": 0, "max_tree_depth": 1, "max_iter": 0, "chunk_size": 1}
_NUMBERS = ("tol", "reg_covar", "target_accept_prob")
_FLAGS = ("accelerate", "adapt_mass_matrix")
_CHOICES = {"tempering": TEMPERINGS}
_FIT_OPTIONS = ("tol", "max_iter", "reg_covar", "accelerate", "chunk_size")  # options that bootstrap passes to fit_many


def as_method(method: str | Callable[..., Posterior], **options: object) -> tuple[str, Callable[..., Posterior]]:
    """Return the name of a method, and a function (key, start, x, prior) -> Posterior that can be compiled and vmapped.

    Args:
        method: "nuts", "gibbs", "laplace", "bootstrap", "smc", or a function (key, start, x, prior, **options) of the user that
            can be traced and returns a Posterior with draws (C, S, ...).
        **options: options of the method, such as num_samples, num_chains and num_warmup.

    Returns:
        The name, and the function, in which the options are already set. The name of a user's function is its Python name, or
        "custom" if it has none.

    Raises:
        ValueError: `method` is a string that names no method.
        ValueError, TypeError: an option of a named method has an invalid value.
        TypeError: `method` is neither a name nor a function, or does not take one of the options.

    Example:
        >>> name, draw = as_method("laplace", num_samples=100)
        >>> name, draw.keywords
        ('laplace', {'num_samples': 100})
    """
    known = ", ".join(map(repr, POSTERIOR_METHODS))
    if isinstance(method, str):
        if method not in FUNCTIONS:
            raise ValueError(f"method is {method!r}; one of {known}, or a function, was expected.")
        _check_options(method, options)
        return method, partial(FUNCTIONS[method], **options)
    if not callable(method):
        raise TypeError(
            f"method is {type(method).__name__}; one of {known}, or a function (key, start, x, prior) that returns a "
            "jaxgmm.Posterior, was expected."
        )
    try:
        inspect.signature(method).bind(None, None, None, None, **options)
    except TypeError as error:
        given = "".join(f", {name}=" for name in options)
        raise TypeError(f"method cannot be called as method(key, start, x, prior{given}): {error}.") from None
    except ValueError:  # some built-in functions have no signature, so their arguments cannot be checked
        pass
    name = str(getattr(method, "__name__", "custom"))
    return name if name.isidentifier() else "custom", partial(method, **options)


def _check_options(method: str, options: Mapping[str, object]) -> None:
    """Raise TypeError if a named method does not take one of the options, or if studies set the option themselves."""
    function = FUNCTIONS[method]
    parameters = inspect.signature(function).parameters.values()
    known = {p.name for p in parameters if p.kind is p.KEYWORD_ONLY} - _OWNED_BY_STUDIES
    if function is bootstrap:
        known |= set(_FIT_OPTIONS) & set(inspect.signature(fit_many).parameters)
    unknown = sorted(set(options) - known)
    if unknown:
        raise TypeError(f"{method} has no option {', '.join(unknown)} here; it takes {', '.join(sorted(known))}.")
    defaults = {p.name: p.default for p in parameters}
    check_option_values({name: value for name, value in options.items() if value is not None or defaults.get(name)})


def check_option_values(options: Mapping[str, Any]) -> None:
    """Raise ValueError or TypeError if an option of a method has an invalid value."""
    for name, value in options.items():
        if name in _COUNTS:
            check_count(value, name, _COUNTS[name])
        elif name in _FLAGS:
            check_flag(value, name)
        elif name in _NUMBERS:
            check_number(value, name, exclusive=name == "target_accept_prob")
            if name == "target_accept_prob" and value >= 1:
                raise ValueError(f"target_accept_prob is {value:g}; a number between 0 and 1 was expected.")
        elif name in _CHOICES:
            check_choice(value, name, _CHOICES[name])
