"""What draws mixtures given data, by name or as a person's own function, in the one form that a study calls."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

from ..em.batch.fit_many import fit_many
from ..posterior.bootstrap import bootstrap
from ..posterior.gibbs import gibbs
from ..posterior.laplace import laplace
from ..posterior.nuts import nuts
from ..posterior.result import Posterior

METHODS: dict[str, Callable] = {"nuts": nuts, "gibbs": gibbs, "laplace": laplace, "bootstrap": bootstrap}
_NOT_IN_A_STUDY = {"progress", "sample_weight"}  # the study has its own bar, and makes its own data
_OF_REPLICATES = ("tol", "max_iter", "reg_covar", "accelerate", "chunk_size")  # what bootstrap hands on to fit_many


def as_method(method: str | Callable, **options: Any) -> tuple[str, Callable[..., Posterior]]:
    """A method's name, and one function (key, start, x, prior) -> Posterior that jit and vmap go through.

    Args:
        method: "nuts", "gibbs", "laplace", "bootstrap", or a function of your own (key, start, x, prior, **options) that can be
            traced and returns a Posterior with draws (C, S, ...).
        **options: the method's own, as num_samples, num_chains, num_warmup.

    Returns:
        The name (a function's own name, "custom" if it has none) and the function, options in.

    Raises:
        ValueError: no such method.
        TypeError: not a name or a function, or options that it does not take.

    Example:
        >>> name, draw = as_method("laplace", num_samples=100)
        >>> name, draw.keywords
        ('laplace', {'num_samples': 100})
    """
    if isinstance(method, str):
        if method not in METHODS:
            raise ValueError(f"method is {method!r}; one of {', '.join(map(repr, METHODS))}, or a function, was expected.")
        _check_known(method, options)
        return method, partial(METHODS[method], **options)
    if not callable(method):
        raise TypeError(
            f"method is {type(method).__name__}; one of {', '.join(map(repr, METHODS))}, or a function (key, start, x, prior) "
            "that returns a jaxgmm.Posterior, was expected."
        )
    try:
        inspect.signature(method).bind(None, None, None, None, **options)
    except TypeError as error:
        given = "".join(f", {name}=" for name in options)
        raise TypeError(f"method cannot be called as method(key, start, x, prior{given}): {error}.") from None
    except ValueError:  # a builtin tells no signature
        pass
    name = str(getattr(method, "__name__", "custom"))
    return name if name.isidentifier() else "custom", partial(method, **options)


def _check_known(method: str, options: dict[str, Any]) -> None:
    parameters = inspect.signature(METHODS[method]).parameters.values()
    known = {p.name for p in parameters if p.kind is p.KEYWORD_ONLY} - _NOT_IN_A_STUDY
    if METHODS[method] is bootstrap:
        known |= set(_OF_REPLICATES) & set(inspect.signature(fit_many).parameters)
    unknown = sorted(set(options) - known)
    if unknown:
        raise TypeError(f"{method} has no option {', '.join(unknown)} here; it takes {', '.join(sorted(known))}.")
