"""Names of the methods that studies, plots and the command accept.

Importing this module does not import the code of the methods, which would take a second.
"""

from __future__ import annotations

# Maps each method that draws mixtures to the module of `posterior` that defines its function, and to the function's name.
POSTERIOR_FUNCTIONS = {
    "nuts": ("nuts", "nuts"),
    "gibbs": ("gibbs", "gibbs"),
    "laplace": ("laplace", "laplace"),
    "bootstrap": ("bootstrap", "bootstrap"),
    "smc": ("smc.smc", "smc_like_start"),
}
POSTERIOR_METHODS = tuple(POSTERIOR_FUNCTIONS)
POINT_METHODS = ("em", "map")  # point estimates: maximum likelihood and the mode of the posterior

_DISPLAY_NAMES = {
    "nuts": "NUTS",
    "gibbs": "Gibbs",
    "laplace": "Laplace",
    "smc": "SMC",
    "telescope": "telescoping",
    "em": "EM, likelihood",
    "map": "EM, posterior mode",
}


def display_name(method: str) -> str:
    """Return the name of a method as figures show it; a method that is not listed here keeps its own name.

    Example:
        >>> display_name("map"), display_name("mine")
        ('EM, posterior mode', 'mine')
    """
    return _DISPLAY_NAMES.get(method, str(method))
